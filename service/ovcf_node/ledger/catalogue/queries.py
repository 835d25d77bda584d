"""The table of result instances: find entities of a level, give their headers, find what is to be retrieved."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, insert, not_, or_, select, update
from sqlalchemy.exc import IntegrityError

from ovcf_node.config import Destination
from ovcf_node.domain.identity import Dialect
from ovcf_node.domain.states import RevisionState
from ovcf_node.domain.withdrawal import NOTE_ROLE
from ovcf_node.errors import Permanent
from ovcf_node.ledger.catalogue import matching
from ovcf_node.ledger.catalogue.entry import Entry, read_header
from ovcf_node.ledger.catalogue.keys import COMPUTED, Level, level_of
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.deliveries import Result
from ovcf_node.ledger.schema import catalogue, holds, results, revisions

_CHUNK = 250  # entities read at a time: the first answers leave early and a cancel is noticed soon

_ENTITY: dict[Level, tuple[ColumnElement[str], ...]] = {
    Level.PATIENT: (catalogue.c.patient_id, catalogue.c.issuer_of_patient_id),
    Level.STUDY: (catalogue.c.study_instance_uid,),
    Level.SERIES: (catalogue.c.series_instance_uid,),
    Level.INSTANCE: (catalogue.c.sop_instance_uid,),
}
_OF_THE_STUDY = {"ModalitiesInStudy", "SOPClassesInStudy"}


class TooManyMatches(Permanent):
    """A query matches more entities than may be answered."""

    def __init__(self, at_most: int):
        super().__init__("too_many_matches", f"more than {at_most} matches")


@dataclass(frozen=True)
class Query:
    """What is asked of the catalogue.

    keys      keyword of `KEYS` -> value as DICOM writes it; keys of lower levels ask for entities that contain such
    dialect   see `dialect_for`
    computed  which of `COMPUTED` are wanted; None: all of the level
    at_most   more entities than this are refused; `offset` and `limit` cut instead
    """

    level: Level
    keys: Mapping[str, str]
    dialect: str
    computed: Collection[str] | None = None
    at_most: int | None = None
    offset: int = 0
    limit: int | None = None


@dataclass(frozen=True)
class Match:
    """One entity. What several instances could say differently is said by its newest one, of row `result_id`.

    attributes     DICOM JSON of the attributes of the level and of those above
    left_out       tags of long elements that only `Catalogue.header` has
    character_set  Specific Character Set of the instance, values with a backslash between
    """

    level: Level
    result_id: int
    sop_instance_uid: str
    character_set: str
    attributes: dict[str, Any] = field(repr=False)
    left_out: frozenset[str] = frozenset()


def dialect_for(destinations: Sequence[Destination], ae_title: str | None = None) -> str:
    """Return the dialect whose reports an application entity sees: that of the destination of its title, or the first's."""
    if not destinations:
        return Dialect().key
    chosen = next((d for d in destinations if ae_title is not None and d.ae_title == ae_title), destinations[0])
    return Dialect(chosen.sr_class, chosen.sr_profile).key


def add_entries(connection: Connection, entries: Iterable[Entry]) -> None:
    """Add the rows of stored results that have none yet, inside the transaction that stores them."""
    for entry in entries:
        stored = connection.execute(
            select(results.c.id, catalogue.c.result_id)
            .outerjoin(catalogue, catalogue.c.result_id == results.c.id)
            .where(results.c.sop_instance_uid == entry.sop_instance_uid)
        ).one()
        if stored.result_id is None:
            connection.execute(insert(catalogue).values(result_id=stored.id, **entry.values))


def withdraw_entries(connection: Connection, revision_ids: Sequence[int]) -> None:
    """Show nothing any more of what these revisions made, inside the transaction that decides so."""
    made = select(results.c.id).where(results.c.revision_id.in_(revision_ids))
    connection.execute(update(catalogue).where(catalogue.c.result_id.in_(made)).values(withdrawn=True))


def withdraw_series(connection: Connection, series_instance_uid: str) -> None:
    """Show nothing any more of what was made from a source series, inside the transaction that decides so."""
    made = (
        select(results.c.id).join(revisions, revisions.c.id == results.c.revision_id)
        .where(revisions.c.series_instance_uid == series_instance_uid)
    )
    connection.execute(update(catalogue).where(catalogue.c.result_id.in_(made)).values(withdrawn=True))


