"""Temperatures and operating points from whole patients, read as the node reads them.

``python models/training/calibrate.py --bundle DIR/bundle --cohort DIR/calibration --out DIR [--n 18]``

Crops that a generator renders are not what the node sees: a series has slices, the first stage places the crop, and three
looks are averaged. Here patients of calibration seeds (never trained on, never evaluated) become DICOM series, the bundle
reads them, and the looks of each vertebra are set against its truth. Points are chosen for patients: a patient has six
graded vertebrae, and one false alarm among them spoils the answer. Writes ``calibration.json``.
Rendered cases are kept in the cohort folder, so another bundle is calibrated without rendering again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

import cohorts
import foreign
import heard
import second
from bundle import DEFAULT_POINTS, probabilities, types_said, weighed
from heard import column
from networks import EVIDENCE, TYPES
from ovcf_node import assemble, infer
from ovcf_node.config import Assemble
from ovcf_node.domain.findings import Evidence
from ovcf_node.domain.levels import GRADED
from ovcf_node.infer.evidence import Signs, height_speaks
from ovcf_node.infer.judgement import measured
from ovcf_node.infer.morphometry import measure
from ovcf_node.infer.segment import found
from ovcf_node.infer.stages import STATISTICS, Usual
from ovcf_node.infer.usual import distance, statistics
from ovcf_node.infer.vertebra import read_vertebrae
from scores import height_weight, operating_point, restored_weight, temperature_binary, temperature_classes

FIRST = {"study": 5_500_000, "negatives": 5_700_000, "second": second.SELECTION + 500_000}
NEAR_MM = 12.0  # a vertebra found farther off belongs to no true one
VERTEBRAE = 6  # graded ones of a patient
TYPES_RIGHT = 0.9
NOISE = 0.01  # what some thirty fractures leave undecided between two thresholds: decided for sensitivity
USUAL = 0.999  # quantile of the calibration's vertebrae: no single one decides the limit
FOREIGN = 0.05  # quantile of each kind of foreign pictures
STRANGERS = 32  # so many cases give foreign pictures: enough to say where each kind begins
OLD_SHARE = 0.25  # cohorts of mimics repeat healed deformities


def render(folder: Path, n: int) -> None:
    """The calibration patients as cases: ``n`` of the study's mix, ``n`` negatives; ``n`` of the second, n/2 healthy and n/2
    with a broken posterior wall, which the others hardly have.
    """
    lists = [cohorts.patients(name, n, FIRST[name], cohorts.OF_BODIES) for name in FIRST]
    healthy = FIRST["second"] + 1000
    lists.append([cohorts.Patient("second", "none", healthy + k) for k in range(n // 2)])
    lists.append([cohorts.Patient("second", "burst", healthy + 1000 + k) for k in range(n // 2)])
    for patient in (p for turn in range(max(map(len, lists))) for p in (x[turn] for x in lists if turn < len(x))):
        case = folder / patient.cohort / patient.name
        if not case.exists():
            case.parent.mkdir(parents=True, exist_ok=True)
            print(cohorts.make(patient, case), flush=True)


def looks(case: Path, bundle: infer.Bundle, strangers: bool = True) -> Iterator[dict]:
    """The looks at every complete graded vertebra of a case and its height loss, with the truth.

    ``strangers`` adds foreign pictures made of the first of them; they cost as much as four readings.

    Which vertebrae are references for heights follows from the bundle's present points: calibrate twice after a change.
    """
    truth = json.loads((case / "truth.json").read_text())
    files = sorted(p for p in (case / "ct").rglob("*") if p.is_file())
    volume = assemble.build(assemble.inspect(files, Assemble()).verdict.stack, regularise=False)
    labels = found(volume, bundle)
    readings = [r for r in read_vertebrae(volume, bundle, labels, ("T11", *GRADED)) if r.has_body]
    geometry = {r.level: measure(r.crop, r.vertebra, r.body, r.cement) for r in readings}
    known = measured(readings, geometry, bundle.vertebra)
    restored = infer.restored_of(volume, bundle, readings, geometry, known)
    for reading in readings:
        centroid = geometry[reading.level].centroid
        gap = [float(np.linalg.norm(np.subtract(v["centre_mm"], centroid))) for v in truth["vertebrae"]]
        near = truth["vertebrae"][int(np.argmin(gap))]
        if min(gap) > NEAR_MM or reading.level not in GRADED or reading.level not in known:
            continue
        if reading.cement is not None:  # its own rules, beside points that were chosen without it
            continue
        s, i, n, _ = near["evidence"]
        kind = 1 if s and i else 2 if s else 3 if i else 4 if n else 0
        made = restored.get(reading.level)
        yield {
            "case": case.name, "cohort": truth["cohort"], "level": near["level"], "logits": reading.looks.tolist(),
            "evidence": near["evidence"], "type": kind, "old": bool(near["old_deformity"]), "loss": near["height_loss"],
            "mimic": near["mimic"], "slice_mm": truth["facts"]["slice_mm"], "statistics": statistics(reading).tolist(),
            "measured_loss": known[reading.level].own_loss,
            "restored_loss": made.loss if made else None, "damage_hu": made.score if made else None,
            "foreign": list(foreign.rows(volume, reading, bundle)) if strangers else [],
        }
        strangers = False


def one(case: Path, bundle: Path, strangers: bool) -> list[dict]:
    torch.set_num_threads(1)
    return list(looks(case, opened(bundle), strangers))


@lru_cache(1)
def opened(bundle: Path) -> infer.Bundle:
    """The bundle, opened and tested once for all the cases that a process reads."""
    return infer.load(bundle, threads=1)


def collect(folder: Path, bundle: Path, jobs: int) -> list[dict]:
    """The rows of every case of the folder, in the order of their paths; ``jobs`` processes."""
    cases = sorted(p.parent for p in folder.rglob("truth.json") if not p.parent.name.startswith("."))
    rows: list[dict] = []
    every = max(1, len(cases) // STRANGERS)
    mixed = [k % every == 0 for k in range(len(cases))]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for case, looked in zip(cases, pool.map(one, cases, repeat(bundle), mixed), strict=True):
            rows += looked
            print(f"{case.name}: {len(rows)} vertebrae", flush=True)
    return rows


def fitted(rows: list[dict]) -> dict:
    """Temperatures on all looks, points on the mean over the looks of a vertebra."""
    logits = np.array([r["logits"] for r in rows])  # vertebra, look, 10
    evidence, kind = np.array([r["evidence"] for r in rows], float), np.array([r["type"] for r in rows])
    old = np.array([r["old"] for r in rows], float)
    count = logits.shape[1]
    flat = logits.reshape(-1, 10)
    again = lambda x: np.repeat(x, count, axis=0)  # noqa: E731
    temperature = {
        "evidence": temperature_binary(flat[:, :4], again(evidence)),
        "type": temperature_classes(flat[:, 4:9], again(kind)),
        "old": temperature_binary(flat[:, 9], again(old)),
    }
    p = mean_probabilities(logits, temperature)
    broken = evidence[:, :3].any(1)
    weight = np.where(old > 0, OLD_SHARE, 1.0)
    fair = weight * balance([r["cohort"] == "second" for r in rows])

    def point_of(name: str, group: np.ndarray, power: int = 1, high: float = 0.6, among: float = 0.5) -> float:
        k = EVIDENCE.index(name)
        return operating_point(p["evidence"][group, k], evidence[group, k], 0.5, high, power, weight[group], among=among)

    # Signs name the type: judged among fractures and their false alarms; the posterior one says too where height is heard.
    # A false one withholds the type; true ones are sure, so of equal thresholds a higher one.
    posterior = point_of("posterior", broken | (p["fracture"] >= DEFAULT_POINTS["fracture"]), 3, 0.95, 0.75)
    rows = as_heard(rows, p, posterior)
    weights = height_weights(rows, p, broken, fair)
    added = heard.table(rows, p, broken, fair) if "restored" in weights else None
    p["fracture"] = combined(rows, p, weights)
    points = {
        "fracture": operating_point(p["fracture"], broken, 0.3, 0.8, VERTEBRAE, fair, NOISE),
        "old": operating_point(p["old"], old, 0.3, power=2),
        "posterior": posterior,
        # Decides only where no endplate is broken; every false alarm of the study was a D, which it alone makes.
        "anterior": point_of("anterior", ~evidence[:, :2].any(1), VERTEBRAE),
    }
    called = broken | (p["fracture"] >= points["fracture"])
    points |= {name: point_of(name, called) for name in ("superior", "inferior")}
    typed = broken & (evidence[:, 3] == 0) & (p["fracture"] >= points["fracture"])
    points["abstain_below"] = type_point({name: p[name][typed] for name in ("evidence", "type")}, points, kind[typed])
    group = np.where(old > 0, 2, np.where(broken, 1, 0))
    usual = usual_of(np.array([r["statistics"] for r in rows]), group, foreign_of(rows))
    return {
        "temperature": temperature, "operating_points": points, "usual": usual, **weights, "added": added,
        "vertebrae": len(rows),
    }


def as_heard(rows: list[dict], p: dict[str, np.ndarray], posterior: float) -> list[dict]:
    """The rows without the height losses that the node does not hear; `posterior` is the operating point of that sign."""
    out = []
    for row, signs, spread in zip(rows, p["evidence"], p["spread"], strict=True):
        seen = Signs(Evidence(*map(float, signs)), (1.0, 0.0, 0.0, 0.0, 0.0), 0.0, 0.0, float(spread))
        out.append(row if height_speaks(seen, {"posterior": posterior}) else {**row, "measured_loss": None})
    return out


def height_weights(rows: list[dict], p: dict[str, np.ndarray], broken: np.ndarray, weight: np.ndarray) -> dict[str, dict]:
    """What height loss weighs beside the picture, and what the restoring stage does where the bundle has one."""
    loss = column(rows, "measured_loss")
    weights = {"height": height_weight(p["fracture"], loss, broken, weight)}
    painted = column(rows, "restored_loss"), column(rows, "damage_hu")
    if np.isfinite(painted).all(0).any():
        weights["restored"] = restored_weight(p["fracture"], p["old"], loss, *painted, broken, weight)
    return weights


def combined(rows: list[dict], p: dict[str, np.ndarray], weights: dict[str, dict]) -> np.ndarray:
    """Probability of a fracture as the node says it, from the picture's ``p`` and `height_weights`."""
    return weighed(
        p["fracture"], p["old"], column(rows, "measured_loss"), weights["height"], weights.get("restored"),
        column(rows, "restored_loss"), column(rows, "damage_hu"),
    )


