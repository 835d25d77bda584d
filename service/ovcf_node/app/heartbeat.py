"""Leases kept alive while a process works: the living are told from the dead by them, on one machine or on many."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger

_LOG = structlog.get_logger("app")
_BEAT_S = 2.5
_LOOK_S = 0.2

LEASE_S = 15.0
"""After this long without a heartbeat a process counts as dead, and its work goes to the living, seconds."""


class Pulse:
    """Whether nobody can have counted this process as dead, by its own clock; asked before what cannot be undone."""

    def __init__(self):
        self._beaten_at = _uptime()

    def beaten(self, at: float) -> None:
        """Remember when a heartbeat that succeeded was begun, on the clock of `_uptime`."""
        self._beaten_at = at

    def check(self) -> None:
        """Raise Transient (`given_up`) when the last heartbeat is so long ago that others may do this work now."""
        if _uptime() - self._beaten_at > LEASE_S:
            raise Transient("given_up", "stopped or cut off for too long: others may be doing this")

    def wait(self) -> None:
        """Return while nobody can have done so; otherwise wait for the heartbeat, which goes on or ends the process."""
        while True:
            try:
                return self.check()
            except Transient:
                time.sleep(_LOOK_S)


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps


@contextmanager
def beating(beat: Callable[[], object], *, at_most_s: float = math.inf) -> Iterator[None]:
    """Call `beat` from a thread of its own, several times a lease, while the block runs; what it raises is logged.

    `at_most_s` ends it: what hangs for longer shall lose its lease, and be seen to have lost it.
    """
    stop, until = threading.Event(), _uptime() + at_most_s

    def keep_on() -> None:
        while not stop.wait(_BEAT_S) and _uptime() < until:
            try:
                beat()
            except OvcfError as error:
                _LOG.error("heartbeat_missed", code=error.code)  # the next one may succeed
            # The boundary of the thread. Let through, one defect would end it, and its process could never beat again: it
            # would wait for ever (`Pulse.wait`), while the supervisor sees it live. Caught, it counts as a beat that was
            # missed, no more: a defect that stays lets the lease expire, so others take the work over, as after a crash.
            except Exception as error:  # noqa: BLE001
                _LOG.error("heartbeat_missed", error_type=type(error).__name__, exc_info=True)

    heart = threading.Thread(target=keep_on, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()


@contextmanager
def heartbeat(
    ledger: Ledger, lease: str, owner: str, *, revoked: Callable[[], None] | None = None, pulse: Pulse | None = None,
) -> Iterator[None]:
    """Keep a lease while the block runs and give it back at the end; `pulse` learns of every beat.

    With `revoked` the lease is exclusive: Transient (`lease_taken`) if another owner has it, and `revoked` is called, in
    a thread of its own, when it was taken away because no heartbeat had come in time.
    """

    def beat() -> None:
        begun = _uptime()
        now = ledger.leases.now()
        if revoked is None:
            ledger.leases.take(lease, owner, now, LEASE_S)
        elif not ledger.leases.renew(lease, owner, now, LEASE_S):
            return revoked()
        if pulse:
            pulse.beaten(begun)

    if pulse:
        pulse.beaten(_uptime())
    if not ledger.leases.take(lease, owner, ledger.leases.now(), LEASE_S) and revoked is not None:
        raise Transient("lease_taken", f"another machine has {lease}; machines must not share a host name")
    try:
        with beating(beat):
            yield
    finally:
        try:
            ledger.leases.give_back(lease, owner)
        except OvcfError as error:
            _LOG.error("heartbeat_not_ended", code=error.code)  # it expires by itself
