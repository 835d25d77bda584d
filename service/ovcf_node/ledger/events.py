"""The history of every series: appended, never changed. Texts hold no patient identity."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, insert, select

from ovcf_node.ledger.database import reading
from ovcf_node.ledger.schema import events


@dataclass(frozen=True)
class Event:
    """One line of history."""

    at: float
    kind: str
    text: str


def note(
    connection: Connection, at: float, kind: str, text: str, series_instance_uid: str | None = None,
    study_instance_uid: str | None = None,
) -> None:
    """Append one event inside the transaction that makes it true."""
    connection.execute(
        insert(events).values(
            at=at, kind=kind, text=text, series_instance_uid=series_instance_uid, study_instance_uid=study_instance_uid
        )
    )


class Events:
    """The `events` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def add(self, at: float, kind: str, text: str, series_instance_uid: str, study_instance_uid: str) -> None:
        """Append one event that stands alone: what a person decided about a series, what was healed of it."""
        with self._engine.begin() as connection:
            note(connection, at, kind, text, series_instance_uid, study_instance_uid)

    def of_series(self, series_instance_uid: str) -> list[Event]:
        """Return the history of a series, oldest first."""
        return self._select(events.c.series_instance_uid == series_instance_uid)

    def of_study(self, study_instance_uid: str) -> list[Event]:
        """Return the history of a study, with what was decided about the whole of it, oldest first."""
        return self._select(events.c.study_instance_uid == study_instance_uid)

    def _select(self, condition) -> list[Event]:
        query = select(events.c.at, events.c.kind, events.c.text).where(condition).order_by(events.c.id)
        with reading(self._engine) as connection:
            return [Event(*row) for row in connection.execute(query)]