def balance(second_generator: list[bool]) -> np.ndarray:
    """Weights that let both generators speak with one voice each."""
    group = np.array(second_generator)
    if group.all() or not group.any():
        return np.ones(len(group))
    return np.where(group, len(group) / (2 * group.sum()), len(group) / (2 * (~group).sum()))


def foreign_of(rows: list[dict]) -> dict[str, np.ndarray]:
    """Statistics ``[n, 6]`` of the foreign pictures by kind."""
    kinds: dict[str, list] = {}
    for picture in (p for r in rows for p in r["foreign"]):
        kinds.setdefault(picture["kind"], []).append(picture["statistics"])
    return {kind: np.array(values) for kind, values in kinds.items()}


def usual_of(values: np.ndarray, group: np.ndarray, foreign: dict[str, np.ndarray]) -> dict:
    """Mean, inverse covariance and limit of the statistics ``[N, 6]``.

    The groups (whole, broken, healed) have the same say in mean and covariance: whole vertebrae are many and alike, and
    would put every healed deformity far off. The limit lies halfway between where the calibration's vertebrae end and where
    the nearest kind of foreign pictures begins.
    """
    weight = 1.0 / np.bincount(group)[group]
    mean = np.average(values, axis=0, weights=weight)
    precision = np.linalg.inv(np.cov(values.T, aweights=weight) + 1e-6 * np.eye(values.shape[1]))
    distances = lambda x: np.sqrt(np.einsum("ni,ij,nj->n", x - mean, precision, x - mean))  # noqa: E731
    ends = float(np.quantile(distances(values), USUAL))
    if not foreign:
        raise SystemExit("no vertebra was read of which foreign pictures could be made: more patients, or a better bundle")
    begins = {kind: float(np.quantile(distances(x), FOREIGN)) for kind, x in foreign.items()}
    nearest = min(begins, key=begins.get)
    if begins[nearest] <= ends:
        raise SystemExit(f"statistics do not tell pictures {nearest!r} ({begins[nearest]:.1f}) from vertebrae ({ends:.1f})")
    return {
        "statistics": list(STATISTICS), "mean": [round(float(x), 5) for x in mean],
        "precision": [round(float(x), 4) for x in precision.ravel()], "limit": round((ends + begins[nearest]) / 2, 2),
    }


