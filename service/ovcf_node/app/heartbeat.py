"""Leases kept alive while a process works: the living are told from the dead by them, on one machine or on many."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger

_LOG = structlog.get_logger("app")
_BEAT_S = 2.5

LEASE_S = 10.0
"""After this long without a heartbeat a process counts as dead, and its work goes to the living, seconds."""


@contextmanager
def heartbeat(ledger: Ledger, lease: str, owner: str, *, revoked: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep a lease while the block runs and give it back at the end.

    With `revoked` the lease is exclusive: Transient (`lease_taken`) if another owner has it, and `revoked` is called, in
    a thread of its own, when it was taken away because no heartbeat had come in time.
    """
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_S):
            try:
                now = ledger.leases.now()
                if revoked is None:
                    ledger.leases.take(lease, owner, now, LEASE_S)
                elif not ledger.leases.renew(lease, owner, now, LEASE_S):
                    revoked()
            except OvcfError as error:
                _LOG.error("heartbeat_missed", code=error.code)  # the next one may succeed

    if not ledger.leases.take(lease, owner, ledger.leases.now(), LEASE_S) and revoked is not None:
        raise Transient("lease_taken", f"another machine has {lease}; machines must not share a host name")
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
