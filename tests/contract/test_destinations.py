"""One contract for every destination type: what is sent arrives unchanged, again is no error, an outage is `retry`."""

import errno
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_peers import CT_IMAGE, RecordingAcceptor, free_port, instance, program, uid, wait_until, write
from node_harness import ORTHANC_DICOMWEB, get, orthanc
from ovcf_node.config import Destination
from ovcf_node.deliver.destinations import TYPES, Outcome, send
from ovcf_node.errors import Transient
from ovcf_node.network import associate
from ovcf_node.network.associate import Remote
from web_server import StowServer, serving

SC = "1.2.840.10008.5.1.4.1.1.7"


@dataclass
class Place:
    """A destination in a state where it works, another where it is out, and a way to look at what arrived."""

    working: Destination
    out: Destination
    arrived: Callable[[], dict[str, str]]  # SOP Instance UID -> SHA-256 of the data set


def dicom(port: int, **changes) -> Destination:
    values = {"name": "pacs", "type": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout_s": 3}
    return Destination(**(values | changes))


def stow_at(port: int, **changes) -> Destination:
    values = {"name": "vna", "type": "stow", "url": f"http://127.0.0.1:{port}/dicom-web", "timeout_s": 3}
    return Destination(**(values | changes))


@dataclass
class Stow:
    server: StowServer
    destination: Destination


@pytest.fixture
def stow():
    server = StowServer()
    with serving(server.application()) as port:
        yield Stow(server, stow_at(port))


@pytest.fixture
def pacs():
    acceptor = RecordingAcceptor([CT_IMAGE, SC])
    yield acceptor
    acceptor.close()


@pytest.fixture
def place_pynetdicom(pacs):
    return Place(dicom(pacs.port), dicom(free_port()), lambda: {u: digests[-1] for u, digests in pacs.received.items()})


@pytest.fixture
def place_storescp(tmp_path):
    folder, port = tmp_path / "storescp", free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [program("storescp"), "--output-directory", str(folder), "--bit-preserving", str(port)],
        env=os.environ | {"TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _answers(port))
        yield Place(dicom(port), dicom(free_port()), lambda: _digests(folder))
    finally:
        process.terminate()
        process.wait(5)


def _answers(port: int) -> bool:
    try:
        return associate.echo(Remote("127.0.0.1", port, "ANY", "TEST", 1)) > 0
    except associate.Transient:
        return False


@pytest.fixture
def place_folder(tmp_path):
    in_the_way = tmp_path / "a_file"
    in_the_way.write_bytes(b"")
    folder = tmp_path / "destination"
    return Place(
        Destination(name="share", type="folder", path=folder),
        Destination(name="share", type="folder", path=in_the_way / "below"),
        lambda: _digests(folder),
    )


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.iterdir():
        if path.is_file():
            data = path.read_bytes()
            begin = 144 + dcmread(path).file_meta.FileMetaInformationGroupLength
            found[str(dcmread(path).SOPInstanceUID)] = hashlib.sha256(data[begin:]).hexdigest()
    return found


@pytest.fixture
def place_stow(stow):
    return Place(stow.destination, stow_at(free_port()), lambda: stow.server.received)


@pytest.fixture
def place_orthanc(tmp_path):
    program("Orthanc")
    if not ORTHANC_DICOMWEB.exists():
        program("orthanc-dicomweb")
    with orthanc(tmp_path / "orthanc", dicomweb=True) as (_, url):
        here = stow_at(int(url.rsplit(":")[-1]))
        yield Place(here, stow_at(free_port()), lambda: _orthanc_digests(url, tmp_path / "fetched"))


def _orthanc_digests(url: str, folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    for name in json.loads(get(f"{url}/instances")):
        (folder / name).write_bytes(get(f"{url}/instances/{name}/file"))
    return _digests(folder)


PLACES = {"pynetdicom": "dicom", "folder": "folder", "stow": "stow", "storescp": "dicom", "orthanc": "stow"}
PEERS = ("storescp", "orthanc")


@pytest.fixture(params=[n if n not in PEERS else pytest.param(n, marks=pytest.mark.peer) for n in PLACES])
def place(request) -> Place:
    return request.getfixturevalue(f"place_{request.param}")


@pytest.fixture
def files(tmp_path):
    datasets = [instance(1), instance(2, SOPClassUID=SC), instance(3)]
    return [(write(tmp_path / "encoded", d), str(d.SOPClassUID), str(d.SOPInstanceUID)) for d in datasets]


def _digest(path: Path) -> str:
    begin = 144 + dcmread(path).file_meta.FileMetaInformationGroupLength
    return hashlib.sha256(path.read_bytes()[begin:]).hexdigest()


def test_every_type_is_covered():
    assert set(PLACES.values()) == set(TYPES)


def test_what_is_sent_arrives_unchanged(place, files):
    outcomes = send(place.working, files)
    assert [o.sop_instance_uid for o in outcomes] == [u for _, _, u in files]
    assert {o.state for o in outcomes} == {"accepted"}
    assert place.arrived() == {u: _digest(path) for path, _, u in files}


def test_sending_again_is_no_error(place, files):
    send(place.working, files)
    assert {o.state for o in send(place.working, files)} == {"accepted"}
    assert place.arrived() == {u: _digest(path) for path, _, u in files}


def test_outage_is_retry_with_a_reason(place, files):
    outcomes = send(place.out, files)
    assert {o.state for o in outcomes} == {"retry"}
    assert all(o.text for o in outcomes)


def test_a_missing_object_does_not_stop_the_others(place, files, tmp_path):
    missing = (tmp_path / "gone.dcm", CT_IMAGE, uid("gone"))
    outcomes = send(place.working, [files[0], missing, files[2]])
    assert [o.state for o in outcomes] == ["accepted", "rejected", "accepted"]
    assert "file_missing" in outcomes[1].text


def test_a_sender_that_may_not_go_on_sends_nothing_more(place, files):
    asked: list[int] = []

    def go_on() -> None:
        asked.append(len(asked))
        if len(asked) > 1:
            raise Transient("given_up", "others may be doing this")

    outcomes = send(place.working, files, go_on)
    assert [o.state for o in outcomes] == ["accepted", "retry", "retry"]
    assert all("given_up" in o.text for o in outcomes[1:])
    assert len(place.arrived()) == 1


def test_nothing_to_send(place):
    assert send(place.working, []) == []


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (0x0000, "accepted", ""),
        (0x0111, "accepted", "0x0111 duplicate SOP instance"),
        ((0xB000, "name trimmed"), "accepted", "0xB000 coercion of data elements: name trimmed"),
        (0xB006, "accepted", "0xB006 elements discarded"),
        (0xB007, "accepted", "0xB007 data set does not match SOP class"),
        ((0xA700, "disk full"), "retry", "0xA700 out of resources: disk full"),
        (0xA701, "retry", "0xA701 refused"),
        (0x0122, "rejected", "0x0122 SOP class not supported"),
        (0x0110, "rejected", "0x0110 processing failure"),
        (0xA900, "rejected", "0xA900 data set does not match SOP class"),
        ((0xC123, "bad tag"), "rejected", "0xC123 cannot understand: bad tag"),
    ],
)
def test_dicom_status(pacs, files, answer, state, words):
    (path, sop_class, name), other = files[0], files[2]
    pacs.statuses[name] = answer
    status = answer if isinstance(answer, int) else answer[0]
    first, second = send(dicom(pacs.port), [(path, sop_class, name), other])
    assert first == Outcome(name, state, status, first.text)
    assert first.text.startswith(words)
    assert second.state == "accepted"


def test_dicom_class_without_context_is_rejected_by_name(files):
    pacs = RecordingAcceptor([SC])
    try:
        outcomes = send(dicom(pacs.port), files)
    finally:
        pacs.close()
    assert [o.state for o in outcomes] == ["rejected", "accepted", "rejected"]
    assert "CT Image" in outcomes[0].text


def test_dicom_no_context_at_all_is_rejected(files):
    pacs = RecordingAcceptor(["1.2.840.10008.5.1.4.1.1.4"])
    try:
        assert {o.state for o in send(dicom(pacs.port), files)} == {"rejected"}
    finally:
        pacs.close()


def test_dicom_unknown_to_the_pacs_waits_for_its_administrator(files):
    pacs = RecordingAcceptor([CT_IMAGE, SC], callers=["SOMEBODY_ELSE"])
    try:
        outcomes = send(dicom(pacs.port), files)
    finally:
        pacs.close()
    assert {o.state for o in outcomes} == {"retry"}
    assert "calling AE title not recognised" in outcomes[0].text


def test_dicom_abort_keeps_what_was_accepted(pacs, files):
    pacs.abort_after = 1
    assert [o.state for o in send(dicom(pacs.port), files)] == ["accepted", "retry", "retry"]


def test_folder_never_replaces_other_bytes(place_folder, files):
    path, sop_class, name = files[0]
    send(place_folder.working, files)
    before = place_folder.arrived()
    path.write_bytes(path.read_bytes() + b"\xfc\xff\xfc\xffOB\x00\x00\x00\x00\x00\x00")
    (outcome,) = send(place_folder.working, [(path, sop_class, name)])
    assert outcome.state == "rejected"
    assert place_folder.arrived() == before


def test_folder_full_is_retry_and_leaves_no_part(place_folder, files, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    (outcome,) = send(place_folder.working, files[:1])
    assert outcome.state == "retry"
    assert "disk_full" in outcome.text
    assert place_folder.arrived() == {}


def test_folder_takes_uids_only(place_folder, files):
    path, sop_class, _ = files[0]
    (outcome,) = send(place_folder.working, [(path, sop_class, "../escape")])
    assert outcome.state == "rejected"
