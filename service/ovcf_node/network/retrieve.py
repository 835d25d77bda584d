"""Retrieve a series from an archive as a requestor: C-MOVE and C-GET, Study Root (PS3.4 C.4.2, C.4.3)."""

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import Association, evt
from pynetdicom.presentation import PresentationContext, build_context

from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import application_entity, contexts
from ovcf_node.network.application_entity import StoreHandler
from ovcf_node.network.associate import Remote, association, comment_of, status_of
from ovcf_node.network.messages import Peer, StoreRequest

_MESSAGE_ID = 1
_CANCELLED = 0xFE00
_NEVER_S = 7 * 86400.0
_LOOK_S = 0.2

MEANINGS = {  # PS3.4 tables C.4-2 and C.4-3, PS3.7 Annex C
    0x0000: "success",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0xA701: "out of resources: unable to calculate number of matches",
    0xA702: "out of resources: unable to perform sub-operations",
    0xA801: "Move Destination unknown",
    0xA900: "identifier does not match SOP class",
    0xB000: "some sub-operations failed",
    0xFE00: "cancelled",
}
_RANGE = {0xA: "refused", 0xB: "warning", 0xC: "unable to process"}


@dataclass(frozen=True)
class Outcome:
    """The last response to a C-MOVE or C-GET; a number of sub-operations is None where the archive does not say it."""

    status: int
    completed: int | None
    failed: int | None
    warning: int | None
    comment: str

    @property
    def words(self) -> str:
        """The status in words, with the archive's own."""
        meaning = MEANINGS.get(self.status) or _RANGE.get(self.status >> 12, "failure")
        return f"0x{self.status:04X} {meaning}" + (f": {self.comment}" if self.comment else "")


@dataclass(frozen=True)
class Watch:
    """What the caller sees and decides while instances arrive.

    stop     set it, and the archive is asked to stop (C-CANCEL); the outcome tells what arrived until then.
    arrived  how many instances are here; called several times a second. An archive that neither answers nor sends
             for the time-out of its `Remote` is given up: many answer a C-MOVE only when everything is sent.
    """

    stop: threading.Event
    arrived: Callable[[], int]


def move(remote: Remote, destination: str, study_instance_uid: str, series_instance_uid: str, watch: Watch) -> Outcome:
    """Let the archive send a series to the AE title `destination`.

    Raises Transient (no connection, no progress) or Permanent (rejected, `context_refused`).
    """
    with association(remote, [build_context(contexts.STUDY_ROOT_MOVE)]) as opened:
        _require(opened, contexts.STUDY_ROOT_MOVE, "MOVE")
        with _watched(opened, contexts.STUDY_ROOT_MOVE, watch, remote.timeout_s):
            identifier = _identifier(study_instance_uid, series_instance_uid)
            return _last(opened.send_c_move(identifier, destination, contexts.STUDY_ROOT_MOVE, msg_id=_MESSAGE_ID))


def get(
    remote: Remote, study_instance_uid: str, series_instance_uid: str, store: StoreHandler, watch: Watch,
    ended: Callable[[Peer, bool], None],
) -> Outcome:
    """Retrieve a series over one association; each instance goes to `store`, whose answer is the archive's.

    `store` runs in the calling thread and must not raise; `ended` is told when nothing more comes, and whether that was an
    error. Raises as `move` does.
    """
    peer = Peer(uuid.uuid4().hex[:12], remote.called_ae_title, remote.calling_ae_title, remote.host)
    handlers = [(evt.EVT_C_STORE, _c_store, [peer, store])]
    storage = [*contexts.CT, *contexts.COMPANION_IMAGES]
    requested = [build_context(contexts.STUDY_ROOT_GET), *_storage_contexts()]
    finished = False
    try:
        with association(remote, requested, scp_roles=storage, handlers=handlers) as opened:
            _require(opened, contexts.STUDY_ROOT_GET, "GET")
            with _watched(opened, contexts.STUDY_ROOT_GET, watch, remote.timeout_s):
                identifier = _identifier(study_instance_uid, series_instance_uid)
                outcome = _last(opened.send_c_get(identifier, contexts.STUDY_ROOT_GET, msg_id=_MESSAGE_ID))
        finished = True
        return outcome
    finally:
        ended(peer, not finished)


def _storage_contexts() -> list[PresentationContext]:
    # One context a transfer syntax for CT, so that the archive can send what it has, unchanged; what may lie in a CT
    # series besides (secondary captures) is recorded and excluded, in any encoding.
    single = [build_context(sop_class, syntax) for sop_class in contexts.CT for syntax in contexts.IMAGE]
    return single + [build_context(sop_class, list(contexts.UNCOMPRESSED)) for sop_class in contexts.COMPANION_IMAGES]


def _identifier(study_instance_uid: str, series_instance_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = study_instance_uid
    identifier.SeriesInstanceUID = series_instance_uid
    return identifier


def _require(opened: Association, sop_class_uid: str, name: str) -> None:
    if not any(context.abstract_syntax == UID(sop_class_uid) for context in opened.accepted_contexts):
        raise Permanent("context_refused", f"Study Root Query/Retrieve - {name} is not accepted")


def _c_store(event: evt.Event, peer: Peer, store: StoreHandler) -> int | Dataset:
    request = event.request
    answer = store(StoreRequest(
        peer=peer, sop_class_uid=str(request.AffectedSOPClassUID), sop_instance_uid=str(request.AffectedSOPInstanceUID),
        transfer_syntax_uid=str(event.context.transfer_syntax), high_priority=False,
        dataset=request.DataSet or io.BytesIO(),
    ))
    return application_entity.status_of(answer.status, answer.comment)


def _last(responses: Iterator[tuple[Dataset, Dataset | None]]) -> Outcome:
    answer = [answer for answer, _ in responses][-1]
    counts = [answer.get(f"NumberOf{what}Suboperations") for what in ("Completed", "Failed", "Warning")]
    return Outcome(status_of(answer), *(None if count is None else int(count) for count in counts), comment_of(answer))


@contextmanager
def _watched(opened: Association, model: str, watch: Watch, patience_s: float) -> Iterator[None]:
    """Cancel or give up an operation from a second thread: the first one waits for responses all the while."""
    opened.dimse_timeout = _NEVER_S
    done = threading.Event()
    given_up = threading.Event()

    def look() -> None:
        arrived, seen, since, cancelled = 0, 0, time.monotonic(), False
        while not done.wait(_LOOK_S):
            if watch.stop.is_set() and not cancelled:
                with suppress(RuntimeError):  # the association ended this very moment
                    opened.send_c_cancel(_MESSAGE_ID, query_model=model)
                cancelled = True
            with suppress(Transient):  # a busy ledger is no progress
                arrived = watch.arrived()
            if arrived != seen:
                seen, since = arrived, time.monotonic()
            elif time.monotonic() - since > patience_s:
                given_up.set()
                _abort(opened)
                return

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield
    except Transient as error:
        if given_up.is_set():
            raise Transient("no_progress", f"no response and no instance for {patience_s:g} s") from error
        raise
    except KeyboardInterrupt:
        _abort(opened)
        raise
    finally:
        done.set()
        thread.join()


def _abort(opened: Association) -> None:
    opened.abort()
    opened.dimse.msg_queue.put((None, None))  # pynetdicom wakes a waiting requestor only when the peer aborts
