"""Run the node's processes on one machine, restart those that end, and drain all of them on SIGTERM.

SIGHUP takes over a changed configuration without losing an association: processes that can, reread it; the others drain
(what they are doing ends, or is repeated after the start) and are started again.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
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
    asked_to_end: bool = False


def supervise(
    commands: dict[str, Sequence[str]], *, reread: Collection[str] = (), usable: Callable[[], bool] = lambda: True,
    drain_s: float = 30.0,
) -> int:
    """Run each command until SIGTERM or SIGINT; then pass SIGTERM on and wait up to `drain_s` seconds.

    On SIGHUP, if the configuration is `usable`, the processes named in `reread` get SIGHUP and the others SIGTERM and a new
    start. Returns 0 after a clean drain, 1 when a process had to be killed.
    """
    stop, hangup = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: hangup.set())
    children = [_Child(name, command) for name, command in commands.items()]
    while not stop.is_set():
        if hangup.is_set():
            hangup.clear()
            _take_over(children, reread, usable)
        now = time.monotonic()
        for child in children:
            _keep_running(child, now)
        stop.wait(0.2)
    return _drain([c for c in children if c.process and c.process.poll() is None], drain_s)


def _take_over(children: list[_Child], reread: Collection[str], usable: Callable[[], bool]) -> None:
    if not usable():
        _LOG.error("reload_refused")
        return
    _LOG.info("reload")
    for child in children:
        if child.process is not None:
            keeps = child.name in reread
            child.asked_to_end = not keeps
            child.process.send_signal(signal.SIGHUP if keeps else signal.SIGTERM)


def _keep_running(child: _Child, now: float) -> None:
    if child.process is not None:
        status = child.process.poll()
        if status is None:
            return
        steady = child.asked_to_end or now - child.started_at >= _STEADY_S
        child.restarts = 0 if steady else child.restarts + 1
        wait = 0.0 if steady else min(_RESTART_CAP_S, _RESTART_FIRST_S * 2 ** (child.restarts - 1))
        tell = _LOG.info if child.asked_to_end and status in (0, -signal.SIGTERM) else _LOG.error  # hardly started
        tell("process_ended", process=child.name, status=status, restart_in_s=wait)
        child.process, child.next_start, child.asked_to_end = None, now + wait, False
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
