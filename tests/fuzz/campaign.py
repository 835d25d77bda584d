"""Try hostile input for some minutes on every processor, and say what came of it (`make fuzz MINUTES=10`).

Every target runs in a process of its own, from a seed that is printed: the same seed makes the same inputs again. What
shows a finding is written to a folder, to be looked at, mended, and kept in tests/fuzz/corpus.
"""

import argparse
import hashlib
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fuzz import connections, files, handshakes, operations, pages, pdus, requests
from fuzz.tallies import Tally, place, quiet

_GRACE_S = 180.0  # a target finishes what it is at

TARGETS: dict[str, Callable[[int, Callable[[int], bool]], Tally]] = {
    "pdus": pdus.run, "connections": connections.run, "handshakes": handshakes.run, "files": files.run,
    "requests": requests.run, "operations": operations.run, "pages": pages.run,
}


def main() -> int:
    """Return the number of different findings."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    arguments.add_argument("--findings", type=Path, default=Path(".work/fuzz"))
    chosen = arguments.parse_args()
    print(f"seed {chosen.seed}, {chosen.minutes:g} minutes", flush=True)
    jobs = [(name, chosen.seed + number, chosen.minutes * 60) for number, name in enumerate(chosen.targets)]
    tallies = []
    with multiprocessing.get_context("spawn").Pool(len(jobs), maxtasksperchild=1) as pool:  # stops what does not end
        last = time.monotonic() + chosen.minutes * 60 + _GRACE_S
        for job, result in [(job, pool.apply_async(_run, job)) for job in jobs]:
            tallies.append(_ended(job[0], result, last))
            _print(tallies[-1])
    for tally in tallies:
        for where, data in tally.findings.items():
            chosen.findings.mkdir(parents=True, exist_ok=True)
            path = chosen.findings / f"{tally.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"  FINDING {where}: {path}")
    findings = sum(len(tally.findings) for tally in tallies)
    print(f"all: {sum(tally.tried for tally in tallies):,} inputs, {findings} findings; "
          f"{max(tally.notes['minutes'] for tally in tallies):.1f} minutes, "
          f"at most {max(tally.notes['peak MB'] for tally in tallies):,.0f} MB in one process")
    return findings


def _ended(name: str, result: "multiprocessing.pool.AsyncResult", last: float) -> Tally:
    """The tally of a target; one that hangs is a finding and keeps no other from being told."""
    try:
        return result.get(max(0.0, last - time.monotonic()))
    except multiprocessing.TimeoutError:
        tally = Tally(name)
        tally.found(f"the target does not end, {_GRACE_S:.0f} s after its time", b"")
        tally.notes |= {"minutes": 0.0, "peak MB": 0.0}
        return tally


def _run(name: str, seed: int, seconds: float) -> Tally:
    quiet()
    deadline = time.monotonic() + seconds
    begun = time.monotonic()
    try:
        tally = TARGETS[name](seed, lambda tried: time.monotonic() < deadline)
    # What ends a target is a finding, which fails the campaign; raised, it would take the other targets' findings with it.
    except Exception as error:  # noqa: BLE001
        tally = Tally(name)
        tally.found(f"the target ended: {place(error)}: {error}", b"")
    # Of itself or of a child: hostile files are read in children.
    peaks = [resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    tally.notes |= {"minutes": (time.monotonic() - begun) / 60, "peak MB": max(peaks) / 1024}
    return tally


def _print(tally: Tally) -> None:
    figures = ", ".join(f"{name} {value:.3g}" for name, value in tally.notes.items())
    print(f"{tally.name}: {tally.tried:,} inputs, {len(tally.findings)} findings; {figures}")
    for outcome, count in tally.outcomes.most_common(12):
        print(f"  {count:>10,}  {outcome}")


if __name__ == "__main__":
    sys.exit(min(main(), 100))
