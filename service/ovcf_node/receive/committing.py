"""Storage commitment at the receiver: reports about what we sent, and promises to those who send to us.

A promise is durable before it is given: `committed_until` of every instance it names, which no purge goes behind. It holds
for `receive.commit_days`, not for ever: whoever needs the images longer sends them to an archive.
"""

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from ovcf_node.config import Receive, Source
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger, Promise
from ovcf_node.network import commitment
from ovcf_node.network.associate import Remote
from ovcf_node.network.commitment import CommitmentAnswer, CommitmentRequest
from ovcf_node.storage.spool import Spool

_log = structlog.get_logger(__name__)

_NO_SUCH_OBJECT, _CLASS_CONFLICT = 0x0112, 0x0119  # Failure Reason, PS3.3 C.14.1.1
_DAY_S = 86400.0
_OWN_ASSOCIATION_S = commitment.GRACE_S + 2.0  # for the report over the association of the request
_FIRST_S, _CAP_S = 10.0, 3600.0
_ATTEMPTS = 30  # about a day
_LOOK_S = 1.0
_TIMEOUT_S = 30.0
_CLAIM_S = 120.0


class Committing:
    """Answer commitment requests, keep commitment reports, and report what is due over associations of our own."""

    def __init__(self, settings: Receive, ledger: Ledger, spool: Spool, clock: Callable[[], float] = time.time):
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._clock = clock

    def admit(self, settings: Receive) -> None:
        """Take over new settings."""
        self._settings = settings

    def reported(self, answer: CommitmentAnswer) -> bool:
        """Persist a report about what we asked for; below the disk watermark too. False for a transaction not ours."""
        return self._ledger.commitments.report(answer.transaction_uid, answer.committed, answer.failed, self._clock())

    def promise(self, asked: CommitmentRequest) -> None:
        """Promise what is here and persist what will be reported. Raises Transient from the ledger."""
        now = self._clock()
        here = self._ledger.promises.paths(asked.instances)
        reasons: dict[str, int | None] = {}
        for uid, sop_class_uid in asked.instances.items():
            stored = here.get(uid)
            if not stored or not all(self._spool.path(path).is_file() for _, path in stored):
                reasons[uid] = _NO_SUCH_OBJECT
            else:
                reasons[uid] = None if stored[0][0] == sop_class_uid else _CLASS_CONFLICT
        wanted = [uid for uid, reason in reasons.items() if reason is None]
        kept = self._ledger.promises.keep(wanted, now + self._settings.commit_days * _DAY_S)
        report = {
            uid: (sop_class_uid, _NO_SUCH_OBJECT if reasons[uid] is None and uid not in kept else reasons[uid])
            for uid, sop_class_uid in asked.instances.items()
        }
        peer = asked.peer
        self._ledger.promises.record(
            asked.transaction_uid, peer.calling_ae_title, peer.called_ae_title, report, now, now + _OWN_ASSOCIATION_S,
        )
        _log.info("commitment_promised", committed=len(kept), failed=len(report) - len(kept), association=peer.association,
                  calling_ae_title=peer.calling_ae_title)

    def answer(self, transaction_uid: str, calling_ae_title: str) -> tuple[CommitmentAnswer, dict[str, str]] | None:
        """Return what is to be reported of a transaction, None where nothing is left to report."""
        promise = self._ledger.promises.of(transaction_uid, calling_ae_title)
        return _answer(promise) if promise and self._take(promise) else None

    def told(self, transaction_uid: str, calling_ae_title: str) -> None:
        """Record that the sender has taken the report."""
        promise = self._ledger.promises.of(transaction_uid, calling_ae_title)
        if promise:
            self._ledger.promises.reported(promise)

    def keep_reporting(self, stop: threading.Event) -> None:
        """Give the reports that are due over associations of our own until `stop` is set."""
        while not stop.wait(_LOOK_S):
            if not self._settings.commit_days:
                continue
            try:
                self.report_due(stop)
            except OvcfError as error:
                _log.error("commitment_reports_not_read", code=error.code)
            # The boundary of the thread. Let through, a defect at one report would end it, and no sender would be told any
            # more. A report is claimed before it is given (`_take`), so the one that failed is tried again when its claim
            # is over, and the next look goes to the others; none counts as given. Logged without its words, which may quote.
            except Exception as error:  # noqa: BLE001
                _log.error("defect", error_type=type(error).__name__, exc_info=True)

    def report_due(self, stop: threading.Event) -> None:
        """Give every report that is due now. Raises Transient from the ledger."""
        for promise in self._ledger.promises.due(self._clock()):
            if stop.is_set():
                return
            source = self._source(promise.calling_ae_title)
            if source is None:
                _log.warning("commitment_not_reported", calling_ae_title=promise.calling_ae_title,
                             reason="its association ended and no report_host is configured")
                self._ledger.promises.again(promise, None)
            elif self._take(promise):
                self._report(promise, source)

    def _take(self, promise: Promise) -> bool:
        # Several receivers look at one ledger. One that dies with a claim leaves it to the others when the claim is over.
        return self._ledger.promises.take(promise, self._clock() + _CLAIM_S)

    def _report(self, promise: Promise, source: Source) -> None:
        remote = Remote(source.report_host, source.report_port, source.ae_title, promise.called_ae_title, _TIMEOUT_S,
                        source.report_tls)
        try:
            commitment.report(remote, *_answer(promise))
        except OvcfError as error:
            given_up = promise.attempts + 1 >= _ATTEMPTS
            wait = min(_FIRST_S * 2**promise.attempts, _CAP_S)
            self._ledger.promises.again(promise, None if given_up else self._clock() + wait)
            _log.warning("commitment_not_reported", calling_ae_title=source.ae_title, code=error.code, given_up=given_up)
        else:
            self._ledger.promises.reported(promise)
            _log.info("commitment_reported", calling_ae_title=source.ae_title)

    def _source(self, ae_title: str) -> Source | None:
        found = [s for s in self._settings.sources if s.ae_title == ae_title and s.report_host is not None]
        return found[0] if found else None


def _answer(promise: Promise) -> tuple[CommitmentAnswer, Mapping[str, str]]:
    committed = tuple(uid for uid, (_, reason) in promise.report.items() if reason is None)
    failed = {uid: reason for uid, (_, reason) in promise.report.items() if reason is not None}
    classes = {uid: sop_class_uid for uid, (sop_class_uid, _) in promise.report.items()}
    return CommitmentAnswer(promise.transaction_uid, committed, failed), classes
