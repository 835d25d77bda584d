import os
import signal
import threading
import time

import pytest

from archive import archive
from dicom_peers import CT_IMAGE, free_port, instance, uid
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import retrieve
from ovcf_node.network.associate import Remote
from ovcf_node.network.messages import StoreAnswer

STUDY, SERIES = uid("study"), uid("series")


def watch(arrived=lambda: 0) -> retrieve.Watch:
    return retrieve.Watch(threading.Event(), arrived)


def sending(count: int, *, pause_s: float = 0.0):
    """Answer a C-GET with `count` instances, until cancelled."""
    def handler(event):
        yield count
        for number in range(1, count + 1):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            time.sleep(pause_s)
            yield 0xFF00, instance(number)
    return handler


def get(remote, store, seen=None, ended=lambda peer, aborted: None):
    return retrieve.get(remote, STUDY, SERIES, store, seen or watch(), ended)


def test_get_hands_every_instance_to_the_store():
    requests = []

    def store(request):
        requests.append(request)
        return StoreAnswer(0x0000)

    ends = []
    with archive(get=sending(4), storage=[CT_IMAGE]) as remote:
        outcome = get(remote, store, ended=lambda *end: ends.append(end))
    assert (outcome.status, outcome.completed, outcome.failed) == (0x0000, 4, 0)
    assert ends == [(requests[0].peer, False)]
    assert [request.sop_instance_uid for request in requests] == [instance(n).SOPInstanceUID for n in range(1, 5)]
    peer = requests[0].peer
    assert (peer.calling_ae_title, peer.called_ae_title, peer.address) == ("ARCHIVE", "OVCF_NODE", "127.0.0.1")
    assert requests[0].dataset.getvalue()


def test_get_tells_the_archive_what_could_not_be_stored():
    refused = instance(2).SOPInstanceUID

    def store(request):
        return StoreAnswer(0xA700, "out of storage space") if request.sop_instance_uid == refused else StoreAnswer(0)

    with archive(get=sending(3), storage=[CT_IMAGE]) as remote:
        outcome = get(remote, store)
    assert (outcome.status, outcome.completed, outcome.failed) == (0xB000, 2, 1)
    assert outcome.words == "0xB000 some sub-operations failed"


def test_get_stops_when_told_and_keeps_what_came():
    seen = watch()
    stored = []

    def store(request):
        stored.append(request)
        if len(stored) == 2:
            seen.stop.set()
        return StoreAnswer(0x0000)

    with archive(get=sending(100, pause_s=0.1), storage=[CT_IMAGE]) as remote:
        outcome = get(remote, store, seen)
    assert outcome.status == 0xFE00 and "cancelled" in outcome.words
    assert 2 <= len(stored) < 30


@pytest.mark.parametrize(("operation", "name"), [("move", "MOVE"), ("get", "GET")])
def test_not_offered(operation, name):
    ends = []
    with archive() as remote, pytest.raises(Permanent, match=f"context_refused.*{name}"):
        if operation == "move":
            retrieve.move(remote, "OVCF_NODE", STUDY, SERIES, watch())
        else:
            get(remote, lambda request: StoreAnswer(0), ended=lambda peer, aborted: ends.append(aborted))
    assert ends == ([] if operation == "move" else [True])


def test_no_archive_there():
    with pytest.raises(Transient, match="Connection refused"):
        retrieve.move(Remote("127.0.0.1", free_port(), "ARCHIVE", "OVCF_NODE", 1), "OVCF_NODE", STUDY, SERIES, watch())


def test_unknown_move_destination():
    def unknown(event):
        yield None, None

    with archive(move=unknown) as remote:
        outcome = retrieve.move(remote, "NOBODY", STUDY, SERIES, watch())
    assert (outcome.status, outcome.words) == (0xA801, "0xA801 Move Destination unknown")


def test_silence_is_given_up_and_slow_progress_is_not(monkeypatch):
    def silent(event):
        time.sleep(1.3)
        yield None, None

    with archive(move=silent) as remote:
        impatient = Remote(remote.host, remote.port, "ARCHIVE", "OVCF_NODE", timeout_s=0.4)
        began = time.monotonic()
        with pytest.raises(Transient, match=r"no_progress: no response and no instance for 0\.4 s"):
            retrieve.move(impatient, "NOBODY", STUDY, SERIES, watch())
        assert time.monotonic() - began < 1.2
        clock = watch(lambda: int(time.monotonic() * 5))  # something arrives all the time
        assert retrieve.move(impatient, "NOBODY", STUDY, SERIES, clock).status == 0xA801


@pytest.fixture
def interruptible():
    """Let Ctrl-C interrupt, which a job in the background of a shell ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_keyboard_interrupt_aborts():
    def silent(event):
        os.kill(os.getpid(), signal.SIGINT)  # once the request is under way
        time.sleep(6)
        yield None, None

    with archive(move=silent) as remote:
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            retrieve.move(remote, "NOBODY", STUDY, SERIES, watch())
        assert time.monotonic() - began < 5