def type_point(p: dict[str, np.ndarray], points: dict[str, float], kind: np.ndarray) -> float:
    """The least probability from 0.5 at which at least ``TYPES_RIGHT`` of the types that the node says are right.

    At most 0.6: where that share is not reached, wrong types are as sure of themselves as right ones, and withholding more
    costs only right ones.
    """
    for point in np.arange(0.5, 0.6, 0.01):
        said = types_said(p, {**points, "abstain_below": float(point)})
        given = np.isin(said, TYPES[1:])
        if given.any() and (said == np.array(TYPES, object)[kind])[given].mean() >= TYPES_RIGHT:
            return float(point)
    return 0.6


def mean_probabilities(logits: np.ndarray, temperature: dict) -> dict[str, np.ndarray]:
    """Means over the looks ``[N, looks, 10]``, as the node takes them, and how far these differ about a fracture."""
    every = [probabilities(x[:, :4], x[:, 4:9], x[:, 9:], temperature) for x in logits.transpose(1, 0, 2)]
    means = {name: np.mean([e[name] for e in every], axis=0) for name in every[0]}
    return {**means, "spread": np.ptp([e["fracture"] for e in every], axis=0)}


def summary(rows: list[dict], result: dict) -> str:
    """What these points do to the patients they were chosen on."""
    p = mean_probabilities(np.array([r["logits"] for r in rows]), result["temperature"])
    loss = column(rows, "measured_loss")
    alone, p["fracture"] = p["fracture"], combined(
        as_heard(rows, p, result["operating_points"]["posterior"]), p, result
    )
    called = p["fracture"] >= result["operating_points"]["fracture"]
    lines = [beyond(rows, result["usual"])]
    for cohort in FIRST:
        mine = [k for k, r in enumerate(rows) if r["cohort"] == cohort]
        true = {k: any(rows[k]["evidence"][:3]) for k in mine}
        cases: dict[str, list[int]] = {}
        for k in mine:
            cases.setdefault(rows[k]["case"], []).append(k)
        healthy = [ks for ks in cases.values() if not any(true[k] for k in ks)]
        hit, broken = sum(true[k] and called[k] for k in mine), sum(true.values())
        clear, sound = sum(not true[k] and not called[k] for k in mine), len(mine) - broken
        quiet = sum(not called[ks].any() for ks in healthy)
        lines.append(
            f"{cohort}: fractures {hit}/{broken}, other vertebrae {clear}/{sound}, healthy patients {quiet}/{len(healthy)}"
        )
        for k in mine:
            if true[k] != called[k]:
                r = rows[k]
                kind = TYPES[r["type"]]
                lines.append(f"  {r['case']} {r['level']} {kind} loss {r['loss']:.2f} {r['mimic']} old {r['old']} "
                             f"{r['slice_mm']} mm, measured {loss[k]:.2f}: {p['fracture'][k]:.2f}, picture {alone[k]:.2f}")
    return "\n".join(lines)


