"""Storage Commitment Push Model (PS3.4 Annex J): ask for it, report it, and read what peers ask and report.

A report comes over the association of the request or over one that the other side opens, in which the roles are reversed:
the one that opens it is the SCP (SCP/SCU Role Selection, PS3.7 D.3.3.4).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, Association, evt
from pynetdicom.presentation import build_context

from ovcf_node.errors import OvcfError, Permanent, Transient
from ovcf_node.network import contexts
from ovcf_node.network.application_entity import Acceptor, Listener, Running, StoreHandler, Witness
from ovcf_node.network.associate import Remote, association, comment_of, status_of
from ovcf_node.network.messages import Peer
from ovcf_node.network.pausing import pause_for_certain
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.storage.malformed import MALFORMED

_log = structlog.get_logger(__name__)

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one instance of the SOP class that requests and reports are about."""

GRACE_S = 1.0
"""Who waits for the report over the association of its request keeps it open for longer than this; others release it."""

_REQUEST, _ALL_COMMITTED, _SOME_FAILED = 1, 1, 2  # Action Type ID; Event Type IDs
_SUCCESS, _PROCESSING_FAILURE, _INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115
_NO_SUCH_ACTION, _NOT_AUTHORISED, _RESOURCE_LIMITATION = 0x0123, 0x0124, 0x0213


@dataclass(frozen=True)
class CommitmentRequest:
    """One N-ACTION: which instances, as SOP Instance UID -> SOP Class UID, a peer wants to be committed."""

    peer: Peer
    transaction_uid: str
    instances: Mapping[str, str]


@dataclass(frozen=True)
class CommitmentAnswer:
    """One N-EVENT-REPORT; `failed` is SOP Instance UID -> Failure Reason (0008,1197)."""

    transaction_uid: str
    committed: tuple[str, ...]
    failed: Mapping[str, int]


Reported = Callable[[CommitmentAnswer], bool]
"""Persist a report; False for a transaction that is not ours."""


