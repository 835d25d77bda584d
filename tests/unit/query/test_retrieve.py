"""C-GET and C-MOVE: the stored bytes, the right counts, only to whom they may go."""

import hashlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt

from catalogue_rows import SC, SEG, SR, result_object, store
from dicom_peers import RecordingAcceptor, free_port, uid
from ovcf_node.domain.reasons import Reason
from ovcf_node.network import contexts
from ovcf_node.network.messages import Peer, QueryRequest
from query_peers import answering, association, identifier

GET, MOVE = contexts.STUDY_ROOT_GET, contexts.STUDY_ROOT_MOVE
STUDY = {"StudyInstanceUID": uid("a")}
UIDS = [uid("a", SEG), uid("a", SC), uid("a", SR)]


@pytest.fixture
def pacs():
    """A Storage SCP that takes our results."""
    acceptor = RecordingAcceptor([SEG, SC, SR])
    yield acceptor
    acceptor.close()


@pytest.fixture
def scp(tmp_path, pacs):
    peers = [
        {"ae_title": "MOVESCU"}, {"ae_title": "PACS", "move_host": "127.0.0.1", "move_port": pacs.port},
        {"ae_title": "GONE", "move_host": "127.0.0.1", "move_port": free_port()}, {"ae_title": "ASKER", "retrieve": False},
    ]
    with answering(tmp_path, peers=peers) as asked:
        yield asked


@pytest.mark.parametrize(("address", "certificate", "may"), [
    ("10.0.0.1", {"radiology.example"}, True), ("10.0.0.1", {"kiosk.example"}, False),
    ("10.0.0.7", {"radiology.example"}, False),  # the closest entry is that of its address
])
def test_the_entry_that_admitted_a_peer_says_what_it_may(tmp_path, address, certificate, may):
    entries = [
        {"ae_title": "VIEWER", "certificate_name": "radiology.example"},
        {"ae_title": "VIEWER", "certificate_name": "kiosk.example", "retrieve": False},
        {"ae_title": "VIEWER", "address": "10.0.0.7", "retrieve": False},
    ]
    with answering(tmp_path, peers=entries) as asked:
        came = Peer("association", "VIEWER", "OVCF_NODE", address, frozenset(certificate))
        assert asked.scp._peer(QueryRequest(came, False, Dataset())).retrieve is may


def digests(scp, uids=UIDS) -> dict[str, list[str]]:
    """Return the SHA-256 of the data sets as they are stored."""
    found = {}
    for result in scp.ledger.catalogue.retrieve({"SOPInstanceUID": "\\".join(uids)}, "88.34/air", 100):
        path = scp.results.root / result.path
        begin = 144 + dcmread(path).file_meta.FileMetaInformationGroupLength
        found[result.sop_instance_uid] = [hashlib.sha256(path.read_bytes()[begin:]).hexdigest()]
    return found


def get(scp, asked: Dataset, answer=lambda event: 0x0000, calling="MOVESCU"):
    """Fetch by C-GET; returns {SOP Instance UID: SHA-256 of its data set}, and the responses."""
    received = {}

    def keep(event: evt.Event) -> int:
        status = answer(event)
        if status == 0x0000 or status >> 12 == 0xB:
            data = event.request.DataSet.getvalue()
            received[str(event.request.AffectedSOPInstanceUID)] = [hashlib.sha256(data).hexdigest()]
        return status

    with association(scp.port, GET, calling=calling, store_handler=keep) as opened:
        responses = list(opened.send_c_get(asked, GET))
    return received, responses


def move(scp, asked: Dataset, destination="PACS", calling="MOVESCU"):
    with association(scp.port, MOVE, calling=calling) as opened:
        return list(opened.send_c_move(asked, destination, MOVE))


def counts(status: Dataset) -> tuple:
    return tuple(status.get(f"NumberOf{kind}Suboperations") for kind in ("Remaining", "Completed", "Failed", "Warning"))


def test_get_delivers_the_stored_bytes_in_order(scp):
    received, responses = get(scp, identifier("STUDY", **STUDY))
    assert received == digests(scp) and list(received) == UIDS
    assert [s.Status for s, _ in responses] == [0xFF00, 0xFF00, 0x0000]
    assert [counts(s) for s, _ in responses] == [(2, 1, 0, 0), (1, 2, 0, 0), (None, 3, 0, 0)]


@pytest.mark.parametrize(("level", "keys", "expected"), [
    ("SERIES", {"SeriesInstanceUID": uid("a", "series", SR)}, [UIDS[2]]),
    ("SERIES", {"SeriesInstanceUID": [uid("a", "series", SEG), uid("a", "series", SR)]}, [UIDS[0], UIDS[2]]),
    ("IMAGE", {"SeriesInstanceUID": uid("a", "series", SC), "SOPInstanceUID": UIDS[1]}, [UIDS[1]]),
    ("IMAGE", {"SeriesInstanceUID": uid("a", "series", SC), "SOPInstanceUID": UIDS[2]}, []),
])
def test_get_by_series_and_instance(scp, level, keys, expected):
    received, responses = get(scp, identifier(level, **STUDY, **keys))
    assert list(received) == expected and responses[-1][0].Status == 0x0000


