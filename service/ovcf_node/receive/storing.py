"""Turn one C-STORE request into a durable file and a ledger row; independent of sockets."""

import hashlib
import hmac
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from ovcf_node.config import Priority
from ovcf_node.domain.series import Receipt
from ovcf_node.errors import OvcfError, Refused, Transient
from ovcf_node.network.messages import StoreAnswer, StoreRequest
from ovcf_node.receive.file_meta import encode_head, split_head
from ovcf_node.receive.header import Header, read_header
from ovcf_node.receive.trail import Trail
from ovcf_node.receive.urgency import Urgency
from ovcf_node.storage.spool import Spool, StoredFile

_log = structlog.get_logger(__name__)

OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
PROCESSING_FAILURE = 0x0110


class Ledger(Protocol):
    """What the receiver needs of the ledger. Recording the same bytes of an instance twice changes nothing."""

    def has_digest(self, sop_instance_uid: str, digest: str) -> bool: ...

    def record(self, receipt: Receipt) -> None: ...


class Storing:
    """Store instances so that a receipt means it is safe.

    The order is the promise: free space checked, file durable, ledger row durable, then the receipt. A crash between
    file and row leaves a file that nobody acknowledged; the sender sends again, or `receipt_of` lets it be recorded.
    """

    def __init__(
        self, spool: Spool, ledger: Ledger, *, min_free_bytes: int, patient_secret: bytes,
        urgency: Urgency | None = None,
    ):
        self._spool = spool
        self._ledger = ledger
        self._min_free_bytes = min_free_bytes
        self._patient_secret = patient_secret
        self._urgency = urgency or Urgency(Priority())
        self._trail = Trail()
        self.ended = self._trail.ended
        """To be told of every association that ends."""

    def answer(self, request: StoreRequest) -> StoreAnswer:
        """Store one instance and return what its sender is told; never raises."""
        try:
            self.store(request)
        # The boundary of the stage: whatever goes wrong, the sender gets a status that is not success and keeps its copy,
        # and the log says where. Let through, pynetdicom would log a traceback that may quote the data set.
        except Exception as error:  # noqa: BLE001
            refused = refusal(error)
            _log.warning(
                "instance_refused",
                status=f"0x{refused.status:04X}",
                code=refused.code,
                text=refused.text,
                association=request.peer.association,
                exc_info=None if isinstance(error, OvcfError) else error,  # a defect is told with its place
            )
            return StoreAnswer(refused.status, refused.text)
        return StoreAnswer(0x0000)

    def store(self, request: StoreRequest) -> bool:
        """Store one instance; return False when exactly these bytes were stored before.

        The same SOP Instance UID with other bytes is stored beside the first: what it means (equal after decoding,
        identity or content conflict) is judged where codecs are. Raises Refused, and Transient from spool and ledger.
        """
        if self._spool.free_bytes() < self._min_free_bytes:
            raise Refused(OUT_OF_RESOURCES, "low_disk", "out of storage space, try again later")
        header = read_header(request.dataset, request.transfer_syntax_uid, self._urgency.tags)
        _check(request, header)
        with request.dataset.getbuffer() as dataset:
            digest = hashlib.sha256(dataset).hexdigest()
            if self._ledger.has_digest(header.sop_instance_uid, digest):
                return False
            head = encode_head(
                sop_class_uid=header.sop_class_uid,
                sop_instance_uid=header.sop_instance_uid,
                transfer_syntax_uid=request.transfer_syntax_uid,
                calling_ae_title=request.peer.calling_ae_title,
                called_ae_title=request.peer.called_ae_title,
            )
            stored = self._spool.store([head, dataset], header.series_instance_uid)
        came = _Came(
            request.transfer_syntax_uid, datetime.now(UTC), request.peer.calling_ae_title, request.peer.called_ae_title,
            request.peer.association, request.high_priority,
        )
        self._record(self._receipt(header, stored, digest, came))
        self._trail.stored(request.peer, header)
        return True

    def _record(self, receipt: Receipt) -> None:
        try:
            self._ledger.record(receipt)
        except Transient as error:
            # The database had no room for the row and undid it: nothing refers to the file, and the sender, who comes again
            # and again, must not fill the spool with copies. After any other error the row may exist: the file stays.
            if error.code == "disk_full":
                self._spool.purge([receipt.path])
            raise

    def receipt_of(self, relative: str) -> Receipt:
        """Read again from a file of the spool what was to be recorded of it: its receiver died before it could.

        Raises Refused when it is none of ours, Transient (`storage`). Lost is only that the sender asked for priority.
        """
        data = memoryview(self._spool.read(relative))
        meta, dataset = split_head(data)
        header = read_header(io.BytesIO(dataset), meta.transfer_syntax_uid, self._urgency.tags)
        at = datetime.fromtimestamp(self._spool.modified_at(relative) or 0.0, UTC)
        came = _Came(
            meta.transfer_syntax_uid, at, meta.calling_ae_title, meta.called_ae_title, "healed", high_priority=False
        )
        stored = StoredFile(relative, len(data))
        return self._receipt(header, stored, hashlib.sha256(dataset).hexdigest(), came)

    def _receipt(self, header: Header, stored: StoredFile, digest: str, came: "_Came") -> Receipt:
        return Receipt(
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            transfer_syntax_uid=came.transfer_syntax_uid,
            path=stored.path,
            size=stored.size,
            digest=digest,
            patient_key=hmac.new(self._patient_secret, header.patient, hashlib.sha256).hexdigest(),
            modality=header.modality,
            received_at=came.at,
            calling_ae_title=came.calling_ae_title,
            called_ae_title=came.called_ae_title,
            association=came.association,
            stat=self._urgency.is_stat(
                header, came.calling_ae_title, came.called_ae_title, high_priority=came.high_priority,
            ),
        )


@dataclass(frozen=True)
class _Came:
    """How an instance came, beside what its data set says."""

    transfer_syntax_uid: str
    at: datetime
    calling_ae_title: str
    called_ae_title: str
    association: str
    high_priority: bool


def _check(request: StoreRequest, header: Header) -> None:
    if header.sop_class_uid != request.sop_class_uid:
        raise Refused(DOES_NOT_MATCH, "sop_class_mismatch", "SOP Class UID differs between request and data set")
    if header.sop_instance_uid != request.sop_instance_uid:
        raise Refused(DOES_NOT_MATCH, "sop_instance_mismatch", "SOP Instance UID differs between request and data set")


def refusal(error: Exception) -> Refused:
    """Return what to answer for an error: a sender may retry after out of resources, not after processing failure."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Transient):
        return Refused(OUT_OF_RESOURCES, error.code, "temporarily out of resources, try again later")
    return Refused(PROCESSING_FAILURE, "processing_failure", "processing failure")
