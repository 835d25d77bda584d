"""What the holder of the judge's lease does besides judging, for all machines of the node.

Every few seconds it gives the work of dead executors to the living; less often it lets go on what a full disk ended,
lets go what is done (`retaining`), and heals what crashes left in the spool.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from ovcf_node.app.heartbeat import LEASE_S
from ovcf_node.app.retaining import Retaining
from ovcf_node.engine import Engine
from ovcf_node.ledger import Ledger
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.healing import Healing

_LOG = structlog.get_logger("app")
_TAKE_OVER_S, _MEND_S, _PURGE_S, _HEAL_S, _SWEEP_S = 2.0, 15.0, 15.0, 60.0, 3600.0


@dataclass
class _Chore:
    every_s: float
    perform: Callable[[float], None]
    next_at: float = 0.0


class Upkeep:
    """The chores of a node and when each is due again."""

    def __init__(self, ledger: Ledger, engine: Engine, stores: Sequence[Spool | Results], healing: Healing,
                 retaining: Retaining):
        self._ledger = ledger
        self._engine = engine
        self._stores = stores
        self._chores = [
            _Chore(_TAKE_OVER_S, self._take_over), _Chore(_MEND_S, self._mend), _Chore(_PURGE_S, retaining.tick),
            _Chore(_HEAL_S, healing.look), _Chore(_SWEEP_S, self._sweep),
        ]
        self._postponed = True

    def postpone(self) -> None:
        """Let every living executor beat first: after an outage of the database all of them look dead."""
        self._postponed = True

    def perform(self, now: float) -> None:
        """Do what is due at `now`, by the clock of the leases."""
        if self._postponed:
            self._postponed = False
            for chore in self._chores:
                chore.next_at = max(chore.next_at, now + LEASE_S / 2)
        for chore in self._chores:
            if now >= chore.next_at:
                chore.next_at = now + chore.every_s
                chore.perform(now)

    def _take_over(self, now: float) -> None:
        self._ledger.leases.revoke_expired("executor:", now)
        taken = self._engine.take_over(self._ledger.leases.living("executor:", now))
        if taken:
            _LOG.warning("taken_over", workflows=len(taken))

    def _mend(self, now: float) -> None:
        self._engine.repair()

    def _sweep(self, now: float) -> None:
        removed = sum(store.clean_temporary(now) for store in self._stores)
        if removed:
            _LOG.warning("unfinished_files_removed", files=removed)
            self._ledger.events.add(now, "healed", f"{removed} files that a crash left unfinished were removed")
