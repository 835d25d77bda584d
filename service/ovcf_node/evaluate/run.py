"""Score a cohort case by case into a file of records, so that a killed run goes on where it stopped; then the report."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ovcf_node import infer
from ovcf_node.errors import Permanent
from ovcf_node.evaluate import code, figures, markdown
from ovcf_node.evaluate.score import score
from ovcf_node.evaluate.truth import cases, identity
from ovcf_node.workflow.reading import SOFTWARE

RECORDS, PICTURES = "records.jsonl", "pictures"
ORDER = ("study", "natural", "negatives", "second", "third")  # of the report; other cohorts follow


class Records:
    """Records of scored cases in `folder`, one JSON line each, of one bundle only; a torn last line is dropped.

    Those of other code (`code.digest`) stay in the file, are not among `rows`, and their cases are not `done`: `outdated`
    counts them. Each holds the seconds since the record before it, or since its run began: over all runs they sum to the
    wall clock.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / RECORDS
        self.digest = infer.load_identity(bundle).digest
        found = list(self._read())
        self.rows = [r for r in found if r.get("code") == code.digest()]
        self.outdated = len(found) - len(self.rows)
        self.keep(lambda record: True)
        self._last = time.monotonic()

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        whole = []
        for line in self.path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row["bundle"] != self.digest:
                raise Permanent("other_bundle", f"{RECORDS} holds records of another bundle: choose another --out")
            whole.append(line)
            yield row
        self.path.write_text("".join(line + "\n" for line in whole))

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Leave the others out of `rows` and `done`; the file holds them still."""
        self.rows = [r for r in self.rows if wanted(r)]
        self.done = {(r["cohort"], r["case"]) for r in self.rows}

    def add(self, record: dict[str, Any]) -> None:
        """Append one record and keep it. Raises Permanent `other_bundle` where the bundle was changed since the start."""
        if record["bundle"] != self.digest:
            raise Permanent("other_bundle", "the bundle's folder holds another bundle now than when this evaluation began")
        now = time.monotonic()
        row = {**record, "code": code.digest(), "wall_seconds": round(now - self._last, 2)}
        self._last = now
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self.rows.append(row)
        self.done.add((row["cohort"], row["case"]))


def evaluate(
    bundle: Path, cohort: Path, out: Path, *, threads: int = 2, progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Score every case below `cohort` that `out` has no record of, then write the report on them. Returns what was written.

    A record of another truth is none. Raises Permanent `truth_unreadable`, also where two cases have one name.
    """
    records = Records(out, bundle)
    if records.outdated:
        progress(f"{records.outdated} records are of other code: their cases are read again")
    wanted: dict[tuple[str, str], tuple[Path, str]] = {}
    for folder in cases(cohort):
        name, case, truth = identity(folder)
        if (name, case) in wanted:
            raise Permanent("truth_unreadable", f"case {case} is there twice in the cohort {name}: names must differ")
        wanted[name, case] = folder, truth
    records.keep(lambda r: (r["cohort"], r["case"]) in wanted and r.get("truth") == wanted[r["cohort"], r["case"]][1])
    for number, (key, (folder, truth)) in enumerate(wanted.items(), 1):
        if key not in records.done:
            records.add({**score(folder, bundle, threads=threads, pictures=out / PICTURES), "truth": truth})
        progress(f"{number}/{len(wanted)} {folder.name}")
    return write_report(records, bundle, out)


def summarise(records: list[dict[str, Any]], bundle: Path) -> dict[str, Any]:
    """Return the figures of every cohort among the records."""
    by: dict[str, list] = defaultdict(list)
    for row in sorted(records, key=lambda r: (r["cohort"], r["case"])):
        by[row["cohort"]].append(row)
    order = [n for n in ORDER if n in by] + [n for n in by if n not in ORDER]
    return {
        "bundle": asdict(infer.load_identity(bundle)), "software": SOFTWARE, "code": code.digest(),
        "minutes": _minutes(records),
        "cohorts": {name: figures.summary(by[name]) for name in order},
    }


def _minutes(records: list[dict[str, Any]]) -> float | None:
    """Wall clock of all runs; None where a record is older than its measurement."""
    spent = [r.get("wall_seconds") for r in records]
    return None if None in spent else sum(spent) / 60


def write_report(
    records: Records, bundle: Path, out: Path, preface: Callable[[dict[str, Any]], Sequence[str]] = lambda result: (),
) -> dict[str, Any]:
    """Write evaluation.json and EVALUATION.md from the records so far; `preface` adds lines at the top of the page."""
    result = summarise(records.rows, bundle)
    (out / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "EVALUATION.md").write_text(markdown.page(result, preface(result)))
    return result
