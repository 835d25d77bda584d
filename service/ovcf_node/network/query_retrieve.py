"""Accept associations for Query/Retrieve (PS3.4 Annex C) and hand each request to handlers as plain values.

C-FIND goes through pynetdicom's service class. C-GET and C-MOVE do not: it would decode and encode every object anew, send
our own title as Move Originator, and call an unreachable Move Destination unknown.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Protocol

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, Association, evt
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import encode

from ovcf_node.errors import OvcfError, Permanent, Refused, Transient
from ovcf_node.network import associate, contexts
from ovcf_node.network.admission import AdmittingRequestHandler
from ovcf_node.network.application_entity import Acceptor, Listener, status_of
from ovcf_node.network.associate import Originator, Remote, StoreFile, StoreReply
from ovcf_node.network.messages import FindMatch, QueryRequest
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.storage.malformed import MALFORMED

_log = structlog.get_logger(__name__)

_PENDING, _PENDING_UNSUPPORTED, _SUCCESS, _CANCEL = 0xFF00, 0xFF01, 0x0000, 0xFE00
_ALL_FAILED, _SOME_FAILED = 0xA702, 0xB000  # PS3.4 tables C.4-2, C.4-3
_UNABLE, _MISMATCH, _OUT_OF_RESOURCES = 0xC000, 0xA900, 0xA700
_BATCH = 16
_PAUSE_S = 0.001


class Handlers(Protocol):
    """What answers the requests. Each raises Refused with the status of the response; other OvcfErrors get one here."""

    def find(self, request: QueryRequest) -> Iterator[FindMatch]: ...
    def retrieve(self, request: QueryRequest) -> Sequence[StoreFile]: ...
    def destination(self, request: QueryRequest) -> Remote: ...
    def retrieved(self, request: QueryRequest, files: Sequence[StoreFile], failed: int) -> None: ...


class QueryAcceptor(Acceptor):
    """A Verification and Query/Retrieve SCP, Patient Root and Study Root."""

    def __init__(self, listener: Listener, policy: AssociationPolicy, handlers: Handlers):
        super().__init__(listener, policy)
        self._handlers = handlers
        self._request_handler = _RequestHandler

    def _support(self, ae: AE) -> None:
        for sop_class_uid in contexts.FIND + contexts.MOVE + contexts.GET:
            ae.add_supported_context(sop_class_uid, list(contexts.QUERIED))
        for sop_class_uid in contexts.RESULTS:
            # The requestor's roles: over its association it is the one that receives.
            ae.add_supported_context(sop_class_uid, list(contexts.RETRIEVED), scu_role=False, scp_role=True)

    def _services(self) -> list[tuple]:
        return [(evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get), (evt.EVT_C_MOVE, self._move)]

    def _find(self, event: evt.Event) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        begun, matches, status = time.perf_counter(), 0, _SUCCESS
        try:
            answers = self._handlers.find(self._request(event))
            for match in answers:
                if event.is_cancelled:
                    status = _CANCEL
                    yield status, None
                    return
                yield _PENDING if match.complete else _PENDING_UNSUPPORTED, match.identifier
                matches += 1
                if matches % _BATCH == 0:
                    _let_the_peer_speak(event.assoc)
        # The boundary of a query. Let through, pynetdicom would answer a defect with a status of its own and log a traceback
        # that may quote the identifier; `_refusal` logs its place, and the peer gets a status of PS3.4 C.4.1.1.4.
        except Exception as error:  # noqa: BLE001
            refusal = _refusal(error)
            status = refusal.status
            yield status_of(status, refusal.text), None
        finally:
            self._done(event, "found", begun, status, matches=matches)

    def _get(self, event: evt.Event) -> None:
        def send(files: Sequence[StoreFile], on_reply: Callable[[StoreReply], None]) -> None:
            for number, file in enumerate(files):
                on_reply(associate.store_over(event.assoc, file, event.request.MessageID + number))

        self._retrieve(event, C_GET(), lambda request: send)

    def _move(self, event: evt.Event) -> None:
        def sender(request: QueryRequest) -> "_Send":
            remote = self._handlers.destination(request)
            originator = Originator(request.peer.calling_ae_title, event.request.MessageID)
            return lambda files, on_reply: associate.store(remote, files, on_reply, originator)

        self._retrieve(event, C_MOVE(), sender)

    def _retrieve(self, event: evt.Event, response: C_GET | C_MOVE, sender: Callable[[QueryRequest], "_Send"]) -> None:
        begun = time.perf_counter()
        response.MessageIDBeingRespondedTo = event.request.MessageID
        response.AffectedSOPClassUID = event.request.AffectedSOPClassUID
        operations = _SubOperations(event, response)
        try:
            request = self._request(event)
            send = sender(request)
            files = self._handlers.retrieve(request)
            operations.run(files, send)
            self._handlers.retrieved(request, files, len(operations.failed))
        # The boundary of a retrieval, for the same reason: let through, the identifier might be quoted in a traceback that
        # pynetdicom logs. `_refusal` logs the place of a defect, and the final response is a failure with the numbers of
        # sub-operations that were completed and that failed, so no peer takes a part for the whole.
        except Exception as error:  # noqa: BLE001
            refusal = _refusal(error)
            operations.respond(refusal.status, comment=refusal.text)
        self._done(event, "retrieved", begun, response.Status, completed=operations.completed, warnings=operations.warnings,
                   failed=len(operations.failed))

    def _request(self, event: evt.Event) -> QueryRequest:
        try:
            identifier = event.identifier
            identifier.decode()
        except MALFORMED as error:
            raise Refused(_UNABLE, "unreadable_identifier", "the identifier cannot be read") from error
        destination = getattr(event.request, "MoveDestination", None)
        return QueryRequest(
            peer=self._peer(event), patient_root=event.context.abstract_syntax in contexts.PATIENT_ROOT,
            identifier=identifier, destination=str(destination).strip() if destination else None,
            sop_class_uid=str(event.context.abstract_syntax), transfer_syntax_uid=str(event.context.transfer_syntax),
            encoded=event.request.Identifier.getvalue() if event.request.Identifier else b"",
        )

    def _done(self, event: evt.Event, name: str, begun: float, status: int, **counts: int) -> None:
        running = self._running.get(event.assoc)
        if running:
            running.counts["queries" if name == "found" else "retrievals"] += 1
            _log.info(name, status=f"0x{status:04X}", seconds=round(time.perf_counter() - begun, 3), **counts,
                      association=running.peer.association, calling_ae_title=running.peer.calling_ae_title)


_Send = Callable[[Sequence[StoreFile], Callable[[StoreReply], None]], None]


class _Stopped(Exception):
    """The requestor cancelled, or is gone."""


@dataclass
class _SubOperations:
    """The C-STORE sub-operations of one request, and what its responses say of them (PS3.4 C.4.2.1.5, C.4.3.1.4)."""

    event: evt.Event
    response: C_GET | C_MOVE
    remaining: int = 0
    completed: int = 0
    warnings: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self, files: Sequence[StoreFile], send: _Send) -> None:
        """Send everything and give the final response; after a lost association there is nobody to give one to."""
        left = [file.sop_instance_uid for file in files]
        self.remaining = len(left)

        def on_reply(reply: StoreReply) -> None:
            left.remove(reply.sop_instance_uid)
            self._count(reply)
            if self.event.is_cancelled or not self._asked_by_somebody():
                raise _Stopped
            if self.remaining:
                self.respond(_PENDING)

        try:
            if files:
                send(files, on_reply)
        except _Stopped:
            if self._asked_by_somebody():
                self.respond(_CANCEL)
            return
        except (Transient, Permanent) as error:
            # The association of the sub-operations: what it did not take has failed, for whatever reason.
            _log.warning("retrieval_failed", code=error.code)
            self.failed += left
            self.remaining = 0
        if self._asked_by_somebody():
            none_arrived = bool(self.failed) and not self.completed and not self.warnings
            trouble = _ALL_FAILED if none_arrived else _SOME_FAILED
            self.respond(trouble if self.failed or self.warnings else _SUCCESS)

    def respond(self, status: int, comment: str = "") -> None:
        """Send a response with the counts so far; a final one names the failed instances."""
        response, final = self.response, status != _PENDING
        response.Status = status
        response.ErrorComment = comment[:64] or None
        # Only pending and cancel responses say how many remain (PS3.4 C.4.2.1.6, C.4.3.1.5).
        response.NumberOfRemainingSuboperations = self.remaining if status in (_PENDING, _CANCEL) else None
        response.NumberOfCompletedSuboperations = self.completed
        response.NumberOfWarningSuboperations = self.warnings
        response.NumberOfFailedSuboperations = len(self.failed)
        response.Identifier = BytesIO(self._failures()) if final and self.failed else None
        self.event.assoc.dimse.send_msg(response, self.event.context.context_id)

    def _count(self, reply: StoreReply) -> None:
        self.remaining -= 1
        if reply.status == 0x0000:
            self.completed += 1
        elif reply.status is not None and (reply.status >> 12 == 0xB or reply.status in (0x0107, 0x0116)):
            self.warnings += 1
        else:
            self.failed.append(reply.sop_instance_uid)

    def _failures(self) -> bytes:
        identifier = Dataset()
        identifier.FailedSOPInstanceUIDList = self.failed
        syntax = self.event.context.transfer_syntax
        return encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated) or b""

    def _asked_by_somebody(self) -> bool:
        association = self.event.assoc
        return association.is_established and not association.acse.is_aborted()


def _refusal(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    if not isinstance(error, OvcfError):
        _log.error("defect", error_type=type(error).__name__, exc_info=error)
        return Refused(_UNABLE, "defect", "internal error")
    return Refused(_OUT_OF_RESOURCES if isinstance(error, Transient) else _UNABLE, error.code, error.code)


def _let_the_peer_speak(association: Association) -> None:
    # The reactor looks at the socket only when there is nothing to send: without a pause a C-CANCEL would be read after the
    # last response.
    while association.is_established and not association.dul.to_provider_queue.empty():
        time.sleep(_PAUSE_S)
    time.sleep(_PAUSE_S)


class _RetrievingAssociation(Association):
    """Give C-GET and C-MOVE requests straight to the handlers that are bound to them."""

    def _serve_request(self, msg, context_id: int) -> None:
        served = {C_GET: (evt.EVT_C_GET, contexts.GET), C_MOVE: (evt.EVT_C_MOVE, contexts.MOVE)}.get(type(msg))
        context = self._accepted_cx.get(context_id)
        if not served or not context or context.abstract_syntax not in served[1] or not msg.is_valid_request:
            super()._serve_request(msg, context_id)
            return
        self.dimse.cancel_req = {}
        self._is_paused = True  # the reactor must not take the responses to our sub-operations for requests
        try:
            evt.trigger(self, served[0], {
                "request": msg, "context": context.as_tuple,
                "_is_cancelled": lambda message_id: self.dimse.cancel_req.pop(message_id, None) is not None,
            })
        finally:
            self._is_paused = False
            self.dimse.cancel_req = {}


class _RequestHandler(AdmittingRequestHandler):
    def _create_association(self) -> Association:
        association = super()._create_association()
        association.__class__ = _RetrievingAssociation
        return association
