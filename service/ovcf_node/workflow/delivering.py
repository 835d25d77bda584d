"""The recorded step of workflow `deliver`, which senders run: send what is pending of one revision to one destination."""

import hashlib
import time
from collections.abc import Callable

import structlog

from ovcf_node import deliver
from ovcf_node.config import Destination, Settings
from ovcf_node.domain.states import DeliveryState
from ovcf_node.engine import Engine
from ovcf_node.ledger import Delivery, Ledger
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage.results import Results
from ovcf_node.workflow.restored import OlderLedger

_LOG = structlog.get_logger("workflow")


class Sender:
    """The step of workflow `deliver`."""

    def __init__(self, settings: Settings, ledger: Ledger, results: Results, pseudonyms: Pseudonyms,
                 clock: Callable[[], float] = time.time, go_on: Callable[[], None] = deliver.always):
        """`go_on` is asked before each object and raises Transient when another sender may be sending it by now."""
        self._destinations = {d.name: d for d in settings.destinations}
        self._ledger = ledger
        self._results = results
        self._hash = pseudonyms
        self._clock = clock
        self._older_ledger = OlderLedger(ledger, pseudonyms)
        self._go_on = go_on

    def register(self, engine: Engine) -> None:
        """Give the workflow to the engine."""

        @engine.workflow("deliver")
        def send(revision_id: int, destination: str) -> str:
            return engine.step("send", self.send, revision_id, destination)

    def send(self, revision_id: int, name: str) -> str:
        """Send what is pending of one revision to one destination, in order, and record every answer."""
        destination = self._destinations.get(name)
        if destination is None:
            return "unknown destination"  # removed from the configuration; the rows stay visible
        if self._ledger.deliveries.held(revision_id):
            return "held"
        begun = self._clock()
        # One that is due takes all with it: the report of a second reading must not overtake images that wait longer.
        pending = [d for d in self._ledger.deliveries.of_revision(revision_id, name) if d.state is DeliveryState.PENDING]
        if all(d.next_attempt_at > begun for d in pending):
            return "nothing due"
        revision = self._ledger.revisions.get(revision_id)
        if self._older_ledger.holds(destination, revision, begun):
            return "held"
        outcomes = self._in_order(destination, pending)
        by_uid = {d.sop_instance_uid: d for d in pending}
        now = self._clock()
        for outcome in outcomes:
            delivery = by_uid[outcome.sop_instance_uid]
            if outcome.state == "retry":
                wait = deliver.delay(
                    delivery.attempts + 1, destination.retry_first_s, destination.retry_cap_s, f"{revision_id}:{name}"
                )
                self._ledger.deliveries.again(delivery, now, next_attempt_at=now + wait, status=outcome.status,
                                              text=outcome.text)
            else:
                self._ledger.deliveries.finished(
                    delivery, DeliveryState[outcome.state.upper()], now, status=outcome.status, text=outcome.text
                )
        _LOG.info("sent", series=self._hash(revision.series_instance_uid), destination=name,
                  outcomes=[o.state for o in outcomes])
        return "ok"

    def _in_order(self, destination: Destination, pending: list[Delivery]) -> list[deliver.Outcome]:
        """Send the SR last: whoever reads the report finds the segmentation it refers to."""
        images = [d for d in pending if d.role != "sr"]
        reports = [d for d in pending if d.role == "sr"]
        outcomes = self._send(destination, images)
        if any(o.state == "retry" for o in outcomes):
            text = "waits for the objects it refers to"
            return outcomes + [deliver.Outcome(d.sop_instance_uid, "retry", None, text) for d in reports]
        return outcomes + self._send(destination, reports)

    def _send(self, destination: Destination, batch: list[Delivery]) -> list[deliver.Outcome]:
        sound = [d for d in batch if self._unchanged(d)]
        damaged = [d.sop_instance_uid for d in batch if d not in sound]
        files = [(self._results.root / d.path, d.sop_class_uid, d.sop_instance_uid) for d in sound]
        text = "the stored object is missing or changed: not sent"
        return (deliver.send(destination, files, self._go_on) if files else []) + [
            deliver.Outcome(uid, "rejected", None, text) for uid in damaged
        ]

    def _unchanged(self, delivery: Delivery) -> bool:
        try:
            data = (self._results.root / delivery.path).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(data).hexdigest() == delivery.sha256
