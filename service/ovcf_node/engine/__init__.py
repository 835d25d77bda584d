"""The durable scheduler: queued workflows of recorded steps that survive a kill at any point.

`scheduler`   the ten calls to DBOS, whose traps and their cures it lists
`schema`      refuses a database of a later version
`sqlite`      connections that end the process when the disk is full
`slot`        executor names that one process at a time can hold

The ledger is the truth; this is only the plan of who does what next. Losing its database is harmless: the judge
enqueues again whatever the ledger says is unfinished.
"""

from ovcf_node.engine.scheduler import STAT_HEAD_START_MIN, Engine, State, Step, priority
from ovcf_node.engine.schema import refuse_newer
from ovcf_node.engine.slot import Slot
from ovcf_node.engine.sqlite import EXIT_STORAGE

__all__ = ["EXIT_STORAGE", "STAT_HEAD_START_MIN", "Engine", "Slot", "State", "Step", "priority", "refuse_newer"]
