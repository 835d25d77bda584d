"""Figures of the whole node, counted in the ledger at the moment of asking: states, queues, ages, durations.

Counts and times only, never an identity. Every query reads an index or the few rows that are unfinished, so that it costs
milliseconds however long the history is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, case, func, select

from ovcf_node.domain.states import DeliveryState, RevisionState
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.deliveries import not_a_note
from ovcf_node.ledger.schema import deliveries, holds, instances, revisions

_R = RevisionState
_TAKEN = (DeliveryState.ACCEPTED, DeliveryState.FOUND, DeliveryState.COMMITTED)
_RECENT = 1000  # the newest of a busy hour stand for it


@dataclass(frozen=True)
class SeriesCount:
    """How many series stand in one state for one reason; "" where a state needs none."""

    state: str
    reason_code: str
    count: int


@dataclass(frozen=True)
class Queue:
    """Unfinished series of one stage (receiving | waiting | reading) and priority; `oldest_at`: its last arrival."""

    stage: str
    stat: bool
    count: int
    oldest_at: float


@dataclass(frozen=True)
class DeliveryCount:
    """How many objects stand in one state at one destination."""

    destination: str
    state: str
    count: int


@dataclass(frozen=True)
class Answered:
    """When one series passed each stage; seconds since the epoch. `inferred_at` is None where nothing was read."""

    last_received_at: float
    analysis_started_at: float
    inferred_at: float | None
    answered_at: float


@dataclass(frozen=True)
class Delivered:
    """When one object's series had arrived and was answered, and when the destination took (or committed to) the object."""

    last_received_at: float
    answered_at: float
    delivered_at: float


class Figures:
    """Read-only counts over all tables."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def _rows(self, query) -> list:
        with reading(self._engine) as connection:
            return list(connection.execute(query))

    def received(self) -> int:
        """Return how many instances were ever recorded: the highest row number, which costs nothing to know.

        On PostgreSQL an instance that came twice counts twice: its number is spent before the row is found to be there.
        """
        return self._rows(select(func.coalesce(func.max(instances.c.id), 0)))[0][0]

    def last_received(self, calling_ae_titles: Iterable[str]) -> dict[str, float]:
        """Return when each of these calling AE titles last sent an instance; one that never did is left out."""
        newest = {
            title: self._rows(
                select(func.max(instances.c.received_at)).where(instances.c.calling_ae_title == title)
            )[0][0]
            for title in calling_ae_titles
        }
        return {title: at for title, at in newest.items() if at is not None}

    def series(self) -> list[SeriesCount]:
        """Count series by state and coded reason; superseded revisions and discarded series are no series any more."""
        code = func.coalesce(revisions.c.reason_code, "")
        query = (
            select(revisions.c.state, code, func.count())
            .where(revisions.c.state.in_([state for state in _R if state is not _R.SUPERSEDED]))
            .group_by(revisions.c.state, code)
        )
        return [SeriesCount(*row) for row in self._rows(query)]

    def outcomes(self, since: float) -> list[SeriesCount]:
        """Count the series answered after `since` by how they stand; what was superseded since is none any more."""
        code = func.coalesce(revisions.c.reason_code, "")
        # Not by state: SQLite would walk every series that was ever answered.
        query = select(revisions.c.state, code, func.count()).where(revisions.c.answered_at >= since)
        counts = [SeriesCount(*row) for row in self._rows(query.group_by(revisions.c.state, code))]
        return [c for c in counts if c.state in (_R.ENCODED, _R.NOT_ASSESSED)]

    def queues(self) -> list[Queue]:
        """Count what is not answered yet and not held for a person, by stage and priority."""
        stage = case(
            (revisions.c.state == _R.RECEIVING, "receiving"), (revisions.c.state == _R.WAITING, "waiting"), else_="reading"
        )
        unanswered = (revisions.c.state == _R.NOT_ASSESSED) & ~revisions.c.answered
        held = select(holds.c.study_instance_uid).where(
            holds.c.study_instance_uid == revisions.c.study_instance_uid, holds.c.lifted_at.is_(None)
        )
        query = (
            select(stage, revisions.c.stat, func.count(), func.min(revisions.c.last_received_at))
            .where(
                revisions.c.state.in_((_R.RECEIVING, _R.WAITING, _R.COMPLETE, _R.INFERRED)) | unanswered, ~held.exists()
            )
            .group_by(stage, revisions.c.stat)
        )
        return [Queue(name, bool(stat), count, oldest) for name, stat, count, oldest in self._rows(query)]

    def held(self) -> tuple[int, float | None]:
        """Return how many studies wait for a person, and since when the longest."""
        count, since = self._rows(select(func.count(), func.min(holds.c.since)).where(holds.c.lifted_at.is_(None)))[0]
        return count, since

    def deliveries(self) -> list[DeliveryCount]:
        """Count objects by destination and state."""
        query = select(deliveries.c.destination, deliveries.c.state, func.count()).group_by(
            deliveries.c.destination, deliveries.c.state
        )
        return [DeliveryCount(*row) for row in self._rows(query)]

    def oldest_pending(self) -> dict[str, float]:
        """Return, for each destination that is owed something, since when the longest; seconds since the epoch.

        What is withdrawn or of a study that is held for a person waits for no destination.
        """
        since = func.min(func.coalesce(revisions.c.answered_at, revisions.c.updated_at))
        held = select(holds.c.study_instance_uid).where(
            holds.c.study_instance_uid == revisions.c.study_instance_uid, holds.c.lifted_at.is_(None)
        )
        query = (
            select(deliveries.c.destination, since)
            .join(revisions, revisions.c.id == deliveries.c.revision_id)
            .where(deliveries.c.state == DeliveryState.PENDING, deliveries.c.withdrawn_as.is_(None), ~held.exists())
            .group_by(deliveries.c.destination)
        )
        return dict(tuple(row) for row in self._rows(query))

    def answered(self, since: float) -> list[Answered]:
        """Return the stage times of series answered after `since`, the newest first."""
        query = (
            select(*(revisions.c[name] for name in Answered.__annotations__))
            .where(revisions.c.answered_at >= since)
            .order_by(revisions.c.answered_at.desc())
            .limit(_RECENT)
        )
        return [Answered(*row) for row in self._rows(query)]

    def delivered(self, destination: str, since: float) -> list[Delivered]:
        """Return the times of objects that one destination took after `since`, the newest first.

        A second reading and a series that is read again begin when they were asked for, however old the images are.
        """
        opened, received = revisions.c.created_at, revisions.c.last_received_at
        begun = case(((revisions.c.number > 1) & (opened > received), opened), else_=received)
        query = (
            select(begun, revisions.c.answered_at, deliveries.c.updated_at)
            .join(revisions, revisions.c.id == deliveries.c.revision_id)
            .where(
                deliveries.c.destination == destination, deliveries.c.state.in_(_TAKEN),
                deliveries.c.updated_at >= since, revisions.c.answered_at.is_not(None), not_a_note(),
            )
            .order_by(deliveries.c.updated_at.desc())
            .limit(_RECENT)
        )
        return [Delivered(*row) for row in self._rows(query)]
