"""Who may query and retrieve the node's results over DICOM (Query/Retrieve SCP)."""

from pydantic import Field, IPvAnyAddress, model_validator

from ovcf_node.config.base import AETitle, Port, Section


class Peer(Section):
    """An application entity that may ask; with an address and port it is also a Move Destination."""

    ae_title: AETitle
    """Calling AE title; as Move Destination its called AE title."""
    address: IPvAnyAddress | None = None
    """IP address that must belong to it; unset accepts any address."""
    certificate_name: str | None = None
    """Common name or DNS name that its certificate must hold; needs TLS."""
    find: bool = True
    """Whether it may query (C-FIND)."""
    retrieve: bool = True
    """Whether it may retrieve (C-GET, C-MOVE)."""
    move_host: str | None = None
    """Address of its Storage SCP; with move_port it may be named as Move Destination."""
    move_port: Port | None = None
    """Port of its Storage SCP."""
    move_tls: bool = False
    """Whether that port speaks TLS; needs [tls]."""

    @model_validator(mode="after")
    def _complete(self) -> "Peer":
        if (self.move_host is None) != (self.move_port is None):
            raise ValueError("move_host and move_port belong together")
        return self


class Query(Section):
    enabled: bool = False
    """Whether the Query/Retrieve SCP runs."""
    host: str = "0.0.0.0"  # noqa: S104 - who may call is listed
    """Address to listen on."""
    port: Port = 11113
    """DICOM port of the Query/Retrieve SCP; its own, so that queries never wait behind a scanner."""
    plain: bool = True
    """Whether this port is open; false leaves only tls_port."""
    tls_port: Port | None = None
    """Query/Retrieve port that speaks TLS; needs [tls]."""
    balancers: tuple[IPvAnyAddress, ...] = ()
    """Addresses of balancers that begin every connection with a PROXY protocol header; the address in it counts."""
    ae_titles: tuple[AETitle, ...] = ("OVCF_NODE",)
    """Called AE titles it answers to."""
    peers: tuple[Peer, ...] = ()
    """Who may ask; all others are rejected. Empty accepts nobody."""
    max_associations: int = Field(default=10, ge=1, le=250)
    """Simultaneous associations."""
    max_matches: int = Field(default=5000, ge=1)
    """Most responses to one C-FIND; a broader query is refused with 0xA700."""
    network_timeout_s: float = Field(default=60.0, gt=0)
    """Silence after which an association is aborted, seconds."""

    @property
    def ports(self) -> tuple[int, ...]:
        """The open ports: the plain one first."""
        return ((self.port,) if self.plain else ()) + ((self.tls_port,) if self.tls_port else ())
