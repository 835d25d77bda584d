"""What a source rejection note does: the images it names no longer count, and what was made of them is withdrawn."""

from pathlib import Path

import structlog

from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger, StaleAttempt
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.workflow.child import Children

_LOG = structlog.get_logger("judge")
_OPEN = (RevisionState.RECEIVING, RevisionState.WAITING)


class SourceWithdrawal:
    """Part of the judge's tick: heeds notes as soon as they are here, also those that come before their images.

    patience_s  how long a note is tried again that cannot be read now; then its study is held, as if it never could be.
    """

    def __init__(self, ledger: Ledger, spool: Path, children: Children, pseudonyms: Pseudonyms, patience_s: float):
        self._ledger = ledger
        self._patience_s = patience_s
        self._spool = spool
        self._children = children
        self._hash = pseudonyms
        self._read: set[int] = set()

    def heed(self, now: float) -> set[str]:
        """Read the notes that arrived; return the studies of those that could not be read yet."""
        undecided = set()
        arrived = self._ledger.rejections.key_objects()
        self._read &= {instance.id for instance in arrived}
        for instance in arrived:
            if instance.id in self._read:
                continue
            try:
                source_note = self._children.source_note(self._spool / instance.path)
            except OvcfError as error:
                if isinstance(error, Transient) and now - instance.received_at < self._patience_s:
                    _LOG.warning("note_postponed", series=self._hash(instance.series_instance_uid), code=error.code)
                    undecided.add(instance.study_instance_uid)
                    continue
                _LOG.error("note_unreadable", series=self._hash(instance.series_instance_uid), code=error.code)
                why = Reason("note_unreadable", "a rejection note cannot be read: what it names is not known")
                self._ledger.holds.place(instance.study_instance_uid, why, now)
                source_note = None
            if source_note is not None:
                self._ledger.rejections.record(source_note, now)
                _LOG.warning("source_note", series=self._hash(instance.series_instance_uid),
                             title=str(source_note.title), instances=len(source_note.instances))
            self._read.add(instance.id)
        return undecided

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