def test_warnings_and_failures_are_counted_and_named(scp):
    answers = {SEG: 0xB007, SC: 0xA700, SR: 0x0000}
    received, responses = get(scp, identifier("STUDY", **STUDY), lambda e: answers[e.request.AffectedSOPClassUID])
    status, failed = responses[-1]
    assert status.Status == 0xB000 and counts(status) == (None, 1, 1, 1)
    assert failed.FailedSOPInstanceUIDList == uid("a", SC) and sorted(received) == sorted([uid("a", SEG), uid("a", SR)])


def test_nothing_arrived_is_a_failure(scp):
    _, responses = get(scp, identifier("STUDY", **STUDY), lambda e: 0xC000)
    assert responses[-1][0].Status == 0xA702 and list(responses[-1][1].FailedSOPInstanceUIDList) == UIDS


def test_damaged_object_is_not_sent(scp):
    result = scp.ledger.catalogue.retrieve({"SOPInstanceUID": uid("a", SC)}, "88.34/air", 1)[0]
    path: Path = scp.results.root / result.path
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    received, responses = get(scp, identifier("STUDY", **STUDY))
    assert uid("a", SC) not in received and counts(responses[-1][0]) == (None, 2, 1, 0)
    path.unlink()
    assert counts(get(scp, identifier("STUDY", **STUDY))[1][-1][0]) == (None, 2, 1, 0)


def test_receiver_of_implicit_vr_gets_it_converted(scp):
    kept = []

    def keep(event):
        kept.append((event.context.transfer_syntax, event.dataset))
        return 0x0000

    implicit = [ImplicitVRLittleEndian]
    with association(scp.port, GET, calling="MOVESCU", store_handler=keep, transfer_syntaxes=implicit) as opened:
        responses = list(opened.send_c_get(identifier("STUDY", **STUDY), GET))
    assert responses[-1][0].Status == 0x0000 and {syntax for syntax, _ in kept} == {ImplicitVRLittleEndian}
    assert {d.SOPInstanceUID for _, d in kept} == set(UIDS)
    assert next(d for _, d in kept if d.SOPClassUID == SEG).PixelData == b"\x01\x02\x03\x04"


def test_requestor_that_takes_no_role_gets_failures_and_may_not_store(scp):
    with association(scp.port, GET, SR, calling="MOVESCU") as opened:
        responses = list(opened.send_c_get(identifier("STUDY", **STUDY), GET))
        assert responses[-1][0].Status == 0xA702
    with association(scp.port, GET, SR, calling="MOVESCU") as opened:
        stranger = result_object("x", SR)
        stranger.file_meta = Dataset()
        stranger.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        answer = opened.send_c_store(stranger)
        assert "Status" not in answer or answer.Status not in (0x0000, 0xB000)


def test_move_delivers_the_stored_bytes_to_a_configured_peer(scp, pacs):
    responses = move(scp, identifier("STUDY", **STUDY))
    assert pacs.received == digests(scp)
    assert [s.Status for s, _ in responses] == [0xFF00, 0xFF00, 0x0000] and counts(responses[-1][0]) == (None, 3, 0, 0)


def test_move_names_its_originator(scp, pacs, monkeypatch):
    seen = []
    original = pacs._store
    monkeypatch.setattr(pacs, "_store", lambda event: seen.append(event.request) or original(event))
    pacs._server.bind(evt.EVT_C_STORE, pacs._store)
    with association(scp.port, MOVE, calling="MOVESCU") as opened:
        list(opened.send_c_move(identifier("STUDY", **STUDY), "PACS", MOVE, msg_id=77))
    assert {(r.MoveOriginatorApplicationEntityTitle.strip(), r.MoveOriginatorMessageID) for r in seen} == {("MOVESCU", 77)}


def test_move_counts_what_the_destination_said(scp, pacs):
    pacs.statuses = {uid("a", SC): 0xB000, uid("a", SR): (0x0122, "no reports")}
    status, failed = move(scp, identifier("STUDY", **STUDY))[-1]
    assert status.Status == 0xB000 and counts(status) == (None, 1, 1, 1)
    assert failed.FailedSOPInstanceUIDList == uid("a", SR)


def test_move_whose_destination_breaks_off_names_what_is_missing(scp, pacs):
    pacs.abort_after = 1
    status, failed = move(scp, identifier("STUDY", **STUDY))[-1]
    assert status.Status == 0xB000 and counts(status) == (None, 1, 2, 0)
    assert list(failed.FailedSOPInstanceUIDList) == UIDS[1:]


