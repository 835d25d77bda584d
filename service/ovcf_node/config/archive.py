"""PACS that studies can be fetched from (`ovcf-node fetch`)."""

from typing import Literal

from pydantic import Field

from ovcf_node.config.base import AETitle, Name, Port, Section


class Archive(Section):
    name: Name
    """Name in commands and logs."""
    ae_title: AETitle
    """Called AE title."""
    host: str
    """Address."""
    port: Port
    """Port."""
    tls: bool = False
    """Whether that port speaks TLS; needs [tls]."""
    tls_name: str | None = None
    """Name that its certificate must hold; unset: host."""
    calling_ae_title: AETitle = "OVCF_NODE"
    """Calling AE title we use; with move also the Move Destination, which the PACS must know with our receive port."""
    retrieve: Literal["get", "move"] = "move"
    """move: C-MOVE to our own receiver; get: C-GET over the same association, where the PACS offers it."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Time for each step of an association, and the longest silence during a retrieval, seconds."""
