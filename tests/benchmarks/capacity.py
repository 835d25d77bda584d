"""How many studies an hour N workers read and what saturates first: `make capacity`. Prints figures; asserts nothing.

One study alone on PostgreSQL gives the cost of every part; limits and a table follow from that (`capacity_model`). Then the
same node, fed so that no worker ever waits, runs with one worker and with two, and the measurement is printed beside the
prediction: the prediction for these runs counts scanner and PACS in, which are here too.
What else runs on this machine changes every figure: its share of the processors is printed with each.
"""

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from pydicom import dcmread

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from processor_time import of_machine, of_tree

import postgresql
from capacity_model import Cost, Machine, apart, together
from node_cluster import Cluster
from node_harness import BUNDLE, POLL_S, RecordingPacs, storescu, wait_for
from ovcf_node.config import Settings
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.observe import logging
from ovcf_node.workflow.child import Children

LIMIT_S, SETTLE_S, IDLE_S = 900, 4, 10
WORTHLESS = 0.2  # share of the machine that others use, above which no figure means anything
CORES, MB = os.cpu_count(), 2**20


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
def running(folder: Path, workers: int) -> Iterator["Site"]:
    """Run a node with so many workers on a database with durable commits, and a stand-in PACS."""
    folder.mkdir()
    pacs = RecordingPacs(folder / "pacs")
    with (
        postgresql.cluster(durable=True) as server, postgresql.database(server) as url, pacs.running(), ExitStack() as stack,
    ):
        cluster = Cluster(folder, url, pacs, stack)
        cluster.start(receivers=1, workers=workers, senders=1)
        yield Site(cluster)
        cluster.stop()


class Site:
    """A running node, and what its parts and everybody else have used so far."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self._trees = {
            "receiver": [p.pid for p in cluster.receivers], "worker": [p.pid for p in cluster.workers],
            "sender": [p.pid for p in cluster.senders], "database": [_postmaster(cluster)],
        }

    def used(self) -> dict[str, float]:
        """Return processor seconds so far, by part; scanner and PACS are this process and its children."""
        found = {name: sum(map(of_tree, pids)) for name, pids in self._trees.items()}
        times = os.times()
        found["stand-ins"] = times.user + times.system + times.children_user + times.children_system
        return found | {"others": of_machine() - sum(found.values())}

    def send(self, copy: Path) -> None:
        storescu(self.cluster.port, copy)
        shutil.rmtree(copy)

    def answered(self) -> list[float]:
        """Return when each answer had arrived at the PACS, in order, by the database's clock."""
        query = """SELECT max(d.updated_at) FROM deliveries d JOIN revisions r ON r.id = d.revision_id
                   WHERE r.answered GROUP BY r.id HAVING bool_and(d.state <> 'PENDING')"""
        return sorted(at for at, in self.cluster.database.execute(query))

    def readings(self) -> list[tuple[float, float]]:
        """Return begin and end of each reading, the last ones may go on: a worker is taken by it meanwhile."""
        query = """SELECT started_at_epoch_ms / 1000.0, coalesce(completed_at / 1000.0, 'Infinity'::float8)
                   FROM dbos.workflow_status WHERE name = 'read' AND started_at_epoch_ms IS NOT NULL ORDER BY 1"""
        return [(float(begin), float(end)) for begin, end in self.cluster.database.execute(query)]

    def is_judged(self, series: str) -> bool:
        query = "SELECT 1 FROM revisions WHERE series_instance_uid = %s AND state <> 'RECEIVING'"
        return self.cluster.database.execute(query, (series,)).fetchone() is not None


