"""Plain values that cross the border of this package."""

import io
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """The requestor of one association; `association` is an id of ours."""

    association: str
    calling_ae_title: str
    called_ae_title: str
    address: str


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
