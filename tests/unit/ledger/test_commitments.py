"""Destinations that are stopped, and what reports of storage commitment change, on both databases."""

import pytest

from catalogue_rows import SEG, SR, result_object, store
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.states import DeliveryState
from ovcf_node.domain.withdrawal import Title
from ovcf_node.ledger import Arrival, Ledger
from ovcf_node.ledger.deliveries import add_results


@pytest.fixture
def ledger(ledger_url):
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


def sent(ledger: Ledger, name: str, now: float = 102.0):
    objects = [result_object(name, SEG), result_object(name, SR)]
    revision = store(ledger, objects)
    with ledger.deliveries._engine.begin() as connection:
        add_results(connection, [], {name: [str(d.SOPInstanceUID) for d in objects]}, now)
    return revision


def due(ledger: Ledger, name: str, now: float) -> int:
    return sum(1 for delivery in ledger.deliveries.due(now) if delivery.destination == name)


def test_away_and_held_both_stop_and_both_must_end(ledger):
    sent(ledger, "one")
    ledger.destinations.away("one", 110.0, probe_at=120.0, refuses=False, text="no route")
    ledger.destinations.away("one", 120.0, probe_at=140.0, refuses=False, text="no route")
    assert ledger.destinations.hold("one", 121.0, "anna") and not ledger.destinations.hold("one", 122.0, "otto")
    stands = ledger.destinations.of("one")
    assert (stands.away_since, stands.failures, stands.probe_at, stands.held_by, stands.word) == (
        110.0, 2, 140.0, "anna", "held")
    ledger.destinations.back("one", 150.0)
    assert due(ledger, "one", 1e9) == 0
    assert ledger.destinations.release("one", 160.0, "anna") and not ledger.destinations.release("one", 161.0, "anna")
    assert due(ledger, "one", 160.0) == 2
    assert ledger.destinations.of("one").failures == 2  # it answers; only something taken ends the row of failures
    ledger.destinations.took("one")
    assert ledger.destinations.of("one").failures == 0 and not ledger.destinations.of("one").stopped


def test_a_report_is_applied_once_and_a_stale_answer_changes_nothing(ledger):
    revision = sent(ledger, "two")
    for delivery in ledger.deliveries.of_revision(revision.id):
        ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 110.0, status=0, text="", confirm_at=113.0)
    asked = [d for d in ledger.deliveries.to_confirm(113.0) if d.destination == "two"]
    ledger.commitments.requested("1.2.3", "two", asked, 113.0, 700.0)
    ledger.deliveries.confirmed(asked[0], DeliveryState.ACCEPTED, 114.0, text="too late", confirm_at=1.0)
    assert [d.confirm_at for d in ledger.deliveries.of_revision(revision.id)] == [700.0, 700.0]
    segmentation, report = (d.sop_instance_uid for d in asked)
    assert ledger.commitments.report("1.2.3", [segmentation], {report: 0x0112}, 115.0)
    (came,) = ledger.commitments.unapplied()
    assert ledger.commitments.apply(came, 116.0, lambda _: 130.0) == {"COMMITTED": 1, "PENDING": 1}
    assert ledger.commitments.apply(came, 116.0, lambda _: 130.0) == {} and ledger.commitments.unapplied() == []
    assert [(str(d.state), d.confirm_at) for d in ledger.deliveries.of_revision(revision.id)] == [
        ("COMMITTED", None), ("PENDING", None)]
    assert (due(ledger, "two", 129.0), due(ledger, "two", 130.0)) == (0, 1)


def lost(ledger: Ledger, name: str, revision, meanwhile=lambda: None, reason: int = 0x0112) -> dict[str, str]:
    """The destination takes everything, `meanwhile` happens, then it commits to nothing; states by role."""
    for delivery in ledger.deliveries.of_revision(revision.id, name):
        ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 110.0, status=0, text="", confirm_at=113.0)
    asked = [d for d in ledger.deliveries.to_confirm(113.0) if d.destination == name]
    ledger.commitments.requested(f"{name}.1", name, asked, 113.0, 700.0)
    meanwhile()
    ledger.commitments.report(f"{name}.1", [], {d.sop_instance_uid: reason for d in asked}, 115.0)
    (came,) = ledger.commitments.unapplied()
    ledger.commitments.apply(came, 116.0, lambda _: 130.0)
    return {d.role: str(d.state) for d in ledger.deliveries.of_revision(revision.id, name)}


