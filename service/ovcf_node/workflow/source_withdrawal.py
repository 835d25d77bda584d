"""What a source rejection note does: the images it names no longer count, and what was made of them is withdrawn."""

from pathlib import Path

import structlog

from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger, StaleAttempt, StoredInstance
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.workflow.child import Children

_LOG = structlog.get_logger("judge")
_OPEN = (RevisionState.RECEIVING, RevisionState.WAITING)
_RETRY_S = 60.0


class SourceWithdrawal:
    """Part of the judge's tick: heeds notes as soon as they are here, also those that come before their images.

    patience_s  after so long a note that cannot be read now holds its study, as one does that never can; when its disk
                answers again it is heeded all the same
    """

    def __init__(self, ledger: Ledger, spool: Path, children: Children, pseudonyms: Pseudonyms, patience_s: float):
        self._ledger = ledger
        self._patience_s = patience_s
        self._spool = spool
        self._children = children
        self._hash = pseudonyms
        self._read: set[int] = set()
        self._failing: dict[int, tuple[float, float]] = {}  # note -> when it first failed, when it is tried next

    def heed(self, now: float) -> set[str]:
        """Read the notes that arrived; return the studies of those that could not be read yet."""
        undecided = set()
        arrived = self._ledger.rejections.key_objects()
        ids = {instance.id for instance in arrived}
        self._read &= ids
        self._failing = {note: times for note, times in self._failing.items() if note in ids}
        for instance in arrived:
            if instance.id in self._read:
                continue
            if self._failing.get(instance.id, (now, now))[1] > now or not self._heeded(instance, now):
                undecided.add(instance.study_instance_uid)
            else:
                self._read.add(instance.id)
        return undecided

    def _heeded(self, instance: StoredInstance, now: float) -> bool:
        """Read one note; False where that has to be tried again."""
        series, study = self._hash(instance.series_instance_uid), instance.study_instance_uid
        try:
            source_note = self._children.source_note(self._spool / instance.path)
        except OvcfError as error:
            first = self._failing.setdefault(instance.id, (now, now))[0]
            if isinstance(error, Transient) and now - first < self._patience_s:
                _LOG.warning("note_postponed", series=series, code=error.code)
                return False
            why = Reason("note_unreadable", "a rejection note cannot be read: what it names is not known")
            if self._ledger.holds.place(study, why, now):
                _LOG.error("note_unreadable", series=series, code=error.code)
            self._failing[instance.id] = (first, now + _RETRY_S)
            # Released by a person, the study goes on without it.
            return not isinstance(error, Transient) or study not in {h.study_instance_uid for h in self._ledger.holds.all()}
        if source_note is not None:
            self._ledger.rejections.record(source_note, now)
            _LOG.warning("source_note", series=series, title=str(source_note.title), instances=len(source_note.instances))
        return True

    def apply(self, now: float) -> set[str]:
        """Let what notes name no longer count; return the series that are to be judged anew."""
        changed = set()
        for rejected in self._ledger.rejections.due():
            revisions = self._ledger.revisions.of_series(rejected.series_instance_uid)
            if not revisions:
                continue  # it arrived just now: the next tick knows its series
            newest = revisions[-1]
            # First the new revision, then the instances: repeated after a crash in between, this loses nothing.
            try:
                if newest.state is RevisionState.WAITING:
                    self._ledger.revisions.move(newest, RevisionState.RECEIVING, now)
                elif newest.state not in (*_OPEN, RevisionState.SUPERSEDED):
                    self._ledger.revisions.reopen(newest, now, withdrawn_as=rejected.title)
            except StaleAttempt:
                continue  # a worker moved it on: the next tick sees how it stands
            self._ledger.instances.set_kind(rejected.instance_ids, "withdrawn")
            self._ledger.events.add(
                now, "source_withdrawn", f"{rejected.title}: {len(rejected.instance_ids)} instances no longer count",
                rejected.series_instance_uid, newest.study_instance_uid,
            )
            _LOG.warning("source_withdrawn", series=self._hash(rejected.series_instance_uid),
                         instances=len(rejected.instance_ids))
            changed.add(rejected.series_instance_uid)
        return changed
