"""What no longer counts: delivered objects that a rejection note must name, and source instances that were withdrawn.

A delivery is withdrawn under the title of the note that will name it (`withdrawn_as`), and noted once that note is stored
and on its way (`withdrawn_by`). Only what a destination took is ever named to it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Select, func, or_, select, update

from ovcf_node.domain.states import DeliveryState
from ovcf_node.domain.withdrawal import GRAVITY, Title
from ovcf_node.ledger.catalogue import queries
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.deliveries import ARRIVED, UNSENT, Result, add_results, cancel_unsent, not_a_note
from ovcf_node.ledger.events import note
from ovcf_node.ledger.schema import deliveries, holds, instances, results, revisions


@dataclass(frozen=True)
class Withdrawn:
    """What one note has to name: objects of one source series that one destination took, withdrawn for one reason."""

    series_instance_uid: str
    study_instance_uid: str
    destination: str
    title: Title


def withdraw(connection: Connection, revision_ids: Sequence[int] | Select, title: Title) -> None:
    """Withdraw every object of these revisions, inside the transaction that decides so.

    What was rejected for its quality, and now for a graver reason, is told again, even where an earlier note was sent;
    a graver reason stays.
    """
    standing = deliveries.c.withdrawn_as.is_(None)
    if title is not Title.QUALITY:
        standing = or_(standing, deliveries.c.withdrawn_as == Title.QUALITY)
    connection.execute(
        update(deliveries)
        .where(deliveries.c.revision_id.in_(revision_ids), standing, not_a_note())
        .values(withdrawn_as=title, withdrawn_by=None)
    )


def withdraw_series(connection: Connection, series_instance_uid: str, title: Title) -> None:
    """Withdraw whatever was made from a source series, and show it to no query, inside the transaction that decides so."""
    queries.withdraw_series(connection, series_instance_uid)
    withdraw(connection, select(revisions.c.id).where(revisions.c.series_instance_uid == series_instance_uid), title)


def aggravate(connection: Connection, sop_instance_uid: str, title: Title) -> None:
    """Tell again what was withdrawn for a milder reason of the series of a source instance that counts no more.

    What stands of that series now, made of the rest, is not touched.
    """
    withdrawn = (
        instances.c.sop_instance_uid == sop_instance_uid, instances.c.kind == "withdrawn",
        instances.c.kind != "discarded",  # says nothing more, and lets SQLite use the index of what is not
    )
    series = select(instances.c.series_instance_uid).where(*withdrawn)
    made_of_it = select(revisions.c.id).where(revisions.c.series_instance_uid.in_(series))
    milder = GRAVITY[:GRAVITY.index(title)]
    connection.execute(
        update(deliveries)
        .where(deliveries.c.revision_id.in_(made_of_it), deliveries.c.withdrawn_as.in_(milder), not_a_note())
        .values(withdrawn_as=title, withdrawn_by=None)
    )


class Withdrawals:
    """The `withdrawn_*` columns of `deliveries`."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def recall(self, revision_ids: Sequence[int], title: Title, now: float, why: str) -> None:
        """Withdraw the results of revisions that stand: unsent ones are cancelled, no query shows them any more, and the
        judge sends rejection notes to whoever took them. `why` goes into their history, without patient identity."""
        with self._engine.begin() as connection:
            withdraw(connection, revision_ids, title)
            queries.withdraw_entries(connection, revision_ids)
            rows = connection.execute(
                select(revisions.c.id, revisions.c.series_instance_uid, revisions.c.study_instance_uid)
                .where(revisions.c.id.in_(revision_ids))
            ).all()
            for row in rows:
                cancel_unsent(connection, [row.id], now, UNSENT)
                note(connection, now, "withdrawn", f"{title}: {why}", row.series_instance_uid, row.study_instance_uid)

    def due(self, destinations: Collection[str]) -> list[Withdrawn]:
        """Return what these destinations took, was withdrawn, and is in no note yet; not of held studies. Oldest first."""
        held = select(holds.c.study_instance_uid).where(
            holds.c.study_instance_uid == revisions.c.study_instance_uid, holds.c.lifted_at.is_(None)
        )
        columns = (
            revisions.c.series_instance_uid, revisions.c.study_instance_uid, deliveries.c.destination,
            deliveries.c.withdrawn_as,
        )
        query = (
            select(*columns).join(revisions, revisions.c.id == deliveries.c.revision_id)
            .where(deliveries.c.destination.in_(destinations), *_UNNOTED, ~held.exists())
            .group_by(*columns).order_by(func.min(deliveries.c.id))
        )
        with reading(self._engine) as connection:
            return [Withdrawn(s, t, d, Title(title)) for s, t, d, title in connection.execute(query)]

    def objects(self, of: Withdrawn) -> list[tuple[int, Result]]:
        """Return what the note must name: delivery and object, in the order in which they were made."""
        query = (
            select(deliveries.c.id, *(results.c[name] for name in Result.__annotations__))
            .join(results, results.c.id == deliveries.c.result_id)
            .join(revisions, revisions.c.id == deliveries.c.revision_id)
            .where(
                revisions.c.series_instance_uid == of.series_instance_uid, deliveries.c.destination == of.destination,
                *_UNNOTED, deliveries.c.withdrawn_as == of.title,
            )
            .order_by(results.c.id)
        )
        with reading(self._engine) as connection:
            return [(row[0], Result(*row[1:])) for row in connection.execute(query)]

    def noted(self, of: Withdrawn, rejection_note: Result, delivery_ids: Sequence[int], now: float) -> None:
        """Record that a stored note names these deliveries, and plan its own, at once."""
        with self._engine.begin() as connection:
            uid = rejection_note.sop_instance_uid
            add_results(connection, [rejection_note], {of.destination: [uid]}, now, first_position=_AFTER_ALL)
            note_id = select(results.c.id).where(results.c.sop_instance_uid == uid).scalar_subquery()
            connection.execute(update(deliveries).where(deliveries.c.id.in_(delivery_ids)).values(withdrawn_by=note_id))
            text = f"{of.title}: rejection note for {len(delivery_ids)} objects -> {of.destination}"
            note(connection, now, "rejection_note", text, of.series_instance_uid, of.study_instance_uid)

    def cancel_notes(self, destinations: Collection[str], now: float) -> None:
        """Send no more notes to destinations that do not want them."""
        unsent = deliveries.c.state.in_(UNSENT)
        with self._engine.begin() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.destination.in_(destinations), unsent, ~not_a_note())
                .values(state=DeliveryState.CANCELLED, updated_at=now)
            )


_AFTER_ALL = 100  # position of a note among the deliveries of a revision
_UNNOTED = (
    deliveries.c.withdrawn_as.is_not(None), deliveries.c.withdrawn_by.is_(None), deliveries.c.state.in_(ARRIVED),
)