def measure_cost(folder: Path, study: Study) -> Cost:
    """Read one study alone, after one that warms everything up."""
    with running(folder, workers=1) as site:
        first, series = study.copy()
        site.send(first)
        site.cluster.node.settled(series, LIMIT_S)
        copy, series = study.copy()
        time.sleep(SETTLE_S)  # what the first one left to do, such as its tidying up, is not idling
        idle = _spent(site, lambda: time.sleep(IDLE_S))
        commits, stored, begun = _commits(site.cluster), _stored(site.cluster), time.time()
        arriving = _spent(site, lambda: (site.send(copy), wait_for(lambda: site.is_judged(series), LIMIT_S, "it is judged")))
        reading = _spent(site, lambda: wait_for(lambda: len(site.answered()) == 2, LIMIT_S, "it is answered"))
        begin, end = site.readings()[-1]
        seconds = arriving["seconds"] + reading["seconds"]

        def beyond(part: str, *stretches: dict[str, float]) -> float:
            """Return what a part used beyond what it uses when nothing happens, processor seconds."""
            return max(0.0, sum(s[part] - s["seconds"] * idle[part] / idle["seconds"] for s in stretches))

        return Cost(
            lead_s=begin - begun, reading_s=end - begin, reading_cpu_s=beyond("worker", reading),
            receiver_cpu_s=beyond("receiver", arriving, reading), judging_cpu_s=beyond("worker", arriving),
            sender_cpu_s=beyond("sender", arriving, reading), sender_s=_taken(site.cluster, "deliver"),
            database_cpu_s=beyond("database", arriving, reading), stand_in_cpu_s=beyond("stand-ins", arriving, reading),
            commits=_commits(site.cluster) - commits, stored_bytes=_stored(site.cluster) - stored,
            idle_worker=idle["worker"] / idle["seconds"],
            idle_rest=sum(idle[part] for part in ("receiver", "sender", "database")) / idle["seconds"],
            others=max(0.0, (arriving["others"] + reading["others"]) / seconds),
        )


def _spent(site: Site, action: Callable[[], object]) -> dict[str, float]:
    """Return what each part used while something happened, and the seconds that it took."""
    before, begun = site.used(), time.monotonic()
    action()
    after = site.used()
    return {part: after[part] - before[part] for part in after} | {"seconds": time.monotonic() - begun}


def _taken(cluster: Cluster, workflow: str) -> float:
    """Return the seconds that the last workflow of this name took."""
    query = """SELECT (completed_at - started_at_epoch_ms) / 1000.0 FROM dbos.workflow_status
               WHERE name = %s AND status = 'SUCCESS' ORDER BY started_at_epoch_ms DESC LIMIT 1"""
    return float(cluster.database.execute(query, (workflow,)).fetchone()[0])


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


def measure_crowding(folder: Path, study: Study) -> float:
    """Return the processor time of a reading beside another one, against one alone."""
    settings = Settings(node={"data": folder, "bundle": BUNDLE})
    children = Children(settings)

    def spent(at_once: int) -> float:
        before = of_tree(os.getpid())
        with ThreadPoolExecutor(at_once) as pool:
            for done in [pool.submit(children.read, study.original, folder, f"{at_once}-{n}") for n in range(at_once)]:
                done.result()
        return (of_tree(os.getpid()) - before) / at_once

    spent(2)  # warms two children up
    alone, crowded = spent(1), spent(2)
    children.close()
    return max(1.0, crowded / alone)


@dataclass(frozen=True)
class Rate:
    """A real run: studies an hour, the share of the time in which its workers read, processors others used, cost a study."""

    studies: float
    read: float
    others: float
    cpu_s: float


