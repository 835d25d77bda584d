"""DCMTK's findscu, getscu and movescu against the Query/Retrieve SCP."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from catalogue_rows import SC, SEG, SR
from dicom_peers import RecordingAcceptor, program, uid
from query_peers import answering

pytestmark = pytest.mark.peer

UIDS = [uid("a", SEG), uid("a", SC), uid("a", SR)]


@pytest.fixture(scope="module")
def pacs():
    acceptor = RecordingAcceptor([SEG, SC, SR])
    yield acceptor
    acceptor.close()


@pytest.fixture(scope="module")
def scp(tmp_path_factory, pacs):
    peers = [{"ae_title": title} for title in ("FINDSCU", "GETSCU", "MOVESCU")]
    peers.append({"ae_title": "PACS", "move_host": "127.0.0.1", "move_port": pacs.port})
    with answering(tmp_path_factory.mktemp("scp"), peers=peers) as asked:
        yield asked


def dcmtk(tool: str, scp, *arguments: str, keys: dict[str, str]) -> subprocess.CompletedProcess:
    asked = [text for keyword, value in keys.items() for text in ("-k", f"{keyword}={value}" if value else keyword)]
    return subprocess.run(
        [program(tool), "-aec", "OVCF_NODE", *arguments, *asked, "127.0.0.1", str(scp.port)],
        capture_output=True, timeout=60, check=False,
    )


def found(scp, folder: Path, *arguments: str, **keys: str):
    done = dcmtk("findscu", scp, "-X", "-od", str(folder), *arguments, keys=keys)
    assert done.returncode == 0, done.stderr
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def test_findscu_at_every_level(scp, tmp_path):
    in_series = {"StudyInstanceUID": uid("a"), "SeriesInstanceUID": uid("a", "series", SR)}
    for root, level, keys, number in [
        ("-P", "PATIENT", {"PatientID": "", "PatientName": "*"}, 3),
        ("-P", "STUDY", {"PatientID": "ID-a", "StudyInstanceUID": ""}, 1),
        ("-S", "STUDY", {"StudyInstanceUID": "", "StudyDate": "20240101-20240401", "ModalitiesInStudy": "SR"}, 3),
        ("-S", "SERIES", {"StudyInstanceUID": uid("a"), "SeriesInstanceUID": ""}, 3),
        ("-S", "IMAGE", in_series | {"SOPInstanceUID": ""}, 1),
    ]:
        folder = tmp_path / f"{root}{level}"
        folder.mkdir()
        assert len(found(scp, folder, root, QueryRetrieveLevel=level, **keys)) == number, (root, level)


def test_findscu_reads_the_names_in_the_character_sets_of_the_objects(scp, tmp_path):
    matches = found(scp, tmp_path, "-S", QueryRetrieveLevel="STUDY", StudyInstanceUID="", PatientName="*", PatientID="")
    assert {m.PatientID: str(m.PatientName) for m in matches} == {
        "ID-a": "Müller^Hans", "ID-b": "Yamada^Tarou=山田^太郎=やまだ^たろう", "ID-c": "Doe^Jane"}


def test_findscu_asks_for_the_code_of_a_report(scp, tmp_path):
    keys = {"StudyInstanceUID": uid("a"), "SeriesInstanceUID": uid("a", "series", SR), "SOPInstanceUID": "",
            "ConceptNameCodeSequence[0].CodeValue": "126000", "ConceptNameCodeSequence[0].CodeMeaning": ""}
    report, = found(scp, tmp_path, "-S", QueryRetrieveLevel="IMAGE", **keys)
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurement Report"


def test_findscu_is_told_what_is_wrong(scp):
    done = dcmtk("findscu", scp, "-v", "-S", keys={"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ""})
    assert b"Failed: UnableToProcess" in done.stderr or b"0xc000" in done.stderr


def test_findscu_cancels(scp):
    done = dcmtk("findscu", scp, "-v", "-S", "--cancel", "1", keys={"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""})
    assert done.returncode == 0 and b"Cancel" in done.stderr


def test_getscu_stores_the_objects(scp, tmp_path):
    done = dcmtk("getscu", scp, "-v", "-S", "--bit-preserving", "-od", str(tmp_path),
                 keys={"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid("a")})
    assert done.returncode == 0, done.stderr
    stored = {str(dcmread(p).SOPInstanceUID): p for p in tmp_path.iterdir()}
    assert sorted(stored) == sorted(UIDS)
    for result in scp.ledger.catalogue.retrieve({"StudyInstanceUID": uid("a")}, "88.34/air", 9):
        assert _data_set(stored[result.sop_instance_uid]) == _data_set(scp.results.root / result.path)


def _data_set(path: Path) -> bytes:
    return path.read_bytes()[144 + dcmread(path).file_meta.FileMetaInformationGroupLength:]


def test_movescu_sends_to_the_pacs(scp, pacs):
    done = dcmtk("movescu", scp, "-v", "-S", "-aem", "PACS",
                 keys={"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid("a")})
    assert done.returncode == 0 and re.search(rb"Received Final Move Response \(Success\)", done.stderr), done.stderr
    assert sorted(pacs.received) == sorted(UIDS)
    for result in scp.ledger.catalogue.retrieve({"StudyInstanceUID": uid("a")}, "88.34/air", 9):
        expected = hashlib.sha256(_data_set(scp.results.root / result.path)).hexdigest()
        assert pacs.received[result.sop_instance_uid] == [expected]


def test_movescu_elsewhere_is_refused(scp):
    done = dcmtk("movescu", scp, "-v", "-S", "-aem", "ELSEWHERE",
                 keys={"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid("a")})
    assert done.returncode != 0 and b"MoveDestinationUnknown" in done.stderr, done.stderr


def test_stranger_is_rejected(scp):
    done = dcmtk("findscu", scp, "-aet", "STRANGER", "-S", keys={"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""})
    assert done.returncode != 0 and b"Calling AE Title Not Recognized" in done.stderr
