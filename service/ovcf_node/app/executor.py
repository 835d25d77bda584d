"""What processes with an engine do besides: hold an executor name, keep its heartbeat, drain."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from ovcf_node.app.process import DRAIN_S
from ovcf_node.config import Settings
from ovcf_node.engine import Engine, Slot
from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger

_LOG = structlog.get_logger("app")
_HEARTBEAT_S = 5.0
_SLOTS = 16

LEASE_S = 15.0
"""After this long without a heartbeat an executor counts as dead and its work goes to the living, seconds."""


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
    """Launch the engine and keep this executor's heartbeat while the block runs; drain afterwards."""
    lease = f"executor:{executor}"

    def beat() -> None:
        while not stop.wait(_HEARTBEAT_S):
            try:
                ledger.leases.take(lease, executor, time.time(), LEASE_S)
            except OvcfError as error:
                _LOG.error("heartbeat_missed", code=error.code)  # the next one may succeed

    ledger.leases.take(lease, executor, time.time(), LEASE_S)
    engine.launch()
    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        drained = engine.shutdown(DRAIN_S)
        ledger.leases.give_back(lease, executor)
        if not drained:
            # A step is still running and its thread would keep the process alive; it is repeated at the next start.
            _LOG.warning("drain_incomplete")
            os._exit(0)
