"""Two of everything on PostgreSQL behind a TCP balancer, as deploy/compose.yaml and the Helm chart run them.

Whoever is killed or stopped loses nothing but time; whoever wakes up after others took its work changes nothing.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from node_cluster import Cluster
from node_harness import RecordingPacs, storescu, wait_for
from ovcf_node.app.executor import EXIT_GIVEN_UP
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.ledger import Revision
from ovcf_node.network.messages import StoreAnswer, StoreRequest
from postgresql import database

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

TAKEN_OVER_S = 18.0  # a lease of 15 seconds, looked at every 2, and a poll
PATIENCE = 6  # a machine that is busier than ours by so much still passes


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
        cluster.start(receivers=2, workers=3, senders=2)
        yield cluster
        assert set(cluster.stop()) == {0}


def send(cluster: Cluster, parts: list[Path]) -> None:
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: storescu(cluster.port, part), parts))


def caught(cluster: Cluster, workflow: str, series: str, among: list[subprocess.Popen]) -> subprocess.Popen:
    """Wait until one of the processes runs the workflow; return it."""
    names = [cluster.executor(process) for process in among]
    name = wait_for(lambda: (n := cluster.running(workflow, series)) in names and n, 180, f"{workflow} of the series runs")
    return among[names.index(name)]


def taken_over_in(cluster: Cluster, series: str, lost: str) -> float:
    """Wait until another worker has the reading of a series; return the seconds from now."""
    begun = time.monotonic()
    wait_for(lambda: cluster.running("read", series) not in (lost, None) or cluster.node.newest(series).answered,
             TAKEN_OVER_S * PATIENCE, "another process takes over")
    return time.monotonic() - begun


def arrived_once(cluster: Cluster, revision: Revision) -> bool:
    """Say whether the PACS has each of the four objects of a revision, each from one C-STORE."""
    made = {d.sop_instance_uid: d.role for d in cluster.node.ledger.deliveries.of_revision(revision.id)}
    receipts = [uid for uid, _ in cluster.pacs.receipts if uid in made]
    return sorted(made.values()) == ["seg_fractures", "seg_vertebrae", "sr", "summary"] and sorted(receipts) == sorted(made)


def test_slices_through_two_receivers_are_one_series_and_a_killed_judge_and_reader_cost_seconds(cluster, tmp_path):
    parts, series = halves(tmp_path, "spread")
    before = cluster.connections()
    send(cluster, parts)
    assert [now - then for now, then in zip(cluster.connections(), before, strict=True)] == [1, 1]
    judge = cluster.judging()
    cluster.kill(next(worker for worker in cluster.workers if cluster.executor(worker) == judge))
    reader = caught(cluster, "read", series, cluster.workers)
    lost = cluster.executor(reader)
    cluster.kill(reader)
    print(f"killed worker: its series was taken over after {taken_over_in(cluster, series, lost):.1f} s")
    revision = cluster.node.settled(series)
    assert (revision.state, revision.failures) == ("ENCODED", 0)
    assert cluster.node.ledger.instances.count(series) == sum(len(list(part.iterdir())) for part in parts)
    assert arrived_once(cluster, revision)
    [survivor] = cluster.workers
    assert cluster.judging() == cluster.executor(survivor)


def test_a_worker_that_wakes_up_after_its_work_was_given_away_leaves_and_changes_nothing(cluster, tmp_path):
    cluster.add_worker()
    parts, series = halves(tmp_path, "slow")
    send(cluster, parts)
    slow = caught(cluster, "read", series, cluster.workers)
    lost = cluster.executor(slow)
    with stopped(slow):
        print(f"stopped worker: its series was taken over after {taken_over_in(cluster, series, lost):.1f} s")
        revision = cluster.node.settled(series)
        files = cluster.node.reading_files(revision)  # its child read on: with other timings, hence other bytes
    assert slow.wait(60) == EXIT_GIVEN_UP
    assert (revision.state, revision.attempt, revision.failures) == ("ENCODED", 0, 0)
    assert cluster.node.newest(series) == revision and cluster.node.reading_files(revision) == files
    assert arrived_once(cluster, revision)
    cluster.workers.remove(slow)


def test_a_sender_that_wakes_up_sends_nothing_beside_the_one_that_took_over(cluster, tmp_path):
    on_the_wire, go_on = threading.Event(), threading.Event()

    def hold_the_first(request: StoreRequest) -> StoreAnswer:
        if not on_the_wire.is_set():
            on_the_wire.set()
            go_on.wait(300)
        return StoreAnswer(0x0000)

    parts, series = halves(tmp_path, "held")
    cluster.pacs.answer = hold_the_first
    try:
        send(cluster, parts)
        assert on_the_wire.wait(300)
        slow = caught(cluster, "deliver", series, cluster.senders)
        with stopped(slow):
            revision = cluster.node.settled(series)
            assert arrived_once(cluster, revision)
    finally:
        go_on.set()
    assert slow.wait(60) == EXIT_GIVEN_UP
    cluster.senders.remove(slow)
    made = {d.sop_instance_uid for d in cluster.node.ledger.deliveries.of_revision(revision.id)}
    receipts = [receipt for receipt in cluster.pacs.receipts if receipt[0] in made]
    # The object that was on the wire when the first one stopped, and no other, came twice.
    assert len(receipts) <= len(made) + 1 and len(set(receipts)) == len(made)
