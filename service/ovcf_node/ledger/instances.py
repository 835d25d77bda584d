"""Received instances: recorded by the receiver, classified by the judge."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import Engine, and_, case, func, insert, select, true, update
from sqlalchemy.exc import IntegrityError

from ovcf_node.domain.series import Receipt
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.schema import instances, revisions


@dataclass(frozen=True)
class StoredInstance:
    """The part of a row that later stages need; `path` is empty once the file was purged."""

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    path: str
    digest: str
    patient_key: str
    received_at: float
    kind: str
    size: int


@dataclass(frozen=True)
class Arrival:
    """The newest arrival of one series."""

    series_instance_uid: str
    study_instance_uid: str
    through_instance_id: int
    received_at: float
    stat: bool


_COLUMNS = [instances.c[name] for name in StoredInstance.__annotations__]


class Instances:
    """The `instances` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def has_digest(self, sop_instance_uid: str, digest: str) -> bool:
        """Say whether exactly these bytes are already recorded under this UID."""
        query = select(instances.c.id).where(
            instances.c.sop_instance_uid == sop_instance_uid, instances.c.digest == digest,
            instances.c.kind != "discarded",
        )
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def record(self, receipt: Receipt) -> None:
        """Record one stored instance; it is durable when this returns.

        The first bytes of a SOP Instance UID are the original; other bytes are a variant until the judge has compared
        them. Recording the same bytes again changes nothing.
        """
        row = asdict(receipt) | {"received_at": receipt.received_at.timestamp()}
        for kind in ("original", "variant"):
            try:
                with self._engine.begin() as connection:
                    connection.execute(insert(instances).values(**row, kind=kind))
                    return
            except IntegrityError:
                # The unique indices decide, races included: the same bytes (done), or another original (a variant).
                if self.has_digest(receipt.sop_instance_uid, receipt.digest):
                    return
        raise AssertionError("a variant always fits beside the original")

    def originals(self, series_instance_uid: str, through: int | None = None) -> list[StoredInstance]:
        """Return the originals of a series in order of arrival, up to and including row `through`."""
        condition = and_(instances.c.series_instance_uid == series_instance_uid, instances.c.kind == "original")
        if through is not None:
            condition = and_(condition, instances.c.id <= through)
        return self._select(condition)

    def paths(self, series_instance_uid: str) -> set[str]:
        """Return where everything that ever came of a series was stored in the spool, whatever became of it."""
        query = select(instances.c.path).where(instances.c.series_instance_uid == series_instance_uid)
        with reading(self._engine) as connection:
            return {path for (path,) in connection.execute(query) if path}  # none: purged

    def series_since(self, instance_id: int) -> dict[str, int]:
        """Return every series of which rows came after one, and its newest row."""
        query = select(instances.c.series_instance_uid, func.max(instances.c.id)).where(instances.c.id > instance_id)
        with reading(self._engine) as connection:
            return {uid: newest for uid, newest in connection.execute(query.group_by(instances.c.series_instance_uid))}

    def first_path(self, series_instance_uid: str) -> str | None:
        """Return where the first original of a series lies in the spool; None once it was purged."""
        query = (
            select(instances.c.path)
            .where(instances.c.series_instance_uid == series_instance_uid, instances.c.kind == "original",
                   instances.c.path != "")
            .order_by(instances.c.id).limit(1)
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def count(self, series_instance_uid: str) -> int:
        """Return how many originals of a series are here."""
        query = select(func.count()).where(
            instances.c.series_instance_uid == series_instance_uid, instances.c.kind == "original"
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def original(self, sop_instance_uid: str) -> StoredInstance | None:
        """Return the original that holds a SOP Instance UID."""
        found = self._select(and_(instances.c.sop_instance_uid == sop_instance_uid, instances.c.kind == "original"))
        return found[0] if found else None

    def of_kind(self, kind: str, study_instance_uid: str | None = None) -> list[StoredInstance]:
        """Return instances of one kind, of one study or of all."""
        condition = instances.c.kind == kind
        if study_instance_uid is not None:
            condition = and_(condition, instances.c.study_instance_uid == study_instance_uid)
        return self._select(condition)

    def _select(self, condition) -> list[StoredInstance]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(*_COLUMNS).where(condition).order_by(instances.c.id))
            return [StoredInstance(*row) for row in rows]

    def set_kind(self, ids: Iterable[int], kind: str) -> None:
        """Classify instances."""
        with self._engine.begin() as connection:
            connection.execute(update(instances).where(instances.c.id.in_(list(ids))).values(kind=kind))

    def arrivals(self, since: int, series_instance_uid: str | None = None) -> list[Arrival]:
        """Return the series (or only one) with originals that no revision knows yet, looking at rows after `since`."""
        this = true() if series_instance_uid is None else instances.c.series_instance_uid == series_instance_uid
        newest = func.max(instances.c.id)
        known = (
            select(func.max(revisions.c.through_instance_id))
            .where(revisions.c.series_instance_uid == instances.c.series_instance_uid)
            .scalar_subquery()
        )
        query = (
            select(
                instances.c.series_instance_uid, func.min(instances.c.study_instance_uid), newest,
                func.max(instances.c.received_at), func.max(case((instances.c.stat, 1), else_=0)),
            )
            .where(instances.c.kind == "original", instances.c.id > since, this)
            .group_by(instances.c.series_instance_uid)
            .having(newest > func.coalesce(known, 0))
        )
        with reading(self._engine) as connection:
            return [Arrival(s, t, i, at, bool(stat)) for s, t, i, at, stat in connection.execute(query)]

    def discard_study(self, study_instance_uid: str) -> None:
        """Forget a study: nothing of it is read any more, and the same bytes count as new when they come again."""
        with self._engine.begin() as connection:
            connection.execute(
                update(instances).where(instances.c.study_instance_uid == study_instance_uid).values(kind="discarded")
            )

    def prefer_newest(self, study_instance_uid: str) -> None:
        """Let the conflicting instances of a study stand instead of those that came first."""
        mine = (instances.c.study_instance_uid == study_instance_uid) & (instances.c.kind == "conflict")
        with self._engine.begin() as connection:
            uids = [uid for (uid,) in connection.execute(select(instances.c.sop_instance_uid).where(mine).distinct())]
            for uid in uids:
                same = instances.c.sop_instance_uid == uid
                newest = connection.execute(select(func.max(instances.c.id)).where(same, instances.c.kind == "conflict"))
                chosen = newest.scalar_one()
                connection.execute(
                    update(instances)
                    .where(same, instances.c.id != chosen, instances.c.kind.in_(("original", "conflict")))
                    .values(kind="discarded")
                )
                connection.execute(update(instances).where(instances.c.id == chosen).values(kind="original"))

    def studies_of(self, series_instance_uid: str) -> set[str]:
        """Return the different studies that the originals of a series name; PS3.3 A.1.2 knows one."""
        query = select(instances.c.study_instance_uid).distinct().where(
            instances.c.series_instance_uid == series_instance_uid, instances.c.kind == "original"
        )
        with reading(self._engine) as connection:
            return {uid for (uid,) in connection.execute(query)}

    def series_of(self, study_instance_uid: str) -> set[str]:
        """Return the series of a study that have originals in it."""
        query = select(instances.c.series_instance_uid).distinct().where(
            instances.c.study_instance_uid == study_instance_uid, instances.c.kind == "original"
        )
        with reading(self._engine) as connection:
            return {uid for (uid,) in connection.execute(query)}

    def patients_of(self, study_instance_uid: str) -> set[str]:
        """Return the different patient keys among the originals of a study."""
        query = select(instances.c.patient_key).distinct().where(
            instances.c.study_instance_uid == study_instance_uid, instances.c.kind == "original"
        )
        with reading(self._engine) as connection:
            return {key for (key,) in connection.execute(query)}
