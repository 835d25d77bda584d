"""What a connection and a message must be: PROXY headers from balancers, lengths, times; and who is left."""

import ipaddress
import socket
import struct
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu_primitives import P_DATA

from dicom_peers import MemoryLedger, instance, receiving, relayed, write
from fuzz import recorded
from ovcf_node.config import Source
from ovcf_node.errors import OvcfError, Permanent
from ovcf_node.network import admission, associate, bounds, proxy_protocol
from ovcf_node.network.associate import Remote, StoreFile

REQUEST = recorded.pdus()[0]  # of SCANNER to OVCF_NODE
VERSION_2 = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(client: str, port: int = 40000, command: int = 0x21, rest: bytes = b"") -> bytes:
    address = ipaddress.ip_address(client)
    family, form = (0x11, "!4s4sHH") if address.version == 4 else (0x21, "!16s16sHH")
    body = struct.pack(form, address.packed, address.packed, port, 104) + rest
    return VERSION_2 + struct.pack("!BBH", command, family, len(body)) + body


def read(data: bytes, after: bytes = b"\x01rest"):
    """Return what the header says; what comes after it must still be there."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(data + after)
        there.shutdown(socket.SHUT_WR)
        found = proxy_protocol.read(here, time.monotonic() + 10)
        assert here.recv(100) == after
        return found


@pytest.mark.parametrize(("data", "found"), [
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 104\r\n", ("192.0.2.7", 40000)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 104\r\n", ("2001:db8::7", 40000)),
    (b"PROXY UNKNOWN\r\n", None), (version_2("192.0.2.7"), ("192.0.2.7", 40000)),
    (version_2("2001:db8::7", rest=b"\x04\x00\x01\x00"), ("2001:db8::7", 40000)),
    (version_2("192.0.2.7", command=0x20), None), (VERSION_2 + b"\x21\x00\x00\x00", None),
])
def test_proxy_headers(data, found):
    assert read(data) == found


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 192.0.2.7\r\n", b"PROXY TCP4 a.b.c.d 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 " + b"1" * 200,
    VERSION_2 + b"\x31\x11\x00\x0c" + bytes(12), VERSION_2 + b"\x21\x11\x00\x04" + bytes(4), VERSION_2 + b"\x21\x11\xff\xff",
    b"PROXY", b"PROXY TCP4 192.0.2.7 192.0.2.1 ", b"PROXY TCP4 192.0.2.7 192.0.2.1 port 104\r\n",
])
def test_malformed_proxy_headers(data):
    with pytest.raises(Permanent, match="proxy_protocol"):
        read(data, after=b"")


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", VERSION_2, VERSION_2 + b"\x21\x11\x00\x0c"]))
def test_any_proxy_header_is_read_or_refused(data, begin):
    here, there = socket.socketpair()
    with here, there:
        there.sendall(begin + data)
        there.close()
        try:
            proxy_protocol.read(here, time.monotonic() + 10)
        except Permanent as error:
            assert error.code == "proxy_protocol"


def speak(port: int, *parts: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 20)
    for part in parts:
        connection.sendall(part)
    return connection


def echo_through(port: int, header: bytes) -> float:
    with relayed(port, header) as through:
        return associate.echo(Remote("127.0.0.1", through, "OVCF_NODE", "SCANNER", timeout_s=10))


def test_the_address_behind_a_balancer_counts(tmp_path):
    sources = (Source(ae_title="SCANNER", address="192.0.2.7"),)
    with receiving(tmp_path, sources=sources, balancers=("127.0.0.1",)) as (receiver, _):
        assert echo_through(receiver.port, version_2("192.0.2.7")) < 10
        assert echo_through(receiver.port, b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 104\r\n") < 10
        with pytest.raises(Permanent, match="calling AE title not recognised"):
            echo_through(receiver.port, version_2("192.0.2.8"))


def test_a_proxy_header_of_somebody_else_counts_for_nothing(tmp_path):
    sources = (Source(ae_title="SCANNER", address="192.0.2.7"),)
    with receiving(tmp_path, sources=sources) as (receiver, _), pytest.raises(Exception, match="association"):
        echo_through(receiver.port, version_2("192.0.2.7"))


def is_hung_up(connection: socket.socket, limit_s: float = 30.0) -> bool:
    connection.settimeout(limit_s)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_who_says_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(admission, "PATIENCE_S", 0.5)
    with receiving(tmp_path) as (receiver, _), speak(receiver.port) as silent:
        assert is_hung_up(silent)


def test_only_so_many_are_let_in_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(admission, "PATIENCE_S", 60.0)
    with receiving(tmp_path) as (receiver, _):
        entrance = receiver._acceptors[0]._server.entrance
        for _ in range(admission._AT_ONCE):
            entrance.free.acquire()
        with speak(receiver.port) as one_too_many:
            assert is_hung_up(one_too_many)


STRANGERS = 8
OF_A_STRANGER = REQUEST.replace(b"SCANNER ", b"STRANGER")


@pytest.mark.parametrize("said", [
    b"\x01", struct.pack(">BBL", 1, 0, 200), struct.pack(">BBL", 1, 0, 200) + bytes(150), struct.pack(">BBL", 1, 0, 1 << 19),
    struct.pack(">BBL", 4, 0, 100), struct.pack(">BBL", 7, 0, 4), b"\xff" * 6, REQUEST[:-1],
    OF_A_STRANGER, OF_A_STRANGER + struct.pack(">BBL", 4, 0, 100), OF_A_STRANGER + b"\x04",
])
def test_what_is_no_whole_request_takes_nobodys_place(tmp_path, said):
    with receiving(tmp_path, max_associations=2) as (receiver, _), ExitStack() as strangers:
        for _ in range(STRANGERS):
            strangers.enter_context(speak(receiver.port, said))
        server = receiver._acceptors[0]._server
        time.sleep(0.5)
        assert not server.active_associations
        assert associate.echo(Remote("127.0.0.1", receiver.port, "OVCF_NODE", "SCANNER", timeout_s=2)) < 2
        strangers.close()
        everybody = [server.entrance.free.acquire(timeout=20) for _ in range(admission._AT_ONCE)]
        assert all(everybody)  # nobody is on the way in any more


def test_what_is_no_request_is_aborted(tmp_path):
    with receiving(tmp_path) as (receiver, _), speak(receiver.port, struct.pack(">BBL", 5, 0, 4)) as early:
        early.settimeout(10)
        assert early.recv(20) == bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 2))


def test_a_refused_stranger_reads_why(tmp_path):
    with receiving(tmp_path) as (receiver, _), speak(receiver.port, OF_A_STRANGER + struct.pack(">BBL", 4, 0, 100)) as one:
        one.settimeout(10)
        assert one.recv(20)[:1] == b"\x03"  # A-ASSOCIATE-RJ


def test_nobody_is_let_in_once_the_receiver_stops(tmp_path):
    ledger = MemoryLedger()
    with receiving(tmp_path, ledger, max_associations=1) as (receiver, _), speak(receiver.port, REQUEST) as first:
        assert first.recv(1) == b"\x02"
        with speak(receiver.port, REQUEST) as waiting:
            time.sleep(0.3)
            receiver.stop(drain_s=0.0)
            waiting.settimeout(10)
            assert waiting.recv(1) in (b"", b"\x03")


def test_a_health_check_that_resets_is_no_alert(tmp_path, capsys):
    header = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 104\r\n"
    with receiving(tmp_path, balancers=("127.0.0.1",)) as (receiver, _):
        for said in (b"", header):
            check = speak(receiver.port, said)
            time.sleep(0.3)
            check.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            check.close()
        time.sleep(0.5)
    assert "connection_refused" not in capsys.readouterr().out


@pytest.mark.parametrize("cut", [1, 6, 7, 150, -1])
def test_a_request_in_pieces_is_one_request(tmp_path, cut):
    with receiving(tmp_path) as (receiver, _), speak(receiver.port, REQUEST[:cut]) as slow:
        time.sleep(0.2)
        slow.sendall(REQUEST[cut:])
        slow.settimeout(10)
        assert slow.recv(1) == b"\x02"  # A-ASSOCIATE-AC


def test_who_hangs_up_within_a_request_is_let_go(tmp_path):
    with receiving(tmp_path) as (receiver, _), speak(receiver.port, REQUEST[:-1]) as gone:
        gone.shutdown(socket.SHUT_WR)
        assert is_hung_up(gone, 5)


def test_a_full_house_is_waited_for(tmp_path):
    with receiving(tmp_path, max_associations=1) as (receiver, _), speak(receiver.port, REQUEST) as first:
        assert first.recv(1) == b"\x02"
        leaves = threading.Timer(1.0, first.close)
        leaves.start()
        assert associate.echo(Remote("127.0.0.1", receiver.port, "OVCF_NODE", "SCANNER", timeout_s=20)) < 20
        leaves.join()


def drips(connection: socket.socket, data: bytes) -> bool:
    """Say a byte now and then; whether the other side hangs up before the end."""
    try:
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(0.1)
    except ConnectionError:
        return True
    return False


def test_a_request_that_never_ends_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(admission, "PATIENCE_S", 0.5)
    with receiving(tmp_path) as (receiver, _), speak(receiver.port, struct.pack(">BBL", 1, 0, 5000)) as slow:
        assert drips(slow, bytes(100))


def test_a_pdu_that_never_ends_is_left(tmp_path):
    with receiving(tmp_path, network_timeout_s=1.0) as (receiver, _), speak(receiver.port, REQUEST) as slow:
        assert slow.recv(4096)[:1] == b"\x02"
        slow.sendall(struct.pack(">BBL", 4, 0, 5000))
        assert drips(slow, bytes(100))


def test_a_balancer_that_drips_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(admission, "PATIENCE_S", 0.5)
    with receiving(tmp_path, balancers=("127.0.0.1",)) as (receiver, _), speak(receiver.port) as slow:
        assert drips(slow, b"PROXY TCP4 " + b"1" * 90)


@pytest.mark.parametrize("kind", [1, 4])
def test_a_pdu_longer_than_we_take_is_left_unread(tmp_path, kind):
    with receiving(tmp_path) as (receiver, _), speak(receiver.port, struct.pack(">BBL", kind, 0, 0xFFFFFFFF)) as greedy:
        assert is_hung_up(greedy)


def test_a_data_set_that_is_too_long_ends_its_association(tmp_path):
    ledger = MemoryLedger()
    with receiving(tmp_path, ledger, max_instance_mb=1) as (receiver, _):
        pacs = Remote("127.0.0.1", receiver.port, "OVCF_NODE", "SCANNER", timeout_s=20)
        replies = []
        for number, size in ((1, 32), (2, 1024)):
            dataset = instance(number, size=size)
            file = StoreFile(write(tmp_path / "ct", dataset), str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
            try:
                associate.store(pacs, [file], replies.append)
            except OvcfError as error:  # what our requestor makes of the abort
                assert number == 2, error
        assert [reply.status for reply in replies] == [0]
        assert len(ledger.receipts) == 1
        assert associate.echo(pacs) < 20


class Dul:
    def __init__(self):
        self.event_queue = self
        self.events = []

    def put(self, event):
        self.events.append(event)


@pytest.mark.parametrize("command", [b"", b"\x00", b"\x00\x00\x00\x01\x02\x00\x00\x00\xff\xff", b"\xff" * 300])
def test_a_command_that_is_none_aborts(command):
    association = SimpleNamespace(requestor=SimpleNamespace(address="192.0.2.7"), dul=Dul())
    dimse = bounds.BoundedDimse(association)
    primitive = P_DATA()
    primitive.presentation_data_value_list = [[1, b"\x03" + command]]
    dimse.receive_primitive(primitive)
    assert association.dul.events == ["Evt19"]


def test_a_command_without_an_end_aborts():
    association = SimpleNamespace(requestor=SimpleNamespace(address="192.0.2.7"), dul=Dul())
    dimse = bounds.BoundedDimse(association)
    for _ in range(3):
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[1, b"\x01" + bytes(30000)]]
        dimse.receive_primitive(primitive)
    assert association.dul.events == ["Evt19"]
    assert dimse.message is None
