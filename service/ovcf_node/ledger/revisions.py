"""Revisions of series: opened and judged by the judge, advanced by the worker.

A late instance opens a new revision; whatever an older one has not sent yet is cancelled. Every move goes through the
transition table and carries the attempt as fencing token, so a slow worker that lost its work changes nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, case, func, insert, or_, select, update

from ovcf_node.domain.assessments import SecondReading
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.states import RevisionState, check_revision_move
from ovcf_node.domain.withdrawal import Title
from ovcf_node.ledger import assessments, crashes
from ovcf_node.ledger.catalogue.entry import Entry
from ovcf_node.ledger.catalogue.queries import add_entries
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.deliveries import Result, add_results, cancel_unsent, carry_undelivered
from ovcf_node.ledger.events import note
from ovcf_node.ledger.instances import Arrival
from ovcf_node.ledger.revision import COLUMNS, Revision, StaleAttempt, reading_keys, result_key, revision_of
from ovcf_node.ledger.schema import holds, instances, revisions, tombstones
from ovcf_node.ledger.withdrawals import withdraw, withdraw_series

_QUIETABLE = (RevisionState.RECEIVING, RevisionState.WAITING)
_DUE = (RevisionState.COMPLETE, RevisionState.INFERRED)
_UNREAD = (RevisionState.EXCLUDED, RevisionState.NOT_ASSESSED, RevisionState.FAILED)


def _arrival(revision: Revision) -> Arrival:
    """Return what stands for the instances of a revision when the next one begins with them."""
    return Arrival(
        revision.series_instance_uid, revision.study_instance_uid, revision.through_instance_id,
        revision.last_received_at, revision.stat,
    )


class Revisions:
    """The `revisions` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def _select(self, *conditions) -> list[Revision]:
        query = select(*COLUMNS).where(*conditions).order_by(revisions.c.id)
        with reading(self._engine) as connection:
            return [revision_of(row) for row in connection.execute(query)]

    def get(self, revision_id: int) -> Revision:
        """Return one revision; KeyError if there is none."""
        found = self._select(revisions.c.id == revision_id)
        if not found:
            raise KeyError(revision_id)
        return found[0]

    def keys(self) -> set[str]:
        """Return every key of the results that a revision names."""
        query = select(revisions.c.series_instance_uid, revisions.c.number, revisions.c.analysis_started_at)
        with reading(self._engine) as connection:
            return {key for row in connection.execute(query) for key in (result_key(*row[:2]), *reading_keys(*row))}

    def of_series(self, series_instance_uid: str) -> list[Revision]:
        """Return every revision of a series, oldest first."""
        return self._select(revisions.c.series_instance_uid == series_instance_uid)

    def newest_of_study(self, study_instance_uid: str) -> list[Revision]:
        """Return the newest revision of every series of a study."""
        rows = self._select(revisions.c.study_instance_uid == study_instance_uid)
        return list({row.series_instance_uid: row for row in rows}.values())

    def reading(self, revision: Revision) -> Revision:
        """Return the revision whose findings this one reports: itself, unless it is a second reading."""
        return revision if revision.reading_of is None else self.get(revision.reading_of)

    def newest(self, limit: int) -> list[Revision]:
        """Return the newest revision of each series, the most recently changed first, at most `limit`."""
        later = revisions.alias()
        superseded = select(later.c.id).where(
            later.c.series_instance_uid == revisions.c.series_instance_uid, later.c.number > revisions.c.number
        )
        query = select(*COLUMNS).where(~superseded.exists()).order_by(revisions.c.updated_at.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [revision_of(row) for row in connection.execute(query)]

    def ending(self, series_instance_uid: str) -> list[Revision]:
        """Return the newest revision of every series whose UID ends like this."""
        rows = self._select(revisions.c.series_instance_uid.endswith(series_instance_uid, autoescape=True))
        return list({row.series_instance_uid: row for row in rows}.values())

    def quietable(self, now: float) -> list[Revision]:
        """Return the revisions that still wait for instances or for the quiet period."""
        return self._select(revisions.c.state.in_(_QUIETABLE), revisions.c.not_before <= now)

    def unanswered(self) -> list[Revision]:
        """Return the revisions whose answer still needs their received files."""
        owed = (revisions.c.state == RevisionState.NOT_ASSESSED) & ~revisions.c.answered
        return self._select(revisions.c.state.in_((*_QUIETABLE, *_DUE)) | owed)

    def due(self, now: float) -> list[Revision]:
        """Return the revisions whose reading or answer is due and whose study is not held."""
        unanswered = (revisions.c.state == RevisionState.NOT_ASSESSED) & ~revisions.c.answered
        return self._select(
            revisions.c.state.in_(_DUE) | unanswered,
            revisions.c.not_before <= now,
            ~select(holds.c.study_instance_uid)
            .where(holds.c.study_instance_uid == revisions.c.study_instance_uid, holds.c.lifted_at.is_(None))
            .exists(),
        )

    def arrived(self, arrival: Arrival, now: float) -> None:
        """Take new instances into account: extend the open revision or open a new one, superseding the last."""
        with self._engine.begin() as connection:
            last = connection.execute(
                select(*COLUMNS)
                .where(revisions.c.series_instance_uid == arrival.series_instance_uid)
                .order_by(revisions.c.number.desc())
                .limit(1)
            ).first()
            last = revision_of(last) if last else None
            if last and arrival.through_instance_id <= last.through_instance_id:
                return
            if last and last.state in _QUIETABLE:
                connection.execute(
                    update(revisions)
                    .where(revisions.c.id == last.id)
                    .values(
                        state=RevisionState.RECEIVING, through_instance_id=arrival.through_instance_id,
                        last_received_at=arrival.received_at, stat=last.stat or arrival.stat, updated_at=now,
                    )
                )
                return
            if last:
                self._supersede(connection, last, now)
            before = last.number if last else connection.execute(
                select(tombstones.c.last_number).where(tombstones.c.series_instance_uid == arrival.series_instance_uid)
            ).scalar()
            self._open(connection, arrival, (before or 0) + 1, now)

    def reopen(self, revision: Revision, now: float, *, withdrawn_as: Title | None = None) -> None:
        """Open a new revision over the same instances (`jobs retry`, release of a hold, a source rejection note).

        With `withdrawn_as` the earlier results are withdrawn under this title, and no query shows them any more: what they
        were made from was wrong.
        """
        with self._engine.begin() as connection:
            if withdrawn_as is not None:
                withdraw_series(connection, revision.series_instance_uid, withdrawn_as)
            self._supersede(connection, revision, now)
            self._open(connection, _arrival(revision), revision.number + 1, now)

    def second_reading(self, newest: Revision, second: SecondReading, now: float) -> None:
        """Open a revision that reports the findings of `newest` again, with what a reader says of them.

        Only the report is made anew. What `newest` has not delivered besides its report travels on with the new
        revision: the report refers to it. Raises StaleAttempt if `newest` is no longer as it says.
        """
        with self._engine.begin() as connection:
            self._move(connection, newest, RevisionState.SUPERSEDED, now, attempt=newest.attempt + 1)
            values = {name: getattr(newest, name) for name in (
                "series_instance_uid", "study_instance_uid", "through_instance_id", "last_received_at", "stat",
            )}
            opened = connection.execute(insert(revisions).values(
                **values, number=newest.number + 1, state=RevisionState.INFERRED, attempt=0, failures=0, not_before=0.0,
                verdict=json.dumps(newest.verdict) if newest.verdict else None, created_at=now, updated_at=now,
                analysis_started_at=second.at, answered=False, reading_of=newest.reading_of or newest.id,
            )).inserted_primary_key[0]
            carry_undelivered(connection, newest.id, opened, now)
            assessments.record(connection, opened, second)
            note(connection, now, "assessed", f"revision {newest.number + 1}: second reading by {second.reader}",
                 newest.series_instance_uid, newest.study_instance_uid)

    def discard(self, revision: Revision, now: float) -> None:
        """End a revision of discarded images for good, cancel what it has not sent, withdraw the results of its series.

        Where the same series came in another study too, and that one stands, a revision is opened for it.
        """
        series = instances.c.series_instance_uid == revision.series_instance_uid
        with self._engine.begin() as connection:
            withdraw_series(connection, revision.series_instance_uid, Title.PATIENT_SAFETY)
            self._supersede(connection, revision, now)
            left = connection.execute(
                select(
                    func.min(instances.c.study_instance_uid), func.max(instances.c.id), func.max(instances.c.received_at),
                    func.max(case((instances.c.stat, 1), else_=0)),
                ).where(series, instances.c.kind == "original")
            ).one()
            if left[0] is not None:
                arrival = Arrival(revision.series_instance_uid, *left[:3], bool(left[3]))
                self._open(connection, arrival, revision.number + 1, now)

    def _open(self, connection: Connection, arrival: Arrival, number: int, now: float) -> None:
        connection.execute(
            insert(revisions).values(
                series_instance_uid=arrival.series_instance_uid, study_instance_uid=arrival.study_instance_uid,
                number=number, state=RevisionState.RECEIVING, through_instance_id=arrival.through_instance_id,
                last_received_at=arrival.received_at, stat=arrival.stat, attempt=0, failures=0, not_before=0.0,
                created_at=now, updated_at=now, answered=False,
            )
        )
        note(connection, now, "revision_opened", f"revision {number}", arrival.series_instance_uid,
             arrival.study_instance_uid)

    def _supersede(self, connection: Connection, revision: Revision, now: float) -> None:
        if revision.state is not RevisionState.SUPERSEDED:
            self._move(connection, revision, RevisionState.SUPERSEDED, now, attempt=revision.attempt + 1)
        # A second reading stands beside the reading it is about; what comes after them replaces both.
        first = revision.reading_of or revision.id
        both = select(revisions.c.id).where(or_(revisions.c.id == first, revisions.c.reading_of == first))
        cancel_unsent(connection, both, now)
        withdraw(connection, both, Title.QUALITY)

    def move(
        self, revision: Revision, state: RevisionState, now: float, *, reason: Reason | None = None, **values: Any
    ) -> Revision:
        """Move a revision on if it is still as `revision` says.

        Raises StaleAttempt if it is not, IllegalMove if the table does not list the move.
        """
        with self._engine.begin() as connection:
            self._move(connection, revision, state, now, reason=reason, **values)
            unread = revision.state in _DUE and state in _UNREAD and revision.reading_of is None
            if unread or (reason is not None and reason.code == "source_withdrawn"):
                self._reconsider(connection, revision, now)
        return self.get(revision.id)

    def _reconsider(self, connection: Connection, loser: Revision, now: float) -> None:
        """The series that was chosen could not be read, or is gone: those that stood back for it are judged again."""
        rows = connection.execute(
            select(*COLUMNS).where(
                revisions.c.study_instance_uid == loser.study_instance_uid,
                revisions.c.state == RevisionState.EXCLUDED, revisions.c.reason_code == "better_series",
            )
        )
        for revision in [revision_of(row) for row in rows]:
            self._supersede(connection, revision, now)
            self._open(connection, _arrival(revision), revision.number + 1, now)

    @staticmethod
    def _move(connection: Connection, revision: Revision, state: RevisionState, now: float, *,
              reason: Reason | None = None, **values: Any) -> None:
        check_revision_move(revision.state, state)
        if "verdict" in values:
            values["verdict"] = json.dumps(values["verdict"])
        if state is RevisionState.INFERRED:
            values["inferred_at"] = now
        Revisions._guarded_update(
            connection, revision, state=state, reason_code=reason.code if reason else None,
            reason_text=reason.text if reason else None, updated_at=now, **crashes.ENDED, **values,
        )
        text = f"revision {revision.number}: {revision.state} -> {state}" + (f" ({reason.code})" if reason else "")
        note(connection, now, "revision_moved", text, revision.series_instance_uid, revision.study_instance_uid)

    @staticmethod
    def _guarded_update(connection: Connection, revision: Revision, **values: Any) -> None:
        changed = connection.execute(
            update(revisions)
            .where(
                revisions.c.id == revision.id, revisions.c.attempt == revision.attempt,
                revisions.c.state == revision.state,
                revisions.c.through_instance_id == revision.through_instance_id,
            )
            .values(**values)
        )
        if changed.rowcount != 1:
            raise StaleAttempt(revision.id)

    def start(self, revision: Revision, now: float) -> float:
        """Return the persisted start of the analysis, setting it the first time."""
        with self._engine.begin() as connection:
            connection.execute(
                update(revisions)
                .where(revisions.c.id == revision.id, revisions.c.analysis_started_at.is_(None))
                .values(analysis_started_at=now)
            )
        return self.get(revision.id).analysis_started_at

    def begin_reading(self, revision: Revision, now: float) -> Revision:
        """Persist the start of the analysis and count the reading before it begins (`crashes`). Raises StaleAttempt."""
        with self._engine.begin() as connection:
            started = func.coalesce(revisions.c.analysis_started_at, now)
            self._guarded_update(connection, revision, analysis_started_at=started, **crashes.BEGUN)
        return self.get(revision.id)

    def answered(
        self, revision: Revision, results: Iterable[Result], plan: Mapping[str, Sequence[str]], now: float,
        entries: Iterable[Entry] = (), *, bundle: str | None = None,
    ) -> None:
        """Record that every object is stored, plan the deliveries and enter the results in the catalogue, at once.

        An inferred revision becomes ENCODED; a "not assessed" one stays what it is. `bundle` is the name@version whose
        findings it reports. Raises StaleAttempt.
        """
        with self._engine.begin() as connection:
            state = RevisionState.ENCODED if revision.state is RevisionState.INFERRED else revision.state
            if state is revision.state:
                self._guarded_update(connection, revision, answered=True, answered_at=now, updated_at=now, bundle=bundle)
            else:
                self._move(connection, revision, state, now, answered=True, answered_at=now, bundle=bundle)
            add_results(connection, results, plan, now)
            add_entries(connection, entries)

    def failed(
        self, revision: Revision, now: float, *, not_before: float, text: str, counts: bool = True, crashed: bool = False
    ) -> None:
        """Record a failed attempt: the next one gets a new fencing token and may start at `not_before`.

        `counts=False`: the machine was short of something, which says nothing about the series.
        """
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(revisions)
                .where(
                    revisions.c.id == revision.id, revisions.c.attempt == revision.attempt,
                    revisions.c.state == revision.state, revisions.c.answered == revision.answered,
                )
                .values(attempt=revision.attempt + 1, failures=revision.failures + counts, not_before=not_before,
                        updated_at=now, **(crashes.CRASHED if crashed else crashes.ENDED))
            )
            if changed.rowcount == 1:
                note(connection, now, "attempt_failed", text, revision.series_instance_uid, revision.study_instance_uid)
