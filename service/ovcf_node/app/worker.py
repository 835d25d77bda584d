"""The working process: judges series, reads them in a child process, encodes the answers."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from ovcf_node import infer
from ovcf_node.app import fetch
from ovcf_node.app.executor import engine_running, slot
from ovcf_node.app.heartbeat import LEASE_S, Pulse, beating
from ovcf_node.app.process import process, results_root, spool_root
from ovcf_node.app.receiver import storing
from ovcf_node.app.retaining import Retaining
from ovcf_node.app.upkeep import Upkeep
from ovcf_node.config import Settings
from ovcf_node.engine import Engine, priority
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger
from ovcf_node.network import find
from ovcf_node.observe import logging
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.child import Children
from ovcf_node.workflow.durable import Worker
from ovcf_node.workflow.healing import Healing
from ovcf_node.workflow.judge import Judge
from ovcf_node.workflow.purging import Purging
from ovcf_node.workflow.withdrawing import Withdrawing

_LOG = structlog.get_logger("app")
_TICK_S = 1800.0  # a tick of the judge that takes longer hangs


def run(settings: Settings) -> None:
    """Judge, read and encode until SIGTERM."""
    with process(settings, "worker") as (ledger, stop), slot(settings, "worker") as held:
        # A bundle that must not run is found out now, not with the first patient.
        infer.load(settings.node.bundle, providers=settings.infer.providers, threads=settings.infer.threads)
        pseudonyms = logging.Pseudonyms(settings.node.data)
        engine = Engine(settings.engine_url, executor_id=held.name, queues={"read": 1}, poll_s=settings.engine.poll_s)
        children = Children(settings)
        spool, results = Spool(spool_root(settings)), Results(results_root(settings))
        pulse = Pulse()
        worker = Worker(settings, ledger, spool.root, results, children, pseudonyms, alive=pulse.wait)
        worker.register(engine)
        judge = Judge(
            settings, ledger, spool.root, engine, children, pseudonyms, _priority(settings), _count(settings),
            free_bytes=spool.free_bytes,
        )
        withdrawing = Withdrawing(settings, ledger, results, pseudonyms)
        with engine_running(engine, ledger, held.name, stop, pulse):
            children.start_idle()
            healing = Healing(ledger, spool, storing(settings, ledger, spool).receipt_of, pseudonyms)
            retaining = Retaining(settings, engine, Purging(settings, ledger, spool, results, pseudonyms))
            upkeep = Upkeep(ledger, engine, (spool, results), healing, retaining)
            _judge_loop(settings, ledger, judge, withdrawing, upkeep, held.name, pulse, stop)
        children.close()


def _judge_loop(
    settings: Settings, ledger: Ledger, judge: Judge, withdrawing: Withdrawing, upkeep: Upkeep, owner: str, pulse: Pulse,
    stop: threading.Event,
) -> None:
    while not stop.wait(settings.engine.judge_interval_s):
        try:
            pulse.check()  # after a sleep of the whole machine this process must not be the one that calls all others dead
            now = ledger.leases.now()
            if not ledger.leases.take("judge", owner, now, LEASE_S):
                continue
            # A tick may look at many series: without a heartbeat the others would think that nobody judges.
            with beating(lambda: ledger.leases.take("judge", owner, ledger.leases.now(), LEASE_S), at_most_s=_TICK_S):
                judge.tick(time.time())
                withdrawing.tick(time.time())
                upkeep.perform(now)
        except OvcfError as error:
            # A full disk, a busy database, a pause: the ledger still says what is due, the next tick finds it again.
            _LOG.error("judge_tick_failed", code=error.code)
            upkeep.postpone()
    with contextlib.suppress(OvcfError):
        ledger.leases.give_back("judge", owner)


def _priority(settings: Settings) -> Callable[[float, bool], int]:
    head_start_min = settings.priority.head_start_min
    return lambda at, stat: priority(datetime.fromtimestamp(at, UTC), stat=stat, head_start_min=head_start_min)


def _count(settings: Settings) -> Callable[[str, str], int | None] | None:
    source = settings.assemble.count_source
    return None if source is None else functools.partial(find.find_count, fetch.count_remote(source))
