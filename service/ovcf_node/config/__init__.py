"""Every setting of the node: one frozen tree, read once from a TOML file and the environment, all problems at once.

The field docstrings are the documentation; `deploy/ovcf-node.toml` shows every key and a test holds the three together.
Environment variables `OVCF_NODE__SECTION__KEY` override the file, `OVCF_NODE__SECTION__KEY_FILE` name a file with the value.

`node`         what it receives, how it judges and reads, where its databases are
`destination`  where results go
`priority`     which series are urgent
`query`        who may query and retrieve results (Q/R SCP)
`web`          pages and DICOMweb
`archive`      PACS that studies can be fetched from
`tls`          certificates of DICOM over TLS
`audit`        where the audit trail goes
`retention`    how long what is done stays
`environment`  values from the environment and from secret files
`listening`    the open ports in words, for people
`shown`        the settings in force, for people, without secrets
"""

import tomllib
from pathlib import Path

from pydantic import PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ovcf_node.config.archive import Archive
from ovcf_node.config.audit import Audit
from ovcf_node.config.destination import Destination
from ovcf_node.config.environment import Environment
from ovcf_node.config.listening import ports_in_words
from ovcf_node.config.node import Assemble, CountSource, Engine, Infer, Log, Node, Receive, Source
from ovcf_node.config.priority import Priority
from ovcf_node.config.query import Peer, Query
from ovcf_node.config.retention import Retention
from ovcf_node.config.shown import shown
from ovcf_node.config.tls import Tls
from ovcf_node.config.web import Web
from ovcf_node.errors import Permanent

__all__ = [
    "ROLES", "Archive", "Assemble", "Audit", "CountSource", "Destination", "Engine", "Infer", "Log", "Node", "Peer",
    "Priority", "Query", "Receive", "Retention", "Settings", "Source", "Tls", "Web", "load", "ports_in_words", "shown",
]


ROLES: tuple[str, ...] = ("receiver", "worker", "sender", "query", "web")
"""The processes of a node; `serve` supervises one of each that is enabled, several machines run them apart."""


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="OVCF_NODE__", env_nested_delimiter="__", use_attribute_docstrings=True,
    )

    node: Node = Node()
    receive: Receive = Receive()
    priority: Priority = Priority()
    assemble: Assemble = Assemble()
    infer: Infer = Infer()
    destinations: tuple[Destination, ...] = ()
    query: Query = Query()
    web: Web = Web()
    archives: tuple[Archive, ...] = ()
    tls: Tls = Tls()
    audit: Audit = Audit()
    retention: Retention = Retention()
    engine: Engine = Engine()
    log: Log = Log()
    _path: Path | None = PrivateAttr(default=None)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return Environment(settings_cls), init_settings  # the environment wins over the file

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        for kind, named in (("destination", self.destinations), ("archive", self.archives)):
            names = [item.name for item in named]
            double = sorted({n for n in names if names.count(n) > 1})
            if double:
                raise ValueError(f"{kind} names must differ: {', '.join(double)}")
        if self.web.dialect_of not in (None, *(d.name for d in self.destinations)):
            raise ValueError("web.dialect_of is not the name of a destination")
        for named, known, where in (
            (self.priority.calling_ae_titles, {s.ae_title for s in self.receive.sources}, "receive.sources"),
            (self.priority.called_ae_titles, set(self.receive.ae_titles), "receive.ae_titles"),
        ):
            if strangers := sorted(set(named) - known):
                raise ValueError(f"priority names {', '.join(strangers)}, which is not in {where}")
        if self.assemble.full_mm > self.assemble.limited_mm:
            raise ValueError("assemble.full_mm must not exceed assemble.limited_mm")
        self._check_tls()
        return self

    def _check_tls(self) -> None:
        for name, section in (("receive", self.receive), ("query", self.query)):
            if not section.plain and section.tls_port is None:
                raise ValueError(f"{name}.plain = false needs {name}.tls_port")
        counting = self.assemble.count_source
        encrypted = [
            self.receive.tls_port, self.query.tls_port, self.audit.host and self.audit.tls, counting and counting.tls,
            *(d.tls for d in self.destinations), *(a.tls for a in self.archives), *(p.move_tls for p in self.query.peers),
            *(s.report_tls for s in self.receive.sources),
        ]
        if any(encrypted) and not self.tls.ready:
            raise ValueError("TLS needs certificate, key and ca in [tls]")

    def reread(self) -> "Settings":
        """Return what the same file and environment say now. Raises Permanent, as `load` does."""
        return load(self._path)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that this configuration asks for."""
        optional = {"query": self.query.enabled, "web": self.web.enabled}
        return tuple(role for role in ROLES if optional.get(role, True))

    @property
    def delivering(self) -> tuple[Destination, ...]:
        """The destinations that get results in this mode: in shadow mode only those marked `shadow`."""
        return tuple(d for d in self.destinations if d.shadow or self.node.mode == "live")

    @property
    def ledger_url(self) -> str:
        return _stated(self.engine.ledger_url) or f"sqlite:///{self.node.data / 'ledger.sqlite'}"

    @property
    def engine_url(self) -> str:
        return _stated(self.engine.engine_url) or f"sqlite:///{self.node.data / 'engine.sqlite'}"


def _stated(url: SecretStr | None) -> str | None:
    return url.get_secret_value() if url else None


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
        settings = Settings(**document)
        settings._path = path
        return settings
    except SettingsError as error:
        raise Permanent("configuration", f"environment: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise Permanent("configuration", "\n".join(lines)) from error


def _resolve(document: dict, base: Path) -> None:
    named = [(document.get("node"), ("data", "bundle")),
             (document.get("web"), ("certificate", "key", "client_ca", "client_crl", "users", "tokens")),
             (document.get("tls"), ("certificate", "key", "ca", "crl"))]
    of_destination = ("path", "token", "certificate", "key", "ca")
    named += [(destination, of_destination) for destination in document.get("destinations", [])]
    for section, keys in named:
        for key in keys if isinstance(section, dict) else ():
            if isinstance(section.get(key), str):
                section[key] = str(base / section[key])
