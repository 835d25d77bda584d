"""Measure what `DESIGN` promises, on this machine, now: `make bench`. Prints figures; asserts nothing.

Phantom data. Ratios are taken inside one run, variants interleaved; medians of ROUNDS. Everything stays on loopback.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from query_bench import measure_query

from node_harness import BUNDLE, Node, RecordingPacs, dicom_destination, orthanc, storescu, wait_for
from ovcf_node import assemble, infer
from ovcf_node.config import Settings
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from ovcf_node.workflow.child import Children

SHAPE, SPACING = (450, 512, 512), (0.625, 0.625, 0.625)


def large_series(folder: Path, name: str = "large") -> list[Path]:
    """Write the built-in phantom as 450 x 512 x 512 at 0.625 mm."""
    return phantom.write_series(phantom.resampled(phantom.load(), SPACING, SHAPE), folder, name=name)


def measure_assembly(paths: list[Path], rounds: int) -> None:
    reading, inspecting, building = [], [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        for path in paths:
            path.read_bytes()
        reading.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        inspection = assemble.inspect(paths, Settings().assemble)
        inspecting.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        assemble.build(inspection.verdict)
        building.append(time.perf_counter() - begun)
    read, inspected, built = (statistics.median(x) for x in (reading, inspecting, building))
    print(f"assembly   450x512x512: read bytes {read:.2f} s, inspect {inspected:.2f} s, build {built:.2f} s "
          f"(build / read {built / read:.1f})")


def measure_reading(paths: list[Path], folder: Path) -> None:
    settings = Settings(node={"bundle": BUNDLE})
    children = Children(settings)
    begun = time.perf_counter()
    children.read(paths, folder / "results", "bench")
    seconds = time.perf_counter() - begun
    children.close()  # the memory of a child is known when it has ended
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"reading    cold child {seconds:.1f} s; its peak memory {peak / 1024:.0f} MB")
    volume = assemble.build(assemble.inspect(paths, settings.assemble).verdict)
    bundle = infer.load(BUNDLE, providers=settings.infer.providers, threads=settings.infer.threads)
    seconds = networks_alone(bundle)
    infer.read(volume, bundle)  # the first run of a session allocates
    seconds.clear()
    begun = time.perf_counter()
    infer.read(volume, bundle)
    print(f"inference  450x512x512 -> findings and masks {time.perf_counter() - begun:.1f} s (networks and geometry)")
    stages = ", ".join(f"{stage} {sum(spent):.2f}" for stage, spent in seconds.items())
    print(f"networks   alone {sum(map(sum, seconds.values())):.2f} s on {settings.infer.threads} threads ({stages})")


def networks_alone(bundle: infer.Bundle) -> dict[str, list[float]]:
    """Return a dict that fills with the seconds of every run of each stage's session."""
    seconds: dict[str, list[float]] = {}

    def timed(stage: str, session):
        def run(*given):
            begun = time.perf_counter()
            answer = session.run(*given)
            seconds.setdefault(stage, []).append(time.perf_counter() - begun)
            return answer

        return SimpleNamespace(run=run, get_outputs=session.get_outputs)

    bundle.sessions.update({stage: timed(stage, session) for stage, session in bundle.sessions.items()})
    return seconds


def measure_end_to_end(paths: list[Path], folder: Path) -> None:
    pacs = RecordingPacs(folder / "pacs")
    with pacs.running():
        node = Node(folder / "node", dicom_destination("pacs", pacs.title, pacs.port), quiet_s=5.0)
        with node.running():
            begun = time.time()
            storescu(node.port, paths[0].parent)
            sent = time.time() - begun
            series = uid_from("phantom", "large", "series")
            revision = node.settled(series, 300)
            quiet_over = revision.last_received_at + node.settings.assemble.quiet_s
            accepted = max(d.updated_at for d in node.ledger.deliveries.of_revision(revision.id))
            timings = node.findings(revision).timings_s
            print(f"end to end 450 slices: sent in {sent:.1f} s; quiet period over -> SR accepted "
                  f"{accepted - quiet_over:.1f} s; stages {timings}")


def _send(port: int, folders: list[Path]) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(lambda folder: storescu(port, folder), folders))
    return time.perf_counter() - begun


def measure_receive(paths: list[Path], folder: Path, rounds: int) -> None:
    for associations in (1, 4):
        ours, theirs = [], []
        for number in range(rounds):
            batches = [folder / f"batch-{associations}-{number}-{i}" for i in range(associations)]
            for batch in batches:
                phantom.write_series(_part(), batch, name=batch.name)
            count = sum(len(list(b.iterdir())) for b in batches)
            with orthanc(folder / f"orthanc-{associations}-{number}", "OVCF_NODE") as (port, _):
                theirs.append(count / _send(port, batches))
            receiver = Node(folder / f"receiver-{associations}-{number}", "")
            with _receiver_only(receiver):
                ours.append(count / _send(receiver.port, batches))
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"receive    {associations} association(s): {a:.0f} img/s, Orthanc {b:.0f} img/s, ratio {a / b:.2f}")


def _part() -> phantom.Phantom:
    return phantom.resampled(phantom.load(), (2.0, 0.625, 0.625), (100, 512, 512))


class _receiver_only:
    """The receiver process alone, so that no inference competes with it."""

    def __init__(self, node: Node):
        self._node = node

    def __enter__(self) -> None:
        node = self._node
        with node.log.open("ab") as log:
            node.process = subprocess.Popen(
                [sys.executable, "-m", "ovcf_node", "run", "receiver", "--config", str(node.configuration)],
                stdout=log, stderr=log, env=os.environ,
            )
        wait_for(node.listens, 60, "the receiver listens")

    def __exit__(self, *_: object) -> None:
        self._node.process.terminate()
        self._node.process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("only", nargs="*", help="assembly reading end receive query (default: all)")
    arguments = parser.parse_args()
    wanted = set(arguments.only) or {"assembly", "reading", "end", "receive", "query"}
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; synthetic phantom; medians of {arguments.rounds}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "query" in wanted:
            measure_query(folder)
        if wanted == {"query"}:
            return
        paths = large_series(folder / "series")
        if "assembly" in wanted:
            measure_assembly(paths, arguments.rounds)
        if "reading" in wanted:
            measure_reading(paths, folder)
        if "end" in wanted:
            measure_end_to_end(paths, folder)
        if "receive" in wanted:
            measure_receive(paths, folder, arguments.rounds)


if __name__ == "__main__":
    main()
