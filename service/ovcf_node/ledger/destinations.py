"""Destinations that get nothing now: away (found out by the sender) or held (by a person). An outage is one row here."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, case, insert, select, update
from sqlalchemy.exc import IntegrityError

from ovcf_node.domain.states import DeliveryState
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.events import note
from ovcf_node.ledger.schema import deliveries, destinations


@dataclass(frozen=True)
class DestinationStanding:
    """How one destination stands; times in seconds since the epoch.

    refuses   it answers and will not have us: a person must mend that
    text      its last words, or the network's
    failures  in a row, until something is taken
    probe_at  when it is tried next
    """

    name: str
    held_since: float | None = None
    held_by: str | None = None
    away_since: float | None = None
    refuses: bool = False
    text: str | None = None
    failures: int = 0
    probe_at: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether nothing is sent there now."""
        return self.held_since is not None or self.away_since is not None

    @property
    def word(self) -> str:
        """How people call it."""
        if self.held_since is not None:
            return "held"
        if self.away_since is not None:
            return "refuses us" if self.refuses else "away"
        return "served"


_COLUMNS = [destinations.c[name] for name in DestinationStanding.__annotations__]


class Destinations:
    """The `destinations` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def of(self, name: str) -> DestinationStanding:
        """Return how a destination stands; one that never had trouble has no row."""
        return self.all().get(name, DestinationStanding(name))

    def all(self) -> dict[str, DestinationStanding]:
        """Return every destination that ever was away or held, by name."""
        with reading(self._engine) as connection:
            rows = [DestinationStanding(*row) for row in connection.execute(select(*_COLUMNS))]
        return {row.name: row for row in rows}

    def away(self, name: str, now: float, *, probe_at: float, refuses: bool, text: str) -> None:
        """Record that a destination did not answer, or refused us: nothing is sent until it is back."""
        this = destinations.c.name == name
        with self._row(name) as connection:
            before = connection.execute(select(destinations.c.away_since, destinations.c.refuses).where(this)).one()
            connection.execute(
                update(destinations).where(this).values(
                    away_since=case((destinations.c.away_since.is_(None), now), else_=destinations.c.away_since),
                    refuses=refuses, text=text, failures=destinations.c.failures + 1, probe_at=probe_at,
                )
            )
            if before.away_since is None or before.refuses != refuses:
                note(connection, now, "destination", f"{name}: {'refuses us' if refuses else 'away'}")

    def back(self, name: str, now: float) -> None:
        """Record that it answers: what waits for it is due now. `failures` stays until something is taken."""
        with self._row(name) as connection:
            connection.execute(
                update(destinations).where(destinations.c.name == name)
                .values(away_since=None, refuses=False, probe_at=None)
            )
            _due_now(connection, name, now)
            note(connection, now, "destination", f"{name}: answers again")

    def took(self, name: str) -> None:
        """Record that something was taken: the next outage begins with the shortest delay again."""
        with self._engine.begin() as connection:
            connection.execute(
                update(destinations)
                .where(destinations.c.name == name)
                .values(failures=0, text=None, away_since=None, refuses=False, probe_at=None)
            )

    def probe(self, name: str, probe_at: float) -> None:
        """Set when a destination that is away is tried next."""
        with self._engine.begin() as connection:
            connection.execute(
                update(destinations)
                .where(destinations.c.name == name, destinations.c.away_since.is_not(None))
                .values(probe_at=probe_at)
            )

    def hold(self, name: str, now: float, who: str) -> bool:
        """Send nothing there until it is released; False if it is held already."""
        with self._row(name) as connection:
            changed = connection.execute(
                update(destinations)
                .where(destinations.c.name == name, destinations.c.held_since.is_(None))
                .values(held_since=now, held_by=who)
            ).rowcount
            if changed:
                note(connection, now, "destination", f"{name}: held by {who}")
            return bool(changed)

    def release(self, name: str, now: float, who: str) -> bool:
        """End a hold, what waited is due now; False if there was none."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(destinations)
                .where(destinations.c.name == name, destinations.c.held_since.is_not(None))
                .values(held_since=None, held_by=None)
            ).rowcount
            if changed:
                _due_now(connection, name, now)
                note(connection, now, "destination", f"{name}: released by {who}")
            return bool(changed)

    def _row(self, name: str):
        """Open a transaction in which the destination has a row."""
        try:
            with self._engine.begin() as connection:
                if not connection.execute(select(destinations.c.name).where(destinations.c.name == name)).first():
                    connection.execute(insert(destinations).values(name=name, refuses=False, failures=0))
        except IntegrityError:
            pass  # another process was quicker
        return self._engine.begin()


def _due_now(connection: Connection, name: str, now: float) -> None:
    connection.execute(
        update(deliveries)
        .where(deliveries.c.destination == name, deliveries.c.state == DeliveryState.PENDING)
        .values(next_attempt_at=now)
    )
