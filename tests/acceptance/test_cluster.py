"""Two of everything on PostgreSQL behind a TCP balancer, as deploy/compose.yaml and the Helm chart run them.

Whoever is killed or stopped loses nothing but time; whoever wakes up after others took its work changes nothing.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from balancer import balanced
from node_harness import Node, RecordingPacs, dicom_destination, free_port, storescu, wait_for
from ovcf_node.app.executor import EXIT_GIVEN_UP
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.ledger import Ledger, Revision
from ovcf_node.network.messages import StoreAnswer, StoreRequest
from postgresql import database

pytestmark = [pytest.mark.peer, pytest.mark.slow]

TAKEN_OVER_S = 13.0  # a lease of 10 seconds, looked at every 2, and a poll
START_S = 300
PATIENCE = 6  # a machine that is busier than ours by so much still passes


class Cluster:
    """Processes of one node, each as if on a machine of its own; `engine` is the scheduler's database."""

    def __init__(self, folder: Path, url: str, pacs: RecordingPacs, stack: ExitStack):
        self.pacs, self._stack, self._folder = pacs, stack, folder
        self.node = Node(folder / "node", dicom_destination("pacs", "TEST_PACS", pacs.port))
        secret = folder / "database-url"
        secret.write_text(url + "\n")
        self._environment = {f"OVCF_NODE__ENGINE__{name}_URL_FILE": str(secret) for name in ("LEDGER", "ENGINE")}
        address = make_url(url)
        self.engine = stack.enter_context(
            psycopg.connect(host=address.query["host"], user="ovcf", dbname=address.database, autocommit=True)
        )
        self._url = url
        self.processes: list[subprocess.Popen] = []
        self.workers: list[subprocess.Popen] = []
        self.senders: list[subprocess.Popen] = []

    def start(self, role: str, **environment: str) -> subprocess.Popen:
        """Run one process of the node, as one container would."""
        command = [sys.executable, "-m", "ovcf_node", "run", role, "--config", str(self.node.configuration)]
        with (self._folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | self._environment | environment)
        self._stack.callback(ended, process)
        self.processes.append(process)
        return process

    def kill(self, worker: subprocess.Popen) -> None:
        worker.kill()
        worker.wait()
        self.workers.remove(worker)
        self.processes.remove(worker)

    def opened(self) -> None:
        self.node.ledger = Ledger(self._url)
        self._stack.callback(self.node.ledger.close)

    def executor(self, process: subprocess.Popen) -> str:
        """Return the executor name that a process holds, empty while it has none."""
        links = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir() if path.is_symlink()]
        return next((Path(link).stem for link in links if link.endswith(".lock")), "")

    def ready(self) -> bool:
        """Say whether every worker and sender has its name and some worker judges; none may have ended."""
        assert all(process.poll() is None for process in self.processes)
        return bool(self.judging()) and all(self.executor(process) for process in (*self.workers, *self.senders))

    def running(self, workflow: str, series: str) -> str | None:
        """Return the executor that runs a workflow of the newest revision of a series right now."""
        revision = self.node.newest(series)
        if revision is None:
            return None
        key = {"read": f"read:{series}:{revision.number}:%", "deliver": f"deliver:{revision.id}:%"}[workflow]
        query = "SELECT executor_id FROM dbos.workflow_status WHERE status = 'PENDING' AND workflow_uuid LIKE %s"
        row = self.engine.execute(query, (key,)).fetchone()
        return row[0] if row else None

    def judging(self) -> str:
        query = "SELECT owner FROM leases WHERE name = 'judge' AND expires_at > extract(epoch FROM clock_timestamp())"
        try:
            row = self.engine.execute(query).fetchone()
        except psycopg.errors.UndefinedTable:  # nobody has made the ledger yet
            return ""
        return row[0] if row else ""

    def caught(self, workflow: str, series: str, among: list[subprocess.Popen]) -> subprocess.Popen:
        """Wait until one of the processes runs the workflow; return it."""
        name = wait_for(lambda: self.running(workflow, series), 120, f"{workflow} of the series runs")
        return next(process for process in among if self.executor(process) == name)

    def taken_over(self, workflow: str, series: str, lost: str) -> float:
        """Wait until another executor runs the workflow or it is done; return the seconds from now."""
        begun = time.monotonic()
        wait_for(lambda: self.running(workflow, series) not in (lost, None) or self._answered(workflow, series),
                 TAKEN_OVER_S * PATIENCE, "another process takes over")
        return time.monotonic() - begun

    def _answered(self, workflow: str, series: str) -> bool:
        revision = self.node.newest(series)
        waiting = [d for d in self.node.ledger.deliveries.of_revision(revision.id) if d.state == "PENDING"]
        return revision.answered and (workflow == "read" or not waiting)


