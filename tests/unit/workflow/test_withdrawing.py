"""Rejection notes are made when they are due: after what replaces the old result, at once where it may harm."""

import hashlib

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_peers import uid
from ovcf_node import report
from ovcf_node.config import Destination, Settings
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.domain.withdrawal import NOTE_ROLE, Title
from ovcf_node.ledger import Arrival, Ledger, Result, migrate
from ovcf_node.operate import decisions
from ovcf_node.storage.results import Results
from ovcf_node.workflow.withdrawing import Withdrawing

S = RevisionState
SERIES, STUDY = uid("series"), uid("study")


class Site:
    """A ledger, a folder of results and three destinations, of which one takes no notes."""

    def __init__(self, folder):
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        migrate(url)
        self.ledger, self.results = Ledger(url), Results(folder / "results")
        self.settings = Settings(destinations=tuple(
            Destination(name=name, type="folder", path=folder / name, rejection_notes=name != "old")
            for name in ("pacs", "vna", "old")
        ))
        self.withdrawing = Withdrawing(self.settings, self.ledger, self.results, lambda text: "hash")

    def answer(self, number: int, *, taken=("pacs", "vna", "old")):
        """Answer a new revision with one picture, and let it be taken."""
        self.ledger.revisions.arrived(Arrival(SERIES, STUDY, number, 1.0, False), 1.0)
        opened = self.ledger.revisions.of_series(SERIES)[-1]
        complete = self.ledger.revisions.move(opened, S.COMPLETE, 1.0, verdict={})
        inferred = self.ledger.revisions.move(complete, S.INFERRED, 1.0)
        made = self._picture(opened)
        plan = {d.name: [made.sop_instance_uid] for d in self.settings.destinations}
        self.ledger.revisions.answered(inferred, [made], plan, 2.0)
        self.take(opened, *taken)
        return self.ledger.revisions.get(opened.id)

    def _picture(self, revision) -> Result:
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, uid("picture", revision.number)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, uid("pictures")
        dataset.PatientName, dataset.PatientID = "Planted^Name", f"ID-{revision.number}"
        dataset.Rows = dataset.Columns = 4
        data = report.to_bytes(dataset)
        path = self.results.put(revision.result_key, f"{dataset.SOPInstanceUID}.dcm", data)
        return Result(
            revision.id, "summary", "", str(dataset.SOPInstanceUID), str(dataset.SOPClassUID),
            str(dataset.SeriesInstanceUID), str(path.relative_to(self.results.root)), hashlib.sha256(data).hexdigest(),
            len(data),
        )

    def take(self, revision, *destinations: str) -> None:
        for delivery in self.ledger.deliveries.of_revision(revision.id):
            if delivery.destination in destinations and delivery.state is DeliveryState.PENDING:
                self.ledger.deliveries.finished(delivery, DeliveryState.ACCEPTED, 3.0, status=0, text="")

    def notes(self) -> dict[str, list[Dataset]]:
        found: dict[str, list[Dataset]] = {}
        for revision in self.ledger.revisions.of_series(SERIES):
            for delivery in self.ledger.deliveries.of_revision(revision.id):
                if delivery.role == NOTE_ROLE:
                    found.setdefault(delivery.destination, []).append(pydicom.dcmread(self.results.root / delivery.path))
        return found


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def named(note: Dataset) -> list[str]:
    return [str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in note.ContentSequence if i.ValueType == "IMAGE"]


def test_the_note_waits_until_the_new_result_has_arrived_there(site):
    site.answer(1)
    second = site.answer(2, taken=())
    site.withdrawing.tick(10.0)
    assert site.notes() == {}
    site.take(second, "vna")
    site.withdrawing.tick(11.0)
    assert list(site.notes()) == ["vna"]
    site.take(second, "pacs")
    for second_of_day in (12.0, 13.0):
        site.withdrawing.tick(second_of_day)
    notes = site.notes()
    assert {name: [named(n) for n in found] for name, found in notes.items()} == {
        "vna": [[uid("picture", 1)]], "pacs": [[uid("picture", 1)]],
    }
    # The same note for both, with the bytes it was first made with.
    assert notes["vna"][0] == notes["pacs"][0] and notes["vna"][0].ConceptNameCodeSequence[0].CodeValue == "113001"


def test_where_done_means_committed_the_note_waits_for_that(site):
    site.answer(1)
    second = site.answer(2, taken=("vna",))
    (pending,) = site.ledger.deliveries.of_revision(second.id, "pacs")
    site.ledger.deliveries.finished(pending, DeliveryState.ACCEPTED, 3.0, status=0, text="", confirm_at=60.0)
    site.withdrawing.tick(10.0)
    assert list(site.notes()) == ["vna"]
    (accepted,) = site.ledger.deliveries.of_revision(second.id, "pacs")
    site.ledger.deliveries.confirmed(accepted, DeliveryState.COMMITTED, 61.0, text="")
    site.withdrawing.tick(62.0)
    assert set(site.notes()) == {"vna", "pacs"}


def test_what_was_never_taken_is_never_named(site):
    site.answer(1, taken=("vna",))
    site.answer(2)
    site.withdrawing.tick(10.0)
    assert list(site.notes()) == ["vna"]


