"""What follows deliveries, found by the judge: probes of destinations that are away, questions whether they keep what they
took, and the reports of storage commitment that came back."""

from collections.abc import Callable

import structlog

from ovcf_node import deliver
from ovcf_node.config import Settings
from ovcf_node.ledger import Delivery, Ledger
from ovcf_node.workflow.dispatching import Scheduler

_LOG = structlog.get_logger("judge")
_FIRST, _LAST = 1, 2**31 - 1  # priorities: a probe before everything, a question after every delivery
_AGAIN_S = 10.0


class FollowUp:
    """One tick looks at everything once."""

    def __init__(self, settings: Settings, ledger: Ledger, engine: Scheduler):
        self._destinations = {d.name: d for d in settings.destinations}
        self._ledger = ledger
        self._engine = engine

    def tick(self, now: float) -> None:
        """Do everything that is due at `now` (seconds since the epoch)."""
        self._apply_reports(now)
        self._enqueue_probes(now)
        self._enqueue_questions(now)

    def _apply_reports(self, now: float) -> None:
        for report in self._ledger.commitments.unapplied():
            counts = self._ledger.commitments.apply(report, now, lambda delivery: self._resend_at(delivery, now))
            _LOG.info("commitment_report", destination=report.destination, failed=len(report.failed),
                      outcomes={str(state): count for state, count in counts.items()})

    def _resend_at(self, delivery: Delivery, now: float) -> float | None:
        """Return when an object that a destination does not have is sent again, None when that was tried often enough."""
        destination = self._destinations.get(delivery.destination)
        if destination is None or delivery.requests >= destination.confirm_requests:
            return None
        return now + deliver.delay(
            delivery.requests, destination.retry_first_s, destination.retry_cap_s, str(delivery.id)
        )

    def _enqueue_probes(self, now: float) -> None:
        due = {
            f"probe:{name}:{standing.failures}:{standing.probe_at:.3f}": name
            for name, standing in self._ledger.destinations.all().items()
            if name in self._destinations and standing.held_since is None
            and standing.probe_at is not None and standing.probe_at <= now
        }
        self._enqueue("probe", {key: (name,) for key, name in due.items()}, _FIRST,
                      lambda key: self._ledger.destinations.probe(due[key], now + _AGAIN_S))

    def _enqueue_questions(self, now: float) -> None:
        groups: dict[tuple[int, str], list[Delivery]] = {}
        for delivery in self._ledger.deliveries.to_confirm(now):
            if delivery.destination in self._destinations:
                groups.setdefault((delivery.revision_id, delivery.destination), []).append(delivery)
        due = {
            f"confirm:{revision}:{name}:{max(d.requests for d in some)}:{max(d.confirm_at for d in some):.3f}": some
            for (revision, name), some in groups.items()
        }
        self._enqueue("confirm", {key: (some[0].revision_id, some[0].destination) for key, some in due.items()}, _LAST,
                      lambda key: self._ask_later(due[key], now))

    def _ask_later(self, asked: list[Delivery], now: float) -> None:
        for delivery in asked:
            self._ledger.deliveries.confirmed(
                delivery, delivery.state, now, text=delivery.text or "", confirm_at=now + _AGAIN_S
            )

    def _enqueue(
        self, workflow: str, due: dict[str, tuple], priority: int, died: Callable[[str], None]
    ) -> None:
        """Enqueue what is not known; what ended and is due all the same died half-way."""
        states = self._engine.states(list(due)) if due else {}
        for workflow_id, args in due.items():
            state = states.get(workflow_id, "absent")
            if state == "absent":
                self._engine.enqueue(workflow, workflow_id, f"deliver-{args[-1]}", args, priority=priority)
            elif state in ("done", "failed"):
                died(workflow_id)