def beyond(rows: list[dict], usual: dict) -> str:
    """How many vertebrae and foreign pictures of each kind lie beyond the limit, and how far they lie."""
    known = Usual(usual["mean"], usual["precision"], usual["limit"])
    far = {"vertebrae": np.array([distance(np.array(r["statistics"]), known) for r in rows])}
    far |= {kind: np.array([distance(x, known) for x in values]) for kind, values in foreign_of(rows).items()}
    return f"beyond {known.limit}: " + ", ".join(
        f"{kind} {(d > known.limit).sum()}/{len(d)} ({d.min():.1f}-{d.max():.1f})" for kind, d in far.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True, help="folder of rendered cases; missing ones are rendered")
    parser.add_argument("--n", type=int, default=18, help="patients of each part (four parts)")
    parser.add_argument("--bundle", type=Path, help="bundle to calibrate; only renders when left out")
    parser.add_argument("--out", type=Path, help="folder for calibration.json")
    parser.add_argument("--jobs", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(1)
    render(a.cohort, a.n)
    if a.bundle is None:
        return
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
    rows = collect(a.cohort, a.bundle, a.jobs)
    if a.out:
        (a.out / "looks.json").write_text(json.dumps(rows))  # first: reading takes long, fitting may refuse
    result = fitted(rows)
    print(json.dumps(result, indent=1), summary(rows, result), sep="\n")
    if a.out:
        (a.out / "calibration.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