def test_a_result_that_a_destination_rejects_leaves_the_old_one_in_force(site):
    site.answer(1)
    second = site.answer(2, taken=("vna",))
    pending = site.ledger.deliveries.of_revision(second.id, "pacs")[0]
    site.ledger.deliveries.finished(pending, DeliveryState.REJECTED, 3.0, status=0xA900, text="")
    site.withdrawing.tick(10.0)
    assert list(site.notes()) == ["vna"]


def test_corrected_identity_takes_back_at_once_under_the_old_identity(site):
    site.answer(1)
    site.ledger.holds.place(STUDY, Reason("identity_conflict", ""), 4.0)
    site.withdrawing.tick(5.0)
    assert site.notes() == {}
    decisions.release(site.ledger, STUDY, 6.0, "otto", newest=True)
    site.withdrawing.tick(7.0)
    (note,) = site.notes()["pacs"]
    assert (note.ConceptNameCodeSequence[0].CodeValue, note.PatientID) == ("113037", "ID-1")
    assert set(site.notes()) == {"pacs", "vna"}


def test_a_note_is_about_one_patient(site):
    first = site.answer(1)
    second = site.answer(2)
    site.ledger.withdrawals.recall([first.id, second.id], Title.PATIENT_SAFETY, 5.0, "both")
    for tick in (7.0, 8.0):
        site.withdrawing.tick(tick)
    assert [(note.PatientID, named(note)) for note in site.notes()["pacs"]] == [
        ("ID-1", [uid("picture", 1)]), ("ID-2", [uid("picture", 2)]),
    ]


def test_a_discarded_study_is_taken_back(site):
    first = site.answer(1)
    site.ledger.holds.place(STUDY, Reason("content_conflict", ""), 4.0)
    decisions.discard(site.ledger, STUDY, 6.0, "otto")
    site.withdrawing.tick(7.0)
    assert site.ledger.revisions.get(first.id).state is S.SUPERSEDED
    assert site.notes()["vna"][0].ConceptNameCodeSequence[0].CodeValue == "113037"


def test_a_series_that_is_no_longer_for_us_is_taken_back_without_a_successor(site):
    first = site.answer(1)
    site.ledger.revisions.reopen(first, 5.0)
    opened = site.ledger.revisions.of_series(SERIES)[-1]
    site.ledger.revisions.move(opened, S.EXCLUDED, 6.0, reason=reason("no_spine"))
    site.withdrawing.tick(7.0)
    assert set(site.notes()) == {"pacs", "vna"}


def test_a_recalled_result_that_nothing_replaces_is_taken_back(site):
    first = site.answer(1)
    site.ledger.withdrawals.recall([first.id], Title.QUALITY, 5.0, "recalled")
    site.withdrawing.tick(7.0)
    assert set(site.notes()) == {"pacs", "vna"}


def test_a_damaged_object_is_reported_and_keeps_nobody_waiting(site, capsys):
    first = site.answer(1)
    for file in (site.results.root).rglob("*.dcm"):
        file.write_bytes(b"damaged")
    site.ledger.withdrawals.recall([first.id], Title.PATIENT_SAFETY, 5.0, "recalled")
    for second in (7.0, 8.0):
        site.withdrawing.tick(second)
    assert site.notes() == {} and capsys.readouterr().out.count("rejection_note_failed") == 2  # one a destination


def test_notes_are_not_kept_for_a_destination_that_no_longer_wants_them(site):
    site.answer(1)
    site.answer(2)
    site.withdrawing.tick(10.0)
    changed = tuple(d.model_copy(update={"rejection_notes": False}) for d in site.settings.destinations)
    Withdrawing(site.settings.model_copy(update={"destinations": changed}), site.ledger, site.results,
                lambda text: "hash").tick(11.0)
    states = {d.state for r in site.ledger.revisions.of_series(SERIES) for d in site.ledger.deliveries.of_revision(r.id)
              if d.role == NOTE_ROLE}
    assert states == {DeliveryState.CANCELLED}


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_object_is_withdrawn_by_what_the_catalogue_knows_or_waits(site, damage):
    first = site.answer(1)
    (result,) = site.ledger.deliveries.results_of(first.id)
    path = site.results.root / result.path
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data[:180] if damage == "cut" else data)
    site.ledger.withdrawals.recall([first.id], Title.PATIENT_SAFETY, 4.0, "wrong patient")
    site.withdrawing.tick(5.0)  # the object is in no catalogue here: it waits for a person, and nothing ends
    assert site.notes() == {}
    data[200] ^= 0xFF
    path.write_bytes(data)
    site.withdrawing.tick(5.0 + 301.0)
    assert {name: len(notes) for name, notes in site.notes().items()} == {"pacs": 1, "vna": 1}


def test_a_defect_at_one_note_ends_nothing(site, monkeypatch):
    first = site.answer(1)
    site.ledger.withdrawals.recall([first.id], Title.PATIENT_SAFETY, 4.0, "wrong patient")
    encode = report.encode_rejection_note
    monkeypatch.setattr(report, "encode_rejection_note", lambda *_: 1 / 0)
    site.withdrawing.tick(5.0)
    monkeypatch.setattr(report, "encode_rejection_note", encode)
    site.withdrawing.tick(5.0)
    assert site.notes() == {}  # not at once: the log would say nothing else
    site.withdrawing.tick(5.0 + 301.0)
    assert set(site.notes()) == {"pacs", "vna"}
