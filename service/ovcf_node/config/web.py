"""Pages for people and DICOMweb for programs: one HTTP port."""

import re
from pathlib import Path

from pydantic import Field, model_validator

from ovcf_node.config.base import Name, Port, Section


class Web(Section):
    enabled: bool = False
    """Whether pages and DICOMweb are served."""
    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs a certificate."""
    port: Port = 8080
    """HTTP(S) port."""
    public_url: str | None = None
    """How clients reach this port where a proxy stands before it (https://host[:port][/path]); unset: as they say."""
    certificate: Path | None = None
    """PEM file of the server's certificate chain."""
    key: Path | None = None
    """PEM file of its private key."""
    client_ca: Path | None = None
    """PEM file of the authorities whose client certificates DICOMweb accepts (mutual TLS); pages still need a sign-in."""
    client_crl: Path | None = None
    """PEM file of these authorities' revocation lists; with it, a client whose authority has no current list is refused."""
    users: Path | None = None
    """TOML file of the people who may sign in (`ovcf-node users`); without one, nobody can."""
    tokens: Path | None = None
    """TOML file of the bearer tokens DICOMweb accepts, as hashes (`ovcf-node tokens`)."""
    dialect_of: Name | None = None
    """Name of the destination whose form of the report DICOMweb serves; unset: the first destination's."""
    origins: tuple[str, ...] = ()
    """Origins (https://viewer.example) whose pages may call DICOMweb from a browser; empty: none but our own."""
    open: bool = False
    """No sign-in and no tokens at all: for the demo only, refused on anything but loopback."""
    session_minutes: int = Field(default=30, ge=1)
    """Idle time after which a person must sign in again, minutes."""
    silent_scanner_h: float = Field(default=72.0, gt=0)
    """A scanner that has sent nothing for this long raises an alarm on the status page, hours."""

    @model_validator(mode="after")
    def _safe(self) -> "Web":
        local = self.host in ("127.0.0.1", "::1", "localhost")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.enabled and not local and self.certificate is None:
            raise ValueError("web.host is not loopback: certificate and key are needed")
        if self.open and not local:
            raise ValueError("web.open is only for loopback")
        if self.public_url and not re.fullmatch(r"https?://[^?#@]+[^?#@/]", self.public_url):
            raise ValueError("public_url is http(s)://host[:port][/path] without a slash at the end")
        if any(not re.fullmatch(r"https?://[^/*?#@]+", origin) for origin in self.origins):
            raise ValueError("origins are scheme://host[:port], without path and without *")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs certificate and key")
        if self.client_crl and not self.client_ca:
            raise ValueError("client_crl needs client_ca")
        return self
