"""Late, repeated, corrected and withdrawn input, and senders that die: real processes, DCMTK, Orthanc."""

import json
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from dicom_peers import CT_IMAGE
from node_harness import Node, RecordingPacs, dciodvfy_errors, dicom_destination, get, orthanc, storescu, wait_for
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.domain.states import RevisionState
from ovcf_node.domain.withdrawal import NOTE_ROLE
from source_notes import write_note

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SERIES = uid_from("phantom", "demo", "series")
LIMIT_S = 400


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("late_phantom")
    phantom.write_series(phantom.load(), folder)
    return sorted(folder.glob("*.dcm"))


def send(node: Node, folder: Path, paths: Sequence[Path]) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path)
    storescu(node.port, folder)


def settled(node: Node, number: int, series: str = SERIES):
    """Wait until this revision is the newest and has its end, rejection notes included."""
    wait_for(lambda: (r := node.newest(series)) and r.number >= number, LIMIT_S, f"revision {number}")
    revision = node.settled(series, LIMIT_S)
    assert revision.number == number, revision
    wait_for(lambda: not node.ledger.withdrawals.due(d.name for d in node.settings.destinations if d.rejection_notes),
             LIMIT_S, "everything that was replaced is in a note")
    return node.settled(series, LIMIT_S)


def made_by(node: Node, number: int) -> list[str]:
    """Return the SOP Instance UIDs of the results that one revision made."""
    revision = next(r for r in node.ledger.revisions.of_series(SERIES) if r.number == number)
    return [r.sop_instance_uid for r in node.ledger.deliveries.results_of(revision.id) if r.role != NOTE_ROLE]


def order_of_arrival(pacs: RecordingPacs) -> list[str]:
    return [uid for uid, _ in pacs.receipts]


def notes(pacs: RecordingPacs) -> list[Dataset]:
    """Return the rejection notes in the order in which they came."""
    received = [pydicom.dcmread(pacs.folder / f"{uid}.dcm", stop_before_pixels=True) for uid in order_of_arrival(pacs)]
    return [dataset for dataset in received if dataset.Modality == "KO"]


def named(note: Dataset) -> list[str]:
    return [str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in note.ContentSequence
            if item.ValueType in ("IMAGE", "COMPOSITE")]


def title(note: Dataset) -> str:
    return str(note.ConceptNameCodeSequence[0].CodeValue)


def corrected(images: Sequence[Path], folder: Path) -> list[Path]:
    """Write the same instances with another patient."""
    folder.mkdir()
    for path in images:
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = "Correct^Person", "CORRECT-1"
        dataset.save_as(folder / path.name)
    return sorted(folder.iterdir())


