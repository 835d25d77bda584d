"""How readings that crash are counted: before one begins, so that even the death of the whole machine cannot hide it.

Whatever ends a reading takes its count back, unless its child process died of it. While nobody knows yet it is in flight:
one that a killed worker left so is counted already, once, and the kill is not held against the input.
"""

from sqlalchemy import case

from ovcf_node.ledger.schema import revisions

_IN_FLIGHT, _CRASHES = revisions.c.in_flight, revisions.c.crashes

BEGUN = {"crashes": case((_IN_FLIGHT, _CRASHES), else_=_CRASHES + 1), "in_flight": True}
"""A reading begins."""

ENDED = {"crashes": case((_IN_FLIGHT, _CRASHES - 1), else_=_CRASHES), "in_flight": False}
"""It ended, or the revision moved on, otherwise than by a crash; nothing changes where none was in flight."""

CRASHED = {"in_flight": False}
"""Its child process died of it."""
