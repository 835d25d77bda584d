"""The recorded step of workflow `confirm`, which senders run: does a destination keep what it took?

`accepted` is only an answer to a C-STORE. Where a destination declares more as final, it is asked: by storage commitment, by
C-FIND while no report comes, and again after a delay that doubles. What is asked is in the ledger before it is asked; the
report comes to the receiver, or over this association, and the judge applies it.
"""

import time
import uuid
from collections.abc import Callable, Collection

import structlog

from ovcf_node import deliver
from ovcf_node.config import Destination, Settings
from ovcf_node.domain.states import DeliveryState
from ovcf_node.engine import Engine
from ovcf_node.errors import Permanent, Transient
from ovcf_node.ledger import Delivery, Ledger
from ovcf_node.network import commitment, find
from ovcf_node.network.associate import NO_ASSOCIATION
from ovcf_node.network.commitment import CommitmentAnswer
from ovcf_node.workflow.delivering import note_away

_LOG = structlog.get_logger("workflow")
_CAP_S = 86400.0
_LISTEN_S = 2.0  # who reports over the same association does so at once; all others come to the receiver
_S = DeliveryState


class Confirming:
    """The step of workflow `confirm`."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], float] = time.time):
        self._destinations = {d.name: d for d in settings.destinations}
        self._ledger = ledger
        self._clock = clock

    def register(self, engine: Engine) -> None:
        """Give the workflow to the engine."""

        @engine.workflow("confirm")
        def confirm(revision_id: int, destination: str) -> str:
            return engine.step("confirm", self.confirm, revision_id, destination)

    def confirm(self, revision_id: int, name: str) -> str:
        """Ask a destination about what it took of a revision and of which it is time to ask."""
        destination = self._destinations.get(name)
        if destination is None or self._ledger.destinations.of(name).stopped:
            return "not now"
        now = self._clock()
        arrived = [d for d in self._ledger.deliveries.of_revision(revision_id, name)
                   if d.confirm_at is not None and d.confirm_at <= now]
        if destination.final == "accepted":  # it declared more when these were sent
            for delivery in arrived:
                self._settle(delivery, delivery.state, delivery.text or "")
        elif destination.final == "found":
            self._look(destination, arrived)
        else:
            self._commit(destination, arrived)
        return "ok"

    def _look(self, destination: Destination, arrived: list[Delivery]) -> None:
        found, why = self._found(destination, arrived)
        if self._ledger.destinations.of(destination.name).stopped:
            return  # it just turned out to be away: asked again when it is back, and not counted
        for delivery in arrived:
            asked = delivery.requests + 1
            if found is not None and delivery.sop_instance_uid in found:
                self._settle(delivery, _S.FOUND, "found by C-FIND")
            elif asked < destination.confirm_requests:
                self._ledger.deliveries.confirmed(
                    delivery, delivery.state, self._clock(), text=why or "not found yet", requests=asked,
                    confirm_at=self._clock() + _wait(destination, asked),
                )
            elif found is None:
                self._settle(delivery, delivery.state, f"accepted; cannot be asked whether it is there: {why}")
            else:
                lost = _S.CANCELLED if delivery.withdrawn_as else _S.REJECTED  # what is taken back may well be gone
                self._settle(delivery, lost, f"accepted, and not found in {asked} queries")

    def _commit(self, destination: Destination, arrived: list[Delivery]) -> None:
        unanswered = [d for d in arrived if d.requests]
        found = self._found(destination, unanswered)[0] if unanswered else None
        if self._ledger.destinations.of(destination.name).stopped:
            return
        ask = []
        for delivery in arrived:
            is_found = found is not None and delivery.sop_instance_uid in found
            state = _S.FOUND if is_found and delivery.requests else delivery.state
            if delivery.requests >= destination.confirm_requests:
                known = "found" if state is _S.FOUND else "accepted"
                self._settle(delivery, state, f"{known}, not committed: {delivery.requests} requests without a report")
                continue
            if state is not delivery.state:
                self._ledger.deliveries.confirmed(
                    delivery, state, self._clock(), text="found, not committed yet", confirm_at=delivery.confirm_at,
                )
            ask.append(delivery)
        if ask:
            self._request(destination, ask)

    def _request(self, destination: Destination, asked: list[Delivery]) -> None:
        now, transaction_uid = self._clock(), f"2.25.{uuid.uuid4().int}"
        again_at = now + _wait(destination, max(d.requests for d in asked) + 1)
        self._ledger.commitments.requested(transaction_uid, destination.name, asked, now, again_at)
        try:
            commitment.request(
                deliver.remote_of(destination), transaction_uid, [(d.sop_class_uid, d.sop_instance_uid) for d in asked],
                self._reported, _LISTEN_S,
            )
        except (Transient, Permanent) as error:
            _LOG.warning("commitment_not_requested", destination=destination.name, code=error.code)
            if self._note_away(destination, error):
                self._ledger.commitments.not_asked(transaction_uid, now)
            else:
                self._ledger.commitments.refused(transaction_uid, f"accepted; commitment not requested: {error}")
        else:
            _LOG.info("commitment_requested", destination=destination.name, instances=len(asked))

    def _reported(self, answer: CommitmentAnswer) -> bool:
        return self._ledger.commitments.report(answer.transaction_uid, answer.committed, answer.failed, self._clock())

    def _found(self, destination: Destination, asked: list[Delivery]) -> tuple[Collection[str] | None, str]:
        """Return which of these the destination finds, or None and why it could not be asked."""
        found: set[str] = set()
        try:
            with find.querying(deliver.remote_of(destination)) as query:
                for series in {d.series_instance_uid for d in asked}:
                    study = self._ledger.revisions.get(asked[0].revision_id).study_instance_uid
                    found |= {str(match.get("SOPInstanceUID", "")) for match in query.instances(study, series)}
        except (Transient, Permanent) as error:
            _LOG.warning("query_failed", destination=destination.name, code=error.code)
            self._note_away(destination, error)
            return None, str(error)
        return found, ""

    def _note_away(self, destination: Destination, error: Transient | Permanent) -> bool:
        """Say whether there was no association at all: then the destination is away, or refuses us."""
        if error.code not in NO_ASSOCIATION:
            return False
        note_away(self._ledger, destination, self._clock(), refuses=isinstance(error, Permanent), text=str(error))
        return True

    def _settle(self, delivery: Delivery, state: DeliveryState, text: str) -> None:
        self._ledger.deliveries.confirmed(delivery, state, self._clock(), text=text)


def _wait(destination: Destination, asked: int) -> float:
    return deliver.delay(asked, destination.confirm_after_s, _CAP_S, destination.name)
