"""When a study is at rest: nothing about it is open, held, promised or on its way any more; conditions for queries."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, exists, or_, select

from ovcf_node.domain.states import RevisionState
from ovcf_node.ledger.deliveries import settled
from ovcf_node.ledger.promises import promised
from ovcf_node.ledger.schema import deliveries, holds, instances, revisions

_R = RevisionState
_OPEN = (_R.RECEIVING, _R.WAITING, _R.COMPLETE, _R.INFERRED)


@dataclass(frozen=True)
class Due:
    """When a phase is due for a study.

    now, before   nothing about it changed since `before`; seconds since the epoch
    destinations  those that are configured: what waits for any other waits for nobody
    failed_too    also with a series that a person has not looked at yet
    """

    now: float
    before: float
    destinations: Collection[str]
    failed_too: bool


def in_flight(connection: Connection, study_instance_uid: str, now: float) -> list[str]:
    """Return in words what is unfinished about a study."""
    everything = Due(now, now, (), failed_too=True)
    named = {
        "it is held: release or discard it first": exists(_hold_of(study_instance_uid)),
        "a series is still being received or read": exists(_open_of(study_instance_uid, everything)),
        "objects are not finally delivered": exists(_unsettled_of(study_instance_uid)),
        "its safe keeping was promised to the sender": exists(_promised_of(study_instance_uid, now)),
    }
    return [words for words, condition in named.items() if connection.execute(select(condition)).scalar_one()]


def at_rest(study: ColumnElement[str] | str, due: Due) -> list[ColumnElement[bool]]:
    """Return the conditions that everything about a study is final, and has been since `due.before`."""
    touched = revisions.alias("touched")
    return [
        ~exists(_hold_of(study)),
        ~exists(_open_of(study, due)),
        ~exists(select(touched.c.id).where(touched.c.study_instance_uid == study, touched.c.updated_at >= due.before)),
        ~exists(select(instances.c.id).where(
            instances.c.study_instance_uid == study,
            or_(instances.c.received_at >= due.before, instances.c.kind == "variant"),
        )),
        ~exists(_unsettled_of(study, due)),
        ~exists(_promised_of(study, due.now)),
    ]


def _hold_of(study: ColumnElement[str] | str):
    return select(holds.c.study_instance_uid).where(holds.c.study_instance_uid == study, holds.c.lifted_at.is_(None))


def _open_of(study: ColumnElement[str] | str, due: Due):
    other = revisions.alias("other")
    states = _OPEN if due.failed_too else (*_OPEN, _R.FAILED)
    unanswered = (other.c.state == _R.NOT_ASSESSED) & ~other.c.answered
    return select(other.c.id).where(other.c.study_instance_uid == study, or_(other.c.state.in_(states), unanswered))


def _unsettled_of(study: ColumnElement[str] | str, due: Due | None = None):
    of = revisions.alias("of")
    query = (
        select(deliveries.c.id).join(of, of.c.id == deliveries.c.revision_id).where(of.c.study_instance_uid == study)
    )
    if due is None:
        return query.where(~settled())
    waits = ~settled() & deliveries.c.destination.in_(list(due.destinations))
    return query.where(or_(waits, deliveries.c.updated_at >= due.before))


def _promised_of(study: ColumnElement[str] | str, now: float):
    return select(instances.c.id).where(instances.c.study_instance_uid == study, promised(now))


def locked(connection: Connection, study_instance_uid: str) -> list[int]:
    """Keep the instances of a study as they are until the transaction ends; returns the ids of their rows.

    On PostgreSQL each statement sees what was committed before it: between the question whether a study is at rest and its
    purge, its sender could have been promised to keep it, and one more instance could have arrived.
    """
    mine = instances.c.study_instance_uid == study_instance_uid
    return list(connection.execute(select(instances.c.id).where(mine).with_for_update()).scalars())