def measure_rate(folder: Path, study: Study, cost: Cost, workers: int, studies: int) -> Rate:
    """Run so many workers that never wait for a study, as in a busy hour, and time so many studies.

    A study can be read only after its quiet period: as many as the workers read meanwhile are sent ahead. The first round
    of the workers is not timed, and studies are sent until the last one that is.
    """
    ahead = 2 * workers + math.ceil(workers * cost.lead_s / cost.reading_s)
    copies = [study.copy()[0] for _ in range(workers + studies + ahead)]
    with running(folder, workers) as site:
        before: dict[str, float] = {}
        while (count := len(site.answered())) < workers + studies:
            if count >= workers and not before:
                before = site.used()
            if len(copies) > workers + studies - count:
                site.send(copies.pop())
            else:
                time.sleep(0.1)
        after, ends = site.used(), site.answered()
        begin, end = ends[workers - 1], ends[workers + studies - 1]
        spent = {name: after[name] - before[name] for name in after}
        read = sum(max(0.0, min(e, end) - max(b, begin)) for b, e in site.readings()) / (workers * (end - begin))
    return Rate(3600 * studies / (end - begin), read, max(0.0, spent.pop("others") / (end - begin)),
                sum(spent.values()) / studies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=225)
    parser.add_argument("--studies", type=int, default=6, help="studies that are timed in each real run")
    arguments = parser.parse_args()
    logging.configure("ERROR", "console")  # of the stand-in PACS, which is this process
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = Study(folder, arguments.slices)
        print(f"one study  {arguments.slices} x 512 x 512, {study.bytes / MB:.0f} MB, synthetic")
        cost, machine = measure_cost(folder / "cost", study), measure_machine(folder, study)
        tell(cost, machine)
        for workers in (1, 2):
            rate = measure_rate(folder / f"run-{workers}", study, cost, workers, arguments.studies)
            tell_run(workers, cost, machine, rate)
    print(f"took {time.monotonic() - begun:.0f} s")


def measure_machine(folder: Path, study: Study) -> Machine:
    settings = Settings()
    return Machine(
        processors=CORES, disk=measure_disk(folder), commits=measure_commits(), crowding=measure_crowding(folder, study),
        threads=settings.infer.threads, poll_s=POLL_S,
    )


def tell(cost: Cost, machine: Machine) -> None:
    print(f"machine    {CORES} processors; {machine.disk / MB:.0f} MB/s in durable files; PostgreSQL {machine.commits:.0f} "
          f"durable commits/s on one connection; a reading beside another costs {machine.crowding:.2f} x its processor time")
    print(f"its cost   a worker for {cost.reading_s:.1f} s, {cost.reading_cpu_s:.1f} processor seconds; receiver "
          f"{cost.receiver_cpu_s:.1f}, judging {cost.judging_cpu_s:.1f}, sender {cost.sender_cpu_s:.1f}, PostgreSQL "
          f"{cost.database_cpu_s:.1f}, scanner and PACS {cost.stand_in_cpu_s:.1f} processor seconds")
    print(f"           {cost.commits:.0f} durable commits, {cost.stored_bytes / MB:.0f} MB written; {cost.lead_s:.1f} s "
          f"from its first image to its reading; an idle worker uses {cost.idle_worker:.2f} processors, the rest of an idle "
          f"node {cost.idle_rest:.2f}; others used {cost.others:.1f} of {CORES} processors")
    print("studies/h  workers   all on this machine       each worker on such a machine, the rest on another one")
    for workers in (1, 2, 4, 8, 16):
        cells = ["{:5.0f} ({})".format(*way(cost, machine, workers)) for way in (together, apart)]
        print(f"{workers:18}   {cells[0]:25} {cells[1]}", flush=True)


def tell_run(workers: int, cost: Cost, machine: Machine, rate: Rate) -> None:
    """Print a real run beside what the cost of one study predicts for the processors that others left it."""
    left = replace(machine, processors=machine.processors - rate.others)
    predicted, first = together(cost, left, workers, stand_ins=True)
    void = max(rate.others, cost.others) > CORES * WORTHLESS
    alone = cost.reading_cpu_s + cost.beside_cpu_s + cost.stand_in_cpu_s
    alone += (cost.idle_rest + cost.idle_worker * workers) * 3600 / rate.studies
    print(f"real run   {workers} worker(s): predicted {predicted:.0f} ({first} first), measured {rate.studies:.0f} "
          f"({predicted / rate.studies - 1:+.0%}); workers read {rate.read:.0%} of the time, {rate.cpu_s:.1f} processor "
          f"seconds a study ({alone:.1f} alone); others used {rate.others:.1f} of {CORES} processors"
          f"{': worth nothing, repeat it on a quiet machine' if void else ''}", flush=True)


if __name__ == "__main__":
    main()
