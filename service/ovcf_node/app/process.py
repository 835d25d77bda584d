"""What every process of the node does: logging, folders, ledger, signals, heartbeat, file rights, no core dumps."""

import os
import resource
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from ovcf_node.app import auditing
from ovcf_node.app.heartbeat import heartbeat
from ovcf_node.config import Settings
from ovcf_node.ledger import PROCESS, Ledger, migrate
from ovcf_node.observe import audit, logging
from ovcf_node.storage.atomic import storage_errors

_LOG = structlog.get_logger("app")

_CLOCKS_DIFFER_S = 2.0

_NOT_FOR_OTHERS = 0o027
"""File mode creation mask: the databases hold names, and SQLite would create them readable for everybody."""
_OTHERS = 0o007

DRAIN_S = 25.0
"""How long a process may take to end what it is doing, seconds; less than the supervisor's patience."""


def confine() -> None:
    """Keep what this process and its children write from other users, and leave no core dump."""
    os.umask(os.umask(0o077) | _NOT_FOR_OTHERS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold pixels and names, outside every protection


def prepare(settings: Settings) -> None:
    """Create the data folder, for its owner alone, and bring the ledger's schema up to date."""
    with storage_errors():
        settings.node.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(settings.ledger_url)


def rights_problem(data: Path) -> str:
    """Return why others can read the data folder, and the remedy; empty when they cannot, or when there is none yet.

    A folder that was there before the node keeps its rights, and on a mounted volume they are not ours to change.
    """
    try:
        mode = stat.S_IMODE(data.stat().st_mode)
    except OSError:
        return ""
    if not mode & _OTHERS:
        return ""
    return (f"every user of this machine may enter {data} (mode {mode:04o}), which holds names and images: "
            f"chmod o= {data}, or 0700 where its group needs nothing")


def spool_root(settings: Settings) -> Path:
    """Return the folder of received instances."""
    return settings.node.data / "spool"


def results_root(settings: Settings) -> Path:
    """Return the folder of findings, masks and encoded objects."""
    return settings.node.data / "results"


def silent(host: str, port: int) -> str:
    """Return why nobody answers on a port of this machine, empty when somebody does."""
    try:
        socket.create_connection(("127.0.0.1" if host in ("0.0.0.0", "::") else host, port), 5).close()  # noqa: S104
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _compare_clocks(ledger: Ledger) -> None:
    # Quiet periods compare the clock of who received with the clock of who judges.
    ahead_s = time.time() - ledger.leases.now()
    if abs(ahead_s) > _CLOCKS_DIFFER_S:
        _LOG.warning("clock_differs", ahead_s=round(ahead_s, 1), text="from the database's: set it by NTP")


@contextmanager
def process(settings: Settings, name: str) -> Iterator[tuple[Ledger, threading.Event]]:
    """Set up a process; yields the ledger and the event that SIGTERM, SIGINT and SIGHUP set.

    A process that can take over new settings while it runs handles SIGHUP itself; all others drain and are started again.
    """
    confine()
    logging.configure(settings.log.level, settings.log.format)
    structlog.contextvars.bind_contextvars(process=name)
    prepare(settings)
    auditing.install(settings, name)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    ledger = Ledger(settings.ledger_url)
    host = socket.gethostname()
    try:
        _compare_clocks(ledger)
        # Not by pid: a restarted process takes its dead predecessor's place at once.
        with heartbeat(ledger, f"{PROCESS}{name}@{host}"[:64], host):
            audit.activity(started=True)
            yield ledger, stop
    finally:
        audit.activity(started=False)
        ledger.close()
        _LOG.info("stopped")
