"""The node itself: what it receives, how it judges and reads, where its databases are."""

from pathlib import Path
from typing import Literal

from pydantic import Field, IPvAnyAddress, SecretStr, model_validator

from ovcf_node.config.base import AETitle, Port, Section


def _reference_bundle() -> Path:
    """Return the bundle of the checkout this package runs from, else the one below the working folder."""
    checkout = Path(__file__).resolve().parents[3] / "models" / "reference"
    return checkout if checkout.is_dir() else Path("models/reference")


class Node(Section):
    installation: str = "ovcf-node"
    """Name of this installation: part of every result UID and the DeviceSerialNumber; unique per site, never changed."""
    data: Path = Path("/var/lib/ovcf-node")
    """Folder of everything durable: spool, results, ledger, engine."""
    bundle: Path = Field(default_factory=_reference_bundle)
    """Folder of the model bundle to run."""
    mode: Literal["live", "shadow"] = "live"
    """shadow: read and keep everything, deliver only to destinations marked `shadow`; results say SHADOW and stay so."""
    institution: str = ""
    """Written into results as InstitutionName of the contributing equipment; empty leaves it out."""


class Source(Section):
    ae_title: AETitle
    """Calling AE title that may send to us."""
    address: IPvAnyAddress | None = None
    """IP address that must belong to it; unset accepts any address."""
    certificate_name: str | None = None
    """Common name or DNS name that its certificate must hold; needs TLS."""
    report_host: str | None = None
    """Address where it takes storage commitment reports; with report_port. Unset: over the association of its request."""
    report_port: Port | None = None
    """Port where it takes storage commitment reports."""
    report_tls: bool = False
    """Whether that port speaks TLS; needs [tls]."""

    @model_validator(mode="after")
    def _complete(self) -> "Source":
        if (self.report_host is None) != (self.report_port is None):
            raise ValueError("report_host and report_port belong together")
        return self


class Receive(Section):
    host: str = "0.0.0.0"  # noqa: S104 - who may call is listed
    """Address to listen on."""
    port: Port = 11112
    """DICOM port (Storage and Verification SCP)."""
    plain: bool = True
    """Whether this port is open; false leaves only tls_port."""
    tls_port: Port | None = None
    """DICOM port that speaks TLS, 2762 by custom; needs [tls]."""
    balancers: tuple[IPvAnyAddress, ...] = ()
    """Addresses of balancers that begin every connection with a PROXY protocol header; the address in it counts."""
    ae_titles: tuple[AETitle, ...] = ("OVCF_NODE",)
    """Called AE titles we answer to."""
    sources: tuple[Source, ...] = ()
    """Known calling AE titles; all others are rejected. Empty accepts nobody."""
    max_associations: int = Field(default=25, ge=1, le=250)
    """Simultaneous associations; each needs a few of the 1024 file descriptors that select() can watch."""
    max_pdu: int = Field(default=131072, ge=4096)
    """Largest PDU we offer to receive, bytes."""
    network_timeout_s: float = Field(default=60.0, gt=0)
    """Silence after which an association is aborted, seconds."""
    min_free_mb: int = Field(default=2048, ge=0)
    """Free space on the data volume below which C-STORE answers 0xA700, megabytes."""
    max_instance_mb: int = Field(default=1024, ge=1)
    """Largest data set of one instance; a larger one ends its association, megabytes."""

    @property
    def ports(self) -> tuple[int, ...]:
        """The open ports: the plain one first."""
        return ((self.port,) if self.plain else ()) + ((self.tls_port,) if self.tls_port else ())
    commit_days: float = Field(default=0.0, ge=0)
    """Storage commitment for senders: for how long we promise to keep what they sent, days; 0 does not offer it."""


class CountSource(Section):
    ae_title: AETitle
    """Called AE title of a PACS that can be asked by C-FIND how many instances a series has."""
    host: str
    """Its address."""
    port: Port
    """Its port."""
    tls: bool = False
    """Whether that port speaks TLS; needs [tls]."""
    tls_name: str | None = None
    """Name that its certificate must hold; unset: host."""
    calling_ae_title: AETitle = "OVCF_NODE"
    """Calling AE title we use."""


class Assemble(Section):
    quiet_s: float = Field(default=30.0, ge=0)
    """A series is judged when nothing of it arrived for this long, seconds."""
    incomplete_limit_s: float = Field(default=900.0, ge=0)
    """A series with gaps waits this long for the missing slices, then is answered 'not assessed', seconds."""
    full_mm: float = Field(default=1.25, gt=0)
    """Slice spacing, thickness and pixel size up to which the reading is unrestricted, mm."""
    limited_mm: float = Field(default=3.0, gt=0)
    """Slice spacing, thickness and pixel size above which fractures are not graded, mm."""
    prefer_kernel: Literal["bone", "standard"] = "bone"
    """Which kernel is preferred among equally thin series of a study."""
    count_source: CountSource | None = None
    """PACS asked for the number of instances of a series before it counts as complete."""


class Infer(Section):
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """onnxruntime execution providers in order of preference."""
    threads: int = Field(default=2, ge=1)
    """Threads per inference."""
    timeout_s: float = Field(default=900.0, gt=0)
    """Time after which the child process that reads a series is stopped, seconds."""
    memory_mb: int = Field(default=8192, ge=512)
    """Memory that such a child may fill, megabytes: what would need more is given up, and the machine lives."""
    attempts: int = Field(default=3, ge=1)
    """Attempts before a series is answered 'not assessed: technical failure'."""
    min_free_mb: int = Field(default=512, ge=0)
    """Free space on the data volume below which nothing new is read, megabytes: the rest is for the databases."""


class Engine(Section):
    ledger_url: SecretStr | None = None
    """SQLAlchemy URL of the ledger; unset: SQLite below node.data."""
    engine_url: SecretStr | None = None
    """SQLAlchemy URL of the scheduler's own database; unset: SQLite below node.data."""
    judge_interval_s: float = Field(default=1.0, gt=0)
    """Interval of the judge loop, seconds."""
    poll_s: float = Field(default=0.5, gt=0)
    """Polling interval of the queues, seconds."""


class Log(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe event that is logged."""
    format: Literal["json", "console"] = "json"
    """json: one object a line; console: for people."""
