"""Holds: studies of which nothing more leaves until a person decides."""

from dataclasses import dataclass

from sqlalchemy import Engine, insert, select, update

from ovcf_node.domain.reasons import Reason
from ovcf_node.ledger.database import reading
from ovcf_node.ledger.events import note
from ovcf_node.ledger.schema import holds

_FORGOTTEN = frozenset({"older_ledger", "purged_before"})  # one fact, a destination knows more, and why it does


@dataclass(frozen=True)
class Hold:
    """One held study."""

    study_instance_uid: str
    reason_code: str
    reason_text: str
    since: float


class Holds:
    """The `holds` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def place(self, study_instance_uid: str, reason: Reason, now: float, *, again: bool = False) -> bool:
        """Hold a study; False if it is held already (the first reason stays).

        What a person has released is held for the same reason only with `again`: for a new fact, not for the old one
        seen once more.
        """
        values = {"reason_code": reason.code, "reason_text": reason.text, "since": now, "lifted_at": None}
        this = holds.c.study_instance_uid == study_instance_uid
        with self._engine.begin() as connection:
            old = connection.execute(select(holds).where(this)).first()
            if old and (old.lifted_at is None or (_same(old.reason_code, reason.code) and not again)):
                return False
            if old:
                connection.execute(update(holds).where(this).values(**values))
            else:
                connection.execute(insert(holds).values(study_instance_uid=study_instance_uid, **values))
            note(connection, now, "held", f"{reason.code}: {reason.text}", None, study_instance_uid)
            return True

    def lift(self, study_instance_uid: str, now: float, who: str) -> bool:
        """End a hold; False if there was none."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(holds)
                .where(holds.c.study_instance_uid == study_instance_uid, holds.c.lifted_at.is_(None))
                .values(lifted_at=now)
            ).rowcount
            if changed:
                note(connection, now, "hold_lifted", f"by {who}", None, study_instance_uid)
            return bool(changed)

    def all(self) -> list[Hold]:
        """Return every hold in force, oldest first."""
        with reading(self._engine) as connection:
            columns = [holds.c[name] for name in Hold.__annotations__]
            rows = connection.execute(select(*columns).where(holds.c.lifted_at.is_(None)).order_by(holds.c.since))
            return [Hold(*row) for row in rows]


def _same(released: str, code: str) -> bool:
    return released == code or {released, code} <= _FORGOTTEN
