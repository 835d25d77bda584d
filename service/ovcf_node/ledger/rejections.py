"""Source instances that a rejection note withdrew: those that are here, and those that may still come."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, insert, select, update

from ovcf_node.domain.states import RevisionState
from ovcf_node.domain.withdrawal import GRAVITY, SourceNote, Title
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.instances import StoredInstance
from ovcf_node.ledger.schema import instances, rejected_sources, revisions
from ovcf_node.ledger.withdrawals import aggravate

_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


@dataclass(frozen=True)
class RejectedSource:
    """Instances of one series that still count although a note names them, and the gravest title they are under."""

    series_instance_uid: str
    title: Title
    instance_ids: tuple[int, ...]


class Rejections:
    """The `rejected_sources` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def key_objects(self) -> list[StoredInstance]:
        """Return the Key Object Selections of series that are not judged yet."""
        waiting = select(revisions.c.series_instance_uid).where(
            revisions.c.state.in_((RevisionState.RECEIVING, RevisionState.WAITING))
        )
        query = select(*(instances.c[name] for name in StoredInstance.__annotations__)).where(
            instances.c.series_instance_uid.in_(waiting), instances.c.sop_class_uid == _KEY_OBJECT_SELECTION,
            instances.c.kind == "original",
        )
        with reading(self._engine) as connection:
            return [StoredInstance(*row) for row in connection.execute(query.order_by(instances.c.id))]

    def record(self, source_note: SourceNote, now: float) -> None:
        """Remember what a note rejects. Of several notes about an instance in one study the gravest counts.

        What was withdrawn for a milder reason is then told again. A note that names another study than an earlier one
        counts where it is right: where the instance is here, in that study.
        """
        with self._engine.begin() as connection:
            for uid, study in source_note.instances.items():
                mine = rejected_sources.c.sop_instance_uid == uid
                named = {"study_instance_uid": study, "title": source_note.title}
                known = connection.execute(
                    select(rejected_sources.c.title, rejected_sources.c.study_instance_uid).where(mine)
                ).first()
                if known is None:
                    connection.execute(insert(rejected_sources).values(sop_instance_uid=uid, rejected_at=now, **named))
                elif known.study_instance_uid != study:
                    if _is_in(connection, uid, study):
                        connection.execute(update(rejected_sources).where(mine).values(**named))
                elif GRAVITY.index(source_note.title) > GRAVITY.index(Title(known.title)):
                    connection.execute(update(rejected_sources).where(mine).values(**named))
                    aggravate(connection, uid, source_note.title)

    def due(self) -> list[RejectedSource]:
        """Return what notes name and still counts, by series. A note says nothing about another study's instances."""
        query = (
            select(instances.c.id, instances.c.series_instance_uid, rejected_sources.c.title)
            .select_from(rejected_sources)
            .join(instances, instances.c.sop_instance_uid == rejected_sources.c.sop_instance_uid)
            .where(
                instances.c.kind == "original",
                instances.c.study_instance_uid == rejected_sources.c.study_instance_uid,
            )
        )
        found: dict[str, list[tuple[int, Title]]] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(query):
                found.setdefault(row.series_instance_uid, []).append((row.id, Title(row.title)))
        return [
            RejectedSource(series, max((t for _, t in rows), key=GRAVITY.index), tuple(i for i, _ in rows))
            for series, rows in found.items()
        ]

    def withdrawn(self, series_instance_uid: str) -> int:
        """Return how many instances of a series were withdrawn by its source."""
        query = select(func.count()).where(
            instances.c.series_instance_uid == series_instance_uid, instances.c.kind == "withdrawn"
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()


def _is_in(connection: Connection, sop_instance_uid: str, study_instance_uid: str) -> bool:
    here = select(instances.c.id).where(
        instances.c.sop_instance_uid == sop_instance_uid, instances.c.study_instance_uid == study_instance_uid,
        instances.c.kind != "discarded",
    )
    return connection.execute(here).first() is not None
