"""The ledger: what arrives is remembered once, late instances supersede, stale writers change nothing."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.series import Receipt
from ovcf_node.domain.states import DeliveryState, IllegalMove, RevisionState
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger, Result, StaleAttempt, migrate

S = RevisionState


@pytest.fixture
def ledger(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    migrate(url)  # again: nothing to do
    opened = Ledger(url)
    yield opened
    opened.close()


def receipt(sop="1.1", digest="a", *, series="1.2", study="1.3", patient="p", at=100.0, stat=False) -> Receipt:
    return Receipt(
        sop, "1.2.840.10008.5.1.4.1.1.2", study, series, "1.2.840.10008.1.2.1", f"{digest}.dcm", 10, digest, patient, "CT",
        datetime.fromtimestamp(at, UTC), "CT", "NODE", "assoc", stat,
    )


def open_revision(ledger, *receipts: Receipt, now=100.0):
    for one in receipts or (receipt(),):
        ledger.instances.record(one)
    for arrival in ledger.instances.arrivals(0):
        ledger.revisions.arrived(arrival, now)
    return ledger.revisions.quietable(1e9)[-1]


def encoded(ledger, revision, now=102.0):
    inferred = ledger.revisions.move(ledger.revisions.move(revision, S.COMPLETE, now, verdict={}), S.INFERRED, now)
    results = [
        Result(revision.id, role, "", f"9.{revision.number}.{i}", "c", "s", f"{role}.dcm", "h", 1)
        for i, role in enumerate(("seg_vertebrae", "sr"))
    ]
    ledger.revisions.answered(inferred, results, {"pacs": [r.sop_instance_uid for r in results]}, now)
    return ledger.revisions.get(revision.id)


def test_same_bytes_are_recorded_once(ledger):
    for _ in range(2):
        ledger.instances.record(receipt())
    assert len(ledger.instances.originals("1.2")) == 1
    assert ledger.instances.has_digest("1.1", "a") and not ledger.instances.has_digest("1.1", "b")


def test_other_bytes_of_one_uid_are_a_variant_and_open_nothing(ledger):
    revision = open_revision(ledger)
    ledger.instances.record(receipt(digest="b"))
    assert ledger.instances.arrivals(0) == []
    assert [i.digest for i in ledger.instances.of_kind("variant")] == ["b"]
    assert ledger.revisions.quietable(1e9) == [revision]


def test_new_instances_extend_an_open_revision(ledger):
    open_revision(ledger)
    revision = open_revision(ledger, receipt("1.9", "z", at=105.0, stat=True), now=105.0)
    assert (revision.number, revision.last_received_at, revision.stat) == (1, 105.0, True)


def test_late_instance_supersedes_and_cancels_what_was_not_sent(ledger):
    first = encoded(ledger, open_revision(ledger))
    sent, pending = ledger.deliveries.of_revision(first.id)
    ledger.deliveries.finished(sent, DeliveryState.ACCEPTED, 103.0, status=0, text="")
    second = open_revision(ledger, receipt("1.9", "late"), now=110.0)
    assert second.number == 2
    assert ledger.revisions.get(first.id).state is S.SUPERSEDED
    assert [d.state for d in ledger.deliveries.of_revision(first.id)] == [DeliveryState.ACCEPTED, DeliveryState.CANCELLED]
    assert ledger.deliveries.due(200.0) == []
    ledger.deliveries.finished(pending, DeliveryState.REJECTED, 111.0, status=0xC000, text="")
    assert ledger.deliveries.of_revision(first.id)[1].state is DeliveryState.CANCELLED
    ledger.deliveries.finished(pending, DeliveryState.ACCEPTED, 111.0, status=0, text="it was on the wire")
    assert ledger.deliveries.of_revision(first.id)[1].state is DeliveryState.ACCEPTED


def test_predecessors_are_reports_that_arrived(ledger):
    first = encoded(ledger, open_revision(ledger))
    second = open_revision(ledger, receipt("1.9", "late"), now=110.0)
    assert ledger.deliveries.arrived_report("1.2", second.number, "") is None
    third = encoded(ledger, second)
    for delivery in ledger.deliveries.of_revision(third.id):
        ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 120.0, status=0, text="")
    assert ledger.deliveries.arrived_report("1.2", 3, "").sop_instance_uid == "9.2.1"
    assert ledger.deliveries.arrived_report("1.2", 3, "88.22/air") is None
    assert first.id != third.id


def test_stale_attempt_changes_nothing(ledger):
    revision = ledger.revisions.move(open_revision(ledger), S.COMPLETE, 101.0, verdict={})
    ledger.revisions.failed(revision, 102.0, not_before=110.0, text="crash")
    with pytest.raises(StaleAttempt):
        ledger.revisions.move(revision, S.INFERRED, 103.0)
    now = ledger.revisions.get(revision.id)
    assert (now.state, now.attempt, now.failures) == (S.COMPLETE, 1, 1)
    assert ledger.revisions.due(105.0) == [] and [r.id for r in ledger.revisions.due(111.0)] == [revision.id]


def test_judgement_of_an_older_set_of_instances_is_stale(ledger):
    revision = open_revision(ledger)
    open_revision(ledger, receipt("1.9", "more"))
    with pytest.raises(StaleAttempt):
        ledger.revisions.move(revision, S.COMPLETE, 101.0, verdict={})


def test_illegal_move_changes_nothing(ledger):
    revision = open_revision(ledger)
    with pytest.raises(IllegalMove):
        ledger.revisions.move(revision, S.ENCODED, 101.0)
    assert ledger.revisions.get(revision.id) == revision


def test_analysis_start_is_persisted_once(ledger):
    revision = open_revision(ledger)
    assert ledger.revisions.start(revision, 150.0) == 150.0
    assert ledger.revisions.start(revision, 160.0) == 150.0


def test_storing_an_answer_twice_changes_nothing(ledger):
    revision = open_revision(ledger)
    done = encoded(ledger, revision)
    again = replace(done, state=S.NOT_ASSESSED)
    with pytest.raises(StaleAttempt):
        ledger.revisions.answered(again, [], {}, 104.0)
    assert len(ledger.deliveries.results_of(revision.id)) == 2


def test_held_study_rests_until_released_and_is_not_held_again_for_the_old_fact(ledger):
    done = encoded(ledger, open_revision(ledger))
    why = Reason("two_patients", "one study, two Patient IDs")
    assert ledger.holds.place("1.3", why, 103.0)
    assert not ledger.holds.place("1.3", why, 104.0)
    assert ledger.deliveries.due(200.0) == [] and ledger.deliveries.held(done.id)
    assert ledger.holds.lift("1.3", 105.0, "operator")
    assert len(ledger.deliveries.due(200.0)) == 2
    assert not ledger.holds.place("1.3", why, 106.0)
    assert ledger.holds.place("1.3", why, 107.0, again=True)


def test_retry_makes_rejected_deliveries_due_now(ledger):
    done = encoded(ledger, open_revision(ledger))
    first, second = ledger.deliveries.of_revision(done.id)
    ledger.deliveries.finished(first, DeliveryState.REJECTED, 103.0, status=0x0122, text="SOP class not supported")
    ledger.deliveries.again(second, 103.0, next_attempt_at=900.0, status=None, text="refused")
    assert ledger.deliveries.due(104.0) == []
    assert ledger.deliveries.retry(done.id, 105.0) == 2
    assert [d.attempts for d in ledger.deliveries.due(105.0)] == [1, 1]


def test_history_is_kept_in_order(ledger):
    revision = open_revision(ledger)
    ledger.revisions.move(revision, S.EXCLUDED, 101.0, reason=reason("scout"))
    assert [e.text for e in ledger.events.of_series("1.2")] == ["revision 1", "revision 1: RECEIVING -> EXCLUDED (scout)"]


def test_leases_exclude_and_expire(ledger):
    assert ledger.leases.take("judge", "a", 100.0, 10.0)
    assert not ledger.leases.take("judge", "b", 105.0, 10.0)
    assert ledger.leases.take("judge", "a", 105.0, 10.0)
    assert ledger.leases.take("judge", "b", 116.0, 10.0)
    ledger.leases.take("executor:worker-0", "x", 100.0, 10.0)
    assert ledger.leases.living("executor:", 105.0) == {"worker-0"}
    assert ledger.leases.living("executor:", 111.0) == set()


def test_a_revoked_lease_is_lost_to_its_owner_and_free_for_others(ledger):
    ledger.leases.take("executor:slow", "a", 200.0, 10.0)
    ledger.leases.take("executor:well", "b", 205.0, 10.0)
    ledger.leases.take("judge", "a", 200.0, 1.0)
    assert ledger.leases.renew("executor:slow", "a", 209.0, 1.0)
    assert ledger.leases.renew("executor:slow", "a", 211.0, 1.0)  # late, and nobody minded
    ledger.leases.revoke_expired("executor:", 213.0)
    assert not ledger.leases.renew("executor:slow", "a", 213.0, 10.0)
    assert ledger.leases.renew("executor:well", "b", 213.0, 10.0)
    assert ledger.leases.renew("judge", "a", 213.0, 1.0)
    assert ledger.leases.expiries(0.0)["executor:slow"] == 212.0  # what watches the node still sees when it ended
    assert ledger.leases.take("executor:slow", "c", 214.0, 10.0)


def test_the_shared_clock_is_now(ledger):
    assert abs(ledger.leases.now() - time.time()) < 5


def test_database_that_cannot_be_used_is_transient_and_names_nobody(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.sqlite'}")
    with pytest.raises(Transient) as caught:
        ledger.instances.record(receipt(patient="secret-patient"))
    assert caught.value.code == "ledger_unavailable" and "secret" not in str(caught.value)


def test_series_that_stood_back_is_judged_again_when_the_chosen_one_cannot_be_read(ledger):
    chosen = open_revision(ledger)
    other = open_revision(ledger, receipt("2.1", "b", series="2.2"))
    ledger.revisions.move(other, S.EXCLUDED, 101.0, reason=reason("better_series", "1.2"))
    due = ledger.revisions.move(chosen, S.COMPLETE, 101.0, verdict={})
    ledger.revisions.move(due, S.EXCLUDED, 102.0, reason=reason("no_spine"))
    assert [(r.number, r.state) for r in ledger.revisions.of_series("2.2")] == [(1, S.SUPERSEDED), (2, S.RECEIVING)]


def test_discarded_study_stays_away_until_it_comes_again(ledger):
    revision = open_revision(ledger)
    ledger.instances.discard_study("1.3")
    ledger.revisions.discard(revision, 102.0)
    assert ledger.instances.arrivals(0) == [] and not ledger.instances.has_digest("1.1", "a")
    again = open_revision(ledger)
    assert again.number == 2


def test_newest_of_a_conflict_can_be_preferred(ledger):
    open_revision(ledger)
    ledger.instances.record(receipt(digest="corrected"))
    ledger.instances.set_kind([i.id for i in ledger.instances.of_kind("variant")], "conflict")
    ledger.instances.prefer_newest("1.3")
    assert [i.digest for i in ledger.instances.originals("1.2")] == ["corrected"]


SECOND = SecondReading("anna", "Bergmann^Anna", 200.0, (Assessment("L1", Verdict.ACCEPTED),))


def test_second_reading_is_a_revision_of_the_same_findings(ledger):
    first = encoded(ledger, open_revision(ledger))
    ledger.revisions.second_reading(first, SECOND, 200.0)
    [old, new] = ledger.revisions.of_series("1.2")
    assert (old.state, new.state, new.number) == (S.SUPERSEDED, S.INFERRED, 2)
    assert ledger.revisions.reading(new) == old and ledger.revisions.reading(old) == old
    assert ledger.assessments.of_revision(new.id) == SECOND and ledger.assessments.of_revision(old.id) is None
    assert ledger.revisions.due(300.0) == [new]


def test_second_reading_carries_the_images_and_cancels_the_report(ledger):
    first = encoded(ledger, open_revision(ledger))
    ledger.revisions.second_reading(first, SECOND, 200.0)
    new = ledger.revisions.newest(1)[0]
    states = {d.role: (d.revision_id, d.state) for r in (first, new) for d in ledger.deliveries.of_revision(r.id)}
    assert states == {"seg_vertebrae": (new.id, "PENDING"), "sr": (first.id, "CANCELLED")}


def test_second_reading_of_a_second_reading_is_about_the_same_findings(ledger):
    first = encoded(ledger, open_revision(ledger))
    ledger.revisions.second_reading(first, SECOND, 200.0)
    second = ledger.revisions.newest(1)[0]
    ledger.revisions.answered(second, [], {}, 201.0)
    ledger.revisions.second_reading(ledger.revisions.get(second.id), replace(SECOND, at=202.0), 202.0)
    third = ledger.revisions.newest(1)[0]
    assert (third.number, third.reading_of) == (3, first.id)


def test_second_reading_of_what_moved_on_changes_nothing(ledger):
    first = encoded(ledger, open_revision(ledger))
    open_revision(ledger, receipt("1.9", "z", at=150.0), now=150.0)
    with pytest.raises(StaleAttempt):
        ledger.revisions.second_reading(first, SECOND, 200.0)
    assert [r.state for r in ledger.revisions.of_series("1.2")] == [S.SUPERSEDED, S.RECEIVING]


def test_late_instance_supersedes_a_second_reading_and_what_it_carries(ledger):
    ledger.revisions.second_reading(encoded(ledger, open_revision(ledger)), SECOND, 200.0)
    open_revision(ledger, receipt("1.9", "z", at=250.0), now=250.0)
    revisions = ledger.revisions.of_series("1.2")
    assert [r.state for r in revisions] == [S.SUPERSEDED, S.SUPERSEDED, S.RECEIVING]
    assert revisions[-1].reading_of is None
    assert {d.state for r in revisions for d in ledger.deliveries.of_revision(r.id)} == {"CANCELLED"}
