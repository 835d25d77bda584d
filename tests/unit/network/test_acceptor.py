import hashlib
import logging
import os
import socket
import threading

import pytest
import structlog
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_peers import (
    CT_IMAGE,
    SECRET,
    MemoryLedger,
    encoded,
    instance,
    receiving,
    stored_datasets,
    uid,
    wait_until,
    write,
)
from ovcf_node.config import Receive, Source
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import associate, contexts
from ovcf_node.network.associate import Remote, StoreFile
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing


def remote(receiver, *, calling="SCANNER", called="OVCF_NODE") -> Remote:
    return Remote("127.0.0.1", receiver.port, called, calling, timeout_s=5)


def send(receiver, datasets, folder):
    replies = []
    files = [StoreFile(write(folder, d), str(d.SOPClassUID), str(d.SOPInstanceUID)) for d in datasets]
    associate.store(remote(receiver), files, replies.append)
    return replies


def test_echo_and_several_called_ae_titles(tmp_path):
    with receiving(tmp_path, ae_titles=("OVCF_NODE", "OVCF_STAT")) as (receiver, _):
        assert associate.echo(remote(receiver)) < 5
        assert associate.echo(remote(receiver, called="OVCF_STAT")) < 5


@pytest.mark.parametrize(
    ("settings", "calling", "called", "diagnostic", "words"),
    [
        ({}, "STRANGER", "OVCF_NODE", 3, "calling AE title not recognised"),
        ({}, "SCANNER", "WRONG", 7, "called AE title not recognised"),
        ({"sources": (Source(ae_title="SCANNER", address="10.9.9.9"),)}, "SCANNER", "OVCF_NODE", 3, "calling AE title"),
        ({"sources": ()}, "SCANNER", "OVCF_NODE", 3, "calling AE title"),
    ],
)
def test_rejection_reaches_the_requestor(tmp_path, settings, calling, called, diagnostic, words):
    with receiving(tmp_path, **settings) as (receiver, _):
        with pytest.raises(Permanent, match=words):
            associate.echo(remote(receiver, calling=calling, called=called))
        association = AE(calling).associate(
            "127.0.0.1", receiver.port, contexts=[build_context(contexts.VERIFICATION)], ae_title=called
        )
        answer = association.acceptor.primitive
        assert association.is_rejected
        assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, diagnostic)


def test_too_many_associations_are_rejected_transiently(tmp_path):
    with receiving(tmp_path, max_associations=1) as (receiver, _):
        requested = [build_context(contexts.VERIFICATION)]
        first = AE("SCANNER").associate("127.0.0.1", receiver.port, contexts=requested, ae_title="OVCF_NODE")
        assert first.is_established
        with pytest.raises(Transient, match="local limit exceeded"):
            associate.echo(remote(receiver))
        first.release()
        wait_until(lambda: _echoes(receiver))


def _echoes(receiver) -> bool:
    try:
        return associate.echo(remote(receiver)) > 0
    except Transient:
        return False


def test_stored_bytes_are_the_sent_bytes(tmp_path):
    ledger = MemoryLedger()
    datasets = [instance(n, size=256) for n in range(1, 6)]
    with receiving(tmp_path, ledger) as (receiver, spool):
        replies = send(receiver, datasets, tmp_path / "out")
        assert [r.status for r in replies] == [0] * 5
        sent = [hashlib.sha256(encoded(d)).hexdigest() for d in datasets]
        assert [r.digest for r in ledger.receipts] == sent
        assert {d.InstanceNumber for d in stored_datasets(spool)} == {1, 2, 3, 4, 5}
        assert len({r.association for r in ledger.receipts}) == 1


def test_refusal_carries_its_reason(tmp_path):
    with receiving(tmp_path, min_free_bytes=2**62) as (receiver, _):
        (reply,) = send(receiver, [instance(1)], tmp_path / "out")
        assert reply.status == 0xA700
        assert "storage space" in reply.text
        assert associate.echo(remote(receiver)) < 5  # Verification stays open


@pytest.mark.parametrize(
    ("error", "status"), [(Transient("ledger_busy"), 0xA700), (Permanent("x"), 0x0110), (RuntimeError("boom"), 0x0110)]
)
def test_ledger_trouble_is_never_success(tmp_path, error, status):
    with receiving(tmp_path, MemoryLedger(error=error)) as (receiver, _):
        (reply,) = send(receiver, [instance(1)], tmp_path / "out")
        assert reply.status == status


