"""What processes with an engine do besides: hold an executor name, keep its heartbeat, leave when given up, drain."""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from ovcf_node.app.heartbeat import Pulse, heartbeat
from ovcf_node.app.process import DRAIN_S
from ovcf_node.config import Settings
from ovcf_node.engine import Engine, Slot
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger

_LOG = structlog.get_logger("app")
_SLOTS = 16
_HOST_LENGTH = 40  # the name of a lease has 64 characters; Kubernetes tells pods apart at the end of theirs
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

EXIT_GIVEN_UP = 75
"""Exit status (EX_TEMPFAIL) of a process whose work was given to others while it was stopped or cut off: restart it."""


@contextmanager
def slot(settings: Settings, role: str) -> Iterator[Slot]:
    """Hold the first free executor name of a role on this machine: "worker-0@host", further ones beside it.

    The lock behind it needs to hold within this machine only, whatever file system the data folder is on: between
    machines the host name tells names apart, and `engine_running` refuses to start where two machines share one.
    """
    host = socket.gethostname()[-_HOST_LENGTH:]
    for number in range(_SLOTS):
        name = f"{role}-{number}@{host}"
        try:
            # A restarted process waits for its dying predecessor's name: its unfinished work carries that name.
            with Slot(settings.node.data / "slots", name, wait_s=2.0 if number == 0 else 0.0) as held:
                yield held
                return
        except Transient as error:
            if error.code != "slot_taken":
                raise
    raise Transient("slot_taken", f"{_SLOTS} processes of role {role} run already")


@contextmanager
def engine_running(
    engine: Engine, ledger: Ledger, executor: str, stop: threading.Event, pulse: Pulse,
) -> Iterator[None]:
    """Launch the engine and keep this executor's heartbeat while the block runs and the engine drains.

    Raises Transient (`lease_taken`) if a living process of another machine has the same executor name.
    """
    drained = True
    owner = f"{executor}/{_machine()}"
    try:
        with heartbeat(ledger, f"executor:{executor}", owner, revoked=_leave, pulse=pulse):
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


def _machine() -> str:
    """This machine until it starts again: a restarted process takes over from its predecessor at once.

    Where a sandbox hides that, nobody is the predecessor: the new process waits until the lease has run out.
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return uuid.uuid4().hex


def _leave() -> None:
    # Others do this work now: no object may be sent beside them, and no step is worth ending. Rows are guarded besides.
    _LOG.critical("given_up", text="counted as dead after a pause; leaving, to be restarted")
    os._exit(EXIT_GIVEN_UP)
