"""Plain values that cross the border of this package."""

import io
from dataclasses import dataclass, field

from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Peer:
    """The requestor of one association; `association` is an id of ours, `certificate` the names its certificate holds.

    encrypted  over TLS, where every peer has a certificate, if one without any name
    """

    association: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    certificate: frozenset[str] = frozenset()
    encrypted: bool = False


@dataclass(frozen=True)
class StoreRequest:
    """One C-STORE-RQ (PS3.7 9.1.1); `dataset` holds the encoded data set exactly as it came."""

    peer: Peer
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    high_priority: bool
    dataset: io.BytesIO


@dataclass(frozen=True)
class StoreAnswer:
    """Status of the C-STORE-RSP and its Error Comment (0000,0902), which most senders write to their log."""

    status: int
    comment: str = ""


@dataclass(frozen=True)
class QueryRequest:
    """One C-FIND, C-GET or C-MOVE request (PS3.4 C.4); `patient_root` tells the information model from Study Root.

    encoded  the identifier as it came, in the transfer syntax beside it
    """

    peer: Peer
    patient_root: bool
    identifier: Dataset
    destination: str | None = None
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    encoded: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class FindMatch:
    """One pending C-FIND response; not `complete`: some key is not supported (status 0xFF01 instead of 0xFF00)."""

    identifier: Dataset
    complete: bool