def test_late_repeated_corrected_and_withdrawn_input(tmp_path, images):
    pacs, plain = RecordingPacs(tmp_path / "pacs", "PACS"), RecordingPacs(tmp_path / "plain", "PLAIN")
    with pacs.running(), plain.running(), orthanc(tmp_path / "orthanc") as (archive_port, archive):
        destinations = (
            dicom_destination("pacs", "PACS", pacs.port)
            + dicom_destination("archive", "ORTHANC", archive_port, objects=["summary", "sr"])
            + dicom_destination("plain", "PLAIN", plain.port, objects=["sr"], rejection_notes=False)
        )
        node = Node(tmp_path / "node", destinations)
        with node.running():
            # A slice before the quiet period is over belongs to the first revision; one during the reading opens the
            # second, and the first leaves nothing behind.
            send(node, tmp_path / "first", images[:-3])
            send(node, tmp_path / "before", images[-3:-2])
            wait_for(lambda: (r := node.newest(SERIES)) and r.analysis_started_at, LIMIT_S, "the reading runs")
            send(node, tmp_path / "during", images[-2:-1])
            wait_for(lambda: node.newest(SERIES).number == 2, LIMIT_S, "a second revision")
            settled(node, 2)
            assert set(order_of_arrival(pacs)) == set(made_by(node, 2)) and notes(pacs) == []

            # After: a new result, then the note about exactly what this destination took.
            send(node, tmp_path / "after", images[-1:])
            settled(node, 3)
            old, new = made_by(node, 2), made_by(node, 3)
            (note,) = notes(pacs)
            assert (title(note), sorted(named(note))) == ("113001", sorted(old))
            assert order_of_arrival(pacs) == [*order_of_arrival(pacs)[:4], *new, str(note.SOPInstanceUID)]
            report = pydicom.dcmread(pacs.folder / f"{new[-1]}.dcm")
            predecessor = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
            assert predecessor.ReferencedSOPInstanceUID == old[-1]
            before = pydicom.dcmread(pacs.folder / f"{old[-1]}.dcm")
            assert before.SeriesInstanceUID == report.SeriesInstanceUID and "PredecessorDocumentsSequence" not in before
            modalities = [json.loads(get(f"{archive}/series/{s}"))["MainDicomTags"]["Modality"]
                          for s in json.loads(get(f"{archive}/series"))]
            assert sorted(modalities) == ["KO", "OT", "SR"]

            # The whole study again: nothing new leaves.
            sent = len(pacs.receipts)
            instances = len(node.ledger.instances.originals(SERIES))
            send(node, tmp_path / "again", images)
            assert len(node.ledger.instances.originals(SERIES)) == instances == len(images)
            assert node.ledger.instances.arrivals(0) == [] and node.ledger.instances.of_kind("variant") == []

            # The same instances under another patient: held; released, the old results are taken back under the old
            # identity and new ones carry the corrected one.
            send(node, tmp_path / "corrected", corrected(images, tmp_path / "other"))
            study = str(note.StudyInstanceUID)
            wait_for(node.ledger.holds.all, LIMIT_S, "the study is held")
            wait_for(lambda: len(node.ledger.instances.of_kind("conflict")) == len(images), LIMIT_S, "all are compared")
            assert len(pacs.receipts) == sent
            assert node.command("jobs", "release", "--newest", study[-12:]).returncode == 0
            settled(node, 4)
            (taken_back,) = notes(pacs)[1:]
            assert (title(taken_back), sorted(named(taken_back))) == ("113037", sorted(old + new))
            assert taken_back.PatientID == note.PatientID != "CORRECT-1"
            third = [pydicom.dcmread(pacs.folder / f"{uid}.dcm", stop_before_pixels=True) for uid in made_by(node, 4)]
            assert {(str(d.PatientName), d.PatientID) for d in third} == {("Correct^Person", "CORRECT-1")}
            assert not any("PredecessorDocumentsSequence" in d for d in third)

            # The PACS rejects the images: nothing of ours is left standing.
            write_note(tmp_path / "rejected", sorted((tmp_path / "other").iterdir()), "113038")
            storescu(node.port, tmp_path / "rejected")
            ended = settled(node, 5)
            assert (ended.state, ended.reason_code) == (RevisionState.EXCLUDED, "source_withdrawn")
            wait_for(lambda: len(notes(pacs)) == 3, LIMIT_S, "the last note")
            last = notes(pacs)[2]
            assert (title(last), last.PatientID) == ("113038", "CORRECT-1")
            assert sorted(named(last)) == sorted(made_by(node, 4))
            shown = node.command("jobs", "show", SERIES[-12:]).stdout
            assert "withdrawn as 113037" in shown and "source_withdrawn" in shown
    assert node.exit_status == 0
    assert notes(plain) == [] and len(plain.receipts) == 3
    assert {str(n.SOPInstanceUID): dciodvfy_errors(pacs.folder / f"{n.SOPInstanceUID}.dcm") for n in notes(pacs)} == {
        str(n.SOPInstanceUID): [] for n in notes(pacs)
    }
    assert len(set(pacs.receipts)) == len({uid for uid, _ in pacs.receipts}) == len(pacs.receipts)
    assert not any(word in node.log.read_text() for word in ("Correct^Person", "CORRECT-1"))


