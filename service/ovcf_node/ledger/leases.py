"""Leases: the judge loop's lock, and the heartbeats that tell living executors from dead ones."""

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ovcf_node.ledger.database import reading
from ovcf_node.ledger.schema import leases


class Leases:
    """The `leases` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def take(self, name: str, owner: str, now: float, duration_s: float) -> bool:
        """Take or renew a lease; False while somebody else holds it."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(leases)
                .where(leases.c.name == name, (leases.c.owner == owner) | (leases.c.expires_at < now))
                .values(owner=owner, expires_at=now + duration_s)
            )
            if changed.rowcount == 1:
                return True
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(leases).values(name=name, owner=owner, expires_at=now + duration_s))
            return True
        except IntegrityError:
            return False

    def give_back(self, name: str, owner: str) -> None:
        """End a lease that `owner` holds."""
        with self._engine.begin() as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.owner == owner))

    def living(self, prefix: str, now: float) -> set[str]:
        """Return the names (without the prefix) of leases that have not expired."""
        query = select(leases.c.name).where(leases.c.name.startswith(prefix, autoescape=True), leases.c.expires_at >= now)
        with reading(self._engine) as connection:
            return {name.removeprefix(prefix) for (name,) in connection.execute(query)}

    def expiries(self, since: float) -> dict[str, float]:
        """Return when each lease expires or expired; those that ended before `since` are forgotten processes."""
        query = select(leases.c.name, leases.c.expires_at).where(leases.c.expires_at >= since)
        with reading(self._engine) as connection:
            return {name: expires_at for name, expires_at in connection.execute(query)}
