"""How many studies an hour N workers read and what saturates first: `make capacity`. Prints figures; asserts nothing.

One study alone on PostgreSQL gives the cost of every part; limits and a table follow from that. Then the same node, fed so
that no worker ever waits, runs with one worker and with two, and the measurement is printed beside the prediction.
What else runs on this machine changes every figure: its share of the processors is printed with each.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from pydicom import dcmread

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from processor_time import of_machine, of_tree

import postgresql
from node_cluster import Cluster
from node_harness import RecordingPacs, storescu, wait_for
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.ledger import Revision

LIMIT_S = 900
WORTHLESS = 0.2  # share of the machine that others use, above which no figure means anything
CORES, MB = os.cpu_count(), 2**20


@dataclass(frozen=True)
class Cost:
    """What one study takes of each part: processor seconds, seconds during which a process has room for nothing else, bytes.

    others  processors that other programs kept busy meanwhile
    """

    receiver_cpu_s: float
    worker_cpu_s: float
    worker_s: float
    sender_cpu_s: float
    sender_s: float
    database_cpu_s: float
    commits: float
    stored_bytes: float
    others: float

    @property
    def cpu_s(self) -> float:
        return self.receiver_cpu_s + self.worker_cpu_s + self.sender_cpu_s + self.database_cpu_s


class Study:
    """Copies of one series, each as a study of its own: made while nobody measures, sent when it is their turn."""

    def __init__(self, folder: Path, slices: int):
        spacing = 0.625 * 450 / slices, 0.625, 0.625
        resampled = phantom.resampled(phantom.load(), spacing, (slices, 512, 512))
        self.original = phantom.write_series(resampled, folder / "original", name="capacity")
        self.bytes = sum(path.stat().st_size for path in self.original)
        self._folder, self._count = folder, 0

    def copy(self) -> tuple[Path, str]:
        """Return the folder of a new copy and its Series Instance UID."""
        self._count += 1
        name = f"copy-{self._count}"
        (self._folder / name).mkdir()
        for index, path in enumerate(self.original):
            dataset = dcmread(path)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid_from(name, "study"), uid_from(name, "series")
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid_from(name, str(index))
            dataset.save_as(self._folder / name / f"{index}.dcm")
        return self._folder / name, uid_from(name, "series")


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Cluster]:
    """Run a node with so many workers on a database with durable commits, and a stand-in PACS."""
    folder.mkdir()
    pacs = RecordingPacs(folder / "pacs")
    with (
        postgresql.cluster(durable=True) as server, postgresql.database(server) as url, pacs.running(), ExitStack() as stack,
    ):
        cluster = Cluster(folder, url, pacs, stack)
        cluster.start(receivers=1, workers=workers, senders=1)
        yield cluster
        cluster.stop()


def answered(cluster: Cluster, series: str) -> Revision:
    return cluster.node.settled(series, LIMIT_S)


def delivered_at(cluster: Cluster, revision: Revision) -> float:
    return max(d.updated_at for d in cluster.node.ledger.deliveries.of_revision(revision.id))


def measure_cost(folder: Path, study: Study) -> Cost:
    """Read one study alone, after one that warms everything up."""
    with running(folder, workers=1) as cluster:
        postmaster = _postmaster(cluster)
        first, series = study.copy()
        storescu(cluster.port, first)
        answered(cluster, series)
        copy, series = study.copy()
        trees = {"receiver": cluster.receivers[0].pid, "worker": cluster.workers[0].pid, "sender": cluster.senders[0].pid,
                 "database": postmaster}
        before, busy, begun = {name: of_tree(pid) for name, pid in trees.items()}, of_machine(), time.monotonic()
        commits, stored = _commits(cluster), _stored(cluster)
        storescu(cluster.port, copy)
        revision = answered(cluster, series)
        seconds = time.monotonic() - begun
        spent = {name: of_tree(pid) - before[name] for name, pid in trees.items()}
        others = (of_machine() - busy - sum(spent.values())) / seconds
        return Cost(
            receiver_cpu_s=spent["receiver"], worker_cpu_s=spent["worker"], worker_s=_taken(cluster, f"read:{series}:%"),
            sender_cpu_s=spent["sender"], sender_s=_taken(cluster, f"deliver:{revision.id}:%"),
            database_cpu_s=spent["database"], commits=_commits(cluster) - commits, stored_bytes=_stored(cluster) - stored,
            others=max(0.0, others),
        )


def _taken(cluster: Cluster, workflows: str) -> float:
    """Return the seconds during which the recorded steps of these workflows ran."""
    query = "SELECT sum(completed_at_epoch_ms - started_at_epoch_ms) FROM dbos.operation_outputs WHERE workflow_uuid LIKE %s"
    return float(cluster.database.execute(query, (workflows,)).fetchone()[0]) / 1000


def _postmaster(cluster: Cluster) -> int:
    [pid] = cluster.database.execute("SELECT pg_backend_pid()").fetchone()
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _commits(cluster: Cluster) -> int:
    """Return how often the database waited for its disk so far; transactions that only read do not."""
    time.sleep(1.1)  # backends report their statistics once a second
    return cluster.database.execute("SELECT wal_sync FROM pg_stat_wal").fetchone()[0]


def _stored(cluster: Cluster) -> int:
    """Return what was written so far: files of the node, and the log of the database."""
    [log] = cluster.database.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchone()
    return log + sum(path.stat().st_size for path in cluster.node.settings.node.data.rglob("*") if path.is_file())


def measure_disk(folder: Path) -> float:
    """Return the bytes a second that reach the disk in files of half a megabyte, each with fdatasync."""
    block, count = os.urandom(2**19), 200
    begun = time.monotonic()
    for number in range(count):
        with (folder / f"probe-{number}").open("wb", buffering=0) as file:
            file.write(block)
            os.fdatasync(file.fileno())
    seconds = time.monotonic() - begun
    for number in range(count):
        (folder / f"probe-{number}").unlink()
    return count * len(block) / seconds


def measure_commits() -> float:
    """Return the durable commits a second of one connection; PostgreSQL gives several connections more."""
    with (
        postgresql.cluster(durable=True) as server,
        psycopg.connect(host=server, user="ovcf", dbname="postgres", autocommit=True) as connection,
    ):
        connection.execute("CREATE TABLE probe (x int)")
        begun, count = time.monotonic(), 300
        for number in range(count):
            connection.execute("INSERT INTO probe VALUES (%s)", (number,))
        return count / (time.monotonic() - begun)


def measure_rate(folder: Path, study: Study, workers: int, studies: int) -> tuple[float, float]:
    """Return studies an hour with so many workers and no pause between studies, and the processors that others used.

    Counted from the answer that ends the first round of all workers to the last one.
    """
    copies = [study.copy() for _ in range(studies)]
    with running(folder, workers) as cluster:
        processes = [*cluster.receivers, *cluster.workers, *cluster.senders]
        trees = [process.pid for process in processes] + [_postmaster(cluster)]
        begun, busy, before = time.monotonic(), of_machine(), sum(of_tree(pid) for pid in trees)
        for number, (copy, _) in enumerate(copies):
            # One study more than workers waits at any time: the receiver works beside the workers, as in a busy hour.
            wait_for(lambda n=number: n - _answered(cluster) <= workers, LIMIT_S, "a worker takes the next study")
            storescu(cluster.port, copy)
            shutil.rmtree(copy)
        ends = sorted(delivered_at(cluster, answered(cluster, series)) for _, series in copies)
        seconds = time.monotonic() - begun
        others = (of_machine() - busy - (sum(of_tree(pid) for pid in trees) - before)) / seconds
    return 3600 * (studies - workers) / (ends[-1] - ends[workers - 1]), max(0.0, others)


def _answered(cluster: Cluster) -> int:
    return cluster.database.execute("SELECT count(*) FROM revisions WHERE answered").fetchone()[0]


def limits(cost: Cost, workers: int, *, shared: bool, disk: float, commits: float) -> dict[str, float]:
    """Return studies an hour that each part allows: one receiver, one sender, one database, so many workers.

    shared  everything is on this machine; else every worker has such a machine for itself, and the rest another one
    """
    here = cost.cpu_s if shared else cost.cpu_s - cost.worker_cpu_s
    return {part: 3600 * rate for part, rate in {
        "workers": workers / cost.worker_s,
        "processors": (CORES - cost.others) / here,
        "one receiver": 1 / cost.receiver_cpu_s,  # Python: one process, one processor
        "one sender": 1 / cost.sender_s,
        "disk": disk / cost.stored_bytes,
        "database": commits / cost.commits,
    }.items()}


def first(found: dict[str, float]) -> str:
    part = min(found, key=found.__getitem__)
    return f"{found[part]:5.0f} ({part})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=225)
    parser.add_argument("--studies", type=int, default=3, help="studies that are timed in each real run")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = Study(folder, arguments.slices)
        print(f"one study  {arguments.slices} x 512 x 512, {study.bytes / MB:.0f} MB, synthetic")
        disk, commits = measure_disk(folder), measure_commits()
        print(f"probes     disk {disk / MB:.0f} MB/s in durable files; PostgreSQL {commits:.0f} durable commits/s on one "
              "connection")
        cost = measure_cost(folder / "cost", study)
        tell_cost(cost)
        tell_limits(cost, disk, commits)
        for workers in (1, 2):
            rate, others = measure_rate(folder / f"run-{workers}", study, workers, arguments.studies + workers)
            tell_run(workers, cost, rate, others, disk, commits)
    print(f"took {time.monotonic() - begun:.0f} s")


def tell_cost(cost: Cost) -> None:
    print(f"its cost   worker {cost.worker_s:.1f} s, in processor seconds {cost.worker_cpu_s:.1f}; receiver "
          f"{cost.receiver_cpu_s:.1f} processor seconds; sender {cost.sender_s:.1f} s ({cost.sender_cpu_s:.1f})")
    print(f"           PostgreSQL {cost.database_cpu_s:.1f} processor seconds, {cost.commits:.0f} durable commits; "
          f"{cost.stored_bytes / MB:.0f} MB written; others used {cost.others:.1f} of {CORES} processors")


def tell_run(workers: int, cost: Cost, rate: float, others: float, disk: float, commits: float) -> None:
    """Print a real run beside what the cost of one study predicts for the processors that others left it."""
    predicted = first(limits(replace(cost, others=others), workers, shared=True, disk=disk, commits=commits)).strip()
    void = max(others, cost.others) > CORES * WORTHLESS
    print(f"real run   {workers} worker(s): predicted {predicted}, measured {rate:.0f}; others used {others:.1f} of {CORES} "
          f"processors{': worth nothing, repeat it on a quiet machine' if void else ''}", flush=True)


def tell_limits(cost: Cost, disk: float, commits: float) -> None:
    print("studies/h  workers   all on this machine       each worker on such a machine, the rest on another one")
    for workers in (1, 2, 4, 8, 16):
        together, apart = (first(limits(cost, workers, shared=s, disk=disk, commits=commits)) for s in (True, False))
        print(f"{workers:18}   {together:25} {apart}", flush=True)


if __name__ == "__main__":
    main()
