"""Why an instance no longer counts: the document titles of rejection notes (IHE RAD IOCM; PS3.16 CID 7010).

Data Retention Policy Expired (113039) is not among them: what a PACS no longer keeps was not wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ovcf_node.domain.identity import uid_from

NOTE_ROLE = "rejection_note"
"""The role of a rejection note among the objects that are delivered."""


class Title(StrEnum):
    """The code value (DCM) of a rejection note's title."""

    QUALITY = "113001"
    """Rejected for Quality Reasons: replaced by a better one, or not good enough to be read."""
    PATIENT_SAFETY = "113037"
    """Rejected for Patient Safety Reasons: it could be taken for somebody else's, or mislead; must not be shown."""
    WORKLIST = "113038"
    """Incorrect Modality Worklist Entry: it belongs to another patient or another order."""


GRAVITY = (Title.QUALITY, Title.WORKLIST, Title.PATIENT_SAFETY)
"""The titles, the mildest first."""


@dataclass(frozen=True)
class SourceNote:
    """A rejection note that came from a PACS or scanner.

    instances  SOP Instance UID -> Study Instance UID of everything that it rejects
    """

    title: Title
    instances: dict[str, str]


def note_uid(installation: str, title: Title, sop_instance_uids: Iterable[str]) -> str:
    """Return the SOP Instance UID of the note about these instances: the same set under the same title is the same note."""
    return uid_from("rejection note", installation, title, *sorted(sop_instance_uids))
