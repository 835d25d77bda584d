"""Who is alive, who is given up, and what happens to the work of the dead; on SQLite and on PostgreSQL."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from dicom_peers import wait_until
from ovcf_node.app import heartbeat as beats
from ovcf_node.app.heartbeat import LEASE_S, Pulse, beating, heartbeat
from ovcf_node.app.upkeep import Upkeep
from ovcf_node.errors import Transient
from ovcf_node.ledger import Ledger
from ovcf_node.storage import atomic
from ovcf_node.storage.spool import Spool

T0 = 1_000_000.0
WELL = SimpleNamespace(look=lambda now: None, tick=lambda now: None)  # nothing to heal, nothing to let go


class Scheduler:
    """Remembers which executors it was told are alive."""

    def __init__(self):
        self.living: list[set[str]] = []

    def take_over(self, living):
        self.living.append(set(living))
        return []

    def repair(self):
        return []

    def forget(self, before):
        return 0


@pytest.fixture
def node(ledger_url):
    ledger = Ledger(ledger_url)
    engine = Scheduler()
    yield SimpleNamespace(ledger=ledger, engine=engine, upkeep=Upkeep(ledger, engine, (), WELL, WELL))
    for name in ledger.leases.expiries(0.0):
        for owner in ("a", "b", ""):
            ledger.leases.give_back(name, owner)
    ledger.close()


def test_the_silent_are_given_up_and_the_others_are_not(node):
    node.ledger.leases.take("executor:silent", "a", T0, LEASE_S)
    node.upkeep.perform(T0)  # the first time everybody may beat first
    assert node.engine.living == []
    node.ledger.leases.take("executor:well", "b", T0 + LEASE_S, LEASE_S)
    node.upkeep.perform(T0 + LEASE_S + 1)
    assert node.engine.living == [{"well"}]
    assert not node.ledger.leases.renew("executor:silent", "a", T0 + 12, LEASE_S)
    assert node.ledger.leases.renew("executor:well", "b", T0 + 12, LEASE_S)


def test_after_an_outage_everybody_may_beat_before_anybody_is_given_up(node):
    node.upkeep.perform(T0)
    node.ledger.leases.take("executor:cut-off", "a", T0, LEASE_S)
    node.upkeep.postpone()  # ten minutes without the database
    node.upkeep.perform(T0 + 600)
    assert node.ledger.leases.renew("executor:cut-off", "a", T0 + 602, LEASE_S)
    node.upkeep.perform(T0 + 600 + LEASE_S / 2 + 1)
    assert node.engine.living == [{"cut-off"}]


def test_leftovers_of_a_crash_are_removed(tmp_path, node):
    spool = Spool(tmp_path / "spool")
    old, young = (spool.root / atomic.TEMPORARY / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    now = time.time()
    os.utime(old, (now - 4000, now - 4000))
    upkeep = Upkeep(node.ledger, node.engine, (spool,), WELL, WELL)
    upkeep.perform(now)
    upkeep.perform(now + LEASE_S)
    assert not old.exists() and young.exists()


def test_a_process_learns_that_it_was_given_up(node, monkeypatch):
    monkeypatch.setattr(beats, "_BEAT_S", 0.05)
    given_up = threading.Event()
    with heartbeat(node.ledger, "executor:worker-0@here", "a", revoked=given_up.set):
        time.sleep(0.2)
        assert not given_up.is_set()
        node.ledger.leases.revoke_expired("executor:", node.ledger.leases.now() + LEASE_S + 1)
        wait_until(given_up.is_set)


def test_a_process_doubts_itself_as_soon_as_others_may(node, monkeypatch):
    pulse, now = Pulse(), beats._uptime()
    pulse.check()
    monkeypatch.setattr(beats, "_uptime", lambda: now + LEASE_S + 1)
    with pytest.raises(Transient, match="given_up"):
        pulse.check()
    monkeypatch.setattr(beats, "_BEAT_S", 0.05)
    with heartbeat(node.ledger, "executor:worker-0@here", "a", revoked=lambda: None, pulse=pulse):
        pulse.check()
        monkeypatch.setattr(beats, "_uptime", lambda: now + 10 * LEASE_S)
        pulse.wait()  # what cannot be undone waits for the next beat
        assert pulse._beaten_at > now + 9 * LEASE_S
        pulse.check()


def test_two_machines_of_one_host_name_do_not_share_an_executor_name(node):
    with heartbeat(node.ledger, "executor:worker-0@same", "a", revoked=lambda: None):
        with pytest.raises(Transient, match="lease_taken"), heartbeat(
            node.ledger, "executor:worker-0@same", "b", revoked=lambda: None
        ):
            pass
        assert node.ledger.leases.living("executor:", node.ledger.leases.now()) == {"worker-0@same"}


def test_a_defect_ends_no_heartbeat(node, monkeypatch):
    monkeypatch.setattr(beats, "_BEAT_S", 0.05)
    pulse, take = Pulse(), node.ledger.leases.take
    with heartbeat(node.ledger, "process:web@here", "a", pulse=pulse):
        monkeypatch.setattr(node.ledger.leases, "take", lambda *_: 1 / 0)
        time.sleep(0.2)
        monkeypatch.setattr(node.ledger.leases, "take", take)
        before = pulse._beaten_at
        wait_until(lambda: pulse._beaten_at > before)


def test_a_long_tick_keeps_its_lease(node, monkeypatch):
    monkeypatch.setattr(beats, "_BEAT_S", 0.05)
    beat = lambda: node.ledger.leases.take("judge", "a", node.ledger.leases.now(), 0.2)  # noqa: E731
    assert beat()
    with beating(beat):
        time.sleep(0.5)
        assert not node.ledger.leases.take("judge", "b", node.ledger.leases.now(), 0.2)
    assert node.ledger.leases.take("judge", "b", node.ledger.leases.now() + 0.3, 0.2)


def test_a_tick_that_hangs_loses_its_lease(node, monkeypatch):
    monkeypatch.setattr(beats, "_BEAT_S", 0.05)
    beat = lambda: node.ledger.leases.take("judge", "a", node.ledger.leases.now(), 0.2)  # noqa: E731
    with beating(beat, at_most_s=0.3):
        wait_until(lambda: node.ledger.leases.take("judge", "b", node.ledger.leases.now(), 0.2))
