"""Accept associations for Verification and Storage and hand each C-STORE request to a handler as plain values."""

import io
import ssl
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, Association, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import ThreadedAssociationServer

from ovcf_node.errors import Permanent
from ovcf_node.network import contexts, stack, tls
from ovcf_node.network.admission import AdmittingRequestHandler, Entrance
from ovcf_node.network.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ovcf_node.network.messages import Peer, StoreAnswer, StoreRequest
from ovcf_node.network.policy import AssociationPolicy, Rejection, plain_address
from ovcf_node.network.reactor import SharedContexts, connection_closed
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Code, Participant

_log = structlog.get_logger(__name__)

_HIGH = 0x0001  # Priority (0000,0700): 0 medium, 1 high, 2 low (PS3.7 9.1.1.1)
_DRAIN_POLL_S = 0.05


StoreHandler = Callable[[StoreRequest], StoreAnswer]
Witness = Callable[[Peer, str], None]
"""Told of every C-ECHO (empty text) and every rejected association (the reason); must not raise."""


@dataclass(frozen=True)
class Listener:
    """How to listen. Timeouts in seconds, lengths in bytes; port 0 takes any free one.

    encrypted         the port speaks TLS, with the certificates of this process
    balancers         addresses whose connections begin with a PROXY header
    data_set_at_most  longest data set of a message; a longer one aborts its association
    """

    host: str
    port: int
    max_associations: int = 25
    max_pdu: int = 131072
    network_timeout_s: float = 60.0
    encrypted: bool = False
    balancers: tuple[str, ...] = ()
    data_set_at_most: int = 1 << 30


def listeners(plain_port: Listener, *, plain: bool, tls_port: int | None) -> list[Listener]:
    """Return one listener for each open port of a service: the plain one, the one with TLS, or both in this order."""
    encrypted = [replace(plain_port, port=tls_port, encrypted=True)] if tls_port else []
    return ([plain_port] if plain else []) + encrypted


@dataclass
class Running:
    """One association that is served."""

    peer: Peer
    started: float
    counts: Counter[str] = field(default_factory=Counter)  # what was done over the association, for the log
    reports: bool = False  # whether it may report storage commitment: decided once
    asking: threading.Lock = field(default_factory=threading.Lock)  # one request of ours at a time: else responses mix


class _Server(ThreadedAssociationServer):
    daemon_threads = True  # connections on their way in do not hold up the end of the process
    request_queue_size = 128  # with socketserver's 5, a burst of connections waits for the retries of TCP