def test_results_and_companions_are_accepted(tmp_path):
    ledger = MemoryLedger()
    classes = sorted(contexts.STORAGE)
    datasets = [instance(n, SOPClassUID=c) for n, c in enumerate(classes)]
    with receiving(tmp_path, ledger) as (receiver, _):
        assert {r.status for r in send(receiver, datasets, tmp_path / "out")} == {0}
    assert [r.sop_class_uid for r in ledger.receipts] == classes


@pytest.mark.parametrize("sop_class", [
    "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.481.3",
])
def test_what_a_pacs_routes_beside_a_ct_is_taken(tmp_path, sop_class):
    with receiving(tmp_path) as (receiver, _):
        (reply,) = send(receiver, [instance(1, SOPClassUID=sop_class)], tmp_path / "out")
        assert reply.status == 0x0000


def test_a_context_that_is_not_ours_is_named(tmp_path):
    with receiving(tmp_path) as (receiver, _):
        mammogram = instance(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2")
        (reply,) = send(receiver, [mammogram], tmp_path / "out")
        assert reply.status is None
        assert "no presentation context" in reply.text


def test_no_identity_in_logs(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as events, receiving(tmp_path) as (receiver, _):
        send(receiver, [instance(1), instance(2, SeriesInstanceUID=None)], tmp_path / "out")
        wait_until(lambda: any(e["event"] == "association_released" for e in events))
    text = caplog.text + repr(events)
    for planted in ("PLANTED", "Planted", uid("study"), uid("series")):
        assert planted not in text
    released = next(e for e in events if e["event"] == "association_released")
    assert (released["stored"], released["refused"], released["calling_ae_title"]) == (1, 1, "SCANNER")


def test_silent_and_garbage_peers_do_not_block_others(tmp_path):
    with receiving(tmp_path) as (receiver, _):
        silent = socket.create_connection(("127.0.0.1", receiver.port))
        noise = socket.create_connection(("127.0.0.1", receiver.port))
        noise.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        assert associate.echo(remote(receiver)) < 5
        silent.close()
        noise.close()


def test_probes_that_connect_and_leave_do_not_use_up_associations(tmp_path):
    with receiving(tmp_path, max_associations=2) as (receiver, _):
        for _ in range(10):
            socket.create_connection(("127.0.0.1", receiver.port)).close()
        wait_until(lambda: _echoes(receiver), seconds=5)


def test_descriptors_do_not_leak(tmp_path):
    with receiving(tmp_path) as (receiver, _):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            associate.echo(remote(receiver))
            socket.create_connection(("127.0.0.1", receiver.port)).close()
            with pytest.raises(Permanent):
                associate.echo(remote(receiver, called="WRONG"))
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_port_in_use_is_reported(tmp_path):
    with receiving(tmp_path) as (receiver, spool):
        storing = Storing(spool, MemoryLedger(), min_free_bytes=0, patient_secret=SECRET)
        second = Receiver(Receive(host="127.0.0.1"), storing, port=receiver.port)
        with pytest.raises(Permanent, match="cannot_listen"):
            second.start()


def test_stop_drains_running_associations(tmp_path):
    with receiving(tmp_path) as (receiver, _):
        requested = [build_context(contexts.VERIFICATION)]
        association = AE("SCANNER").associate("127.0.0.1", receiver.port, contexts=requested, ae_title="OVCF_NODE")
        port, aborted = receiver.port, []
        stopping = threading.Thread(target=lambda: aborted.append(receiver.stop(drain_s=10)))
        stopping.start()
        wait_until(lambda: not _listens(port))
        assert association.send_c_echo().Status == 0x0000  # what runs may finish
        association.release()
        stopping.join(5)
        assert aborted == [0]


def test_stop_aborts_after_the_limit(tmp_path):
    with receiving(tmp_path) as (receiver, _):
        requested = [build_context(contexts.VERIFICATION)]
        association = AE("SCANNER").associate("127.0.0.1", receiver.port, contexts=requested, ae_title="OVCF_NODE")
        assert receiver.stop(drain_s=0.1) == 1
        wait_until(lambda: association.is_aborted)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_change_of_who_may_send_spares_running_associations(tmp_path):
    with receiving(tmp_path) as (receiver, spool):
        open_one = AE("SCANNER").associate(
            "127.0.0.1", receiver.port, contexts=[build_context(CT_IMAGE)], ae_title="OVCF_NODE"
        )
        receiver.admit(Receive(sources=(Source(ae_title="NEW_SCANNER"),)))
        assert associate.echo(remote(receiver, calling="NEW_SCANNER")) < 5
        with pytest.raises(Permanent, match="calling AE title not recognised"):
            associate.echo(remote(receiver))
        assert open_one.send_c_store(instance()).Status == 0x0000
        open_one.release()
        assert len(stored_datasets(spool)) == 1
