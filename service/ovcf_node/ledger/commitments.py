"""Storage commitment that we ask of destinations: requests, the reports that came back, and what they mean."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, insert, select, update

from ovcf_node.domain.states import DeliveryState
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.deliveries import ARRIVED, JOINED, Delivery, delivery_of
from ovcf_node.ledger.events import note
from ovcf_node.ledger.schema import commitment_reports, commitments, deliveries, results, revisions

_NO_SUCH_OBJECT, _RESOURCE_LIMITATION = 0x0112, 0x0213
_OPEN = (DeliveryState.ACCEPTED, DeliveryState.FOUND)


@dataclass(frozen=True)
class CommitmentReport:
    """One N-EVENT-REPORT; `failed` is SOP Instance UID -> Failure Reason (0008,1197)."""

    id: int
    transaction_uid: str
    destination: str
    committed: tuple[str, ...]
    failed: Mapping[str, int]


class Commitments:
    """The tables `commitments` and `commitment_reports`, and what they change in `deliveries`."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def requested(
        self, transaction_uid: str, destination: str, asked: Sequence[Delivery], now: float, confirm_at: float,
    ) -> None:
        """Persist a request before it is sent; without a report the destination is asked again at `confirm_at`."""
        with self._engine.begin() as connection:
            connection.execute(
                insert(commitments).values(transaction_uid=transaction_uid, destination=destination, requested_at=now)
            )
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id.in_([d.id for d in asked]), deliveries.c.state.in_(_OPEN))
                .values(transaction_uid=transaction_uid, requests=deliveries.c.requests + 1, confirm_at=confirm_at)
            )

    def not_asked(self, transaction_uid: str, confirm_at: float) -> None:
        """Take a request back that never reached its destination: it counts for nothing, and is made again."""
        self._said(transaction_uid, requests=deliveries.c.requests - 1, confirm_at=confirm_at)

    def refused(self, transaction_uid: str, text: str) -> None:
        """Record what a destination said to a request that it did not take."""
        self._said(transaction_uid, text=text)

    def _said(self, transaction_uid: str, **values) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.transaction_uid == transaction_uid, deliveries.c.state.in_(_OPEN))
                .values(**values)
            )

    def report(self, transaction_uid: str, committed: Sequence[str], failed: Mapping[str, int], now: float) -> bool:
        """Append a report as it came; durable when this returns. False for a transaction that is not ours."""
        with self._engine.begin() as connection:
            this = commitments.c.transaction_uid == transaction_uid
            if not connection.execute(select(commitments.c.transaction_uid).where(this)).first():
                return False
            connection.execute(
                insert(commitment_reports).values(
                    transaction_uid=transaction_uid, at=now, committed=json.dumps(list(committed)),
                    failed=json.dumps(dict(failed)),
                )
            )
            return True

    def unapplied(self) -> list[CommitmentReport]:
        """Return the reports whose meaning is not recorded yet, in order of arrival."""
        query = (
            select(commitment_reports.c.id, commitment_reports.c.transaction_uid, commitments.c.destination,
                   commitment_reports.c.committed, commitment_reports.c.failed)
            .join(commitments, commitments.c.transaction_uid == commitment_reports.c.transaction_uid)
            .where(commitment_reports.c.applied_at.is_(None))
            .order_by(commitment_reports.c.id)
        )
        with reading(self._engine) as connection:
            return [
                CommitmentReport(number, uid, destination, tuple(json.loads(committed)), json.loads(failed))
                for number, uid, destination, committed, failed in connection.execute(query)
            ]

    def apply(
        self, report: CommitmentReport, now: float, resend_at: Callable[[Delivery], float | None],
    ) -> dict[str, int]:
        """Let a report become states of deliveries, at once and once; returns how many came into each.

        What is committed is committed, whichever request it answers. A failure counts only for the newest request that
        names the object: it is sent again when `resend_at` says, or given up where that is None. What was withdrawn or
        replaced is sent to nobody again: it is cancelled where the destination says that it does not have it, and else
        stays as accepted, so that a rejection note still names it there.
        """
        counts: dict[str, int] = {}
        mine = (deliveries.c.destination == report.destination, deliveries.c.state.in_(ARRIVED))
        with self._engine.begin() as connection:
            taken = connection.execute(
                update(commitment_reports)
                .where(commitment_reports.c.id == report.id, commitment_reports.c.applied_at.is_(None))
                .values(applied_at=now)
            )
            if taken.rowcount != 1:
                return counts
            about = [*report.committed, *report.failed]
            rows = connection.execute(JOINED.where(*mine, results.c.sop_instance_uid.in_(about)))
            for delivery in [delivery_of(row) for row in rows]:
                reason = report.failed.get(delivery.sop_instance_uid)
                if delivery.state is DeliveryState.COMMITTED:
                    continue
                revision = connection.execute(
                    select(revisions.c.series_instance_uid, revisions.c.study_instance_uid, revisions.c.state)
                    .where(revisions.c.id == delivery.revision_id)
                ).one()
                if reason is None:
                    values = {"state": DeliveryState.COMMITTED, "text": "committed", "confirm_at": None}
                elif reason == _RESOURCE_LIMITATION or delivery.transaction_uid != report.transaction_uid:
                    continue  # it is asked again later; it was asked or sent again since
                else:
                    # The images of a reading stay in force beside its second reading, which makes only the report anew.
                    replaced = revision.state == "SUPERSEDED" and delivery.role == "sr"
                    unwanted = replaced or delivery.withdrawn_as is not None
                    values = _failure(delivery, reason, unwanted, resend_at(delivery))
                connection.execute(
                    update(deliveries).where(deliveries.c.id == delivery.id).values(updated_at=now, **values)
                )
                counts[values["state"]] = counts.get(values["state"], 0) + 1
                note(connection, now, "commitment", f"{delivery.role} -> {delivery.destination}: {values['state']}",
                     revision.series_instance_uid, revision.study_instance_uid)
        return counts


def _failure(delivery: Delivery, reason: int, unwanted: bool, resend_at: float | None) -> dict:
    text = f"not committed: 0x{reason:04X} {_REASONS.get(reason, 'failure')}"
    if unwanted:
        gone = reason == _NO_SUCH_OBJECT
        return {"state": DeliveryState.CANCELLED if gone else delivery.state, "text": text, "confirm_at": None}
    if resend_at is None:
        return {"state": DeliveryState.REJECTED, "text": f"{text}, {delivery.requests} times", "confirm_at": None}
    return {"state": DeliveryState.PENDING, "text": text, "confirm_at": None, "next_attempt_at": resend_at}


_REASONS = {  # PS3.3 C.14.1.1
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class / instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
