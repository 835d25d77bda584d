"""Find out that a destination holds more than the ledger knows: restored from a backup, or purged, it forgot what it sent.

Before objects of a revision leave, a destination that answers C-FIND is asked what it holds of our result series.
An instance that the ledger does not know holds the study: a second answer must not stand beside the first without a person
who wants it; of what was purged the tombstone tells when and by whom. What leaves after a release has UIDs of its own (they
depend on the start of the analysis), so that no destination, asked or not, ever gets other bytes for a UID that it has.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from ovcf_node import deliver
from ovcf_node.config import Destination
from ovcf_node.domain.reasons import Reason
from ovcf_node.errors import Permanent, Transient
from ovcf_node.ledger import Ledger, Revision
from ovcf_node.observe.logging import Pseudonyms

_LOG = structlog.get_logger("workflow")
_NOT_AGAIN_S = 3600.0  # a destination that does not answer queries is not asked before every delivery


class OlderLedger:
    """Ask destinations what they hold; `clock` in seconds."""

    def __init__(self, ledger: Ledger, pseudonyms: Pseudonyms, clock: Callable[[], float] = time.monotonic):
        self._ledger = ledger
        self._hash = pseudonyms
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def holds(self, destination: Destination, revision: Revision, now: float) -> bool:
        """Hold the study and return True when the destination has results of this series that the ledger lacks."""
        unknown = self._unknown(destination, revision)
        if not unknown:
            return False
        why = self._why(f"{destination.name} holds {len(unknown)} results of this series", revision)
        held = self._ledger.holds.place(revision.study_instance_uid, why, now)
        if held:
            _LOG.error("destination_knows_more", series=self._hash(revision.series_instance_uid), code=why.code,
                       destination=destination.name, unknown=len(unknown))
        return held  # a person who released it has seen this

    def _why(self, fact: str, revision: Revision) -> Reason:
        purged = self._ledger.retention.tombstone(revision.series_instance_uid)
        if purged is None:
            return Reason("older_ledger",
                          f"{fact} that the ledger does not know: it was restored from a backup, or the data folder is new")
        day = datetime.fromtimestamp(purged.at, UTC).date()
        return Reason("purged_before", f"{fact}, which was purged here on {day} by {purged.by}, and now it was read again")

    def _unknown(self, destination: Destination, revision: Revision) -> set[str]:
        if self._silent_until.get(destination.name, 0.0) > self._clock():
            return set()
        series = self._ledger.deliveries.result_series(revision.id)
        try:
            there = deliver.results_at(destination, revision.study_instance_uid, series)
        except Transient:
            return set()  # nor will it take anything now; it is asked again before the next attempt
        except Permanent as error:
            self._silent_until[destination.name] = self._clock() + _NOT_AGAIN_S
            _LOG.info("not_asked", destination=destination.name, code=error.code)
            return set()
        return there - self._ledger.deliveries.known_instances(series)
