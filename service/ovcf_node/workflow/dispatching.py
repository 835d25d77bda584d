"""Enqueue deliveries that the ledger calls due; part of the judge's tick."""

from collections.abc import Callable, Collection
from typing import Protocol

from ovcf_node.config import Settings
from ovcf_node.ledger import Delivery, Ledger


class Scheduler(Protocol):
    """What is needed of the engine."""

    def enqueue(
        self, workflow: str, workflow_id: str, queue: str, args: tuple, *, priority: int, alone: str | None = None,
    ) -> bool: ...

    def states(self, workflow_ids: Collection[str]) -> dict[str, str]: ...


class Dispatching:
    """One tick looks at everything once; `priority` of (time of arrival, STAT)."""

    def __init__(self, settings: Settings, ledger: Ledger, engine: Scheduler, priority: Callable[[float, bool], int]):
        self._settings = settings
        self._ledger = ledger
        self._engine = engine
        self._priority = priority

    def tick(self, now: float) -> None:
        """Enqueue everything that is due at `now`."""
        due: dict[str, list[Delivery]] = {}
        configured = {destination.name for destination in self._settings.delivering}
        for batch in _batches(self._ledger.deliveries.due(now)):
            first = batch[0]
            if first.destination not in configured:
                continue  # removed from the configuration, or shadow mode: the rows stay visible and wait
            attempts = sum(d.attempts for d in self._ledger.deliveries.of_revision(first.revision_id, first.destination))
            newest = max(d.next_attempt_at for d in batch)
            due[f"deliver:{first.revision_id}:{first.destination}:{attempts}:{newest:.3f}"] = batch
        states = self._engine.states(list(due)) if due else {}
        for workflow_id, batch in due.items():
            state = states.get(workflow_id, "absent")
            first = batch[0]
            if state == "absent":
                revision = self._ledger.revisions.get(first.revision_id)
                priority = self._priority(revision.last_received_at, revision.stat)
                # The id changes with every answer that is recorded: without the mark a second sender would begin to send
                # the rest while the first one still records.
                self._engine.enqueue(
                    "deliver", workflow_id, f"deliver-{first.destination}", (first.revision_id, first.destination),
                    priority=priority, alone=f"revision {first.revision_id}",
                )
            elif state in ("done", "failed"):
                for delivery in batch:
                    self._ledger.deliveries.again(delivery, now, next_attempt_at=now + 1.0, status=None,
                                                  text="the sender ended without an answer")


def _batches(due: list[Delivery]) -> list[list[Delivery]]:
    """Group deliveries that travel over one association: one revision, one destination, in sending order."""
    groups: dict[tuple[int, str], list[Delivery]] = {}
    for delivery in due:
        groups.setdefault((delivery.revision_id, delivery.destination), []).append(delivery)
    return list(groups.values())