@contextmanager
def stalling(port: int, after_bytes: int) -> Iterator[tuple[int, threading.Event]]:
    """Stand between a sender and `port`: let some bytes through, then nothing more; yields the port and 'it stalls'."""
    stalled = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    inner = socket.create_connection(("127.0.0.1", port))

    def back(outer: socket.socket) -> None:
        while data := inner.recv(65536):
            try:
                outer.sendall(data)
            except OSError:
                return  # the sender was killed

    def forth() -> None:
        outer, _ = listener.accept()
        threading.Thread(target=back, args=(outer,), daemon=True).start()
        left = after_bytes
        while left > 0 and (data := outer.recv(min(65536, left))):
            inner.sendall(data)
            left -= len(data)
        stalled.set()
        while outer.recv(65536):
            pass  # held back until the sender is dead

    thread = threading.Thread(target=forth, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], stalled
    finally:
        inner.close()
        listener.close()


def stored(association, paths: Sequence[Path]) -> None:
    for path in paths:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0x0000


def test_senders_that_die_and_come_back_are_never_waited_for_in_silence(tmp_path, images, monkeypatch):
    monkeypatch.setenv("OVCF_NODE__ASSEMBLE__INCOMPLETE_LIMIT_S", "12")
    shuffled = random.Random(7).sample(images, len(images))
    half = len(images) // 2
    pacs = RecordingPacs(tmp_path / "pacs")
    with pacs.running():
        node = Node(tmp_path / "node", dicom_destination("pacs", pacs.title, pacs.port))
        with node.running():
            # DCMTK's storescu is killed in the middle of an instance, in the middle of its association.
            size = sum(path.stat().st_size for path in shuffled[:half])
            with stalling(node.port, size) as (port, stalled):
                sender = subprocess.Popen(
                    [shutil.which("storescu"), "-aet", "SCANNER", "-aec", "OVCF_NODE", "127.0.0.1", str(port),
                     *map(str, shuffled)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
                assert stalled.wait(60)
                sender.kill()
                sender.wait()
            given_up = settled(node, 1)
            assert (given_up.state, given_up.reason_code) == ("NOT_ASSESSED", "missing_slices")
            history = [event.text for event in node.ledger.events.of_series(SERIES)]
            assert any("RECEIVING -> WAITING (missing_slices)" in text for text in history)
            assert [d.role for d in node.ledger.deliveries.of_revision(given_up.id)] == ["sr"]
            received = len(node.ledger.instances.originals(SERIES))
            assert 0 < received <= half

            # The scanner comes back: two associations send all of it, interleaved, in any order; one is aborted, and a
            # third one resumes from its beginning.
            ae = AE("SCANNER")
            ae.add_requested_context(CT_IMAGE)
            one, two = (ae.associate("127.0.0.1", node.port, ae_title="OVCF_NODE") for _ in range(2))
            for first, second in zip(shuffled[half::2], shuffled[half + 1::2], strict=False):
                stored(one, [first])
                if first == shuffled[half + 10]:
                    two.abort()
                if two.is_established:
                    stored(two, [second])
            one.release()
            three = ae.associate("127.0.0.1", node.port, ae_title="OVCF_NODE")
            stored(three, shuffled)
            three.release()
            wait_for(lambda: (r := node.newest(SERIES)).answered and r.state == "ENCODED"
                     and r.through_instance_id >= node.ledger.instances.originals(SERIES)[-1].id, LIMIT_S, "it is read")
            read = settled(node, node.newest(SERIES).number)
            assert len(node.ledger.instances.originals(SERIES)) == len(images)
            assert node.findings(read).patient.ovcf is True
    # What said "not assessed" is taken back after the reading arrived.
    assert sorted(uid for note in notes(pacs) for uid in named(note)) == sorted(
        uid for uid in order_of_arrival(pacs)
        if uid not in made_by(node, read.number) and uid not in {str(n.SOPInstanceUID) for n in notes(pacs)}
    )
    assert len(notes(pacs)) >= 1 and order_of_arrival(pacs)[-1] == str(notes(pacs)[-1].SOPInstanceUID)
