"""One revision of a series as the ledger holds it."""

import json
from dataclasses import dataclass
from typing import Any

from ovcf_node.domain.reasons import TECHNICAL, Reason
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import Permanent
from ovcf_node.ledger.schema import revisions


class StaleAttempt(Permanent):
    """The work was given to somebody else, or its input changed, since this attempt began."""

    def __init__(self, revision_id: int):
        super().__init__("stale_attempt", f"revision {revision_id} moved on")


@dataclass(frozen=True)
class Revision:
    """One row of `revisions`; `reading_of` makes it a second reading: of the findings of that revision."""

    id: int
    series_instance_uid: str
    study_instance_uid: str
    number: int
    state: RevisionState
    reason_code: str | None
    reason_text: str | None
    through_instance_id: int
    last_received_at: float
    stat: bool
    verdict: dict[str, Any] | None
    attempt: int
    failures: int
    not_before: float
    created_at: float
    updated_at: float
    analysis_started_at: float | None
    answered: bool
    reading_of: int | None = None
    images_purged_at: float | None = None
    results_purged_at: float | None = None
    bundle: str | None = None
    crashes: int = 0
    in_flight: bool = False

    @property
    def result_key(self) -> str:
        """The key under which the objects that this revision made are stored."""
        return result_key(self.series_instance_uid, self.number)

    @property
    def reading_key(self) -> str:
        """The key under which what its answer says is stored. Begun again by a ledger that forgot it, it is another reading.

        The answer without a reading (TECHNICAL) has a key of its own: of a reading that could not be encoded the picture and
        the masks must not stand beside "not assessed".
        """
        reading, technical = reading_keys(self.series_instance_uid, self.number, self.analysis_started_at)
        return technical if self.reason_code in TECHNICAL else reading

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key under which something of it may be stored."""
        return (self.result_key, *reading_keys(self.series_instance_uid, self.number, self.analysis_started_at))

    @property
    def shadow(self) -> bool:
        """Whether it was judged in shadow mode: what is made of it says so and is for shadow destinations alone."""
        return bool((self.verdict or {}).get("shadow"))

    @property
    def reason(self) -> Reason | None:
        return Reason(self.reason_code, self.reason_text or "") if self.reason_code else None


def result_key(series_instance_uid: str, number: int) -> str:
    """Return the `Revision.result_key` of a revision."""
    return f"{series_instance_uid}/{number}"


def reading_keys(series_instance_uid: str, number: int, analysis_started_at: float | None) -> tuple[str, str]:
    """Return the two keys that `Revision.reading_key` chooses from: of a reading, and of an answer without one."""
    reading = f"{result_key(series_instance_uid, number)}/{analysis_started_at}"
    return reading, f"{reading}.technical"


COLUMNS = [revisions.c[name] for name in Revision.__annotations__]


def revision_of(row) -> Revision:
    values = dict(row._mapping)
    values["state"] = RevisionState(values["state"])
    values["verdict"] = json.loads(values["verdict"]) if values["verdict"] else None
    return Revision(**values)
