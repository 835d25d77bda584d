"""What is purged when: decided and marked here, in one transaction with its conditions; the files go afterwards.

A study is the unit, because its series are judged together. Three phases, each later than the one before:

images   the received files; the rows stay and know every instance: what comes again is a duplicate
results  findings, masks, pictures and objects; queries show them no more; the history stays
rows     everything but a tombstone of each series

Marks come first and files second: a file that a crash leaves is still listed in `removals`, and nobody is promised or
shown what is about to go.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, exists, func, insert, or_, select, update

from ovcf_node.domain.identity import source_digest
from ovcf_node.errors import Permanent
from ovcf_node.ledger.database import portions, reading
from ovcf_node.ledger.deliveries import cancel_unsent
from ovcf_node.ledger.events import note
from ovcf_node.ledger.rest import Due, at_rest, in_flight, locked
from ovcf_node.ledger.revision import reading_keys, result_key
from ovcf_node.ledger.schema import (
    assessments,
    catalogue,
    commitment_reports,
    commitments,
    deliveries,
    events,
    holds,
    instances,
    promises,
    rejected_sources,
    removals,
    results,
    revisions,
    tombstones,
)

SPOOL, RESULTS = "spool", "results"


class Phase(StrEnum):
    """What goes."""

    IMAGES = "images"
    RESULTS = "results"
    ROWS = "rows"


@dataclass(frozen=True)
class Removal:
    """One file of the spool, or one key of the results, that is to be removed."""

    id: int
    store: str
    path: str


@dataclass(frozen=True)
class Tombstone:
    """What remains of a series; `source_digest` is None where the same instances shall be read when they come again."""

    last_number: int
    source_digest: str | None
    at: float
    by: str


class InFlight(Permanent):
    """A study cannot be purged as things stand; `text` says why."""

    def __init__(self, why: Sequence[str]):
        super().__init__("in_flight", "; ".join(why))


class Retention:
    """The marks of retention in every table, `tombstones` and `removals`."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def due(self, phase: Phase, due: Due, limit: int) -> list[str]:
        """Return studies whose phase is due, those that rested longest first, at most `limit`."""
        query = (
            select(revisions.c.study_instance_uid)
            .where(revisions.c.updated_at < due.before, _left(phase), *at_rest(revisions.c.study_instance_uid, due))
            .group_by(revisions.c.study_instance_uid).order_by(func.max(revisions.c.updated_at)).limit(limit)
        )
        # Of a study that was held from its first instance on no series was ever opened.
        held = holds.alias("held")
        never_read = (
            select(held.c.study_instance_uid)
            .where(
                ~exists(select(revisions.c.id).where(revisions.c.study_instance_uid == held.c.study_instance_uid)),
                exists(select(instances.c.id).where(
                    instances.c.study_instance_uid == held.c.study_instance_uid,
                    instances.c.path != "" if phase is Phase.IMAGES else phase is Phase.ROWS,
                )),
                *at_rest(held.c.study_instance_uid, due),
            )
            .distinct().limit(limit)
        )
        with reading(self._engine) as connection:
            found = connection.execute(query).scalars().all()
            return [*found, *connection.execute(never_read).scalars()][:limit]

    def purge(self, phase: Phase, study_instance_uid: str, due: Due) -> bool:
        """Mark what goes and list its files; False if the study is no longer due."""
        now = due.now
        with self._engine.begin() as connection:
            here = locked(connection, study_instance_uid)
            if not connection.execute(select(and_(*at_rest(study_instance_uid, due)))).scalar_one():
                return False
            if phase is Phase.ROWS:
                self._forget(connection, study_instance_uid, here, now, "retention", known=True)
            elif phase is Phase.RESULTS:
                self._drop_results(connection, study_instance_uid, now)
            else:
                self._drop_images(connection, study_instance_uid, here, now)
            if phase is not Phase.ROWS:
                note(connection, now, "purged", f"{phase} by retention", None, study_instance_uid)
            return True

    def purge_study(self, study_instance_uid: str, now: float, who: str, *, force: bool = False) -> bool:
        """Purge everything of a study but a tombstone of each series; False if nothing of it is here.

        What comes again is read again, under new UIDs. Raises InFlight while work is unfinished, unless `force`.
        """
        with self._engine.begin() as connection:
            known = [
                connection.execute(select(table.c.id).where(table.c.study_instance_uid == study_instance_uid)).first()
                for table in (instances, revisions)
            ]
            if not any(known):
                return False
            here = locked(connection, study_instance_uid)
            why = in_flight(connection, study_instance_uid, now)
            if why and not force:
                raise InFlight(why)
            self._forget(connection, study_instance_uid, here, now, who, known=False)
            return True

    def sweep(self, before: float) -> None:
        """Forget storage commitment (asked and promised) and source rejection notes of long ago."""
        with self._engine.begin() as connection:
            connection.execute(delete(commitments).where(commitments.c.requested_at < before))
            connection.execute(delete(commitment_reports).where(
                commitment_reports.c.at < before, commitment_reports.c.applied_at.is_not(None)
            ))
            connection.execute(delete(promises).where(promises.c.at < before, promises.c.report_at.is_(None)))
            connection.execute(delete(rejected_sources).where(rejected_sources.c.rejected_at < before))

    def late(self, series_instance_uid: str, study_instance_uid: str, now: float) -> int:
        """Take note of slices that came when the images of their series were purged: the result stands. Returns how many.

        Zero means that the series is not purged, so that they are to be read.
        """
        mine = (instances.c.series_instance_uid == series_instance_uid, instances.c.kind == "original")
        with reading(self._engine) as connection:
            if not connection.execute(select(instances.c.id).where(*mine, instances.c.path == "").limit(1)).first():
                return 0
        with self._engine.begin() as connection:
            ids = list(connection.execute(select(instances.c.id).where(*mine, instances.c.path != "")).scalars())
            if ids:
                connection.execute(update(instances).where(instances.c.id.in_(ids)).values(kind="late"))
                _drop_files(connection, instances.c.id.in_(ids))
                note(connection, now, "late_after_purge", f"{len(ids)} instances; the images were purged, the result stands",
                     series_instance_uid, study_instance_uid)
            return len(ids)

    def drop(self, instance_id: int) -> None:
        """Purge the file of one instance that adds nothing to what was purged before it."""
        with self._engine.begin() as connection:
            _drop_files(connection, instances.c.id == instance_id)

    def tombstone(self, series_instance_uid: str) -> Tombstone | None:
        """Return what remains of a series whose rows were purged."""
        columns = [tombstones.c[name] for name in Tombstone.__annotations__]
        query = select(*columns).where(tombstones.c.series_instance_uid == series_instance_uid)
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
            return Tombstone(*row) if row else None

    def removals(self, limit: int) -> list[Removal]:
        """Return files that are to be removed, at most `limit`."""
        query = select(removals.c.id, removals.c.store, removals.c.path).order_by(removals.c.id).limit(limit)
        with reading(self._engine) as connection:
            return [Removal(*row) for row in connection.execute(query)]

    def to_be_removed(self, store: str) -> frozenset[str]:
        """Return the paths in a store that are purged and may still be there."""
        with reading(self._engine) as connection:
            return frozenset(connection.execute(select(removals.c.path).where(removals.c.store == store)).scalars())

    def removed(self, done: Collection[Removal]) -> None:
        """Record that files are gone."""
        with self._engine.begin() as connection:
            connection.execute(delete(removals).where(removals.c.id.in_([removal.id for removal in done])))

    @staticmethod
    def _drop_images(
        connection: Connection, study_instance_uid: str, here: Sequence[int], now: float
    ) -> None:
        for rows in portions(here):
            _drop_files(connection, instances.c.id.in_(rows))
        connection.execute(
            update(revisions).where(revisions.c.study_instance_uid == study_instance_uid).values(images_purged_at=now)
        )

    @staticmethod
    def _drop_results(connection: Connection, study_instance_uid: str, now: float) -> None:
        mine = revisions.c.study_instance_uid == study_instance_uid
        made = select(results.c.id).join(revisions, revisions.c.id == results.c.revision_id).where(mine)
        # Queries show it no more; the header stays, since a rejection note must be able to name what was delivered.
        connection.execute(update(catalogue).where(catalogue.c.result_id.in_(made)).values(withdrawn=True))
        for revision_id, *of in connection.execute(
            select(revisions.c.id, revisions.c.series_instance_uid, revisions.c.number, revisions.c.analysis_started_at)
            .where(mine)
        ).all():
            for key in (result_key(*of[:2]), *reading_keys(*of)):
                _list(connection, RESULTS, key)
            cancel_unsent(connection, [revision_id], now)  # of destinations that are no longer configured
        connection.execute(update(revisions).where(mine).values(results_purged_at=now))

    def _forget(
        self, connection: Connection, study_instance_uid: str, here: Sequence[int], now: float, who: str, *, known: bool,
    ) -> None:
        mine = revisions.c.study_instance_uid == study_instance_uid
        self._drop_results(connection, study_instance_uid, now)
        for rows in portions(here):
            _drop_files(connection, instances.c.id.in_(rows))
        for series_instance_uid, last in connection.execute(
            select(revisions.c.series_instance_uid, func.max(revisions.c.number)).where(mine)
            .group_by(revisions.c.series_instance_uid)
        ).all():
            originals = connection.execute(select(instances.c.id, instances.c.sop_instance_uid).where(
                instances.c.series_instance_uid == series_instance_uid, instances.c.kind == "original",
            )).all()
            known_rows = set(here)
            uids = [uid for row, uid in originals if row in known_rows]
            connection.execute(delete(tombstones).where(tombstones.c.series_instance_uid == series_instance_uid))
            connection.execute(insert(tombstones).values(
                series_instance_uid=series_instance_uid, study_instance_uid=study_instance_uid, last_number=last, at=now,
                by=who[:64], source_digest=source_digest(uids) if known else None,
            ))
        own = select(revisions.c.id).where(mine)
        made = select(results.c.id).where(results.c.revision_id.in_(own))
        connection.execute(delete(catalogue).where(catalogue.c.result_id.in_(made)))
        theirs = or_(deliveries.c.revision_id.in_(own), deliveries.c.result_id.in_(made))
        connection.execute(delete(deliveries).where(theirs))
        for table in (results, assessments):
            connection.execute(delete(table).where(table.c.revision_id.in_(own)))
        for rows in portions(here):
            connection.execute(delete(instances).where(instances.c.id.in_(rows)))
        for table in (revisions, events, holds):
            connection.execute(delete(table).where(table.c.study_instance_uid == study_instance_uid))


def _left(phase: Phase) -> ColumnElement[bool]:
    """Return the condition on `revisions` that there is something left for a phase."""
    if phase is Phase.ROWS:
        return revisions.c.id.is_not(None)
    return (revisions.c.images_purged_at if phase is Phase.IMAGES else revisions.c.results_purged_at).is_(None)


def _drop_files(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Mark the files of instances as purged and list them for removal."""
    here = (condition, instances.c.path != "")
    for path in connection.execute(select(instances.c.path).where(*here).with_for_update()).scalars().all():
        _list(connection, SPOOL, path)
    connection.execute(update(instances).where(*here).values(path=""))


def _list(connection: Connection, store: str, path: str) -> None:
    connection.execute(insert(removals).values(store=store, path=path))
