"""What a connection must do before it may become an association: say whom it speaks for, prove who it is, begin to speak.

pynetdicom shakes hands in its accept loop, where one silent peer keeps everybody out, and counts every connection as an
association. Here all of it happens in the connection's own thread, within one deadline, for a limited number at once.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
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
_AT_ONCE = 200  # connections on their way in: a thread and a file descriptor each, for PATIENCE_S at most


@dataclass(frozen=True)
class Entrance:
    """The conditions of one port.

    context    returns the TLS context for the next connection; None: the port is plain
    balancers  addresses that begin every connection with a PROXY header
    silence_s  longest silence of a connection once it is in
    """

    context: Callable[[], ssl.SSLContext] | None = None
    balancers: frozenset[str] = frozenset()
    silence_s: float | None = None
    _free: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_AT_ONCE))

    def admit(self, connection: socket.socket, address: tuple) -> tuple[socket.socket, tuple]:
        """Return the connection, encrypted where the port is, and the address it speaks for.

        Raises Probe, Refusal for who may not enter, OvcfError for a malformed header, OSError for a connection that failed.
        """
        if not self._free.acquire(blocking=False):
            raise Refusal("too many connections at once")
        try:
            deadline = time.monotonic() + PATIENCE_S
            _wait(connection, select.POLLIN, deadline)
            if not connection.recv(1, socket.MSG_PEEK):
                raise Probe
            if plain_address(address[0]) in self.balancers:
                connection.settimeout(PATIENCE_S)
                address = proxy_protocol.read(connection) or address
            if self.context is not None:
                connection = _shake_hands(connection, self.context(), deadline)
            _wait(connection, select.POLLIN, deadline)  # until it speaks it is no association, and takes nobody's place
            connection.settimeout(self.silence_s)
            return connection, address
        finally:
            self._free.release()


class Refusal(Exception):
    """A connection that is closed without a word."""


class Probe(Exception):
    """A connection that ended without a word, as those of balancers and health checks do."""


class AdmittingRequestHandler(WaitingRequestHandler):
    """Create associations for those that the server's `entrance` admits."""

    def handle(self) -> None:
        try:
            self.request, self.client_address = self.server.entrance.admit(self.request, self.client_address)
        except Probe:
            self.server.shutdown_request(self.request)
            return
        except (Refusal, OvcfError, OSError) as reason:  # ssl.SSLError and TimeoutError are OSErrors
            address, text = self.client_address[0], _words(reason)
            _log.warning("connection_refused", address=address, text=text)
            audit.alert(Code.NODE_AUTHENTICATION, f"connection refused: {text}", Participant(address, True, address=address))
            self.server.shutdown_request(self.request)
            return
        super().handle()


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
        raise Refusal(f"silent for {PATIENCE_S:g} s")
