"""Send encoded objects to a destination. A new type is one function and one line in `TYPES`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ovcf_node.config import Destination
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import associate
from ovcf_node.storage import atomic

State = Literal["accepted", "retry", "rejected"]
File = tuple[Path, str, str]
"""Path of the encoded object, its SOP Class UID, its SOP Instance UID."""

_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Outcome:
    """What became of one instance.

    accepted  the destination has it; `text` keeps a warning.
    retry     nothing is wrong with the instance; the same call may succeed later.
    rejected  the destination will refuse the same bytes again; `text` says why, in its words where it gave any.
    """

    sop_instance_uid: str
    state: State
    status: int | None
    text: str


def send(destination: Destination, files: Sequence[File]) -> list[Outcome]:
    """Send files in their order and return one outcome each in that order; network and disk errors are outcomes too."""
    return TYPES[destination.type](destination, files)


def remote_of(destination: Destination) -> associate.Remote:
    """Return the acceptor behind a destination of type dicom."""
    return associate.Remote(
        host=destination.host,
        port=destination.port,
        called_ae_title=destination.ae_title,
        calling_ae_title=destination.calling_ae_title,
        timeout_s=destination.timeout_s,
    )


def _send_dicom(destination: Destination, files: Sequence[File]) -> list[Outcome]:
    remote = remote_of(destination)
    outcomes: dict[str, Outcome] = {}

    def keep(reply: associate.StoreReply) -> None:
        outcomes[reply.sop_instance_uid] = _judge(reply)

    try:
        associate.store(remote, [associate.StoreFile(*file) for file in files], keep)
    except (Transient, Permanent) as error:
        # A rejected association says nothing about the instances: it ends when an administrator enters our AE title.
        for _, _, uid in files:
            outcomes.setdefault(uid, Outcome(uid, "retry", None, str(error)))
    return [outcomes[uid] for _, _, uid in files]


def _judge(reply: associate.StoreReply) -> Outcome:
    """Return the outcome of a C-STORE status (PS3.4 table B.2-1, PS3.7 Annex C)."""
    status = reply.status
    if status is None:
        return Outcome(reply.sop_instance_uid, "rejected", None, reply.text)
    words = f"0x{status:04X} {_MEANING.get(status) or _RANGE.get(status >> 12, 'failure')}"
    text = f"{words}: {reply.text}" if reply.text else words
    if status == 0x0000:
        return Outcome(reply.sop_instance_uid, "accepted", status, reply.text)
    if status == _DUPLICATE or status >> 12 == 0xB:
        return Outcome(reply.sop_instance_uid, "accepted", status, text)
    if status >> 8 == 0xA7:
        return Outcome(reply.sop_instance_uid, "retry", status, text)
    return Outcome(reply.sop_instance_uid, "rejected", status, text)


_DUPLICATE = 0x0111  # our own UIDs stand for our own bytes: whoever has the instance has this one

_MEANING = {
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0xA700: "out of resources",
    0xA900: "data set does not match SOP class",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class (warning)",
}
_RANGE = {0xA: "refused", 0xB: "warning", 0xC: "cannot understand"}


def _send_folder(destination: Destination, files: Sequence[File]) -> list[Outcome]:
    return [_write_one(destination.path, path, uid) for path, _, uid in files]


def _write_one(folder: Path, source: Path, uid: str) -> Outcome:
    if not _UID.fullmatch(uid):
        return Outcome(uid, "rejected", None, "the SOP Instance UID is not a UID")
    name = f"{uid}.dcm"
    try:
        with atomic.storage_errors():
            if not source.is_file():
                return Outcome(uid, "rejected", None, "file_missing")
            data = source.read_bytes()
            atomic.write(folder, name, [data], replace=False)
            if (folder / name).read_bytes() != data:
                return Outcome(uid, "rejected", None, "other bytes are there under this SOP Instance UID")
    except Transient as error:
        return Outcome(uid, "retry", None, str(error))
    return Outcome(uid, "accepted", None, "")


TYPES: dict[str, Callable[[Destination, Sequence[File]], list[Outcome]]] = {
    "dicom": _send_dicom,
    "folder": _send_folder,
}
