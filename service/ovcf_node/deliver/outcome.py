"""What a destination can answer, in words that all types share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["accepted", "retry", "rejected"]
Cause = Literal["instance", "form", "unreachable", "refused"]
File = tuple[Path, str, str]
"""Path of the encoded object, its SOP Class UID, its SOP Instance UID."""
GoOn = Callable[[], None]
"""Returns while this sender may go on sending; raises Transient (`given_up`) otherwise."""


@dataclass(frozen=True)
class Outcome:
    """What became of one instance.

    accepted  the destination has it; `text` keeps a warning.
    retry     nothing is wrong with the instance; the same call may succeed later.
    rejected  the destination will refuse the same bytes again; `text` says why, in its words where it gave any.

    `cause` says what it is about, where it was not accepted:

    instance     this instance; others may fare better.
    form         its SOP class: no presentation context, or a data set that does not match; another dialect may do.
    unreachable  the destination: it does not answer, or has no room for an association.
    refused      the destination: it answers and will not have us, until a person mends that.
    """

    sop_instance_uid: str
    state: State
    status: int | None
    text: str
    cause: Cause = "instance"


def judge(sop_instance_uid: str, status: int, comment: str = "") -> Outcome:
    """Return the outcome of a storage status (PS3.4 table B.2-1, PS3.7 Annex C, PS3.18 10.5.3)."""
    words = f"0x{status:04X} {MEANINGS.get(status) or _RANGE.get(status >> 12, 'failure')}"
    text = f"{words}: {comment}" if comment else words
    if status == 0x0000:
        return Outcome(sop_instance_uid, "accepted", status, comment)
    if status in (_DUPLICATE, *_WARNINGS) or status >> 12 == 0xB:
        return Outcome(sop_instance_uid, "accepted", status, text)
    if status >> 8 == 0xA7:
        return Outcome(sop_instance_uid, "retry", status, text)
    unsuited = status >> 8 == 0xA9 or status == _CLASS_NOT_SUPPORTED
    return Outcome(sop_instance_uid, "rejected", status, text, "form" if unsuited else "instance")


_CLASS_NOT_SUPPORTED = 0x0122
_DUPLICATE = 0x0111  # our own UIDs stand for our own bytes: whoever has the instance has this one

_WARNINGS = (0x0107, 0x0116)  # PS3.7 Annex C: stored all the same

MEANINGS = {
    0x0107: "attribute list error (warning)",
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0116: "attribute value out of range (warning)",
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
