"""What processes with an engine do besides: hold an executor name, keep its heartbeat, drain."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from ovcf_node.app.heartbeat import heartbeat
from ovcf_node.app.process import DRAIN_S
from ovcf_node.config import Settings
from ovcf_node.engine import Engine, Slot
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger

_LOG = structlog.get_logger("app")
_SLOTS = 16


@contextmanager
def slot(settings: Settings, role: str) -> Iterator[Slot]:
    """Hold the first free executor name of a role: "worker-0" alone on a machine, further ones beside it."""
    for number in range(_SLOTS):
        try:
            # A restarted process waits for its dying predecessor's name: its unfinished work carries that name.
            with Slot(settings.node.data / "slots", f"{role}-{number}", wait_s=2.0 if number == 0 else 0.0) as held:
                yield held
                return
        except Transient as error:
            if error.code != "slot_taken":
                raise
    raise Transient("slot_taken", f"{_SLOTS} processes of role {role} run already")


@contextmanager
def engine_running(engine: Engine, ledger: Ledger, executor: str, stop: threading.Event) -> Iterator[None]:
    """Launch the engine and keep this executor's heartbeat while the block runs and the engine drains."""
    drained = True
    try:
        with heartbeat(ledger, f"executor:{executor}", executor):
            engine.launch()
            try:
                yield
            finally:
                stop.set()
                drained = engine.shutdown(DRAIN_S)
    finally:
        if not drained:
            # A step is still running and its thread would keep the process alive; it is repeated at the next start.
            _LOG.warning("drain_incomplete")
            os._exit(0)