class Acceptor:
    """A Verification and Storage SCP. The handler runs in the association's thread and must not raise.

    A subclass offers other services: `_support` adds their presentation contexts, `_services` binds their handlers.
    """

    _request_handler: type[AdmittingRequestHandler] = AdmittingRequestHandler
    ended: Callable[[Peer, bool], None] | None = None
    """Told of every association that ends, and whether it was aborted."""

    def __init__(
        self, listener: Listener, policy: AssociationPolicy, store: StoreHandler | None = None,
        witness: Witness | None = None,
    ):
        self._listener = listener
        self._witness = witness
        self._policy = policy
        self._store = store
        self._server: _Server | None = None
        self._running: weakref.WeakKeyDictionary[Association, Running] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port that is listened on; only after `start`."""
        if self._server is None:
            raise RuntimeError("not listening")
        return self._server.server_address[1]

    def start(self) -> None:
        """Listen; when this returns, peers can connect. Raises Permanent (`cannot_listen`, `tls`)."""
        context = tls.certificates().server if self._listener.encrypted else None
        if context is not None:
            context()  # files that cannot be used are found now, not by the first scanner
        ae = AE()
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = self._listener.max_pdu
        ae.maximum_associations = self._listener.max_associations
        ae.network_timeout = ae.dimse_timeout = ae.acse_timeout = self._listener.network_timeout_s
        ae.add_supported_context(contexts.VERIFICATION, list(contexts.UNCOMPRESSED))
        self._support(ae)
        handlers = [
            (evt.EVT_CONN_OPEN, stack.send_without_delay),
            (evt.EVT_CONN_CLOSE, connection_closed),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted),
            (evt.EVT_C_ECHO, self._c_echo),
            *self._services(),
        ]
        try:
            server = ae.make_server(
                (self._listener.host, self._listener.port),
                evt_handlers=handlers,
                server_class=_Server,
                request_handler=self._request_handler,
            )
        except OSError as error:
            where = f"{self._listener.host}:{self._listener.port}"
            raise Permanent("cannot_listen", f"{where}: {error.strerror or error}") from error
        server.contexts = SharedContexts(server.contexts)
        server.data_set_at_most = self._listener.data_set_at_most
        server.entrance = Entrance(
            context, frozenset(plain_address(address) for address in self._listener.balancers),
            self._listener.network_timeout_s,
        )
        ae._servers.append(server)  # as AE.start_server does, which takes no request handler
        self._server = server
        threading.Thread(target=server.serve_forever, name="acceptor", daemon=True).start()
        _log.info("listening", host=self._listener.host, port=self.port, encrypted=self._listener.encrypted)

    def admit(self, policy: AssociationPolicy) -> None:
        """Ask `policy` about every association that is requested from now on; the running ones go on."""
        self._policy = policy

    def stop(self, drain_s: float) -> int:
        """Stop listening, let associations end for `drain_s` seconds, abort the rest and return their number."""
        if self._server is None:
            return 0
        server, self._server = self._server, None
        server.entrance.close()
        server.shutdown()
        deadline = time.monotonic() + drain_s
        while server.active_associations and time.monotonic() < deadline:  # those that are still negotiated among them
            time.sleep(_DRAIN_POLL_S)
        rest = [association for association in server.active_associations if association.is_established]
        for association in rest:
            association.abort()
        for association in server.active_associations:  # requested, and not answered to the end
            association.dul.kill_dul()
        _log.info("stopped_listening", aborted=len(rest))
        return len(rest)

    def _support(self, ae: AE) -> None:
        for sop_class_uid, transfer_syntaxes in contexts.STORAGE.items():
            ae.add_supported_context(sop_class_uid, list(transfer_syntaxes))

    def _services(self) -> list[tuple]:
        return [(evt.EVT_C_STORE, self._c_store)]

    def _peer(self, event: evt.Event) -> Peer:
        return self._running[event.assoc].peer

    def _requested(self, event: evt.Event) -> None:
        # pynetdicom itself knows one called AE title and takes an empty list of callers as "anybody".
        request = event.assoc.requestor.primitive
        peer = Peer(
            association=uuid.uuid4().hex[:12],
            calling_ae_title=request.calling_ae_title.strip(),
            called_ae_title=request.called_ae_title.strip(),
            address=event.assoc.requestor.address_info.address,
            certificate=_certificate_names(event.assoc),
            encrypted=isinstance(event.assoc.dul.socket.socket, ssl.SSLSocket),
        )
        rejection = self._policy.rejection(
            called=peer.called_ae_title, calling=peer.calling_ae_title, address=peer.address, certificate=peer.certificate,
            encrypted=peer.encrypted,
        )
        if rejection is None:
            with self._lock:
                self._running[event.assoc] = Running(peer, time.monotonic())
            return
        if self._witness:
            self._witness(peer, rejection.reason)
        self._reject(event.assoc, peer, rejection)

    @staticmethod
    def _reject(association: Association, peer: Peer, rejection: Rejection) -> None:
        _log.warning("association_rejected", reason=rejection.reason, **_fields(peer))
        audit.alert(Code.NODE_AUTHENTICATION, f"association rejected: {rejection.reason}", requestor_of(peer))
        association.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        association.kill()  # returns when the A-ASSOCIATE-RJ is out and the connection closed

    def _rejected(self, event: evt.Event) -> None:
        running = self._end(event.assoc)
        if running:
            _log.warning("association_rejected", reason="too many associations", **_fields(running.peer))

    def _accepted(self, event: evt.Event) -> None:
        running = self._running.get(event.assoc)
        if running:
            refused = sorted({_described(context) for context in event.assoc.rejected_contexts})
            _log.info("association_accepted", refused_contexts=refused, **_fields(running.peer))

    def _released(self, event: evt.Event) -> None:
        self._closed(event, "association_released", _log.info)

    def _aborted(self, event: evt.Event) -> None:
        self._closed(event, "association_aborted", _log.warning)

    def _closed(self, event: evt.Event, name: str, log: Callable) -> None:
        running = self._end(event.assoc)
        if running:
            if self.ended:
                self.ended(running.peer, name == "association_aborted")
            duration = round(time.monotonic() - running.started, 3)
            log(name, **running.counts, seconds=duration, **_fields(running.peer))

    def _end(self, association: Association) -> Running | None:
        with self._lock:
            return self._running.pop(association, None)

    def _c_echo(self, event: evt.Event) -> int:
        if self._witness:
            self._witness(self._peer(event), "")
        return 0x0000

    def _c_store(self, event: evt.Event) -> int | Dataset:
        running = self._running[event.assoc]
        request = event.request
        answer = self._store(
            StoreRequest(
                peer=running.peer,
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                high_priority=request.Priority == _HIGH,
                dataset=request.DataSet or io.BytesIO(),
            )
        )
        running.counts["stored" if answer.status == 0x0000 else "refused"] += 1
        return status_of(answer.status, answer.comment)


def stop_all(acceptors: list[Acceptor], drain_s: float) -> int:
    """Stop several acceptors at the same time; returns how many associations had to be aborted."""
    with ThreadPoolExecutor(len(acceptors)) as pool:
        return sum(pool.map(lambda acceptor: acceptor.stop(drain_s), acceptors))


def requestor_of(peer: Peer, role: Code | None = None) -> Participant:
    """Return the requestor of an association as the audit trail names it."""
    return Participant(peer.calling_ae_title, True, role, peer.calling_ae_title, peer.address)


def _certificate_names(association: Association) -> frozenset[str]:
    connection = association.dul.socket.socket
    return tls.names(connection.getpeercert()) if isinstance(connection, ssl.SSLSocket) else frozenset()


def status_of(number: int, comment: str) -> int | Dataset:
    """Return a DIMSE status with its Error Comment (0000,0902) as pynetdicom takes it."""
    if not comment:
        return number
    status = Dataset()
    status.Status = number
    status.ErrorComment = comment[:64]  # LO
    return status


def _described(context: PresentationContext) -> str:
    return f"{contexts.name(context.abstract_syntax)}, {context.transfer_syntax[0].name}"


def _fields(peer: Peer) -> dict[str, str]:
    return {
        "association": peer.association,
        "calling_ae_title": peer.calling_ae_title,
        "called_ae_title": peer.called_ae_title,
        "address": peer.address,
        **({"certificate": sorted(peer.certificate)} if peer.certificate else {}),
    }
