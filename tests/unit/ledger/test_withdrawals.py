"""What is named in rejection notes: exactly what a destination took, under the gravest reason, once."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.reasons import reason
from ovcf_node.domain.series import Receipt
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.domain.withdrawal import NOTE_ROLE, SourceNote, Title
from ovcf_node.ledger import Arrival, Ledger, Result, Revision
from ovcf_node.ledger.schema import METADATA

S = RevisionState
SERIES, STUDY = "1.2", "1.3"


@pytest.fixture
def ledger(ledger_url):
    opened = Ledger(ledger_url)
    with opened.withdrawals._engine.begin() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(table.delete())
    yield opened
    opened.close()


def result(revision: Revision, role: str) -> Result:
    return Result(revision.id, role, "", f"9.{revision.number}.{role}", "c", "s", f"{role}.dcm", "h", 1)


def answered(ledger: Ledger, number: int, roles=("summary", "sr"), destinations=("pacs", "vna")) -> Revision:
    """Open a revision with one more instance and answer it."""
    ledger.revisions.arrived(Arrival(SERIES, STUDY, number, float(number), False), float(number))
    opened = ledger.revisions.of_series(SERIES)[-1]
    inferred = ledger.revisions.move(ledger.revisions.move(opened, S.COMPLETE, 1.0, verdict={}), S.INFERRED, 1.0)
    made = [result(opened, role) for role in roles]
    ledger.revisions.answered(inferred, made, {d: [r.sop_instance_uid for r in made] for d in destinations}, 2.0)
    return ledger.revisions.get(opened.id)


def take(ledger: Ledger, revision: Revision, destination: str, *roles: str) -> None:
    for delivery in ledger.deliveries.of_revision(revision.id, destination):
        if delivery.role in roles:
            ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 3.0, status=0, text="")


def named(ledger: Ledger, destinations=("pacs", "vna")) -> dict[tuple[str, str], list[str]]:
    return {
        (w.destination, w.title.name): [r.sop_instance_uid for _, r in ledger.withdrawals.objects(w)]
        for w in ledger.withdrawals.due(destinations)
    }


def test_what_a_destination_took_of_a_superseded_revision_is_named_to_it(ledger):
    first = answered(ledger, 1)
    take(ledger, first, "pacs", "summary", "sr")
    take(ledger, first, "vna", "summary")
    assert named(ledger) == {}
    answered(ledger, 2)
    assert named(ledger) == {
        ("pacs", "QUALITY"): ["9.1.summary", "9.1.sr"], ("vna", "QUALITY"): ["9.1.summary"],
    }
    assert named(ledger, ["vna"]) == {("vna", "QUALITY"): ["9.1.summary"]}


def test_one_that_was_on_the_wire_when_it_was_cancelled_is_named_when_it_arrived(ledger):
    first = answered(ledger, 1)
    pending = ledger.deliveries.of_revision(first.id, "pacs")[0]
    answered(ledger, 2)
    assert named(ledger) == {}
    ledger.deliveries.finished(pending, DeliveryState.ACCEPTED, 3.0, status=0, text="")
    assert named(ledger) == {("pacs", "QUALITY"): ["9.1.summary"]}


def test_what_a_note_names_is_named_once_and_the_note_outlives_its_revision(ledger):
    take(ledger, answered(ledger, 1), "pacs", "summary", "sr")
    second = answered(ledger, 2)
    (due,) = ledger.withdrawals.due(["pacs"])
    rows = [delivery for delivery, _ in ledger.withdrawals.objects(due)]
    for _ in range(2):  # again, as after a crash
        ledger.withdrawals.noted(due, result(second, NOTE_ROLE), rows, 4.0)
    assert named(ledger) == {}
    answered(ledger, 3)
    notes = [d for d in ledger.deliveries.of_revision(second.id) if d.role == NOTE_ROLE]
    assert [(d.destination, d.state, d.withdrawn_as) for d in notes] == [("pacs", DeliveryState.PENDING, None)]
    ledger.withdrawals.cancel_notes(["pacs"], 5.0)
    assert ledger.deliveries.of_revision(second.id, "pacs")[-1].state is DeliveryState.CANCELLED


def test_a_graver_reason_is_told_again_and_being_superseded_never_softens_it(ledger):
    first = answered(ledger, 1)
    take(ledger, first, "pacs", "summary", "sr")
    second = answered(ledger, 2)
    (due,) = ledger.withdrawals.due(["pacs"])
    rows = [delivery for delivery, _ in ledger.withdrawals.objects(due)]
    ledger.withdrawals.noted(due, result(second, NOTE_ROLE), rows, 4.0)
    take(ledger, second, "pacs", "sr")
    ledger.revisions.reopen(second, 5.0, withdrawn_as=Title.PATIENT_SAFETY)
    assert named(ledger) == {("pacs", "PATIENT_SAFETY"): ["9.1.summary", "9.1.sr", "9.2.sr"]}
    answered(ledger, 4)
    ledger.withdrawals.recall([first.id], Title.WORKLIST, 6.0, "as grave")
    assert list(named(ledger)) == [("pacs", "PATIENT_SAFETY")]


def test_a_second_reading_leaves_the_first_until_both_are_replaced(ledger):
    first = answered(ledger, 1)
    take(ledger, first, "pacs", "summary", "sr")
    said = SecondReading("rita", "Test^Rita", 5.0, (Assessment("L1", Verdict.ACCEPTED),))
    ledger.revisions.second_reading(first, said, 5.0)
    assert named(ledger) == {}
    second = ledger.revisions.of_series(SERIES)[-1]
    report = result(second, "sr")
    ledger.revisions.answered(second, [report], {"pacs": [report.sop_instance_uid]}, 6.0)
    take(ledger, second, "pacs", "sr")
    answered(ledger, 9)
    assert named(ledger) == {("pacs", "QUALITY"): ["9.1.summary", "9.1.sr", "9.2.sr"]}


def test_recall_withdraws_what_stands_and_cancels_the_rest(ledger):
    first = answered(ledger, 1)
    take(ledger, first, "pacs", "summary")
    ledger.withdrawals.recall([first.id], Title.QUALITY, 5.0, "bundle x recalled")
    assert named(ledger) == {("pacs", "QUALITY"): ["9.1.summary"]}
    assert {d.state for d in ledger.deliveries.of_revision(first.id, "vna")} == {DeliveryState.CANCELLED}
    assert ledger.events.of_series(SERIES)[-1].kind == "withdrawn"


def test_nothing_of_a_held_study_is_due(ledger):
    take(ledger, answered(ledger, 1), "pacs", "sr")
    answered(ledger, 2)
    ledger.holds.place(STUDY, reason("metal"), 5.0)
    assert named(ledger) == {}


def test_predecessor_is_never_what_was_withdrawn_for_its_patient(ledger):
    first = answered(ledger, 1)
    take(ledger, first, "pacs", "summary", "sr")
    answered(ledger, 2)
    assert ledger.deliveries.arrived_report(SERIES, 2, "") is not None
    ledger.withdrawals.recall([first.id], Title.PATIENT_SAFETY, 5.0, "another patient's")
    assert ledger.deliveries.arrived_report(SERIES, 2, "") is None


RECEIPT = Receipt(
    "1.1", "1.2.840.10008.5.1.4.1.1.2", STUDY, SERIES, "1.2.840.10008.1.2.1", "a.dcm", 10, "a", "p", "CT",
    datetime.fromtimestamp(1.0, UTC), "CT", "NODE", "assoc", False,
)


def test_source_notes_name_instances_of_their_own_study_come_or_still_to_come(ledger):
    ledger.rejections.record(SourceNote(Title.WORKLIST, {"1.1": STUDY, "1.5": "another study"}), 1.0)
    ledger.rejections.record(SourceNote(Title.PATIENT_SAFETY, {"1.1": STUDY, "1.7": STUDY}), 2.0)
    for uid in ("1.1", "1.5", "1.7", "1.8"):
        ledger.instances.record(replace(RECEIPT, sop_instance_uid=uid, digest=uid))
    (due,) = ledger.rejections.due()
    assert (due.series_instance_uid, due.title, len(due.instance_ids)) == (SERIES, Title.PATIENT_SAFETY, 2)
    ledger.instances.set_kind(due.instance_ids, "withdrawn")
    assert ledger.rejections.due() == [] and ledger.rejections.withdrawn(SERIES) == 2
    assert [i.sop_instance_uid for i in ledger.instances.originals(SERIES)] == ["1.5", "1.8"]


def test_a_graver_note_about_images_that_were_rejected_is_told_again_and_what_was_made_of_the_rest_stands(ledger):
    first = answered(ledger, 1)
    take(ledger, first, "pacs", "sr")
    ledger.instances.record(RECEIPT)
    ledger.rejections.record(SourceNote(Title.QUALITY, {"1.1": STUDY}), 2.0)
    (due,) = ledger.rejections.due()
    ledger.withdrawals.recall([first.id], Title.QUALITY, 2.0, "its source says so")
    ledger.instances.set_kind(due.instance_ids, "withdrawn")
    rest = answered(ledger, 2)
    take(ledger, rest, "pacs", "sr")
    assert {w.title for w in ledger.withdrawals.due(["pacs"])} == {Title.QUALITY}
    ledger.rejections.record(SourceNote(Title.PATIENT_SAFETY, {"1.1": STUDY}), 3.0)
    assert {w.title for w in ledger.withdrawals.due(["pacs"])} == {Title.PATIENT_SAFETY}
    assert not any(d.withdrawn_as for d in ledger.deliveries.of_revision(rest.id))
    ledger.rejections.record(SourceNote(Title.QUALITY, {"1.1": STUDY}), 4.0)  # a milder one changes nothing
    assert {w.title for w in ledger.withdrawals.due(["pacs"])} == {Title.PATIENT_SAFETY}


def test_a_note_about_another_study_changes_nothing_and_the_right_one_replaces_it(ledger):
    ledger.instances.record(RECEIPT)
    ledger.rejections.record(SourceNote(Title.QUALITY, {"1.1": "another study"}), 1.0)
    assert ledger.rejections.due() == []
    ledger.rejections.record(SourceNote(Title.QUALITY, {"1.1": STUDY}), 2.0)
    (due,) = ledger.rejections.due()
    ledger.rejections.record(SourceNote(Title.PATIENT_SAFETY, {"1.1": "another study"}), 3.0)
    assert due.title is Title.QUALITY and ledger.rejections.due() == [due]
