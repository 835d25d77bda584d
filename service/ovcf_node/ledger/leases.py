"""Leases: the judge loop's lock, and the heartbeats that tell living executors from dead ones."""

import time

from sqlalchemy import Engine, delete, extract, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ovcf_node.ledger.database import reading
from ovcf_node.ledger.schema import leases

PROCESS = "process:"
"""Begins the names of the heartbeats of all processes: `process:ROLE@HOST`."""


class Leases:
    """The `leases` table."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def now(self) -> float:
        """Return the time by the clock that all processes of this ledger share, seconds since the epoch.

        On PostgreSQL the server's: machines whose clocks differ must agree on who is alive.
        """
        if self._engine.dialect.name == "sqlite":
            return time.time()
        with reading(self._engine) as connection:
            return float(connection.execute(select(extract("epoch", func.clock_timestamp()))).scalar_one())

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

    def renew(self, name: str, owner: str, now: float, duration_s: float) -> bool:
        """Prolong a lease that `owner` has, expired or not; False once it was revoked or somebody else took it."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(leases).where(leases.c.name == name, leases.c.owner == owner).values(expires_at=now + duration_s)
            )
        return changed.rowcount == 1

    def revoke_expired(self, prefix: str, now: float) -> None:
        """Take expired leases from their owners, for whom `renew` fails from now on; the rows say when they ended.

        Whoever gives the work of the dead to the living does this first: one that was only slow then finds out.
        """
        with self._engine.begin() as connection:
            connection.execute(
                update(leases)
                .where(leases.c.name.startswith(prefix, autoescape=True), leases.c.expires_at < now, leases.c.owner != "")
                .values(owner="")
            )

    def give_back(self, name: str, owner: str) -> None:
        """End a lease that `owner` holds."""
        with self._engine.begin() as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.owner == owner))

    def living(self, prefix: str, now: float) -> set[str]:
        """Return the names (without the prefix) of leases that have not expired."""
        query = select(leases.c.name).where(leases.c.name.startswith(prefix, autoescape=True), leases.c.expires_at >= now)
        with reading(self._engine) as connection:
            return {name.removeprefix(prefix) for (name,) in connection.execute(query)}

    def roles_alive(self, now: float) -> set[str]:
        """Return the roles of which some process is alive, on whatever machine."""
        return {name.partition("@")[0] for name in self.living(PROCESS, now)}

    def expiries(self, since: float) -> dict[str, float]:
        """Return when each lease expires or expired; those that ended before `since` are forgotten processes."""
        query = select(leases.c.name, leases.c.expires_at).where(leases.c.expires_at >= since)
        with reading(self._engine) as connection:
            return {name: expires_at for name, expires_at in connection.execute(query)}
