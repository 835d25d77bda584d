"""``make evaluate``: the whole pipeline on phantoms, from DICOM, streamed: render, read, score, delete, case by case.

``python models/training/assess.py --bundle models/reference --n 60 --out DIR [--jobs 2] [--minutes M]``

``--n study=220,natural=60,negatives=200,second=60`` is the reference study's protocol (its 220 patients:
40 / 45 / 39 / 55 of A-D, 41 of none) beside 200 negatives; ``third=60`` adds the third generator. A cohort that such a list
leaves out is not made.

Records of scored cases lie in ``DIR/records.jsonl``: a stopped run goes on where it was. Ends with ``DIR/EVALUATION.md``,
``DIR/evaluation.json``, pictures of cases with an error, and a sheet of them for each cohort. ``--minutes`` stops taking
new cases after that time; cohorts take turns, so that an early stop leaves a little less of each. ``--card MODEL_CARD.md``
puts the summary there.
"""

from __future__ import annotations

import argparse
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import chain, zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import calibrate
import cohorts
import failures
import second
import targets
from ovcf_node import evaluate

OURS = "ovcf-reference"
LEGEND = (
    "Mimics: `cupid` a Cupid's bow, `lines` growth-arrest lines, `island` a bone island, `lesion` a lytic focus, `short` a "
    "low vertebra, `old` a healed deformity. Kinds of `negatives` that lie around the bodies are told in "
    "`models/training/kinds.py`. Reasons to abstain are spelled out in `service/ovcf_node/domain/reasons.py`."
)


def one(patient: cohorts.Patient, bundle: Path, out: Path) -> dict[str, Any]:
    """Render, read and score one patient; its files are gone afterwards."""
    torch.set_num_threads(1)
    folder = out / "cases" / patient.cohort / patient.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        return evaluate.score(cohorts.make(patient, folder), bundle, threads=1, pictures=out / evaluate.PICTURES)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(bundle: Path, out: Path, sizes: dict[str, int], jobs: int, minutes: float) -> evaluate.Records:
    """Score what is missing of cohorts of these sizes, `jobs` patients at a time.

    Records of patients whom these cohorts had at other sizes or seeds stay in the file and out of the report, and so do
    those of other code, whose patients are read again; what the file holds of other cohorts stays in both.
    """
    records = evaluate.Records(out, bundle)
    if records.outdated:
        print(f"{records.outdated} records are of other code: their cases are read again", flush=True)
    shutil.rmtree(out / "cases", ignore_errors=True)
    lists = [cohorts.patients(name, n) for name, n in sizes.items()]
    listed = {name: {p.name for p in mine} for name, mine in zip(sizes, lists, strict=True)}
    records.keep(lambda r: r["cohort"] not in listed or r["case"] in listed[r["cohort"]])
    todo = [p for p in chain(*zip_longest(*lists)) if p is not None and (p.cohort, p.name) not in records.done]
    began, total, queue = time.monotonic(), len(todo), iter(todo)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = set()
        while True:
            while len(running) < jobs and time.monotonic() - began < 60 * minutes and (patient := next(queue, None)):
                running.add(pool.submit(one, patient, bundle, out))
            if not running:
                return records
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                record = future.result()
                records.add(record)
                gone = f"{len(records.rows)} scored, {total} to do at the start, {time.monotonic() - began:.0f} s"
                print(f"{gone}: {record['cohort']} {record['case']}", flush=True)


def preface(result: dict[str, Any], records: evaluate.Records, sizes: dict[str, int]) -> list[str]:
    """Lines of EVALUATION.md that only the maker of these cohorts can say; how points were chosen, of our bundle alone."""
    shown = (
        f"Cases with an error are shown on `errors-COHORT.jpg`, one sheet a cohort, {failures.MOST} on a sheet at most."
    )
    chosen = [operating_points(records), ""] if result["bundle"]["name"] == OURS else []
    return [*unfinished(records, sizes), *chosen, shown, "", LEGEND, "", *targets.lines(result["cohorts"])]


def unfinished(records: evaluate.Records, sizes: dict[str, int]) -> list[str]:
    """What a stopped run has left out, as a paragraph; none where every patient was read."""
    read = {name: sum(row["cohort"] == name for row in records.rows) for name in sizes}
    if read == sizes:
        return []
    parts = ", ".join(f"{name} {read[name]} of {n}" for name, n in sizes.items())
    return [f"**Stopped before its end: {parts}.** Cohorts take turns, each in an order fixed beforehand.", ""]


def operating_points(records: evaluate.Records) -> str:
    """On which seeds operating points are chosen, and from which the cohorts come."""
    seeds: dict[str, list[int]] = {}
    for row in records.rows:
        seeds.setdefault(row["cohort"], []).append(row["facts"]["seed"])
    here = ", ".join(f"{name} {min(mine)}-{max(mine)}" for name, mine in seeds.items())
    there = ", ".join(f"{name} from {first}" for name, first in calibrate.FIRST.items())
    return (
        f"Operating points are fixed beforehand: `calibrate.py` chooses them on patients of seeds {there}; those read here "
        f"have seeds {here}. The second generator never trained anything, but seeds from {second.SELECTION} of it chose "
        "checkpoints and took part in that calibration, with as much weight as the first (`calibrate.balance`): `second` "
        "shows patients that nothing has seen, of a generator that the operating points have. `third`, where it is read, is "
        "of a generator whose author had seen neither of the others: it calibrates nothing, and all that it chose is that "
        "its first 60 patients had a say in taking 0.9.0, 60 each of it and of `second` in keeping 0.11.0, and these, with "
        "the other retired cohorts, in the form of what height says since 0.12.0."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("models/reference"))
    parser.add_argument("--n", default="60", help="patients of each cohort but `third`, or NAME=N,NAME=N")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--card", type=Path, help="model card whose section on the whole pipeline is replaced")
    a = parser.parse_args()
    try:
        sizes = cohorts.sizes(a.n)
    except ValueError as error:
        parser.error(f"--n: {error}")
    records = run(a.bundle, a.out, sizes, a.jobs, a.minutes)
    result = evaluate.write_report(records, a.bundle, a.out, lambda result: preface(result, records, sizes))
    failures.sheets(a.out / evaluate.PICTURES, records.rows, a.out)
    if a.card:
        before, _, rest = a.card.read_text().partition(evaluate.CARD_BEGINS)
        after = rest.partition(evaluate.CARD_ENDS)[2]
        said = evaluate.card(result, unfinished(records, sizes))
        a.card.write_text(f"{before.rstrip()}\n\n{said}\n\n{after.lstrip()}".rstrip() + "\n")
    print((a.out / "EVALUATION.md").read_text())


if __name__ == "__main__":
    main()
