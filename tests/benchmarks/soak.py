"""A steady stream of studies with faults, for as long as you like: `make soak MINUTES=10`.

Real processes under their supervisor, a PACS that keeps the SHA-256 of every receipt, phantoms that are read with the
label stage alone, so that many fit into a minute. Faults: kill -9 of each process and of the reading's child, the PACS away
or out of resources, studies sent twice, late slices. When the time is over the faults end; what is left is waited for.

Prints studies, faults, losses and the growth of memory of each process; ends with 1 when anything was lost.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from memory_growth import growth
from node_harness import Node, RecordingPacs, dicom_destination, wait_for
from ovcf_node.app.checks import send_folder
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Revision
from ovcf_node.network.associate import Remote
from ovcf_node.network.messages import StoreAnswer
from ovcf_node.observe import logging
from quick_study import ROLES, label_bundle, series_uid, write_study

PROCESSES = ("receiver", "worker", "sender")
SAMPLE_S, SETTLE_S = 2.0, 600.0
WARM_S, WINDOW_S = 60.0, 60.0  # of a life; in a window several jobs end
ACCEPTS, FULL = StoreAnswer(0x0000), StoreAnswer(0xA700, "out of resources")


@dataclass
class Soak:
    node: Node
    pacs: RecordingPacs
    folder: Path
    rng: random.Random
    faults: Counter = field(default_factory=Counter)
    sent: dict[str, float] = field(default_factory=dict)  # study -> when its last instance was acknowledged
    memory: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    # --- the scanner ----------------------------------------------------------------------------------------------

    def scan(self, name: str) -> None:
        """Send one study as one of the ways in which they come, and again until all of it was acknowledged."""
        paths = write_study(self.folder / name / "first", name)
        manner = self.rng.choice(["plain", "plain", "twice", "late"])
        late = self.folder / name / "late"
        late.mkdir()
        if manner == "late":
            for path in self.rng.sample(paths, 3):
                path.rename(late / path.name)
        self._send(self.folder / name / "first")
        if manner == "twice":
            self._send(self.folder / name / "first")
        if manner == "late":
            time.sleep(self.rng.uniform(1, 12))
            self._send(late)
        self.faults[f"study {manner}"] += 1
        self.sent[name] = time.time()

    def _send(self, folder: Path) -> None:
        remote = Remote("127.0.0.1", self.node.port, "OVCF_NODE", "SCANNER", timeout_s=60)
        while True:
            try:
                if all(reply.status == 0x0000 for reply in send_folder(folder, remote)):
                    return
            except OvcfError:
                self.faults["association lost, sent again"] += 1
            time.sleep(1)

    # --- what goes wrong ------------------------------------------------------------------------------------------

    def fault(self) -> None:
        kind = self.rng.choice(["kill receiver", "kill worker", "kill sender", "kill child", "pacs away", "pacs full"])
        self.faults[kind] += 1
        if kind == "pacs away":
            self.pacs.stop()
            time.sleep(self.rng.uniform(3, 15))
            self.pacs.start()
        elif kind == "pacs full":
            self.pacs.answer = lambda request: FULL
            time.sleep(self.rng.uniform(3, 15))
            self.pacs.answer = lambda request: ACCEPTS
        else:
            role = kind.removeprefix("kill ")
            for pid in self.children() if role == "child" else self.node.worker_pids(role):
                os.kill(pid, signal.SIGKILL)

    def children(self) -> list[int]:
        workers = self.node.worker_pids("worker")
        listed = (Path(f"/proc/{pid}/task/{pid}/children") for pid in workers)
        return [int(pid) for path in listed if path.exists() for pid in path.read_text().split()]

    # --- what is measured -----------------------------------------------------------------------------------------

    def sample(self) -> None:
        pids = [(role, pid) for role in PROCESSES for pid in self.node.worker_pids(role)]
        for role, pid in [*pids, *(("child", pid) for pid in self.children())]:
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue  # it ended meanwhile
            self.memory[role, pid].append((time.time(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def unsettled(self) -> list[str]:
        return [name for name in self.sent if not self._final(self.node.newest(series_uid(name)))]

    def _final(self, revision: Revision | None) -> bool:
        if revision is None or not revision.answered:
            return revision is not None and revision.state in ("EXCLUDED", "FAILED")
        if revision.through_instance_id < self.node.ledger.instances.originals(revision.series_instance_uid)[-1].id:
            return False
        return all(d.state != "PENDING" for d in self.node.ledger.deliveries.of_revision(revision.id))

    def report(self, seconds: float) -> int:
        digests = defaultdict(set)
        for uid, digest in self.pacs.receipts:
            digests[uid].add(digest)
        lost, states, turnarounds = [], Counter(), []
        for name, sent_at in self.sent.items():
            revision = self.node.newest(series_uid(name))
            states[f"{revision.state} {revision.reason_code or ''}".strip()] += 1
            delivered = self.node.ledger.deliveries.of_revision(revision.id)
            if not revision.answered or not delivered or any(d.sop_instance_uid not in digests for d in delivered):
                lost.append(name)
            else:
                turnarounds.append(max(d.updated_at for d in delivered) - sent_at)
        changed = sum(len(found) > 1 for found in digests.values())
        print(f"soak       {seconds / 60:.1f} min; {len(self.sent)} studies sent and acknowledged, by end: {dict(states)}")
        print(f"faults     {json.dumps(self.faults, sort_keys=True)}")
        print(f"receipts   {len(self.pacs.receipts)} of {len(digests)} objects at the PACS ({len(ROLES)} a reading); "
              f"UIDs with two sets of bytes: {changed}")
        if turnarounds:
            print(f"turnaround last instance -> report at the PACS: median {statistics.median(turnarounds):.0f} s, "
                  f"longest {max(turnarounds):.0f} s")
        print(f"losses     {len(lost)}")
        print(f"memory     slope of the floors (least resident memory in each {WINDOW_S:.0f} s) after {WARM_S:.0f} s of "
              "warming up, all lives of a process together")
        for role in (*PROCESSES, "child"):
            print(f"           {role:9} {self._growth(role)}")
        return 1 if lost or changed else 0

    def _growth(self, role: str) -> str:
        lives = [samples for (name, _), samples in self.memory.items() if name == role]
        peak = max((mb for samples in lives for _, mb in samples), default=0.0)
        longest = max((samples[-1][0] - samples[0][0] for samples in lives), default=0.0) / 60
        all_ = f"{len(lives)} lives, the longest {longest:.1f} min, peak {peak:.0f} MB"
        found = growth(lives, warm_s=WARM_S, window_s=WINDOW_S)
        if found is None:
            return f"lives too short to say: {all_}"
        return f"{found.slope:+.2f} ± {found.error:.2f} MB/min, {found.floors} floors of {found.lives} lives; {all_}"


def stream(soak: Soak, minutes: float, studies_a_minute: float, faults_a_minute: float) -> None:
    """Send, break and measure until the time is over; faults stop a quarter of the time before, at most two minutes."""
    begun, end = time.time(), time.time() + minutes * 60
    quiet_from = end - min(minutes * 15, 120)
    over = threading.Event()

    def every(interval_s: float, until: float, action) -> threading.Thread:
        def run() -> None:
            while time.time() < until and not over.wait(interval_s):
                action()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    numbers = iter(range(10**6))
    threads = [
        every(60 / studies_a_minute, end, lambda: soak.scan(f"soak-{next(numbers)}")), every(SAMPLE_S, end, soak.sample),
    ]
    if faults_a_minute:
        threads.append(every(60 / faults_a_minute, quiet_from, soak.fault))
    for thread in threads:
        thread.join()
    deadline = time.time() + SETTLE_S
    while soak.unsettled() and time.time() < deadline:
        soak.sample()
        time.sleep(2)
    over.set()
    print(f"(stream {minutes:g} min, settled after {(time.time() - begun) / 60:.1f} min)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--studies", type=float, default=6, help="per minute")
    parser.add_argument("--faults", type=float, default=3, help="per minute; 0 for long lives")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.configure("ERROR", "console")  # of the PACS and the scanner, which are this process
    begun = time.time()
    with tempfile.TemporaryDirectory(prefix="ovcf-soak-") as name:
        folder = Path(name)
        pacs = RecordingPacs(folder / "pacs")
        pacs.start()
        node = Node(folder / "node", dicom_destination("pacs", pacs.title, pacs.port), quiet_s=3.0)
        text = node.configuration.read_text()
        bundle = label_bundle(folder / "bundle")
        node.configuration.write_text(text.replace(str(node.settings.node.bundle), str(bundle)))
        soak = Soak(node, pacs, folder / "studies", random.Random(arguments.seed))
        with node.running():
            wait_for(lambda: "judge" in node.ledger.leases.expiries(0), 300, "the worker judges")
            stream(soak, arguments.minutes, arguments.studies, arguments.faults)
            status = soak.report(time.time() - begun)
        pacs.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())
