"""Every setting of the node: one frozen tree, read once from a TOML file and the environment, all problems at once.

The field docstrings are the documentation; `deploy/ovcf-node.toml` shows every key and a test holds the three together.
Environment variables `OVCF_NODE__SECTION__KEY` override the file.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, IPvAnyAddress, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ovcf_node.errors import Permanent

AETitle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _reference_bundle() -> Path:
    """Return the bundle of the checkout this package runs from, else the one below the working folder."""
    checkout = Path(__file__).resolve().parents[2] / "models" / "reference"
    return checkout if checkout.is_dir() else Path("models/reference")


class Node(_Section):
    installation: str = "ovcf-node"
    """Name of this installation: part of every result UID and the DeviceSerialNumber; unique per site, never changed."""
    data: Path = Path("/var/lib/ovcf-node")
    """Folder of everything durable: spool, results, ledger, engine."""
    bundle: Path = Field(default_factory=_reference_bundle)
    """Folder of the model bundle to run."""
    institution: str = ""
    """Written into results as InstitutionName of the contributing equipment; empty leaves it out."""


class Source(_Section):
    ae_title: AETitle
    """Calling AE title that may send to us."""
    address: IPvAnyAddress | None = None
    """IP address that must belong to it; unset accepts any address."""


class Receive(_Section):
    host: str = "0.0.0.0"
    """Address to listen on."""
    port: Port = 11112
    """DICOM port (Storage and Verification SCP)."""
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


class CountSource(_Section):
    ae_title: AETitle
    """Called AE title of a PACS that can be asked by C-FIND how many instances a series has."""
    host: str
    """Its address."""
    port: Port
    """Its port."""
    calling_ae_title: AETitle = "OVCF_NODE"
    """Calling AE title we use."""


class Assemble(_Section):
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


class Infer(_Section):
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """onnxruntime execution providers in order of preference."""
    threads: int = Field(default=2, ge=1)
    """Threads per inference."""
    timeout_s: float = Field(default=900.0, gt=0)
    """Time after which the child process that reads a series is stopped, seconds."""
    attempts: int = Field(default=3, ge=1)
    """Attempts before a series is answered 'not assessed: technical failure'."""


class Destination(_Section):
    name: Name
    """Name in logs, commands and metrics."""
    type: Literal["dicom", "folder"]
    """dicom: C-STORE; folder: one file per instance."""
    ae_title: AETitle | None = None
    """dicom: called AE title."""
    host: str | None = None
    """dicom: address."""
    port: Port | None = None
    """dicom: port."""
    calling_ae_title: AETitle = "OVCF_NODE"
    """dicom: calling AE title we use."""
    path: Path | None = None
    """folder: where instances are written."""
    objects: tuple[Literal["seg_vertebrae", "seg_fractures", "summary", "sr"], ...] = (
        "seg_vertebrae", "seg_fractures", "summary", "sr",
    )
    """Which objects this destination gets."""
    sr_class: Literal["88.34", "88.33", "88.22"] = "88.34"
    """SOP class of the structured report: Comprehensive 3D, Comprehensive or Enhanced SR."""
    sr_profile: Literal["air", "ohif-text"] = "air"
    """air: TID 1500 as IHE AIR wants it; ohif-text: a root title that makes OHIF show the report as text."""
    retry_first_s: float = Field(default=10.0, gt=0)
    """Delay before the second attempt, seconds; doubles with every attempt."""
    retry_cap_s: float = Field(default=900.0, gt=0)
    """Longest delay between attempts, seconds."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Time for each step of an association, seconds."""

    @model_validator(mode="after")
    def _complete(self) -> "Destination":
        needed = ("ae_title", "host", "port") if self.type == "dicom" else ("path",)
        missing = [field for field in needed if getattr(self, field) is None]
        if missing:
            raise ValueError(f"a destination of type {self.type} needs {', '.join(missing)}")
        return self


class Engine(_Section):
    ledger_url: str | None = None
    """SQLAlchemy URL of the ledger; unset: SQLite below node.data."""
    engine_url: str | None = None
    """SQLAlchemy URL of the scheduler's own database; unset: SQLite below node.data."""
    judge_interval_s: float = Field(default=1.0, gt=0)
    """Interval of the judge loop, seconds."""
    poll_s: float = Field(default=0.5, gt=0)
    """Polling interval of the queues, seconds."""


class Log(_Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe event that is logged."""
    format: Literal["json", "console"] = "json"
    """json: one object a line; console: for people."""


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="OVCF_NODE__", env_nested_delimiter="__", use_attribute_docstrings=True,
    )

    node: Node = Node()
    receive: Receive = Receive()
    assemble: Assemble = Assemble()
    infer: Infer = Infer()
    destinations: tuple[Destination, ...] = ()
    engine: Engine = Engine()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment wins over the file

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        names = [d.name for d in self.destinations]
        double = sorted({n for n in names if names.count(n) > 1})
        if double:
            raise ValueError(f"destination names must differ: {', '.join(double)}")
        if self.assemble.full_mm > self.assemble.limited_mm:
            raise ValueError("assemble.full_mm must not exceed assemble.limited_mm")
        return self

    @property
    def ledger_url(self) -> str:
        return self.engine.ledger_url or f"sqlite:///{self.node.data / 'ledger.sqlite'}"

    @property
    def engine_url(self) -> str:
        return self.engine.engine_url or f"sqlite:///{self.node.data / 'engine.sqlite'}"


def load(path: Path | None) -> Settings:
    """Read the settings from a TOML file (None: defaults and environment only).

    Relative paths in the file are relative to the file. Raises Permanent naming every problem, one a line.
    """
    document: dict = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise Permanent("configuration", f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Permanent("configuration", f"{path} is not TOML: {error}") from error
        _resolve(document, path.parent.resolve())
    try:
        return Settings(**document)
    except SettingsError as error:
        raise Permanent("configuration", f"environment: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise Permanent("configuration", "\n".join(lines)) from error


def _resolve(document: dict, base: Path) -> None:
    node = document.get("node", {})
    for section, key in [(node, "data"), (node, "bundle"), *((d, "path") for d in document.get("destinations", []))]:
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str(base / section[key])
