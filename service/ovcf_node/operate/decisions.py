"""What only a person may decide. The command line and the pages both decide here, so that they never differ.

Each decision is recorded with who took it. Permanent `not_possible` says in words why a decision makes no sense now.
"""

from collections.abc import Callable
from dataclasses import replace

from ovcf_node.domain.assessments import SecondReading, Verdict
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.states import RevisionState
from ovcf_node.domain.withdrawal import Title
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Hold, Ledger, Revision, StaleAttempt

_UNREAD = (RevisionState.FAILED, RevisionState.NOT_ASSESSED, RevisionState.EXCLUDED)
_TRIES = 10  # a worker moves a series a few times at most while a person decides


class NotPossible(Permanent):
    """The decision makes no sense as things stand."""

    def __init__(self, text: str):
        super().__init__("not_possible", text)


def retry(ledger: Ledger, revision: Revision, now: float, who: str) -> str:
    """Send what is pending or rejected at once, or read again what was not read; returns in words what happens."""
    if revision.state is RevisionState.SUPERSEDED:
        raise NotPossible("superseded or discarded: there is nothing to try again")
    second = ledger.assessments.of_revision(revision.id)
    if second is not None and revision.state is RevisionState.FAILED:
        ledger.revisions.second_reading(revision, second, now)
        outcome = "the second reading is reported again"
    elif revision.state in _UNREAD:
        _require_images(revision)
        ledger.revisions.reopen(revision, now)
        outcome = "the series is read again"
    else:
        outcome = f"{ledger.deliveries.retry(revision.id, now, beside=revision.reading_of)} deliveries are tried again"
        for name in {d.destination for d in ledger.deliveries.of_revision(revision.id)}:
            ledger.destinations.probe(name, now)  # of one that is away; once it answers, everything goes
    ledger.events.add(now, "retried", f"by {who}: {outcome}", revision.series_instance_uid, revision.study_instance_uid)
    return outcome


def hold_destination(ledger: Ledger, name: str, now: float, who: str) -> None:
    """Send nothing to a destination until it is released; what is meant for it waits."""
    if not ledger.destinations.hold(name, now, who):
        raise NotPossible("it is held already")


def release_destination(ledger: Ledger, name: str, now: float, who: str) -> None:
    """End the hold of a destination: what waited is sent at once."""
    if not ledger.destinations.release(name, now, who):
        raise NotPossible("it is not held")


def probe_destination(ledger: Ledger, name: str, now: float, _who: str) -> None:
    """Try a destination that is away at once."""
    if ledger.destinations.of(name).away_since is None:
        raise NotPossible("it is not away")
    ledger.destinations.probe(name, now)


def hold(ledger: Ledger, study_instance_uid: str, now: float, who: str) -> None:
    """Hold a study: nothing more of it is read or leaves until it is released or discarded."""
    if not ledger.holds.place(study_instance_uid, Reason("by_person", f"held by {who}"), now, again=True):
        raise NotPossible("the study is held already")


def release(ledger: Ledger, study_instance_uid: str, now: float, who: str, *, newest: bool = False) -> None:
    """Release a held study: what was received first stands or, with `newest`, what came last, and is read again."""
    held = _require_hold(ledger, study_instance_uid)
    for series in ledger.instances.series_of(study_instance_uid):
        if len(ledger.instances.studies_of(series)) > 1:
            raise NotPossible("a series of it came in another study too: discard one of them first")
    if newest:
        # Other pixels are a matter of quality; another identity on what was sent could be read as another patient's.
        title = Title.QUALITY if held.reason_code == "content_conflict" else Title.PATIENT_SAFETY
        ledger.instances.prefer_newest(study_instance_uid)

        def read_again(revision: Revision) -> None:
            if revision.state is not RevisionState.SUPERSEDED:
                ledger.revisions.reopen(revision, now, withdrawn_as=title)

        _decide(ledger, study_instance_uid, read_again)
    else:
        conflicting = ledger.instances.of_kind("conflict", study_instance_uid)
        ledger.instances.set_kind([instance.id for instance in conflicting], "discarded")
    ledger.holds.lift(study_instance_uid, now, who)


def discard(ledger: Ledger, study_instance_uid: str, now: float, who: str) -> None:
    """Discard a held study: nothing of it is read or delivered any more, and what was sent already is withdrawn."""
    _require_hold(ledger, study_instance_uid)
    ledger.instances.discard_study(study_instance_uid)
    _decide(ledger, study_instance_uid, lambda revision: ledger.revisions.discard(revision, now))
    ledger.holds.lift(study_instance_uid, now, who)


def purge(ledger: Ledger, study_instance_uid: str, now: float, who: str, *, force: bool = False) -> None:
    """Purge everything of a study but a tombstone that says who and when. What destinations have, they keep.

    Without `force` only where nothing is in flight: InFlight says what is.
    """
    if not ledger.retention.purge_study(study_instance_uid, now, who, force=force):
        raise NotPossible("there is no such study here")


def assess(ledger: Ledger, revision: Revision, second: SecondReading) -> None:
    """Report the findings of `revision` again with what a reader said of them.

    Raises StaleAttempt when the series has moved on since the reader saw it: what was said is about something else.
    """
    if revision.state is not RevisionState.ENCODED:
        raise NotPossible("there is no finished reading to assess")
    if any(hold.study_instance_uid == revision.study_instance_uid for hold in ledger.holds.all()):
        raise NotPossible("the study is held: release it first")
    _require_images(revision)
    before = ledger.assessments.of_revision(revision.id)
    if not second.assessments:
        raise NotPossible("no finding was assessed")
    levels = [a.corrected_level or a.level for a in second.assessments if a.verdict is not Verdict.REJECTED]
    double = sorted({level for level in levels if levels.count(level) > 1})
    if double:
        raise NotPossible(f"two findings cannot be of one level ({', '.join(double)})")
    if before is not None and replace(before, at=second.at) == second:
        raise NotPossible("nothing changed since your last second reading")
    ledger.revisions.second_reading(revision, second, second.at)


def _decide(ledger: Ledger, study_instance_uid: str, about: Callable[[Revision], None]) -> None:
    """Decide about the newest revision of every series of a study, once each.

    It is the study that a person decides about: a revision that a worker moves at that moment is looked up again.
    """
    decided: set[str] = set()
    for left in reversed(range(_TRIES)):
        open_ = [r for r in ledger.revisions.newest_of_study(study_instance_uid) if r.series_instance_uid not in decided]
        if not open_:
            return
        for revision in open_:
            try:
                about(revision)
                decided.add(revision.series_instance_uid)
            except StaleAttempt:
                if not left:
                    raise


def _require_images(revision: Revision) -> None:
    if revision.images_purged_at is not None:
        raise NotPossible("its images were purged: purge the whole study, then have it sent again")


def _require_hold(ledger: Ledger, study_instance_uid: str) -> Hold:
    for hold in ledger.holds.all():
        if hold.study_instance_uid == study_instance_uid:
            return hold
    raise NotPossible("the study is not held")
