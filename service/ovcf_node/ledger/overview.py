"""What the status page asks: every answer comes from an index and does not grow with what is done and delivered."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.deliveries import ARRIVED, JOINED, Delivery, delivery_of
from ovcf_node.ledger.revision import COLUMNS, Revision, revision_of
from ovcf_node.ledger.schema import deliveries, instances, revisions

_OPEN = (
    RevisionState.RECEIVING, RevisionState.WAITING, RevisionState.COMPLETE, RevisionState.INFERRED, RevisionState.FAILED,
)


@dataclass(frozen=True)
class DestinationHealth:
    """How one destination fares. Times in seconds since the epoch; None where there is nothing.

    oldest_pending  since when the oldest undelivered object has been waiting
    words, status   what it said last when it did not accept something that is still open
    unconfirmed     how many it took that are not yet what it declares as final
    """

    pending: int
    rejected: int
    last_success: float | None
    oldest_pending: float | None
    words: str | None
    status: int | None
    unconfirmed: int = 0


class Overview:
    """Read-only questions over several tables."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def open(self, limit: int) -> list[Revision]:
        """Return the revisions somebody or something still has to move, those that changed last first."""
        query = select(*COLUMNS).where(revisions.c.state.in_(_OPEN)).order_by(revisions.c.updated_at.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [revision_of(row) for row in connection.execute(query)]

    def undelivered(self, state: DeliveryState, since: float, limit: int) -> list[Revision]:
        """Return the revisions in force with deliveries in `state` that changed after `since`, the latest first."""
        ids = (
            select(deliveries.c.revision_id)
            .where(deliveries.c.state == state, deliveries.c.updated_at >= since)
            .order_by(deliveries.c.updated_at.desc()).limit(limit)
        )
        query = select(*COLUMNS).where(
            revisions.c.id.in_(ids.scalar_subquery()), revisions.c.state != RevisionState.SUPERSEDED
        )
        with reading(self._engine) as connection:
            return [revision_of(row) for row in connection.execute(query)]

    def answered_by(self, bundle: str) -> list[Revision]:
        """Return the answered revisions that a bundle ("name" or "name@version") made, and those of which nothing is
        recorded: they were answered by an earlier version of the node."""
        column = revisions.c.bundle
        named = column == bundle if "@" in bundle else column.startswith(f"{bundle}@", autoescape=True)
        query = select(*COLUMNS).where(revisions.c.answered, named | column.is_(None)).order_by(revisions.c.id)
        with reading(self._engine) as connection:
            return [revision_of(row) for row in connection.execute(query)]

    def of_studies(self, study_instance_uids: Collection[str]) -> list[Revision]:
        """Return the newest revision of every series of these studies."""
        query = select(*COLUMNS).where(revisions.c.study_instance_uid.in_(study_instance_uids)).order_by(revisions.c.id)
        with reading(self._engine) as connection:
            rows = [revision_of(row) for row in connection.execute(query)]
        return list({row.series_instance_uid: row for row in rows}.values())

    def deliveries_of(self, revision_ids: Collection[int]) -> list[Delivery]:
        """Return the deliveries of these revisions in sending order."""
        query = JOINED.where(deliveries.c.revision_id.in_(revision_ids)).order_by(deliveries.c.position)
        with reading(self._engine) as connection:
            return [delivery_of(row) for row in connection.execute(query)]

    def changed_since(self, since: float, state: RevisionState) -> int:
        """Return how many revisions came into this state since then and are in it still."""
        query = select(func.count()).where(revisions.c.state == state, revisions.c.updated_at >= since)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def instances_of(self, series_instance_uids: Collection[str]) -> dict[str, int]:
        """Return how many instances these series have."""
        query = (
            select(instances.c.series_instance_uid, func.count())
            .where(instances.c.series_instance_uid.in_(series_instance_uids), instances.c.kind == "original")
            .group_by(instances.c.series_instance_uid)
        )
        with reading(self._engine) as connection:
            return {uid: count for uid, count in connection.execute(query)}

    def last_sent(self, calling_ae_title: str) -> float | None:
        """Return when a calling AE title last sent an instance."""
        query = select(func.max(instances.c.received_at)).where(instances.c.calling_ae_title == calling_ae_title)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def destination(self, name: str) -> DestinationHealth:
        """Return how a destination fares, configured or not."""
        mine = deliveries.c.destination == name
        unsettled = (DeliveryState.PENDING, DeliveryState.REJECTED)
        counts = (
            select(deliveries.c.state, func.count()).where(mine, deliveries.c.state.in_(unsettled))
            .group_by(deliveries.c.state)
        )
        # One question a state: together they would be a scan of everything that was ever delivered.
        successes = [select(func.max(deliveries.c.updated_at)).where(mine, deliveries.c.state == s) for s in ARRIVED]
        oldest = (
            select(func.min(revisions.c.updated_at)).join(deliveries, deliveries.c.revision_id == revisions.c.id)
            .where(mine, deliveries.c.state == DeliveryState.PENDING)
        )
        words = (
            select(deliveries.c.text, deliveries.c.status)
            .where(mine, deliveries.c.state.in_(unsettled), deliveries.c.attempts > 0)
            .order_by(deliveries.c.updated_at.desc(), deliveries.c.position).limit(1)
        )
        unconfirmed = select(func.count()).where(mine, deliveries.c.confirm_at.is_not(None))
        with reading(self._engine) as connection:
            found = {state: count for state, count in connection.execute(counts)}
            last = connection.execute(words).first()
            arrived = [at for at in (connection.execute(query).scalar() for query in successes) if at is not None]
            return DestinationHealth(
                found.get(DeliveryState.PENDING, 0), found.get(DeliveryState.REJECTED, 0),
                max(arrived, default=None), connection.execute(oldest).scalar(),
                last.text if last else None, last.status if last else None, connection.execute(unconfirmed).scalar_one(),
            )

    def pending_destinations(self) -> set[str]:
        """Return the names of destinations that something waits for, also of those no longer configured."""
        query = select(deliveries.c.destination).where(deliveries.c.state == DeliveryState.PENDING).distinct()
        with reading(self._engine) as connection:
            return set(connection.execute(query).scalars())
