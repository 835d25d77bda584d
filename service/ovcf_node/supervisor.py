"""Run the node's processes on one machine, restart those that end, and drain all of them on SIGTERM."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

_LOG = structlog.get_logger("supervisor")
_RESTART_FIRST_S = 1.0
_RESTART_CAP_S = 60.0
_STEADY_S = 60.0  # a process that ran this long starts again at once


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    process: subprocess.Popen | None = None
    started_at: float = 0.0
    restarts: int = 0
    next_start: float = field(default=0.0)


def supervise(commands: dict[str, Sequence[str]], *, drain_s: float = 30.0) -> int:
    """Run each command until SIGTERM or SIGINT; then pass SIGTERM on and wait up to `drain_s` seconds.

    Returns 0 after a clean drain, 1 when a process had to be killed.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    children = [_Child(name, command) for name, command in commands.items()]
    while not stop.is_set():
        now = time.monotonic()
        for child in children:
            _keep_running(child, now)
        stop.wait(0.2)
    return _drain([c for c in children if c.process and c.process.poll() is None], drain_s)


def _keep_running(child: _Child, now: float) -> None:
    if child.process is not None:
        status = child.process.poll()
        if status is None:
            return
        steady = now - child.started_at >= _STEADY_S
        child.restarts = 0 if steady else child.restarts + 1
        wait = 0.0 if steady else min(_RESTART_CAP_S, _RESTART_FIRST_S * 2 ** (child.restarts - 1))
        _LOG.error("process_ended", process=child.name, status=status, restart_in_s=wait)
        child.process, child.next_start = None, now + wait
    if now >= child.next_start:
        child.process = subprocess.Popen(child.command)
        child.started_at = now


def _drain(running: list[_Child], drain_s: float) -> int:
    for child in running:
        child.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + drain_s
    killed = 0
    for child in running:
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
            killed += 1
            _LOG.error("process_killed", process=child.name)
    _LOG.info("drained", killed=killed)
    return 1 if killed else 0


def python_command(*arguments: str) -> list[str]:
    """Return the command line that runs this program with `arguments`."""
    return [sys.executable, "-m", "ovcf_node", *arguments]
