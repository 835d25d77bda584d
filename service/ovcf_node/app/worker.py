"""The working process: judges series, reads them in a child process, encodes the answers."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from ovcf_node import infer
from ovcf_node.app.executor import engine_running, slot
from ovcf_node.app.heartbeat import LEASE_S
from ovcf_node.app.process import process, results_root, spool_root
from ovcf_node.app.receiver import storing
from ovcf_node.config import Settings
from ovcf_node.engine import Engine, priority
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger
from ovcf_node.network import associate, find
from ovcf_node.observe import logging
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool
from ovcf_node.workflow.child import Children
from ovcf_node.workflow.durable import Worker
from ovcf_node.workflow.healing import Healing
from ovcf_node.workflow.judge import Judge

_LOG = structlog.get_logger("app")
_KEEP = timedelta(days=7)  # ended workflows; the ledger keeps the history


def run(settings: Settings) -> None:
    """Judge, read and encode until SIGTERM."""
    with process(settings, "worker") as (ledger, stop), slot(settings, "worker") as held:
        # A bundle that must not run is found out now, not with the first patient.
        infer.load(settings.node.bundle, providers=settings.infer.providers, threads=settings.infer.threads)
        pseudonyms = logging.Pseudonyms(settings.node.data)
        engine = Engine(settings.engine_url, executor_id=held.name, queues={"read": 1}, poll_s=settings.engine.poll_s)
        children = Children(settings)
        worker = Worker(settings, ledger, spool_root(settings), Results(results_root(settings)), children, pseudonyms)
        worker.register(engine)
        judge = Judge(settings, ledger, spool_root(settings), engine, children, pseudonyms, _priority, _count(settings))
        with engine_running(engine, ledger, held.name, stop):
            children.start_idle()
            spool = Spool(spool_root(settings))
            healing = Healing(ledger, spool, storing(settings, ledger, spool).receipt_of, pseudonyms)
            _judge_loop(settings, ledger, engine, judge, healing, held.name, stop)
        children.close()


def _judge_loop(
    settings: Settings, ledger: Ledger, engine: Engine, judge: Judge, healing: Healing, owner: str,
    stop: threading.Event,
) -> None:
    next_care = 0.0
    while not stop.wait(settings.engine.judge_interval_s):
        now = time.time()
        try:
            if not ledger.leases.take("judge", owner, now, LEASE_S):
                continue
            judge.tick(now)
            healing.tick(now)
            if now >= next_care:
                next_care = now + LEASE_S
                engine.take_over(ledger.leases.living("executor:", now))
                engine.repair()
                engine.forget(datetime.fromtimestamp(now, UTC) - _KEEP)
        except OvcfError as error:
            # A full disk or a busy database: the ledger still says what is due, the next tick finds it again.
            _LOG.error("judge_tick_failed", code=error.code)
    with contextlib.suppress(OvcfError):
        ledger.leases.give_back("judge", owner)


def _priority(arrived_at: float, stat: bool) -> int:
    return priority(datetime.fromtimestamp(arrived_at, UTC), stat=stat)


def _count(settings: Settings) -> Callable[[str, str], int | None] | None:
    source = settings.assemble.count_source
    if source is None:
        return None

    remote = associate.Remote(source.host, source.port, source.ae_title, source.calling_ae_title)
    return functools.partial(find.find_count, remote)
