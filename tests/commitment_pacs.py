"""A PACS with storage commitment: stores, finds, and reports as it is told."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.presentation import build_context, build_role

COMMITMENT, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


class CommitmentPacs:
    """Its AE title is PACS.

    report_to  None: over the association of the request; a port: over an association of its own; "nobody": never;
               "crossing": over the association of the request, before the request is answered
    failing    SOP Instance UID -> Failure Reason
    """

    def __init__(self, sop_classes, port: int = 0):
        self.received: list[str] = []
        self.transactions: list[str] = []
        self.series: dict[str, str] = {}
        self.report_to: int | str | None = None
        self.failing: dict[str, int] = {}
        self.statuses: list[int] = []
        self.abort = False
        self._ae = AE("PACS")
        for sop_class in (*sop_classes, FIND, "1.2.840.10008.1.1"):
            self._ae.add_supported_context(sop_class)
        self._ae.add_supported_context(COMMITMENT)
        self._server = self._ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[
            (evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find), (evt.EVT_N_ACTION, self._asked),
        ])
        self.port = self._server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        self.series[self.received[-1]] = str(event.dataset.SeriesInstanceUID)
        return 0x0000

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        for uid, series in self.series.items():
            if series == event.identifier.SeriesInstanceUID and uid not in self.failing:
                match = Dataset()
                match.SOPInstanceUID, match.SeriesInstanceUID = uid, series
                yield 0xFF00, match

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        if self.abort:
            event.assoc.abort()
        asked = event.action_information
        self.transactions.append(str(asked.TransactionUID))
        report = self.report_of(asked)
        if self.report_to == "crossing":
            event.assoc.dimse.send_msg(_request(report, event.context.transfer_syntax), event.context.context_id)
        elif self.report_to != "nobody":
            target = self._over if self.report_to is None else self._anew
            threading.Timer(0.2, target, (event.assoc, report)).start()
        return 0x0000, None

    def report_of(self, asked: Dataset) -> Dataset:
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        report.ReferencedSOPSequence = [
            i for i in asked.ReferencedSOPSequence if i.ReferencedSOPInstanceUID not in self.failing
        ]
        failed = [i for i in asked.ReferencedSOPSequence if i.ReferencedSOPInstanceUID in self.failing]
        for item in failed:
            item.FailureReason = self.failing[item.ReferencedSOPInstanceUID]
        if failed:
            report.FailedSOPSequence = failed
        return report

    def _over(self, association, report: Dataset) -> None:
        self._send(association, report)

    def _anew(self, _association, report: Dataset) -> None:
        with self.reverse(self.report_to) as association:
            self._send(association, report)

    def _send(self, association, report: Dataset) -> None:
        kind = 2 if "FailedSOPSequence" in report else 1
        answer, _ = association.send_n_event_report(report, kind, COMMITMENT, INSTANCE)
        self.statuses.append(answer.Status)

    @contextmanager
    def reverse(self, port: int, *extra: str, address: str = "127.0.0.1"):
        """Open an association to the node in which it is the SCP; `extra` SOP classes are asked for beside."""
        association = AE("PACS").associate(
            "127.0.0.1", port, ae_title="OVCF_NODE", ext_neg=[build_role(COMMITMENT, scp_role=True)],
            contexts=[build_context(name) for name in (COMMITMENT, *extra)], bind_address=(address, 0),
        )
        assert association.is_established
        yield association
        association.release()

    def close(self) -> None:
        self._ae.shutdown()


def _request(report: Dataset, syntax: UID) -> N_EVENT_REPORT:
    made = N_EVENT_REPORT()
    made.MessageID, made.EventTypeID = 7, 1
    made.AffectedSOPClassUID, made.AffectedSOPInstanceUID = COMMITMENT, INSTANCE
    made.EventInformation = io.BytesIO(encode(report, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated))
    return made
