"""What a power cut, a crash or a restored backup leaves behind in the spool, put right by whoever holds the judge's lease.

*A file without a row*: the receiver died between the two, or the ledger is older than the spool (restored). Its sender has
no receipt, or has one that the ledger forgot: the instance is recorded now. A copy of what is recorded already is removed.

*A row without its file*, or with a damaged one: only where the series is not answered yet. The row counts no more, so that
the same bytes are new when they come again, and the series is judged anew: it waits for them and then says what is missing.

Every healing is logged and becomes an event of the series.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from ovcf_node.domain.series import Receipt
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import Refused
from ovcf_node.ledger import Ledger, Revision, StaleAttempt, StoredInstance
from ovcf_node.ledger.retention import SPOOL
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage.spool import Spool, folder_of

_LOG = structlog.get_logger("healing")
_ID_OVERLAP = 1000  # PostgreSQL may show a lower row id after a higher one
_UNREAD = (RevisionState.COMPLETE, RevisionState.INFERRED)


class Healing:
    """Look at the whole spool once, then at what changed in it."""

    def __init__(
        self, ledger: Ledger, spool: Spool, receipt_of: Callable[[str], Receipt], pseudonyms: Pseudonyms, *,
        settled_s: float = 60.0,
    ):
        """`receipt_of` reads the receipt of a file in the spool; younger ones than `settled_s` are the receiver's."""
        self._ledger = ledger
        self._spool = spool
        self._receipt_of = receipt_of
        self._hash = pseudonyms
        self._settled_s = settled_s
        self._looked_at = 0.0
        self._series: dict[str, str] = {}  # folder -> Series Instance UID
        self._through = 0  # the newest row that `_series` knows of
        self._unreadable: set[str] = set()

    def look(self, now: float) -> None:
        """Heal what there is to heal at `now`, seconds since the epoch."""
        new = self._ledger.instances.series_since(self._through - _ID_OVERLAP)
        self._series |= {folder_of(uid): uid for uid in new}
        self._through = max(new.values(), default=self._through)
        # A file that was too young at the last look is looked at again: its folder changed not long before that look.
        since, self._looked_at = self._looked_at - 2 * self._settled_s, now
        for folder, files in self._spool.folders_changed(since):
            known = self._ledger.instances.paths(self._series[folder]) if folder in self._series else set()
            self._record_strays([file for file in files if file not in known and file not in self._unreadable], now)
        for revision in self._ledger.revisions.unanswered():
            self._forget_lost(revision, now)

    # --- files without a row --------------------------------------------------------------------------------------

    def _record_strays(self, files: Sequence[str], now: float) -> None:
        counted: Counter[tuple[str, str]] = Counter()
        purged = self._ledger.retention.to_be_removed(SPOOL) if files else frozenset()
        for file in files:
            if file in purged or not self._settled(file, now):
                continue
            try:
                receipt = self._receipt_of(file)
            except Refused as error:
                self._unreadable.add(file)  # nobody knows whose it is: a person may
                _LOG.error("stray_file_unreadable", file=file, code=error.code)
                continue
            self._record(receipt)
            counted[receipt.series_instance_uid, receipt.study_instance_uid] += 1
        for (series, study), count in counted.items():
            _LOG.warning("files_recorded", series=self._hash(series), files=count)
            self._ledger.events.add(now, "healed", f"{count} received files were not in the ledger: recorded", series, study)

    def _settled(self, file: str, now: float) -> bool:
        age = self._spool.modified_at(file)
        return age is not None and age <= now - self._settled_s

    def _record(self, receipt: Receipt) -> None:
        self._ledger.instances.record(receipt)
        if receipt.path not in self._ledger.instances.paths(receipt.series_instance_uid):
            self._spool.purge([receipt.path])  # the sender sent it again meanwhile

    # --- rows without a file --------------------------------------------------------------------------------------

    def _forget_lost(self, revision: Revision, now: float) -> None:
        originals = self._ledger.instances.originals(revision.series_instance_uid, revision.through_instance_id)
        lost = [i for i in originals if i.path and self._spool.size(i.path) != i.size]  # without a path: purged
        if not lost:
            return
        try:
            self._forget(revision, lost, now)
        except StaleAttempt:
            return  # it moved on meanwhile; the next look sees what is left of it
        series = revision.series_instance_uid
        _LOG.error("files_lost", series=self._hash(series), files=len(lost))
        text = f"{len(lost)} received files are gone or damaged: they are awaited again"
        self._ledger.events.add(now, "healed", text, series, revision.study_instance_uid)

    def _forget(self, revision: Revision, lost: Sequence[StoredInstance], now: float) -> None:
        if revision.state in _UNREAD and revision.reading_of is None:
            self._ledger.revisions.reopen(revision, now)
        elif revision.state is RevisionState.WAITING:
            self._ledger.revisions.move(revision, RevisionState.RECEIVING, now)
        self._ledger.instances.set_kind([i.id for i in lost], "discarded")
        self._spool.purge([i.path for i in lost])
