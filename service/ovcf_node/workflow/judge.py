"""The judge loop: finds quiet series, judges them, and enqueues whatever the ledger says is unfinished.

It is the only enqueuer. It holds a lease, so several workers never judge at once, and it keeps no state that matters:
after a restart everything follows from the ledger.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import structlog

from ovcf_node import assemble
from ovcf_node.config import Settings
from ovcf_node.domain.identity import source_digest
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.states import RevisionState
from ovcf_node.errors import MACHINE_SHORT, OvcfError, Permanent, Transient
from ovcf_node.ledger import Arrival, Ledger, Revision, StaleAttempt, StoredInstance
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.workflow.answering import source_paths
from ovcf_node.workflow.child import TIMEOUT, Children, Inspected
from ovcf_node.workflow.dispatching import Dispatching, Scheduler
from ovcf_node.workflow.following_up import FollowUp
from ovcf_node.workflow.source_withdrawal import SourceWithdrawal

_LOG = structlog.get_logger("judge")
_READ_STATES = (RevisionState.COMPLETE, RevisionState.INFERRED, RevisionState.ENCODED)
_ID_OVERLAP = 1000  # PostgreSQL may show a lower row id after a higher one; look back this far
_LOOK_AGAIN_S = 60.0  # and at everything this often: a released conflict has an old row id
_RETRY_S = 10.0
_CRASHES_AT_MOST = 2  # a reading that killed its child twice would do so for ever
_COMPARISONS_PER_TICK = 25  # a router that changed every instance must not stop the judging of other patients


class Judge:
    """One tick looks at everything once; `count` asks the source PACS how many instances a series has, or is None.

    `free_bytes` says how much room the data volume has.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, spool: Path, engine: Scheduler, children: Children, pseudonyms: Pseudonyms,
        priority: Callable[[float, bool], int], count: Callable[[str, str], int | None] | None = None, *,
        free_bytes: Callable[[], int],
    ):
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._engine = engine
        self._dispatching = Dispatching(settings, ledger, engine, priority)
        self._follow_up = FollowUp(settings, ledger, engine)
        self._children = children
        self._hash = pseudonyms
        self._priority = priority
        self._count = count
        self._free_bytes = free_bytes
        self._short_of_room = False
        self._seen = 0
        self._look_again_at = 0.0
        self._inspected: dict[tuple[str, int], Inspected] = {}
        self._postponed: dict[int, float] = {}
        self._withdrawal = SourceWithdrawal(ledger, spool, children, pseudonyms, settings.assemble.incomplete_limit_s)

    def tick(self, now: float) -> None:
        """Do everything that is due at `now` (seconds since the epoch)."""
        self._take_arrivals(now)
        undecided = self._compare_variants(now) | self._withdrawal.heed(now)
        smaller = self._withdrawal.apply(now)
        self._inspected = {key: seen for key, seen in self._inspected.items() if key[0] not in smaller}
        open_ = self._ledger.revisions.quietable(now)
        self._inspected = {key: seen for key, seen in self._inspected.items() if key in {_set_of(r) for r in open_}}
        for revision in open_:
            quiet = now - revision.last_received_at >= self._settings.assemble.quiet_s
            if quiet and revision.study_instance_uid not in undecided:
                self._guarded_judge(revision, now)
        if self._room_to_read():
            self._enqueue_readings(now)
        self._dispatching.tick(now)
        self._follow_up.tick(now)

    # --- arrivals -------------------------------------------------------------------------------------------------

    def _take_arrivals(self, now: float) -> None:
        since = max(0, self._seen - _ID_OVERLAP)
        if now >= self._look_again_at:
            since, self._look_again_at = 0, now + _LOOK_AGAIN_S
        for arrival in self._ledger.instances.arrivals(since):
            self._seen = max(self._seen, arrival.through_instance_id)
            self._take(arrival, now)

    def _take(self, arrival: Arrival, now: float) -> None:
        if late := self._ledger.retention.late(arrival.series_instance_uid, arrival.study_instance_uid, now):
            _LOG.warning("late_after_purge", series=self._hash(arrival.series_instance_uid), instances=late)
            return
        self._ledger.revisions.arrived(arrival, now)
        studies = self._ledger.instances.studies_of(arrival.series_instance_uid)
        for study in studies if len(studies) > 1 else ():
            self._hold(study, Reason("two_studies", "one series, two studies"), now)
        if len(self._ledger.instances.patients_of(arrival.study_instance_uid)) > 1:
            self._hold(arrival.study_instance_uid, Reason("two_patients", "one study, two Patient IDs"), now)

    def _compare_variants(self, now: float) -> set[str]:
        """Decide what instances with a known UID and other bytes are; return the studies with some still undecided."""
        variants = self._ledger.instances.of_kind("variant")
        self._postponed = {v.id: self._postponed[v.id] for v in variants if self._postponed.get(v.id, 0.0) > now}
        due = [v for v in variants if v.id not in self._postponed]
        for variant in due[:_COMPARISONS_PER_TICK]:
            original = self._ledger.instances.original(variant.sop_instance_uid)
            if original is None:  # discarded meanwhile
                self._ledger.instances.set_kind([variant.id], "original")
                continue
            if not original.path:
                self._decide_by_identity(variant, original, now)
                continue
            slow = False
            try:
                outcome = self._children.compare(self._spool / original.path, self._spool / variant.path)
            except Transient as error:
                _LOG.warning("comparison_postponed", series=self._hash(variant.series_instance_uid), code=error.code)
                if now - variant.received_at < self._settings.assemble.incomplete_limit_s:
                    self._postponed[variant.id] = now + _RETRY_S
                    continue
                outcome = "content_conflict"  # it will not get better by itself: a person looks
            except Permanent as error:
                # What cannot be decoded cannot be called equal.
                _LOG.warning("variant_not_comparable", series=self._hash(variant.series_instance_uid), code=error.code)
                outcome, slow = "content_conflict", error.code == TIMEOUT
            self._decided(variant, original, outcome, now)
            if slow:
                break  # minutes went by: other patients are judged first
        left = self._ledger.instances.of_kind("variant") if variants else []
        return {variant.study_instance_uid for variant in left}

    def _decide_by_identity(self, variant: StoredInstance, original: StoredInstance, now: float) -> None:
        """The pixels are purged, and what they said is delivered: only another identity is still a conflict."""
        same = (variant.patient_key, variant.study_instance_uid, variant.series_instance_uid) == (
            original.patient_key, original.study_instance_uid, original.series_instance_uid
        )
        self._decided(variant, original, "duplicate" if same else "identity_conflict", now)
        if same:
            self._ledger.retention.drop(variant.id)

    def _decided(self, variant: StoredInstance, original: StoredInstance, outcome: str, now: float) -> None:
        self._ledger.instances.set_kind([variant.id], "duplicate" if outcome == "duplicate" else "conflict")
        texts = {
            "identity_conflict": "the same instance came again with another identity",
            "content_conflict": "the same SOP Instance UID came again with other content",
        }
        if outcome in texts:
            for study in {original.study_instance_uid, variant.study_instance_uid}:
                self._hold(study, Reason(outcome, texts[outcome]), now, again=True)

    def _hold(self, study_instance_uid: str, why: Reason, now: float, *, again: bool = False) -> None:
        if self._ledger.holds.place(study_instance_uid, why, now, again=again):
            _LOG.error("study_held", study=self._hash(study_instance_uid), code=why.code)

    # --- judging --------------------------------------------------------------------------------------------------

    def _guarded_judge(self, revision: Revision, now: float) -> None:
        """Judge one series so that nothing wrong with it keeps the others waiting."""
        try:
            self._judge(revision, now)
        except StaleAttempt:
            return  # more instances arrived while it was judged; the next tick judges again
        except OvcfError as error:
            if error.code in MACHINE_SHORT:
                raise  # not this series' doing, and the next one would meet it too
            self._could_not_judge(revision, now, error.code)
        # The boundary of one series. Let through, a defect would end this tick and the next ones at the same series, and
        # those behind it would wait for ever. Its kind is recorded and its place logged, without its words; it counts, and
        # is at last left to a person: never judged complete.
        except Exception as error:  # noqa: BLE001
            _LOG.error("defect", error_type=type(error).__name__, exc_info=True)
            self._could_not_judge(revision, now, type(error).__name__)

    def _could_not_judge(self, revision: Revision, now: float, code: str) -> None:
        _LOG.warning("judging_failed", series=self._hash(revision.series_instance_uid), code=code)
        # Files that cannot be read now are waited for like slices that are missing.
        waits = code == "io_error" and now - revision.last_received_at < self._settings.assemble.incomplete_limit_s
        if waits or revision.failures + 1 < self._settings.infer.attempts:
            self._ledger.revisions.failed(
                revision, now, not_before=now + _RETRY_S, text=f"judge: {code}", counts=not waits
            )
            return
        # A report must refer to the series as it is, which is not known: a person must look.
        self._move(revision, RevisionState.FAILED, now, Reason("unreadable_series", f"cannot be judged: {code}"))

    def _inspect(self, revision: Revision) -> Inspected:
        key = _set_of(revision)
        if key not in self._inspected:
            instances = self._ledger.instances.originals(revision.series_instance_uid, revision.through_instance_id)
            self._inspected[key] = self._children.inspect(source_paths(self._spool, instances))
        return self._inspected[key]

    def _judge(self, revision: Revision, now: float) -> None:
        rules = self._settings.assemble
        late = now - revision.last_received_at >= rules.incomplete_limit_s
        if revision.state is RevisionState.WAITING and not late:
            return  # nothing new arrived: it was judged already
        unknown = self._ledger.instances.arrivals(0, revision.series_instance_uid)
        if unknown:  # a released conflict has an older row than what was seen since: first it arrives
            self._take(unknown[0], now)
            return
        withdrawn = self._ledger.rejections.withdrawn(revision.series_instance_uid)
        if withdrawn and not self._ledger.instances.count(revision.series_instance_uid):
            self._move(revision, RevisionState.EXCLUDED, now, reason("source_withdrawn", f"{withdrawn} instances"))
            return
        if not late and self._study_still_arrives(revision, now):
            return
        if self._answered_before(revision):
            self._move(revision, RevisionState.EXCLUDED, now, reason("answered_before"))
            return
        verdict = self._inspect(revision)
        if verdict.kind == "excluded":
            self._move(revision, RevisionState.EXCLUDED, now, verdict.why)
            return
        missing = verdict.why if verdict.kind == "incomplete" else self._short_of(revision)
        if missing is not None and not late:
            if revision.state is not RevisionState.WAITING:
                self._move(revision, RevisionState.WAITING, now, missing)
            return
        if verdict.kind == "eligible" and missing is not None:
            problem = reason("incomplete", missing.text)
        else:
            problem = verdict.why if verdict.kind != "eligible" else None
        if problem is not None and withdrawn:
            problem = reason("source_withdrawn_in_part", f"{withdrawn} instances; {problem.text}")
        mine = assemble.Candidate(**verdict.candidate) if problem is None else None
        better = self._better_series(revision, mine)
        if better is not None:
            self._move(revision, RevisionState.EXCLUDED, now, reason("better_series", better))
            return
        record = {
            "problem": problem.to_json() if problem else None, "candidate": asdict(mine) if mine else None,
            # Kept with the series: it stays a shadow result, whatever mode the node is in when it is encoded or assessed.
            "shadow": self._settings.node.mode == "shadow",
        }
        self._move(revision, RevisionState.COMPLETE, now, None, verdict=record)

    def _answered_before(self, revision: Revision) -> bool:
        """Say whether exactly these instances were answered and their rows purged since; a retry reads them all the same."""
        before = self._ledger.retention.tombstone(revision.series_instance_uid)
        if before is None or before.source_digest is None or revision.number != before.last_number + 1:
            return False
        instances = self._ledger.instances.originals(revision.series_instance_uid, revision.through_instance_id)
        return before.source_digest == source_digest(i.sop_instance_uid for i in instances)

    def _move(self, revision: Revision, state: RevisionState, now: float, why: Reason | None, **values) -> None:
        self._ledger.revisions.move(revision, state, now, reason=why, **values)
        _LOG.info("judged", series=self._hash(revision.series_instance_uid), state=str(state),
                  code=why.code if why else None)

    def _short_of(self, revision: Revision) -> Reason | None:
        if self._count is None:
            return None
        count = len(self._ledger.instances.originals(revision.series_instance_uid, revision.through_instance_id))
        count += self._ledger.rejections.withdrawn(revision.series_instance_uid)  # the PACS may still count them
        try:
            expected = self._count(revision.study_instance_uid, revision.series_instance_uid)
        except OvcfError as error:
            # The source PACS is away: geometry alone decides, and the log says so.
            _LOG.warning("count_source_unavailable", code=error.code)
            return None
        if expected is None or count >= expected:
            return None
        return reason("incomplete", f"{count} of {expected} instances")

    def _study_still_arrives(self, revision: Revision, now: float) -> bool:
        """A thinner reconstruction may still be on its way: choose only when the whole study is quiet."""
        return any(
            other.state is RevisionState.RECEIVING and now - other.last_received_at < self._settings.assemble.quiet_s
            for other in self._ledger.revisions.newest_of_study(revision.study_instance_uid)
            if other.id != revision.id
        )

    def _better_series(self, revision: Revision, mine: assemble.Candidate | None) -> str | None:
        """Return the UID of a series of the study that is read instead of this one."""
        rules = self._settings.assemble
        others = [self._candidate(other) for other in self._ledger.revisions.newest_of_study(revision.study_instance_uid)
                  if other.id != revision.id]
        readable = [other for other in others if other is not None]
        if not readable:
            return None
        best = assemble.choose([*readable, mine] if mine else readable, rules.prefer_kernel)
        return None if best is mine else best.series_instance_uid

    def _candidate(self, revision: Revision) -> assemble.Candidate | None:
        """Return the facts of another series if it can be read, or was."""
        if revision.state in _READ_STATES:
            facts = (revision.verdict or {}).get("candidate")
            return assemble.Candidate(**facts) if facts else None
        if revision.state is not RevisionState.RECEIVING:
            return None
        try:
            facts = self._inspect(revision).candidate
        except OvcfError:
            return None  # its own judgement will say what is wrong with it
        return assemble.Candidate(**facts) if facts else None

    # --- enqueuing ------------------------------------------------------------------------------------------------

    def _room_to_read(self) -> bool:
        """Below the watermark only deliveries go on: they need no room, and the spool is purged behind them."""
        free_mb = self._free_bytes() // 2**20
        short = free_mb < self._settings.infer.min_free_mb
        if short is not self._short_of_room:
            self._short_of_room = short
            (_LOG.error if short else _LOG.info)("reading_paused" if short else "reading_resumed", free_mb=free_mb)
        return not short

    def _enqueue_readings(self, now: float) -> None:
        due = {f"read:{r.series_instance_uid}:{r.number}:{r.attempt}": r for r in self._ledger.revisions.due(now)}
        states = self._engine.states(list(due)) if due else {}
        for workflow_id, revision in due.items():
            try:
                self._enqueue_reading(workflow_id, revision, states.get(workflow_id, "absent"), now)
            except StaleAttempt:
                continue  # it moved on since it was listed

    def _enqueue_reading(self, workflow_id: str, revision: Revision, state: str, now: float) -> None:
        if revision.failures >= self._settings.infer.attempts or _is_poison(revision):
            self._give_up(revision, now)
        elif state == "absent":
            priority = self._priority(revision.last_received_at, revision.stat)
            self._engine.enqueue("read", workflow_id, "read", (revision.id, revision.attempt), priority=priority)
        elif state in ("done", "failed"):
            # The engine is through with this attempt and the ledger still calls it due. "failed": not even the failure could
            # be recorded, as on a full disk; the step records every other one.
            self._ledger.revisions.failed(
                revision, now, not_before=now, text=f"workflow {state} without result", counts=state == "done",
            )

    def _give_up(self, revision: Revision, now: float) -> None:
        """After the last attempt: answer 'not assessed', and if even that failed, show it to a person."""
        if revision.state in (RevisionState.COMPLETE, RevisionState.INFERRED) and revision.reading_of is None:
            poison = _is_poison(revision)
            why = reason("quarantined") if poison else reason("technical_failure", f"{revision.failures} attempts")
            self._move(revision, RevisionState.NOT_ASSESSED, now, why, failures=0, attempt=revision.attempt + 1)
        else:
            self._move(revision, RevisionState.FAILED, now, Reason("encode", "the answer could not be encoded"))


def _is_poison(revision: Revision) -> bool:
    return revision.crashes >= _CRASHES_AT_MOST and not revision.in_flight and revision.state is RevisionState.COMPLETE


def _set_of(revision: Revision) -> tuple[str, int]:
    return revision.series_instance_uid, revision.through_instance_id
