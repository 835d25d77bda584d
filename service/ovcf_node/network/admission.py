"""What a connection must do before it may become an association: say whom it speaks for, prove who it is, ask for one.

pynetdicom shakes hands in its accept loop, where one silent peer keeps everybody out, and counts every connection as an
association: strangers who say one byte would take all places. Here all of it, up to the last byte of the association
request, happens in the connection's own thread, within one deadline, for a limited number at once.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from ovcf_node.errors import OvcfError
from ovcf_node.network import proxy_protocol
from ovcf_node.network.policy import plain_address
from ovcf_node.network.reactor import WaitingRequestHandler
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Code, Participant

_log = structlog.get_logger(__name__)

PATIENCE_S = 10.0
_AT_ONCE = 200  # connections on their way in: a thread and a file descriptor each, for PATIENCE_S and _PLACE_S at most
_PLACE_S = 3.0  # how long a request waits for a place: a full house of short associations is no reason to turn anyone away
_PLACE_EVERY_S = 0.02
_HEADER = 6  # of a PDU: its type, a reserved byte, its length (PS3.8 9.3.1)
_ASSOCIATE_RQ = 0x01
_REQUEST_AT_MOST = 1 << 18  # one with 128 presentation contexts has some 100 kB
_ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 2))  # by the service provider, unexpected PDU (PS3.8 9.3.8, action AA-1)


@dataclass(frozen=True)
class Entrance:
    """The conditions of one port.

    context    returns the TLS context for the next connection; None: the port is plain
    balancers  addresses that begin every connection with a PROXY header
    silence_s  longest silence of a connection once it is in
    free       how many more may be on their way in
    """

    context: Callable[[], ssl.SSLContext] | None = None
    balancers: frozenset[str] = frozenset()
    silence_s: float | None = None
    free: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_AT_ONCE))
    _door: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def address_of(self, connection: socket.socket, address: tuple, deadline: float) -> tuple:
        """Return the address that a connection speaks for, once it speaks.

        Raises Probe, Refusal for one that stays silent, OvcfError for a malformed PROXY header, OSError for one that failed.
        """
        _wait(connection, select.POLLIN, deadline)
        if not _first(connection.recv, 1, socket.MSG_PEEK):
            raise Probe
        if plain_address(address[0]) in self.balancers:
            return proxy_protocol.read(connection, deadline) or address
        return address

    def admit(self, connection: socket.socket, deadline: float) -> tuple[socket.socket, bytes]:
        """Return the connection, encrypted where the port is, and its association request.

        Raises Probe, Refusal for who may not enter, OSError for a connection that failed.
        """
        if self.context is not None:
            connection = _shake_hands(connection, self.context(), deadline)
        try:
            request = _request(connection, deadline)
        except (Probe, Refusal, OSError):
            connection.close()  # encrypted, it is another object than the server's
            raise
        connection.settimeout(self.silence_s)
        return connection, request

    @contextmanager
    def turn(self, full: Callable[[], bool]) -> Iterator[None]:
        """Let those who ask in one after the other, each when the house is not `full` any more or its patience is over.

        Raises Closed once the entrance is.
        """
        deadline = time.monotonic() + _PLACE_S
        first = self._door.acquire(timeout=_PLACE_S)
        try:
            while first and not self._closed.is_set() and full() and time.monotonic() < deadline:
                time.sleep(_PLACE_EVERY_S)
            if self._closed.is_set():
                raise Closed
            yield
        finally:
            if first:
                self._door.release()

    def close(self) -> None:
        """Let nobody in any more; when this returns, who was being let in is an association."""
        self._closed.set()
        with self._door:
            pass


class Refusal(Exception):
    """A connection that is closed without a word."""


class Probe(Exception):
    """A connection that ended without a word, as those of balancers and health checks do."""


class Closed(Exception):
    """A connection that came too late: the port is being closed."""


class AdmittingRequestHandler(WaitingRequestHandler):
    """Create associations for those that the server's `entrance` admits."""

    def handle(self) -> None:
        entrance = self.server.entrance
        if not entrance.free.acquire(blocking=False):
            self._refuse(Refusal("too many connections at once"))
            return
        deadline = time.monotonic() + PATIENCE_S
        try:
            self.client_address = entrance.address_of(self.request, self.client_address, deadline)
            self.request, self.begun = entrance.admit(self.request, deadline)
            with entrance.turn(self._full):
                super().handle()
        except Probe:
            self.server.shutdown_request(self.request)
        except Closed:
            _log.info("connection_came_too_late", address=self.client_address[0])
            self.server.shutdown_request(self.request)
        except (Refusal, OvcfError, OSError) as reason:  # ssl.SSLError and TimeoutError are OSErrors
            self._refuse(reason)
        finally:
            entrance.free.release()

    def _full(self) -> bool:
        return len(self.server.active_associations) >= self.ae.maximum_associations

    def _refuse(self, reason: Exception) -> None:
        address, text = self.client_address[0], _words(reason)
        _log.warning("connection_refused", address=address, text=text)
        audit.alert(Code.NODE_AUTHENTICATION, f"connection refused: {text}", Participant(address, True, address=address))
        self.server.shutdown_request(self.request)


def _first(read: Callable[..., bytes], *what: object) -> bytes:
    """Read the first bytes of a connection; empty where it ended, or was reset: a health check, no event."""
    try:
        return read(*what)
    except ConnectionResetError:
        return b""


def _request(connection: socket.socket, deadline: float) -> bytes:
    """Return the association request with which a connection begins. Raises Probe, Refusal, OSError."""
    connection.setblocking(False)
    header = _first(_read, connection, _HEADER, deadline)
    if not header:
        raise Probe
    length = int.from_bytes(header[2:], "big")
    if header[0] != _ASSOCIATE_RQ or length > _REQUEST_AT_MOST:
        with suppress(OSError):
            connection.send(_ABORT)
        raise Refusal("no association request")
    request = header + _read(connection, length, deadline)
    if len(request) < _HEADER + length:
        raise Refusal("hung up within its association request")
    return request


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Return so many bytes, or fewer where the connection ends."""
    data = b""
    while len(data) < size:
        try:
            piece = connection.recv(size - len(data))
        except (BlockingIOError, ssl.SSLWantReadError):
            _wait(connection, select.POLLIN, deadline)
            continue
        if not piece:
            break
        data += piece
    return data


def _words(reason: Exception) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"certificate refused: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError):
        return f"TLS: {reason.reason or 'failed'}"
    if isinstance(reason, OSError):
        return str(reason.strerror or reason)
    return str(reason)


def _shake_hands(connection: socket.socket, context: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
    connection.setblocking(False)  # with a timeout, a peer that sends a byte at a time would never meet the deadline
    encrypted = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        while True:
            try:
                encrypted.do_handshake()
                return encrypted
            except ssl.SSLWantReadError:
                _wait(encrypted, select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                _wait(encrypted, select.POLLOUT, deadline)
    except (OSError, Refusal):
        encrypted.close()  # it took the connection over: nobody else can close it
        raise


def _wait(connection: socket.socket, event: int, deadline: float) -> None:
    if isinstance(connection, ssl.SSLSocket) and event == select.POLLIN and connection.pending():
        return
    poll = select.poll()
    poll.register(connection, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise Refusal(f"no association request within {PATIENCE_S:g} s")
