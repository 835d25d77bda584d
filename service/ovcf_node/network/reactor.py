"""Let an acceptor's DUL thread wait for data instead of polling for it every millisecond.

pynetdicom 3.0 sleeps 1 ms between looks at the socket and at its own send queue. A C-STORE needs several looks, so the
sleeping costs a quarter of the throughput, and on a busy machine far more. Here the thread waits in poll() for either:
x1.4 for 512 x 512 slices, without the limit of 1024 descriptors that select() has. What was read is acknowledged at once:
a peer that leaves Nagle's algorithm on holds a data set back until its command is acknowledged, for 40 ms by default
(C-FIND: 77 ms became 46 on a busy machine). This replaces the send queue, the
delay and the class of the socket of each new association; the tests of the acceptor run on it.
"""

import errno
import queue
import select
import socket
import time
from contextlib import suppress
from copy import copy

from pynetdicom import Association, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, RequestHandler

from ovcf_node.network.bounds import PDU_AT_MOST, BoundedDimse, CheckedDul, CheckedStateMachine
from ovcf_node.network.pausing import one_message_at_a_time

_DATA_TRANSFER = "Sta6"  # PS3.8 9.2.2; every other state lasts a moment and has timers to look at
_BEFORE_ANSWER = frozenset({"Sta1", "Sta2", "Sta3"})  # to the association request
_CLOSING = "Sta13"
_DRAINED_AT_MOST = 64  # reads of 64 KiB
_WAIT_MS = 100
_POLL_MS = 1
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only, and to be set again for every read


class WaitingRequestHandler(RequestHandler):
    """Create associations whose DUL thread waits; it reads what is `begun` before it reads on."""

    begun = b""

    def _create_association(self) -> Association:
        association = super()._create_association()
        transport = association.dul.socket
        transport.__class__ = _WaitingSocket
        transport.begun = self.begun
        transport.wake_reader, transport.wake_writer = socket.socketpair()
        transport.wake_reader.setblocking(False)
        transport.wake_writer.setblocking(False)
        association.dul.to_provider_queue = _WakingQueue(transport.wake_writer)
        association.dul.__class__ = CheckedDul
        association.dul.state_machine.__class__ = CheckedStateMachine
        association.dul._run_loop_delay = 0  # `ready` does the waiting
        association.dimse.__class__ = BoundedDimse
        association.dimse.data_set_at_most = self.server.data_set_at_most
        one_message_at_a_time(association)
        return association


def connection_closed(event: evt.Event) -> None:
    """Free what a closed connection held; to be bound to EVT_CONN_CLOSE."""
    transport = event.assoc.dul.socket
    transport.wake_reader.close()
    transport.wake_writer.close()
    if event.assoc.requestor.primitive is None:
        # A peer that connects and leaves without a word (a balancer's probe) would keep its thread waiting for an
        # association request until the timeout, counted as an association all the while.
        event.assoc.dul.to_user_queue.put(None)


class SharedContexts(list):
    """Presentation contexts of a server, of which each association gets its own shallow copies.

    pynetdicom copies them deeply, 15 ms for ours, for every association; nothing changes the lists inside.
    """

    def __deepcopy__(self, memo: dict) -> list[PresentationContext]:
        return [copy(context) for context in self]


class _WakingQueue(queue.Queue):
    def __init__(self, wake_writer: socket.socket):
        super().__init__()
        self._wake_writer = wake_writer

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        with suppress(OSError):  # full: it wakes anyway; closed: nobody waits any more
            self._wake_writer.send(b"\x00")


class _WaitingSocket(AssociationSocket):
    wake_reader: socket.socket
    wake_writer: socket.socket
    begun: bytes

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or fewer where the connection ends. Raises OSError for a PDU that is too long or too slow."""
        if nr_bytes > max(PDU_AT_MOST, self.assoc.acceptor.maximum_length or 0):
            raise OSError(errno.EMSGSIZE, "the PDU is longer than we said we take")
        data = bytearray(nr_bytes)
        rest = memoryview(data)
        known, self.begun = self.begun[:nr_bytes], self.begun[nr_bytes:]
        rest[:len(known)] = known
        rest = rest[len(known):]
        silence_s = self.socket.gettimeout()
        deadline = None if silence_s is None else time.monotonic() + silence_s
        while rest:
            read = self.socket.recv_into(rest)
            if not read:
                break
            rest = rest[read:]
            # A byte now and then keeps every single read within its timeout.
            if deadline is not None and rest and time.monotonic() > deadline:
                raise TimeoutError
        return data[:nr_bytes - len(rest)] if rest else data

    @property
    def ready(self) -> bool:
        """Say whether there is data to read, after waiting for it or for something to send."""
        if self.socket is None or not self._is_connected:
            time.sleep(_POLL_MS / 1000)
            return False
        state = self.assoc.dul.state_machine.current_state
        if state == _CLOSING:
            self._drain()
            return False  # pynetdicom closes the connection
        if state in _BEFORE_ANSWER and not self.begun:
            # Half a PDU behind a request would hold the thread in `recv`, and the request would never be judged.
            time.sleep(_POLL_MS / 1000)
            return False
        if self.begun or getattr(self.socket, "pending", int)():  # decrypted by TLS, unknown to poll()
            return True
        dul = self.assoc.dul
        waits = state == _DATA_TRANSFER and dul.to_provider_queue.empty()
        poll = select.poll()
        try:
            if _QUICKACK is not None:
                self.socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            poll.register(self.socket, select.POLLIN)
            poll.register(self.wake_reader, select.POLLIN)
            woken = {descriptor for descriptor, _ in poll.poll(_WAIT_MS if waits else _POLL_MS)}
            if self.wake_reader.fileno() in woken:
                self.wake_reader.recv(4096)
            return self.socket.fileno() in woken
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False

    def _drain(self) -> None:
        """Throw away what the peer says after the end: a connection closed over unread data takes our last word back."""
        with suppress(OSError, ValueError):
            self.socket.settimeout(0.0)
            for _ in range(_DRAINED_AT_MOST):
                if not self.socket.recv(1 << 16):
                    return