@pytest.mark.parametrize(("destination", "status"), [("NOBODY", 0xA801), ("MOVESCU", 0xA801), ("GONE", 0xA702)])
def test_move_elsewhere(scp, pacs, destination, status):
    assert move(scp, identifier("STUDY", **STUDY), destination)[-1][0].Status == status
    assert pacs.received == {}


def test_retrieving_needs_permission(scp, pacs):
    assert move(scp, identifier("STUDY", **STUDY), calling="ASKER")[-1][0].Status == 0x0124
    received, responses = get(scp, identifier("STUDY", **STUDY), calling="ASKER")
    assert received == {} == pacs.received and responses[-1][0].Status == 0x0124


@pytest.mark.parametrize(("asked", "status"), [
    (identifier(None, **STUDY), 0xA900), (identifier("PATIENT", PatientID="ID-a"), 0xA900),
    (identifier("STUDY"), 0xC000), (identifier("STUDY", PatientID="ID-a"), 0xC000), (identifier("SERIES", **STUDY), 0xC000),
    (identifier("SERIES", SeriesInstanceUID=uid("a", "series", SR)), 0xC000),
    (identifier("IMAGE", **STUDY, SeriesInstanceUID="", SOPInstanceUID=UIDS[0]), 0xC000),
])
def test_identifier_without_its_unique_keys_retrieves_nothing(scp, pacs, asked, status):
    assert move(scp, asked)[-1][0].Status == status
    received, responses = get(scp, asked)
    assert received == {} == pacs.received and responses[-1][0].Status == status


def test_everything_of_a_patient(scp):
    with association(scp.port, contexts.PATIENT_ROOT_MOVE, calling="MOVESCU") as opened:
        asked = identifier("PATIENT", PatientID="ID-a")
        responses = list(opened.send_c_move(asked, "PACS", contexts.PATIENT_ROOT_MOVE))
    assert counts(responses[-1][0]) == (None, 3, 0, 0)


def test_held_study_does_not_leave(scp, pacs):
    scp.ledger.holds.place(uid("a"), Reason("two_patients", "one study, two Patient IDs"), 1.0)
    for asked in (identifier("STUDY", **STUDY),
                  identifier("IMAGE", **STUDY, SeriesInstanceUID=uid("a", "series", SR), SOPInstanceUID=UIDS[2])):
        assert move(scp, asked)[-1][0].Status == 0x0000 and get(scp, asked)[0] == {}
    assert pacs.received == {}


def test_superseded_report_is_sent_only_by_its_uid(scp):
    store(scp.ledger, [result_object("a", SR, SOPInstanceUID=uid("new"), InstanceNumber=2)], scp.results)
    assert list(get(scp, identifier("STUDY", **STUDY))[0]) == [uid("new")]
    named = identifier("IMAGE", **STUDY, SeriesInstanceUID=uid("a", "series", SR), SOPInstanceUID=UIDS[2])
    assert list(get(scp, named)[0]) == [UIDS[2]]


@pytest.mark.parametrize("kind", ["get", "move"])
def test_cancel_stops_the_sub_operations(scp, pacs, kind):
    store(scp.ledger, [result_object("many", SEG, SOPInstanceUID=uid("many", n)) for n in range(60)], scp.results)
    asked, stored = identifier("STUDY", StudyInstanceUID=uid("many")), []
    model = GET if kind == "get" else MOVE
    handler = (lambda event: stored.append(1) or 0x0000) if kind == "get" else None
    with association(scp.port, model, calling="MOVESCU", store_handler=handler) as opened:
        if kind == "get":
            running = opened.send_c_get(asked, GET, msg_id=9)
        else:
            running = opened.send_c_move(asked, "PACS", MOVE, msg_id=9)
        responses = []
        for response in running:
            responses.append(response[0])
            if len(responses) == 2:
                opened.send_c_cancel(9, query_model=model)
        assert responses[-1].Status == 0xFE00
        remaining, completed, failed, warning = counts(responses[-1])
        assert remaining > 0 and completed >= 1 and remaining + completed == 60 and (failed, warning) == (0, 0)
        assert len(stored if kind == "get" else pacs.received) == completed


@pytest.mark.parametrize("fetch", [lambda scp, asked: get(scp, asked)[1], move], ids=["get", "move"])
def test_a_defect_is_a_failure_that_quotes_nobody(scp, monkeypatch, fetch):
    def defect(*_):
        raise ValueError("Yamada^Tarou")

    monkeypatch.setattr(scp.ledger.catalogue, "retrieve", defect)
    (status, _), = fetch(scp, identifier("STUDY", **STUDY))
    assert status.Status >> 12 == 0xC and status.ErrorComment == "internal error"
    monkeypatch.undo()
    assert fetch(scp, identifier("STUDY", **STUDY))[-1][0].Status == 0x0000, "the next one is answered"
