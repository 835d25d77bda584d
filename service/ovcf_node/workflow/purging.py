"""Retention at work: what is due goes, a few studies at a time; the judge's holder does it between two ticks."""

import structlog

from ovcf_node.config import Settings
from ovcf_node.ledger import Ledger
from ovcf_node.ledger.retention import SPOOL, Due, Phase
from ovcf_node.observe import audit
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool

_LOG = structlog.get_logger("retention")
_STUDIES_AT_ONCE = 10
_FILES_AT_ONCE = 500
_HOUR = 3600.0
_DAY = 24 * _HOUR


def remove_files(ledger: Ledger, spool: Spool, results: Results) -> int:
    """Remove the files whose rows are marked or gone and return how many; what a crash left is listed still."""
    count = 0
    while batch := ledger.retention.removals(_FILES_AT_ONCE):
        for removal in batch:
            if removal.store == SPOOL:
                spool.purge([removal.path])
            else:
                results.purge(removal.path)
        ledger.retention.removed(batch)
        count += len(batch)
    return count


def remove_unnamed(ledger: Ledger, results: Results, before: float) -> int:
    """Remove what lies in the results since `before` and no revision names, and return how many folders.

    A crash between a purge and a reading leaves such, or a ledger restored without its files. It stays as long as results
    do, not an hour: with a mistyped database everything here is unnamed, and comes back to be delivered with the right one.
    """
    folders = results.abandoned(before, ledger.revisions.keys)
    for folder in folders:
        results.drop_abandoned(folder)
    return len(folders)


class Purging:
    """The phases of retention with the settings' times."""

    def __init__(self, settings: Settings, ledger: Ledger, spool: Spool, results: Results, pseudonyms: Pseudonyms):
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._results = results
        self._hash = pseudonyms
        self._unnamed_at = 0.0

    def tick(self, now: float) -> None:
        """Do a bounded part of what is due at `now` (seconds since the epoch)."""
        remove_files(self._ledger, self._spool, self._results)
        for phase, due in self._phases(now):
            for study in self._ledger.retention.due(phase, due, _STUDIES_AT_ONCE):
                if self._ledger.retention.purge(phase, study, due):
                    _LOG.info("purged", study=self._hash(study), what=str(phase))
                    if phase is not Phase.ROWS:  # their images and results went before
                        audit.deleted(audit.ourselves(requestor=True), audit.Study(study))
        self._ledger.retention.sweep(now - self._settings.retention.ledger_days * _DAY)
        remove_files(self._ledger, self._spool, self._results)
        if now >= self._unnamed_at:
            self._unnamed_at = now + _HOUR
            self._remove_unnamed(now)

    def _remove_unnamed(self, now: float) -> None:
        before = now - max(self._settings.retention.results_days * _DAY, _HOUR)
        if count := remove_unnamed(self._ledger, self._results, before):
            _LOG.warning("unnamed_results_removed", folders=count)
            self._ledger.events.add(now, "healed", f"{count} folders of results that no series names were removed")

    def _phases(self, now: float) -> list[tuple[Phase, Due]]:
        keep = self._settings.retention
        names = tuple(destination.name for destination in self._settings.destinations)

        def due(seconds: float, *, failed_too: bool = True) -> Due:
            return Due(now, now - seconds, names, failed_too)

        # A person may want to look at what failed, and needs its images to read it again: they go with the results.
        short = self._spool.free_bytes() < self._settings.receive.min_free_mb * 2**20
        images = due(0.0 if short else keep.images_h * _HOUR, failed_too=False)
        return [
            (Phase.IMAGES, images), (Phase.IMAGES, due(keep.results_days * _DAY)),
            (Phase.RESULTS, due(keep.results_days * _DAY)), (Phase.ROWS, due(keep.ledger_days * _DAY)),
        ]
