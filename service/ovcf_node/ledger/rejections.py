"""Source instances that a rejection note withdrew: those that are here, and those that may still come."""

from sqlalchemy import Engine, func, insert, select, update

from ovcf_node.domain.withdrawal import SourceNote, Title
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.schema import instances, rejected_sources

WITHDRAWN = "withdrawn"
"""`kind` of an instance that a rejection note names."""


class Rejections:
    """The `rejected_sources` table and the instances it names."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def record(self, source_note: SourceNote, now: float) -> None:
        """Remember what a note rejects; the first note about an instance stays."""
        with self._engine.begin() as connection:
            for uid, study in source_note.instances.items():
                known = select(rejected_sources.c.sop_instance_uid).where(rejected_sources.c.sop_instance_uid == uid)
                if connection.execute(known).first() is None:
                    connection.execute(insert(rejected_sources).values(
                        sop_instance_uid=uid, study_instance_uid=study, title=source_note.title, rejected_at=now,
                    ))

    def apply(self, since: int) -> dict[str, Title]:
        """Withdraw the originals behind row `since` that a note rejects; return the gravest title by source series."""
        touched: dict[str, Title] = {}
        mine = (
            (instances.c.kind == "original") & (instances.c.id > since)
            & (rejected_sources.c.sop_instance_uid == instances.c.sop_instance_uid)
            & (rejected_sources.c.study_instance_uid == instances.c.study_instance_uid)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(
                select(instances.c.id, instances.c.series_instance_uid, rejected_sources.c.title).where(mine)
            ).all()
            for row in rows:
                title = Title(row.title)
                if touched.get(row.series_instance_uid, Title.QUALITY) is Title.QUALITY:
                    touched[row.series_instance_uid] = title
            ids = [row.id for row in rows]
            for begin in range(0, len(ids), _CHUNK):
                connection.execute(
                    update(instances).where(instances.c.id.in_(ids[begin:begin + _CHUNK])).values(kind=WITHDRAWN)
                )
        return touched

    def withdrawn(self, series_instance_uid: str) -> int:
        """Return how many instances of a series were withdrawn by its source."""
        query = select(func.count()).where(
            instances.c.series_instance_uid == series_instance_uid, instances.c.kind == WITHDRAWN
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()


_CHUNK = 500
