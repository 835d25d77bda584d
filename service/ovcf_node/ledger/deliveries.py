"""Results and their deliveries: stored together by the worker, advanced by the sender."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, Engine, Select, insert, or_, select, update

from ovcf_node.domain.states import DeliveryState, check_delivery_move
from ovcf_node.domain.withdrawal import NOTE_ROLE, Title
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.events import note
from ovcf_node.ledger.schema import deliveries, destinations, holds, results, revisions


@dataclass(frozen=True)
class Result:
    """One encoded object; `dialect` is empty where it is the same in every dialect."""

    revision_id: int
    role: str
    dialect: str
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Delivery:
    """One object on its way to one destination."""

    id: int
    revision_id: int
    destination: str
    position: int
    state: DeliveryState
    attempts: int
    next_attempt_at: float
    updated_at: float
    status: int | None
    text: str | None
    role: str
    sop_instance_uid: str
    sop_class_uid: str
    path: str
    sha256: str
    dialect: str
    series_instance_uid: str  # of the object
    confirm_at: float | None
    requests: int
    transaction_uid: str | None
    withdrawn_as: str | None = None


JOINED = select(
    *(deliveries.c[name] for name in ("id", "revision_id", "destination", "position", "state", "attempts",
                                      "next_attempt_at", "updated_at", "status", "text", "confirm_at", "requests",
                                      "transaction_uid", "withdrawn_as")),
    *(results.c[name] for name in ("role", "sop_instance_uid", "sop_class_uid", "path", "sha256", "dialect",
                                   "series_instance_uid")),
).join(results, results.c.id == deliveries.c.result_id)

UNSENT = (DeliveryState.PENDING, DeliveryState.REJECTED)
ARRIVED = (DeliveryState.ACCEPTED, DeliveryState.FOUND, DeliveryState.COMMITTED)


def settled() -> ColumnElement[bool]:
    """Return the condition on `deliveries` that nothing more is to happen to one by itself.

    It is what its destination declares as final (accepted, found or committed), or refused, or cancelled.
    """
    return (deliveries.c.state != DeliveryState.PENDING) & deliveries.c.confirm_at.is_(None)


def stopped() -> ColumnElement[bool]:
    """Return the condition on `deliveries` that nothing is sent to their destination now: it is away or held."""
    return (
        select(destinations.c.name)
        .where(
            destinations.c.name == deliveries.c.destination,
            destinations.c.away_since.is_not(None) | destinations.c.held_since.is_not(None),
        )
        .exists()
    )


def delivery_of(row) -> Delivery:
    values = dict(row._mapping)
    values["state"] = DeliveryState(values["state"])
    return Delivery(**values)


def not_a_note() -> ColumnElement[bool]:
    """Hold for deliveries of results proper."""
    return ~select(results.c.id).where(results.c.id == deliveries.c.result_id, results.c.role == NOTE_ROLE).exists()


def cancel_unsent(
    connection: Connection, revision_ids: Sequence[int] | Select, now: float,
    states: Sequence[DeliveryState] = (DeliveryState.PENDING,),
) -> None:
    """Cancel what revisions have not sent yet, inside the transaction that supersedes them; not their rejection notes."""
    connection.execute(
        update(deliveries)
        .where(deliveries.c.revision_id.in_(revision_ids), deliveries.c.state.in_(states), not_a_note())
        .values(state=DeliveryState.CANCELLED, updated_at=now)
    )


def carry_undelivered(connection: Connection, old_id: int, new_id: int, now: float) -> None:
    """Let a second reading deliver what the reading has not: its images; its report, superseded, is cancelled.

    The rows move, so that everything that holds for a revision (order, retry, cancelling) holds for them.
    """
    undelivered = deliveries.c.state.in_(UNSENT)
    images = select(results.c.id).where(results.c.role != "sr")
    connection.execute(
        update(deliveries)
        .where(deliveries.c.revision_id == old_id, undelivered, deliveries.c.result_id.in_(images))
        .values(revision_id=new_id)
    )
    cancel_unsent(connection, [old_id], now)


def add_results(
    connection: Connection, encoded: Iterable[Result], plan: Mapping[str, Sequence[str]], now: float, *,
    first_position: int = 0,
) -> None:
    """Store results and, per destination, the deliveries of the SOP Instance UIDs in `plan`, in that order.

    Repeating it after a crash changes nothing: a result is known by its UID.
    """
    for result in encoded:
        if connection.execute(select(results.c.id).where(results.c.sop_instance_uid == result.sop_instance_uid)).first():
            continue
        connection.execute(insert(results).values(**asdict(result)))
    for destination, uids in plan.items():
        for position, uid in enumerate(uids, first_position):
            row = connection.execute(
                select(results.c.id, results.c.revision_id).where(results.c.sop_instance_uid == uid)
            ).one()
            known = connection.execute(
                select(deliveries.c.id).where(
                    deliveries.c.result_id == row.id, deliveries.c.destination == destination
                )
            ).first()
            if not known:
                connection.execute(
                    insert(deliveries).values(
                        revision_id=row.revision_id, result_id=row.id, destination=destination, position=position,
                        state=DeliveryState.PENDING, attempts=0, next_attempt_at=now, updated_at=now,
                    )
                )


class Deliveries:
    """The `results` and `deliveries` tables."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def _select(self, *conditions) -> list[Delivery]:
        query = JOINED.where(*conditions).order_by(deliveries.c.revision_id, deliveries.c.position)
        with reading(self._engine) as connection:
            return [delivery_of(row) for row in connection.execute(query)]

    def of_revision(self, revision_id: int, destination: str | None = None) -> list[Delivery]:
        """Return the deliveries of a revision in sending order."""
        conditions = [deliveries.c.revision_id == revision_id]
        if destination is not None:
            conditions.append(deliveries.c.destination == destination)
        return self._select(*conditions)

    def due(self, now: float) -> list[Delivery]:
        """Return the pending deliveries whose time has come, whose study is not held, whose destination is not stopped.

        Nothing that was withdrawn, whatever left it pending.
        """
        held = (
            select(revisions.c.id)
            .join(holds, holds.c.study_instance_uid == revisions.c.study_instance_uid)
            .where(revisions.c.id == deliveries.c.revision_id, holds.c.lifted_at.is_(None))
        )
        return self._select(
            deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_attempt_at <= now,
            deliveries.c.withdrawn_as.is_(None), ~held.exists(), ~stopped(),
        )

    def held(self, revision_id: int) -> bool:
        """Say whether the study of a revision is held."""
        query = (
            select(holds.c.study_instance_uid)
            .join(revisions, holds.c.study_instance_uid == revisions.c.study_instance_uid)
            .where(revisions.c.id == revision_id, holds.c.lifted_at.is_(None))
        )
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def finished(
        self, delivery: Delivery, state: DeliveryState, now: float, *, status: int | None, text: str,
        confirm_at: float | None = None,
    ) -> None:
        """Record the destination's answer. One that was cancelled while it was on the wire did arrive all the same.

        confirm_at  when to ask whether the destination keeps it; None where the answer is final
        """
        check_delivery_move(delivery.state, state)
        self._update(delivery, now, state=state, status=status, text=text, attempts=delivery.attempts + 1,
                     confirm_at=confirm_at)

    def confirmed(
        self, delivery: Delivery, state: DeliveryState, now: float, *, text: str, confirm_at: float | None = None,
        requests: int | None = None,
    ) -> None:
        """Record what is known of an object that arrived, unless it was asked again since.

        confirm_at  when to ask next; None: nothing more will be asked
        """
        values = {"text": text, "confirm_at": confirm_at, "requests": delivery.requests if requests is None else requests}
        unasked = deliveries.c.requests == delivery.requests
        if state is not delivery.state:
            check_delivery_move(delivery.state, state)
            self._update(delivery, now, unasked, state=state, **values)
            return
        with self._engine.begin() as connection:  # a question is no event, and does not change when it was taken
            this = (deliveries.c.id == delivery.id, deliveries.c.state == state, unasked)
            connection.execute(update(deliveries).where(*this).values(**values))

    def to_confirm(self, now: float) -> list[Delivery]:
        """Return what arrived and is not final, of which the destination should be asked by now."""
        return self._select(deliveries.c.confirm_at <= now, deliveries.c.state.in_(ARRIVED), ~stopped())

    def fall_back(self, delivery: Delivery, dialect: str, now: float, *, status: int | None, text: str) -> bool:
        """Send the same report in another dialect instead; False where it was not encoded in that dialect."""
        check_delivery_move(delivery.state, DeliveryState.CANCELLED)
        with self._engine.begin() as connection:
            other = connection.execute(
                select(results.c.id).where(
                    results.c.revision_id == select(results.c.revision_id)
                    .where(results.c.sop_instance_uid == delivery.sop_instance_uid).scalar_subquery(),
                    results.c.role == delivery.role, results.c.dialect == dialect,
                )
            ).scalar()
            if other is None:
                return False
            changed = connection.execute(
                update(deliveries)
                .where(deliveries.c.id == delivery.id, deliveries.c.state == delivery.state)
                .values(state=DeliveryState.CANCELLED, status=status, attempts=delivery.attempts + 1, updated_at=now,
                        text=f"{text}; sent as {dialect} instead")
            ).rowcount
            known = connection.execute(
                select(deliveries.c.id).where(
                    deliveries.c.result_id == other, deliveries.c.destination == delivery.destination
                )
            ).first()
            if changed and not known:
                connection.execute(insert(deliveries).values(
                    revision_id=delivery.revision_id, result_id=other, destination=delivery.destination,
                    position=delivery.position, state=DeliveryState.PENDING, attempts=0, next_attempt_at=now, updated_at=now,
                ))
                self._note(connection, delivery, f"another dialect: {dialect}", now)
        return True

    def again(self, delivery: Delivery, now: float, *, next_attempt_at: float, status: int | None, text: str) -> None:
        """Record a failed attempt, unless a newer one is recorded; the row waits, nobody sleeps."""
        self._update(delivery, now, deliveries.c.attempts == delivery.attempts, status=status, text=text,
                     attempts=delivery.attempts + 1, next_attempt_at=next_attempt_at)

    def _update(self, delivery: Delivery, now: float, *conditions, **values) -> None:
        arrived = values.get("state") is DeliveryState.ACCEPTED
        expected = (delivery.state, DeliveryState.CANCELLED) if arrived else (delivery.state,)
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(deliveries)
                .where(deliveries.c.id == delivery.id, deliveries.c.state.in_(expected), *conditions)
                .values(updated_at=now, **values)
            ).rowcount
            if changed:
                self._note(connection, delivery, values.get("state", "retry"), now)

    @staticmethod
    def _note(connection: Connection, delivery: Delivery, what: str, now: float) -> None:
        series, study = connection.execute(
            select(revisions.c.series_instance_uid, revisions.c.study_instance_uid).where(
                revisions.c.id == delivery.revision_id
            )
        ).one()
        note(connection, now, "delivery", f"{delivery.role} -> {delivery.destination}: {what}", series, study)

    def retry(self, revision_id: int, now: float, *, beside: int | None = None) -> int:
        """Try rejected and waiting deliveries again at once; returns how many. Nothing that was withdrawn.

        With `beside`, the reading that this revision is a second one of, also the images of that: they stay in force.
        """
        images = select(results.c.id).where(results.c.role != "sr")
        mine = deliveries.c.revision_id == revision_id
        if beside is not None:
            mine = or_(mine, (deliveries.c.revision_id == beside) & deliveries.c.result_id.in_(images))
        with self._engine.begin() as connection:
            return connection.execute(
                update(deliveries)
                .where(mine, deliveries.c.state.in_(UNSENT), deliveries.c.withdrawn_as.is_(None))
                .values(state=DeliveryState.PENDING, next_attempt_at=now, updated_at=now, requests=0)
            ).rowcount

    def result_series(self, revision_id: int) -> set[str]:
        """Return the series that the objects of a revision belong to; they are the same over all its revisions."""
        return {result.series_instance_uid for result in self.results_of(revision_id)}

    def known_instances(self, series: Collection[str]) -> set[str]:
        """Return the SOP Instance UIDs of every object that was ever made for these series."""
        query = select(results.c.sop_instance_uid).where(results.c.series_instance_uid.in_(series))
        with reading(self._engine) as connection:
            return {uid for (uid,) in connection.execute(query)}

    def results_of(self, revision_id: int) -> list[Result]:
        """Return the stored objects of a revision."""
        query = select(*(results.c[name] for name in Result.__annotations__)).where(results.c.revision_id == revision_id)
        with reading(self._engine) as connection:
            return [Result(*row) for row in connection.execute(query.order_by(results.c.id))]

    def arrived_report(self, series_instance_uid: str, before_number: int, dialect: str) -> Result | None:
        """Return the newest SR of an earlier revision, in this dialect, that some destination has taken.

        A report that was withdrawn for what it was made from is nobody's predecessor: it may be another patient's.
        """
        query = (
            select(*(results.c[name] for name in Result.__annotations__))
            .join(revisions, revisions.c.id == results.c.revision_id)
            .where(
                revisions.c.series_instance_uid == series_instance_uid, revisions.c.number < before_number,
                results.c.role == "sr", results.c.dialect == dialect,
                select(deliveries.c.id)
                .where(
                    deliveries.c.result_id == results.c.id, deliveries.c.state.in_(ARRIVED),
                    or_(deliveries.c.withdrawn_as.is_(None), deliveries.c.withdrawn_as == Title.QUALITY),
                )
                .exists(),
            )
            .order_by(revisions.c.number.desc())
            .limit(1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
            return Result(*row) if row else None
