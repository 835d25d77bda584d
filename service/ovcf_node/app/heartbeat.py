"""Leases kept alive while a process works: the living are told from the dead by them, on one machine or on many."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger

_LOG = structlog.get_logger("app")
_BEAT_S = 5.0

LEASE_S = 15.0
"""After this long without a heartbeat a process counts as dead, and its work goes to the living, seconds."""


@contextmanager
def heartbeat(ledger: Ledger, lease: str, owner: str) -> Iterator[None]:
    """Keep a lease while the block runs and give it back at the end."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_S):
            try:
                ledger.leases.take(lease, owner, time.time(), LEASE_S)
            except OvcfError as error:
                _LOG.error("heartbeat_missed", code=error.code)  # the next one may succeed

    ledger.leases.take(lease, owner, time.time(), LEASE_S)
    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        try:
            ledger.leases.give_back(lease, owner)
        except OvcfError as error:
            _LOG.error("heartbeat_not_ended", code=error.code)  # it expires by itself
