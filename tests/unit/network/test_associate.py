import socket
import threading
import time

import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom.dimse import DIMSEServiceProvider

from dicom_peers import CT_IMAGE, RecordingAcceptor, encoded, free_port, instance, write
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import associate
from ovcf_node.network.associate import Remote, StoreFile


@pytest.fixture
def pacs():
    acceptor = RecordingAcceptor([CT_IMAGE])
    yield acceptor
    acceptor.close()


def remote(port: int, called: str = "PACS") -> Remote:
    return Remote("127.0.0.1", port, called, "OVCF_NODE", timeout_s=3)


def files(folder, *datasets):
    return [StoreFile(write(folder, d), str(d.SOPClassUID), str(d.SOPInstanceUID)) for d in datasets]


def store(port, sent):
    replies = []
    associate.store(remote(port), sent, replies.append)
    return replies


def test_bytes_go_out_unchanged(pacs, tmp_path):
    import hashlib

    datasets = [instance(n) for n in (1, 2, 3)]
    replies = store(pacs.port, files(tmp_path, *datasets))
    assert [r.status for r in replies] == [0, 0, 0]
    assert [pacs.received[d.SOPInstanceUID] for d in datasets] == [
        [hashlib.sha256(encoded(d)).hexdigest()] for d in datasets
    ]


def test_status_and_comment_are_kept(pacs, tmp_path):
    dataset = instance(1)
    pacs.statuses[dataset.SOPInstanceUID] = (0xB000, "coerced\nsomething")
    (reply,) = store(pacs.port, files(tmp_path, dataset))
    assert (reply.status, reply.text) == (0xB000, "coerced?something")


def test_acceptor_with_implicit_only_gets_it_converted(tmp_path):
    old = RecordingAcceptor([CT_IMAGE], transfer_syntaxes=[str(ImplicitVRLittleEndian)])
    try:
        dataset = instance(5)
        (reply,) = store(old.port, files(tmp_path, dataset))
        assert reply.status == 0
        assert old.datasets[dataset.SOPInstanceUID].PixelData == dataset.PixelData
        assert old.datasets[dataset.SOPInstanceUID].PatientID == "PLANTED-ID"
    finally:
        old.close()


def test_compressed_is_never_converted(pacs, tmp_path):
    dataset = instance(1, PixelData=None)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    plain = instance(2)
    replies = store(pacs.port, files(tmp_path, dataset, plain))
    assert [r.status for r in replies] == [None, 0]  # the other file is not punished for it
    assert "CT Image" in replies[0].text


def test_missing_and_damaged_files_do_not_stop_the_rest(pacs, tmp_path):
    (tmp_path / "bad.dcm").write_bytes(b"not dicom")
    good = files(tmp_path, instance(1))
    bad = [StoreFile(tmp_path / "gone.dcm", CT_IMAGE, "1.2"), StoreFile(tmp_path / "bad.dcm", CT_IMAGE, "1.3")]
    replies = {r.sop_instance_uid: r for r in store(pacs.port, bad + good)}
    assert "file_missing" in replies["1.2"].text
    assert "file_unreadable" in replies["1.3"].text
    assert replies[good[0].sop_instance_uid].status == 0


def test_lost_association_keeps_earlier_replies(pacs, tmp_path):
    pacs.abort_after = 1
    replies = []
    with pytest.raises(Transient, match="association_lost"):
        associate.store(remote(pacs.port), files(tmp_path, instance(1), instance(2), instance(3)), replies.append)
    assert [r.status for r in replies] == [0]


def test_rejection_is_permanent_and_says_why(pacs):
    with pytest.raises(Permanent, match="association_rejected: called AE title not recognised"):
        associate.echo(remote(pacs.port, called="WRONG"))


def test_connection_refused_is_transient_and_says_why():
    port = free_port()
    with pytest.raises(Transient, match=f"127.0.0.1:{port}: Connection refused"):
        associate.echo(remote(port))


def test_unknown_host_is_transient(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Transient, match="unknown_host"):
        associate.echo(Remote("pacs.invalid", 104, "PACS", "OVCF_NODE", timeout_s=1))


def test_silent_acceptor_is_transient():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(Transient, match="association_failed"):
            associate.echo(Remote("127.0.0.1", listener.getsockname()[1], "PACS", "OVCF_NODE", timeout_s=0.5))


@pytest.mark.parametrize(
    "sent", [b"", b"\x02\x00\x00", b"\x02\x00\x00\x00\x00\xc8\x00\x01"], ids=["nothing", "part of a head", "a head"]
)
def test_acceptor_that_stops_within_a_pdu_is_transient(sent):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def stop_midway():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(sent)
                over.wait(30)

        over = threading.Event()
        peer = threading.Thread(target=stop_midway)
        peer.start()
        try:
            begin = time.monotonic()
            with pytest.raises(Transient, match="association_failed"):
                associate.echo(Remote("127.0.0.1", listener.getsockname()[1], "PACS", "OVCF_NODE", timeout_s=0.5))
            assert time.monotonic() - begin < 15, "the thread that reads holds the one that ends the association"
        finally:
            over.set()
            peer.join()


@pytest.mark.parametrize("late_s", [0.002, 0.005, 0.02])
def test_no_response_is_lost_to_a_thread_that_runs_late(pacs, tmp_path, monkeypatch, late_s):
    take = DIMSEServiceProvider.get_msg

    def late(self, block=False):
        if not block and self.assoc.is_requestor:  # the reactor, between being woken and looking for a message
            time.sleep(late_s)
        return take(self, block)

    monkeypatch.setattr(DIMSEServiceProvider, "get_msg", late)
    replies = store(pacs.port, files(tmp_path, *(instance(n) for n in range(8))))
    assert [r.status for r in replies] == [0] * 8