def ended(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def stopped(process: subprocess.Popen) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def halves(folder: Path, name: str) -> tuple[list[Path], str]:
    """Write a phantom series in two folders, every other slice in each; returns them and its Series Instance UID."""
    parts = [folder / name / "even", folder / name / "odd"]
    for part in parts:
        part.mkdir(parents=True)
    for index, path in enumerate(phantom.write_series(phantom.load(), folder / name / "all", name=name)):
        path.rename(parts[index % 2] / path.name)
    return parts, uid_from("phantom", name, "series")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, postgresql_cluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    pacs = RecordingPacs(folder / "pacs")
    with database(postgresql_cluster) as url, pacs.running(), ExitStack() as stack:
        cluster = Cluster(folder, url, pacs, stack)
        ports = [free_port(), free_port()]
        # All at once on an empty database and an empty folder, as an orchestrator starts them.
        receivers = [cluster.start("receiver", OVCF_NODE__RECEIVE__PORT=str(port)) for port in ports]
        cluster.workers = [cluster.start("worker") for _ in range(3)]
        cluster.senders = [cluster.start("sender") for _ in range(2)]
        cluster.port, cluster.connections = stack.enter_context(balanced(folder, ports))
        cluster.opened()
        wait_for(cluster.ready, START_S, f"every process has its name; logs in {folder}")
        yield cluster
        for process in cluster.processes:
            ended(process)
        assert [process.returncode for process in receivers] == [0, 0]


def send(cluster: Cluster, parts: list[Path]) -> None:
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: storescu(cluster.port, part), parts))


def arrived_once(cluster: Cluster, revision: Revision) -> bool:
    """Say whether the PACS has each of the four objects of a revision, each from one C-STORE."""
    made = {d.sop_instance_uid: d.role for d in cluster.node.ledger.deliveries.of_revision(revision.id)}
    receipts = [uid for uid, _ in cluster.pacs.receipts if uid in made]
    return sorted(made.values()) == ["seg_fractures", "seg_vertebrae", "sr", "summary"] and sorted(receipts) == sorted(made)


def test_slices_through_two_receivers_are_one_series_and_a_killed_judge_and_a_killed_reader_cost_seconds(cluster, tmp_path):
    parts, series = halves(tmp_path, "spread")
    before = cluster.connections()
    send(cluster, parts)
    assert [now - then for now, then in zip(cluster.connections(), before, strict=True)] == [1, 1]
    cluster.kill(next(worker for worker in cluster.workers if cluster.executor(worker) == cluster.judging()))
    reader = cluster.caught("read", series, cluster.workers)
    lost = cluster.executor(reader)
    cluster.kill(reader)
    print(f"killed worker: its series was taken over after {cluster.taken_over('read', series, lost):.1f} s")
    revision = cluster.node.settled(series)
    assert (revision.state, revision.number, revision.failures) == ("ENCODED", 1, 0)
    assert arrived_once(cluster, revision)
    [survivor] = cluster.workers
    assert cluster.judging() == cluster.executor(survivor)


def test_a_worker_that_wakes_up_after_its_work_was_given_away_leaves_and_changes_nothing(cluster, tmp_path):
    cluster.workers.append(cluster.start("worker"))
    wait_for(cluster.ready, START_S, "the other worker is there")
    parts, series = halves(tmp_path, "slow")
    send(cluster, parts)
    slow = cluster.caught("read", series, cluster.workers)
    with stopped(slow):
        lost = cluster.executor(slow)
        print(f"stopped worker: its series was taken over after {cluster.taken_over('read', series, lost):.1f} s")
        revision = cluster.node.settled(series)
        findings = cluster.node.findings(revision)
    assert slow.wait(30) == EXIT_GIVEN_UP
    assert (revision.number, revision.attempt, revision.failures) == (1, 0, 0)
    assert cluster.node.newest(series) == revision and cluster.node.findings(revision) == findings
    assert arrived_once(cluster, revision)
    cluster.workers.remove(slow)
    cluster.processes.remove(slow)


def test_a_sender_that_wakes_up_sends_nothing_beside_the_one_that_took_over(cluster, tmp_path):
    first_object, go_on = threading.Event(), threading.Event()

    def hold_the_first(request: StoreRequest) -> StoreAnswer:
        if not first_object.is_set():
            first_object.set()
            go_on.wait(120)
        return StoreAnswer(0x0000)

    parts, series = halves(tmp_path, "held")
    cluster.pacs.answer = hold_the_first
    try:
        send(cluster, parts)
        assert first_object.wait(240)
        slow = cluster.caught("deliver", series, cluster.senders)
        with stopped(slow):
            revision = cluster.node.settled(series)
            assert arrived_once(cluster, revision)
    finally:
        go_on.set()
    assert slow.wait(30) == EXIT_GIVEN_UP
    made = {d.sop_instance_uid for d in cluster.node.ledger.deliveries.of_revision(revision.id)}
    receipts = [receipt for receipt in cluster.pacs.receipts if receipt[0] in made]
    assert len(receipts) <= len(made) + 1, "more than the object that was on the wire came from the one that slept"
    assert len(set(receipts)) == len(made)
