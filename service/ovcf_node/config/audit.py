"""Where the audit trail goes (PS3.15 A.5 messages, RFC 5424 syslog over TLS as in RFC 5425)."""

from pydantic import Field, model_validator

from ovcf_node.config.base import Port, Section


class Audit(Section):
    host: str | None = None
    """Address of the audit record repository; unset: no audit trail is kept."""
    port: Port = 6514
    """Its port."""
    tls: bool = True
    """Whether it is reached over TLS (needs [tls]); false only for a collector on this machine."""
    tls_name: str | None = None
    """Name that its certificate must hold; unset: host."""
    retry_s: float = Field(default=10.0, gt=0)
    """Delay before the collector is tried again, seconds; messages wait on disk meanwhile."""

    @model_validator(mode="after")
    def _safe(self) -> "Audit":
        if self.host and not self.tls and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("the audit trail names patients: without TLS only to loopback")
        return self
