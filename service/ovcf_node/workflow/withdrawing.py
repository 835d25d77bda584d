"""Take back what no longer counts: one rejection note for each destination, about exactly what that destination took.

A result that was merely replaced is taken back when the new one has arrived there, so that a reader never finds nothing.
What could be read as another patient's is taken back at once.
"""

import contextlib
import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import compress

import structlog
from pydicom import Dataset, dcmread

from ovcf_node import report
from ovcf_node.config import Settings
from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.domain.withdrawal import NOTE_ROLE, Title
from ovcf_node.errors import OvcfError, Permanent
from ovcf_node.ledger import Ledger, Result, Withdrawn
from ovcf_node.ledger.deliveries import ARRIVED
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage.results import Results
from ovcf_node.workflow.reading import SOFTWARE

_LOG = structlog.get_logger("workflow")
_NOTES_PER_TICK = 20  # the recall of a bundle must not stop the judging of new patients
_RETRY_S = 300.0
_TEXTS = {
    Title.QUALITY: "Replaced by a later reading of the series, or the images it was made from were rejected.",
    Title.PATIENT_SAFETY: "Must not be used: patient, images or reading were wrong.",
    Title.WORKLIST: "Must not be used: the images were acquired under the wrong worklist entry.",
}


class Withdrawing:
    """Notices what is due to be taken back, stores the notes and plans their delivery; the judge's lease guards it."""

    def __init__(self, settings: Settings, ledger: Ledger, results: Results, pseudonyms: Pseudonyms):
        self._installation = settings.node.installation
        self._willing = {d.name for d in settings.destinations if d.rejection_notes}
        self._unwilling = {d.name for d in settings.destinations} - self._willing
        self._ledger = ledger
        self._results = results
        self._hash = pseudonyms
        self._not_before: dict[Withdrawn, float] = {}

    def tick(self, now: float) -> None:
        """Store and plan every note that is due at `now` (seconds since the epoch), a bounded number at a time."""
        if self._unwilling:
            self._ledger.withdrawals.cancel_notes(self._unwilling, now)
            self._unwilling = set()
        made = 0
        for withdrawn in self._ledger.withdrawals.due(self._willing):
            if made == _NOTES_PER_TICK:
                return
            if self._not_before.get(withdrawn, 0.0) > now or self._waits(withdrawn):
                continue
            try:
                self._note(withdrawn, now)
            except OvcfError as error:
                self._failed(withdrawn, now, error.code)
            # The boundary of one note. Let through, a defect would end the worker, and each next one at the same note, while
            # no other patient's result is taken back. Caught, nothing is recorded as noted: it is tried again after five
            # minutes. Its kind and place are logged, without its words, which may quote the object.
            except Exception as error:  # noqa: BLE001
                _LOG.error("defect", error_type=type(error).__name__, exc_info=True)
                self._failed(withdrawn, now, type(error).__name__)
            made += 1

    def _failed(self, withdrawn: Withdrawn, now: float, code: str) -> None:
        self._not_before[withdrawn] = now + _RETRY_S
        _LOG.error("rejection_note_failed", series=self._hash(withdrawn.series_instance_uid), code=code)

    def _waits(self, withdrawn: Withdrawn) -> bool:
        """Say whether the result that replaces these objects is still on its way to the destination."""
        if withdrawn.title is not Title.QUALITY:
            return False
        newest = self._ledger.revisions.of_series(withdrawn.series_instance_uid)[-1]
        if newest.state in (RevisionState.EXCLUDED, RevisionState.SUPERSEDED):
            return False  # nothing replaces them
        own = [d for d in self._ledger.deliveries.of_revision(newest.id, withdrawn.destination) if d.role != NOTE_ROLE]
        if any(d.withdrawn_as for d in own):
            return False  # they are the newest themselves
        # Of a report that was sent in another dialect instead, the first form is cancelled.
        sent = [d for d in own if d.state is not DeliveryState.CANCELLED]
        return not newest.answered or any(d.state not in ARRIVED or d.confirm_at is not None for d in sent)

    def _note(self, withdrawn: Withdrawn, now: float) -> None:
        objects = self._ledger.withdrawals.objects(withdrawn)
        headers = self._headers([result for _, result in objects])
        # A note is about one patient; what names another waits for the next tick and a note of its own.
        about = [_identity(header) == _identity(headers[0]) for header in headers]
        objects = list(compress(objects, about))
        rejection = report.Rejection(
            withdrawn.title, datetime.fromtimestamp(now, UTC), _TEXTS[withdrawn.title], self._installation, SOFTWARE
        )
        dataset = report.encode_rejection_note(list(compress(headers, about)), rejection)
        revision = self._ledger.revisions.of_series(withdrawn.series_instance_uid)[-1]
        # The same objects under the same title are the same note for every destination, and it may have been sent.
        path = self._results.put(
            revision.result_key, f"{dataset.SOPInstanceUID}.dcm", report.to_bytes(dataset), replace=False
        )
        data = path.read_bytes()
        note = Result(
            revision_id=revision.id, role=NOTE_ROLE, dialect="", sop_instance_uid=str(dataset.SOPInstanceUID),
            sop_class_uid=str(dataset.SOPClassUID), series_instance_uid=str(dataset.SeriesInstanceUID),
            path=str(path.relative_to(self._results.root)), sha256=hashlib.sha256(data).hexdigest(), size=len(data),
        )
        self._ledger.withdrawals.noted(withdrawn, note, [delivery_id for delivery_id, _ in objects], now)
        _LOG.info("withdrawn", series=self._hash(withdrawn.series_instance_uid), destination=withdrawn.destination,
                  title=str(withdrawn.title), objects=len(objects))

    def _headers(self, results: Sequence[Result]) -> list[Dataset]:
        return [self._header(result) for result in results]

    def _header(self, result: Result) -> Dataset:
        with contextlib.suppress(OSError):
            data = (self._results.root / result.path).read_bytes()
            if hashlib.sha256(data).hexdigest() == result.sha256:
                return dcmread(io.BytesIO(data), stop_before_pixels=True)
        kept = self._ledger.catalogue.header_of(result.sop_instance_uid)  # retention removes the file first
        if kept is None:
            raise Permanent("result_missing", "a stored object that must be withdrawn is missing or damaged")
        return Dataset.from_json({tag: element for tag, element in kept.items() if not tag.startswith("7FE0")})


def _identity(header: Dataset) -> tuple[str, ...]:
    return tuple(str(header.get(keyword) or "") for keyword in ("PatientID", "IssuerOfPatientID", "PatientName"))
