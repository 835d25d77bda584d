"""What we promised to senders by storage commitment: which instances, until when, and whether they know it yet."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ovcf_node.ledger.database import portions, reading
from ovcf_node.ledger.schema import instances, promises

_KEPT = (instances.c.kind.in_(("original", "variant", "duplicate", "conflict")), instances.c.path != "")


def promised(now: float) -> ColumnElement[bool]:
    """Return the condition on `instances` that a sender was promised their safe keeping beyond `now`.

    Whoever removes spool files excludes these rows, and marks or deletes the row before the file in one transaction with
    this condition: then a promise is never given for what is about to go.
    """
    return func.coalesce(instances.c.committed_until, 0.0) > now


@dataclass(frozen=True)
class Promise:
    """What a sender is told of one request: SOP Instance UID -> (SOP Class UID, Failure Reason or None)."""

    id: int
    transaction_uid: str
    calling_ae_title: str
    called_ae_title: str
    at: float
    attempts: int
    report_at: float
    report: Mapping[str, tuple[str, int | None]]


class Promises:
    """The `promises` table and the `committed_until` of instances."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def paths(self, sop_instance_uids: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
        """Return (SOP Class UID, path in the spool) of each instance that is here, the original first."""
        found: dict[str, list[tuple[str, str]]] = {}
        columns = (instances.c.sop_instance_uid, instances.c.sop_class_uid, instances.c.path, instances.c.kind)
        with reading(self._engine) as connection:
            for some in portions(list(sop_instance_uids)):
                query = select(*columns).where(instances.c.sop_instance_uid.in_(some), *_KEPT)
                for uid, sop_class_uid, path, kind in connection.execute(query.order_by(instances.c.id)):
                    found.setdefault(uid, []).insert(0 if kind == "original" else 1, (sop_class_uid, path))
        return found

    def keep(self, sop_instance_uids: Iterable[str], until: float) -> set[str]:
        """Promise to keep these instances until then; returns those that are still here and therefore promised."""
        kept: set[str] = set()
        with self._engine.begin() as connection:
            for some in portions(list(sop_instance_uids)):
                here = (instances.c.sop_instance_uid.in_(some), *_KEPT)
                longer = func.coalesce(instances.c.committed_until, 0.0) < until
                connection.execute(update(instances).where(*here, longer).values(committed_until=until))
                kept |= set(connection.execute(select(instances.c.sop_instance_uid).where(*here)).scalars())
        return kept

    def record(
        self, transaction_uid: str, calling_ae_title: str, called_ae_title: str,
        report: Mapping[str, tuple[str, int | None]], now: float, report_at: float,
    ) -> None:
        """Persist what is to be reported; a request that comes again is reported again, as it stands now."""
        values = {"report": json.dumps(report), "at": now, "attempts": 0, "report_at": report_at,
                  "called_ae_title": called_ae_title}
        this = (promises.c.transaction_uid == transaction_uid, promises.c.calling_ae_title == calling_ae_title)
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    insert(promises).values(transaction_uid=transaction_uid, calling_ae_title=calling_ae_title, **values)
                )
        except IntegrityError:
            with self._engine.begin() as connection:
                connection.execute(update(promises).where(*this).values(**values))

    def due(self, now: float) -> list[Promise]:
        """Return what should be reported by now."""
        columns = [promises.c[name] for name in Promise.__annotations__]
        query = select(*columns).where(promises.c.report_at <= now).order_by(promises.c.id)
        with reading(self._engine) as connection:
            return [_promise(row) for row in connection.execute(query)]

    def of(self, transaction_uid: str, calling_ae_title: str) -> Promise | None:
        """Return one request that is not reported yet."""
        columns = [promises.c[name] for name in Promise.__annotations__]
        query = select(*columns).where(
            promises.c.transaction_uid == transaction_uid, promises.c.calling_ae_title == calling_ae_title,
            promises.c.report_at.is_not(None),
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
            return _promise(row) if row else None

    def take(self, promise: Promise, until: float) -> bool:
        """Claim the reporting of a request until then; False where another thread or process was quicker."""
        this = (promises.c.id == promise.id, promises.c.report_at == promise.report_at)
        with self._engine.begin() as connection:
            return connection.execute(update(promises).where(*this).values(report_at=until)).rowcount == 1

    def reported(self, promise: Promise) -> None:
        """Record that the sender has its report."""
        self._update(promise, report_at=None)

    def again(self, promise: Promise, report_at: float | None) -> None:
        """Record that the report could not be given: the next attempt, or None to give up."""
        self._update(promise, report_at=report_at, attempts=promise.attempts + 1)

    def _update(self, promise: Promise, **values) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(promises).where(promises.c.id == promise.id).values(**values))


def _promise(row) -> Promise:
    values = dict(row._mapping)
    report = {uid: (sop_class_uid, reason) for uid, (sop_class_uid, reason) in json.loads(values["report"]).items()}
    return Promise(**(values | {"report": report}))