def request(
    remote: Remote, transaction_uid: str, instances: Sequence[tuple[str, str]], on_report: Reported, listen_s: float,
) -> None:
    """Ask for the commitment of (SOP Class UID, SOP Instance UID), and listen `listen_s` for a report on the association.

    Raises Transient (no connection, no answer) or Permanent (rejected; `context_refused`; `commitment_refused`).
    """
    reported, answered = threading.Event(), threading.Event()

    def keep(answer: CommitmentAnswer) -> bool:
        known = on_report(answer)
        if answer.transaction_uid == transaction_uid:
            reported.set()
        return known

    def sent(_: evt.Event) -> None:
        if reported.is_set():  # this was our response to it: an association released before would lose it
            answered.set()

    requested = [build_context(contexts.STORAGE_COMMITMENT, list(contexts.QUERIED))]
    handlers = [(evt.EVT_N_EVENT_REPORT, lambda e: (_take(e, keep), None)), (evt.EVT_PDU_SENT, sent)]
    with association(remote, requested, handlers=handlers) as opened:
        if not opened.accepted_contexts:
            raise Permanent("context_refused", "Storage Commitment is not accepted")
        identifier = Dataset()
        identifier.TransactionUID = transaction_uid
        identifier.ReferencedSOPSequence = [_reference(*instance) for instance in instances]
        answer, _ = opened.send_n_action(identifier, _REQUEST, contexts.STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
        status = status_of(answer)
        if status != _SUCCESS:
            raise Permanent("commitment_refused", f"status 0x{status:04X} {comment_of(answer)}".rstrip())
        answered.wait(listen_s)


def offered(remote: Remote) -> bool:
    """Say whether a peer accepts Storage Commitment. Raises Transient or Permanent as opening an association does."""
    with association(remote, [build_context(contexts.STORAGE_COMMITMENT, list(contexts.QUERIED))]) as opened:
        return bool(opened.accepted_contexts)


def report(remote: Remote, answer: CommitmentAnswer, classes: Mapping[str, str]) -> None:
    """Report over an association of our own. Raises Transient or Permanent."""
    requested = [build_context(contexts.STORAGE_COMMITMENT, list(contexts.QUERIED))]
    with association(remote, requested, scp_roles=[contexts.STORAGE_COMMITMENT]) as opened:
        if not opened.accepted_contexts:
            raise Permanent("context_refused", "Storage Commitment is not accepted")
        _report_over(opened, answer, classes)


def _report_over(opened: Association, answer: CommitmentAnswer, classes: Mapping[str, str]) -> None:
    information = Dataset()
    information.TransactionUID = answer.transaction_uid
    if answer.committed:
        information.ReferencedSOPSequence = [_reference(classes[uid], uid) for uid in answer.committed]
    if answer.failed:
        information.FailedSOPSequence = [_reference(classes[uid], uid, reason) for uid, reason in answer.failed.items()]
    kind = _SOME_FAILED if answer.failed else _ALL_COMMITTED
    reply, _ = opened.send_n_event_report(information, kind, contexts.STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
    status = status_of(reply)
    if status != _SUCCESS:
        raise Permanent("report_refused", f"status 0x{status:04X}")


class CommittingAcceptor(Acceptor):
    """A Verification and Storage SCP that also takes commitment requests and reports.

    promise   persists what is promised; raises OvcfError.
    answer    returns what to report of a transaction of a calling AE title (with the SOP class of each instance), None where
              nothing is left to report.
    told      is called when that report was taken.
    reported  persists a report about what we asked for.
    """

    def __init__(
        self, listener: Listener, policy: AssociationPolicy, store: StoreHandler, *,
        promise: Callable[[CommitmentRequest], None], answer: Callable[[str, str], tuple[CommitmentAnswer, dict] | None],
        told: Callable[[str, str], None], reported: Reported, witness: Witness | None = None,
    ):
        super().__init__(listener, policy, store, witness)
        self._promise, self._answer, self._told, self._reported = promise, answer, told, reported

    def _support(self, ae: AE) -> None:
        super()._support(ae)
        ae.add_supported_context(contexts.STORAGE_COMMITMENT, list(contexts.QUERIED), scu_role=True, scp_role=True)

    def _requested(self, event: evt.Event) -> None:
        super()._requested(event)
        running = self._running.get(event.assoc)
        if running is None:
            return  # rejected
        names, proven = _who(running.peer)
        sends = self._policy.may_send(**names, **proven)
        asked = any(c.abstract_syntax == contexts.STORAGE_COMMITMENT for c in event.assoc.requestor.requested_contexts)
        if asked:
            running.reports = self._policy.reports(**names, **proven, encrypted=running.peer.encrypted)
        commits = running.reports or (sends and self._policy.may_ask_commitment(**names))
        if asked and not commits and self._policy.is_called_as_a_reporter(**names):
            _refused(running.peer)
        event.assoc.acceptor.supported_contexts = [
            context for context in event.assoc.acceptor.supported_contexts
            if context.abstract_syntax == contexts.VERIFICATION
            or (commits if context.abstract_syntax == contexts.STORAGE_COMMITMENT else sends)
        ]

    def _services(self) -> list[tuple]:
        return [*super()._services(), (evt.EVT_N_ACTION, self._n_action), (evt.EVT_N_EVENT_REPORT, self._n_event_report)]

    def _n_event_report(self, event: evt.Event) -> tuple[int, None]:
        running = self._running[event.assoc]
        if not running.reports:
            _refused(running.peer)
            return _NOT_AUTHORISED, None
        status = _take(event, self._reported)
        running.counts["commitment_reports"] += 1
        return status, None

    def _n_action(self, event: evt.Event) -> tuple[int, None]:
        running = self._running[event.assoc]
        peer = running.peer
        names, proven = _who(peer)
        sends = self._policy.may_send(**names, **proven)
        if not (sends and self._policy.may_ask_commitment(**names)):
            return _NOT_AUTHORISED, None
        if event.action_type != _REQUEST:
            return _NO_SUCH_ACTION, None
        try:
            asked = _asked(peer, event.action_information)
        except MALFORMED:
            _log.warning("commitment_request_unreadable", association=peer.association)
            return _INVALID_ARGUMENT, None
        try:
            self._promise(asked)
        except OvcfError as error:
            _log.warning("commitment_request_failed", code=error.code, association=peer.association)
            return _RESOURCE_LIMITATION if isinstance(error, Transient) else _PROCESSING_FAILURE, None
        running.counts["commitment_requests"] += 1
        pause_for_certain(event.assoc)
        timer = threading.Timer(GRACE_S, self._report, (event.assoc, asked.transaction_uid, running))
        timer.daemon = True
        timer.start()
        return _SUCCESS, None

    def _report(self, opened: Association, transaction_uid: str, running: Running) -> None:
        """Report over the association of the request, if the peer kept it open; otherwise another one is opened."""
        name = running.peer.calling_ae_title
        try:
            # Claimed before it waits for its turn: what is not would be given up, or given over another association.
            found = self._answer(transaction_uid, name) if opened.is_established else None
            if found:
                with running.asking:
                    _report_over(_still_open(opened), *found)
                self._told(transaction_uid, name)
        except (OvcfError, RuntimeError, ValueError) as error:  # the latter two: it was released at this very moment
            _log.warning("commitment_report_postponed", error=type(error).__name__, association=running.peer.association)


def _still_open(opened: Association) -> Association:
    """Raise Transient for an association that has ended, though its thread may not have noticed yet."""
    if not opened.is_established or not opened.dul.is_alive() or opened.acse.is_aborted():
        raise Transient("association_ended", "before the report's turn")
    return opened


def _who(peer: Peer) -> tuple[dict, dict]:
    """Return what a peer calls itself and us, and what shows that it is so, as the policy takes them."""
    names = {"called": peer.called_ae_title, "calling": peer.calling_ae_title}
    return names, {"address": peer.address, "certificate": peer.certificate}


def _refused(peer: Peer) -> None:
    _log.warning("commitment_report_refused", calling_ae_title=peer.calling_ae_title, address=peer.address,
                 encrypted=peer.encrypted, certificate=sorted(peer.certificate), association=peer.association)


def _take(event: evt.Event, on_report: Reported) -> int:
    try:
        answer = _reported(event.event_information)
    except MALFORMED:
        _log.warning("commitment_report_unreadable")
        return _INVALID_ARGUMENT
    try:
        known = on_report(answer)
    except OvcfError as error:
        _log.warning("commitment_report_not_kept", code=error.code)
        return _PROCESSING_FAILURE  # whoever reports it may do so again, and we ask again in any case
    if not known:
        _log.warning("commitment_report_unknown", committed=len(answer.committed), failed=len(answer.failed))
    return _SUCCESS


def _asked(peer: Peer, information: Dataset) -> CommitmentRequest:
    references = information.ReferencedSOPSequence
    instances = {str(item.ReferencedSOPInstanceUID): str(item.ReferencedSOPClassUID) for item in references}
    if not instances:
        raise ValueError("no instances")
    return CommitmentRequest(peer, str(information.TransactionUID), instances)


def _reported(information: Dataset) -> CommitmentAnswer:
    committed = tuple(str(i.ReferencedSOPInstanceUID) for i in information.get("ReferencedSOPSequence") or ())
    failed = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or _PROCESSING_FAILURE)
        for item in information.get("FailedSOPSequence") or ()
    }
    return CommitmentAnswer(str(information.TransactionUID), committed, failed)


def _reference(sop_class_uid: str, sop_instance_uid: str, failure: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    if failure is not None:
        item.FailureReason = failure
    return item