class Catalogue:
    """The `catalogue` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def find(self, query: Query) -> Iterator[Match]:
        """Return the matching entities, the newest first. Raises BadKey, TooManyMatches.

        Everything is found at once, so errors are raised here; the matches themselves are read as they are iterated.
        """
        entity = _ENTITY[query.level]
        newest = func.max(catalogue.c.result_id) if query.level < Level.INSTANCE else catalogue.c.result_id
        named = _names_instances(query.keys)
        of_one = {keyword: value for keyword, value in query.keys.items() if keyword not in _OF_THE_STUDY}
        chosen = _from_visible(select(newest), query.dialect, named=named)
        chosen = chosen.where(*self._conditions(of_one)).order_by(newest.desc()).offset(query.offset)
        above = self._conditions({k: v for k, v in of_one.items() if level_of(k.split("__")[0]) <= Level.STUDY})
        for keyword in _OF_THE_STUDY & query.keys.keys():  # another instance of the study may have it
            for condition in self._conditions({keyword: query.keys[keyword]}):
                having = _from_visible(select(catalogue.c.study_instance_uid), query.dialect, named=named)
                having = having.where(condition, *above)  # `above`: or every study of the archive is looked at
                chosen = chosen.where(catalogue.c.study_instance_uid.in_(having.correlate(None)))
        if query.level < Level.INSTANCE:
            chosen = chosen.group_by(*entity)
        if query.level is Level.PATIENT:
            chosen = chosen.where(catalogue.c.patient_id != "")  # without the unique key there is no patient to name
        limits = [n for n in (query.limit, query.at_most + 1 if query.at_most is not None else None) if n is not None]
        if limits:
            chosen = chosen.limit(min(limits))
        with reading(self._engine) as connection:
            ids = list(connection.execute(chosen).scalars())
        if query.at_most is not None and len(ids) > query.at_most:
            raise TooManyMatches(query.at_most)
        return self._matches(ids, query)

    def header(self, result_id: int) -> dict[str, Any]:
        """Return the complete header of an instance that was found: DICOM JSON; pixel data as their VR alone.

        Raises Permanent (`not_in_catalogue`).
        """
        with reading(self._engine) as connection:
            data = connection.execute(
                select(catalogue.c.header).where(catalogue.c.result_id == result_id)
            ).scalar_one_or_none()
        if data is None:
            raise Permanent("not_in_catalogue", f"result {result_id}")
        return read_header(data)

    def header_of(self, sop_instance_uid: str) -> dict[str, Any] | None:
        """Return the complete header of an object of ours, shown or not, whose file may be gone; None if it is unknown."""
        query = select(catalogue.c.header).where(catalogue.c.sop_instance_uid == sop_instance_uid)
        with reading(self._engine) as connection:
            data = connection.execute(query).scalar_one_or_none()
        return read_header(data) if data is not None else None

    def retrieve(self, keys: Mapping[str, str], dialect: str, at_most: int) -> list[Result]:
        """Return the stored instances that `keys` name, in the order of their making: what a report refers to before it.

        Raises BadKey, TooManyMatches.
        """
        query = select(*(results.c[name] for name in Result.__annotations__))
        query = _from_visible(query, dialect, named=_names_instances(keys)).where(*self._conditions(keys))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(results.c.id).limit(at_most + 1)).all()
        if len(rows) > at_most:
            raise TooManyMatches(at_most)
        return [Result(*row) for row in rows]

    def missing(self, after: Result | None, limit: int) -> list[Result]:
        """Return results that have no row yet (stored before the table existed), in order, those behind `after`."""
        query = (
            select(*(results.c[name] for name in Result.__annotations__))
            .join(revisions, revisions.c.id == results.c.revision_id)
            .outerjoin(catalogue, catalogue.c.result_id == results.c.id)
            .where(
                catalogue.c.result_id.is_(None), results.c.role != NOTE_ROLE, revisions.c.results_purged_at.is_(None)
            )
        )
        if after is not None:
            position = select(results.c.id).where(results.c.sop_instance_uid == after.sop_instance_uid)
            query = query.where(results.c.id > position.scalar_subquery())
        with reading(self._engine) as connection:
            return [Result(*row) for row in connection.execute(query.order_by(results.c.id).limit(limit))]

    def add_missing(self, entry: Entry) -> None:
        """Add the row of a result that has none; another process may have been faster.

        A series that ends in a superseded revision was discarded before there was a catalogue: it stays out of sight.
        """
        of_result = select(revisions.c.series_instance_uid).join(results, results.c.revision_id == revisions.c.id)
        of_result = of_result.where(results.c.sop_instance_uid == entry.sop_instance_uid)
        try:
            with self._engine.begin() as connection:
                add_entries(connection, [entry])
                newest = connection.execute(
                    select(revisions.c.series_instance_uid, revisions.c.state)
                    .where(revisions.c.series_instance_uid == of_result.scalar_subquery())
                    .order_by(revisions.c.number.desc()).limit(1)
                ).one()
                if newest.state == RevisionState.SUPERSEDED:
                    withdraw_series(connection, newest.series_instance_uid)
        except IntegrityError:
            return

    def _conditions(self, keys: Mapping[str, str]) -> list[ColumnElement[bool]]:
        found = (matching.condition(keyword, value, self._engine.dialect.name) for keyword, value in keys.items())
        return [condition for condition in found if condition is not None]

    def _matches(self, ids: Sequence[int], query: Query) -> Iterator[Match]:
        columns = ("result_id", "sop_instance_uid", "character_set", "attributes")
        select_rows = select(*(catalogue.c[name] for name in columns), *_ENTITY[query.level])
        for chunk in (ids[i:i + _CHUNK] for i in range(0, len(ids), _CHUNK)):
            with reading(self._engine) as connection:
                rows = {r.result_id: r for r in connection.execute(select_rows.where(catalogue.c.result_id.in_(chunk)))}
                counted = self._counted(connection, [tuple(row[4:]) for row in rows.values()], query)
            for row in (rows[result_id] for result_id in chunk if result_id in rows):
                yield _match(row, query.level, counted.get(tuple(row[4:]), {}))

    @staticmethod
    def _counted(
        connection: Connection, entities: Collection[tuple[str, ...]], query: Query
    ) -> dict[tuple[str, ...], dict[str, list]]:
        """Return the computed attributes of some entities, counted over all that is visible, not only over the matches."""
        wanted = {
            keyword for keyword, (level, _) in COMPUTED.items()
            if level is query.level and (query.computed is None or keyword in query.computed)
        }
        if not wanted:
            return {}
        entity = _ENTITY[query.level]
        parts = [*entity, *(catalogue.c[n] for n in ("study_instance_uid", "series_instance_uid", "modality",
                                                     "sop_class_uid"))]
        select_parts = _from_visible(select(*parts, func.count()), query.dialect, named=False)
        select_parts = select_parts.where(entity[0].in_({e[0] for e in entities})).group_by(*parts)
        rows: dict[tuple[str, ...], list[tuple]] = {}
        for row in connection.execute(select_parts):
            rows.setdefault(tuple(row[:len(entity)]), []).append(tuple(row[len(entity):]))
        return {key: _summarise(group, wanted) for key, group in rows.items()}


def _summarise(rows: Iterable[tuple], wanted: Collection[str]) -> dict[str, list]:
    rows = list(rows)
    studies, series, modalities, classes = ({row[i] for row in rows} - {None} for i in range(4))
    count = sum(row[4] for row in rows)
    values = {
        "NumberOfPatientRelatedStudies": [len(studies)], "NumberOfPatientRelatedSeries": [len(series)],
        "NumberOfPatientRelatedInstances": [count], "NumberOfStudyRelatedSeries": [len(series)],
        "NumberOfStudyRelatedInstances": [count], "NumberOfSeriesRelatedInstances": [count],
        "ModalitiesInStudy": sorted(modalities), "SOPClassesInStudy": sorted(classes),
    }
    return {keyword: values[keyword] for keyword in wanted}


def _match(row, level: Level, computed: Mapping[str, list]) -> Match:
    stored = json.loads(row.attributes)
    kept = {tag: e for tag, e in stored["attributes"].items() if level_of(keyword_for_tag(int(tag, 16))) <= level}
    for keyword, values in computed.items():
        kept[f"{tag_for_keyword(keyword):08X}"] = {"vr": COMPUTED[keyword][1], "Value": values}
    left_out = frozenset(t for t in stored["left_out"] if level_of(keyword_for_tag(int(t, 16))) <= level)
    return Match(level, row.result_id, row.sop_instance_uid, row.character_set, kept, left_out)


def _names_instances(keys: Mapping[str, str]) -> bool:
    return bool(keys.get("SOPInstanceUID", "").strip(" *\x00"))


def _from_visible(query: Select, dialect: str, *, named: bool) -> Select:
    """Restrict a query to what whoever reads this dialect may see; `named`: superseded instances too."""
    held = select(holds.c.study_instance_uid).where(
        holds.c.study_instance_uid == catalogue.c.study_instance_uid, holds.c.lifted_at.is_(None)
    )
    query = query.select_from(catalogue).join(results, results.c.id == catalogue.c.result_id)
    query = query.join(revisions, revisions.c.id == results.c.revision_id)
    query = query.where(not_(catalogue.c.withdrawn), ~held.exists(), _in_dialect(dialect))
    return query if named else query.where(or_(revisions.c.state != RevisionState.SUPERSEDED, _seconded()))


def _seconded() -> ColumnElement[bool]:
    """Hold for what a second reading leaves in force: the reading's images and, until its own is there, the last report."""
    second, later = revisions.alias("second"), revisions.alias("later")
    reading = func.coalesce(revisions.c.reading_of, revisions.c.id)
    open_now = select(second.c.id).where(second.c.reading_of == reading, second.c.state != RevisionState.SUPERSEDED)
    # A reader may have said something before: that report is the last one, not the reading's own.
    reported = select(later.c.id).where(
        later.c.reading_of == reading, later.c.answered, later.c.number > revisions.c.number
    )
    last_report = open_now.where(not_(second.c.answered)).exists() & ~reported.exists()
    return or_(and_(results.c.role != "sr", open_now.exists()), last_report)


def _in_dialect(dialect: str) -> ColumnElement[bool]:
    # A revision answered before the configuration changed may lack this dialect: then its first report is shown.
    other = results.alias("other")
    same_revision = other.c.revision_id == results.c.revision_id
    has_it = select(other.c.id).where(same_revision, other.c.dialect == dialect).exists()
    first = select(func.min(other.c.id)).where(same_revision, other.c.dialect != "").scalar_subquery()
    return or_(results.c.dialect.in_(("", dialect)), and_(~has_it, results.c.id == first))