def test_what_was_recalled_is_not_sent_again_to_who_removed_it(ledger):
    revision = sent(ledger, "three")
    recall = lambda: ledger.withdrawals.recall([revision.id], Title.PATIENT_SAFETY, 114.0, "wrong patient")  # noqa: E731
    assert lost(ledger, "three", revision, recall) == {"seg_vertebrae": "CANCELLED", "sr": "CANCELLED"}
    assert ledger.deliveries.retry(revision.id, 131.0) == 0 and due(ledger, "three", 1e9) == 0


def test_a_recall_cancels_what_a_destination_had_refused(ledger):
    revision = sent(ledger, "four")
    for delivery in ledger.deliveries.of_revision(revision.id):
        ledger.deliveries.finished(delivery, DeliveryState.REJECTED, 110.0, status=0xA900, text="no")
    ledger.withdrawals.recall([revision.id], Title.PATIENT_SAFETY, 114.0, "wrong patient")
    assert {str(d.state) for d in ledger.deliveries.of_revision(revision.id)} == {"CANCELLED"}
    assert ledger.deliveries.retry(revision.id, 131.0) == 0


def test_the_images_of_a_reading_are_sent_again_beside_its_second_reading(ledger):
    revision = sent(ledger, "five")
    said = SecondReading("rita", "Test^Rita", 114.0, (Assessment("L1", Verdict.ACCEPTED),))
    again = lambda: ledger.revisions.second_reading(ledger.revisions.get(revision.id), said, 114.0)  # noqa: E731
    assert lost(ledger, "five", revision, again) == {"seg_vertebrae": "PENDING", "sr": "CANCELLED"}
    image = next(d for d in ledger.deliveries.of_revision(revision.id, "five") if d.role == "seg_vertebrae")
    ledger.deliveries.finished(image, DeliveryState.REJECTED, 131.0, status=0xA900, text="no")
    newest = ledger.revisions.of_series(revision.series_instance_uid)[-1]
    assert ledger.deliveries.retry(newest.id, 132.0, beside=newest.reading_of) == 1 and due(ledger, "five", 132.0) == 1


def test_what_was_recalled_and_may_still_be_there_stays_accepted_so_that_a_note_names_it(ledger):
    revision = sent(ledger, "six")
    recall = lambda: ledger.withdrawals.recall([revision.id], Title.PATIENT_SAFETY, 114.0, "wrong patient")  # noqa: E731
    assert lost(ledger, "six", revision, recall, 0x0110) == {"seg_vertebrae": "ACCEPTED", "sr": "ACCEPTED"}
    assert due(ledger, "six", 1e9) == 0
    assert [(w.destination, w.title) for w in ledger.withdrawals.due(["six"])] == [("six", Title.PATIENT_SAFETY)]


@pytest.mark.parametrize("end", ["discard", "reopen", "late"])
def test_images_beside_a_second_reading_are_not_sent_once_they_are_withdrawn(ledger, end):
    name = f"seven {end}"
    revision = sent(ledger, name)
    said = SecondReading("rita", "Test^Rita", 114.0, (Assessment("L1", Verdict.ACCEPTED),))
    again = lambda: ledger.revisions.second_reading(ledger.revisions.get(revision.id), said, 114.0)  # noqa: E731
    assert lost(ledger, name, revision, again)["seg_vertebrae"] == "PENDING"
    newest = ledger.revisions.of_series(revision.series_instance_uid)[-1]
    if end == "discard":
        ledger.revisions.discard(newest, 120.0)
    elif end == "reopen":
        ledger.revisions.reopen(newest, 120.0, withdrawn_as=Title.PATIENT_SAFETY)
    else:
        late = Arrival(newest.series_instance_uid, newest.study_instance_uid, newest.through_instance_id + 9, 120.0, False)
        ledger.revisions.arrived(late, 120.0)
    assert {str(d.state) for d in ledger.deliveries.of_revision(revision.id)} == {"CANCELLED"}
    assert due(ledger, name, 1e9) == 0
