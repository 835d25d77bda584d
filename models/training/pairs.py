"""Renders damaged and undamaged vertebrae for the restoring network and caches them, for as long as it is left running.

``python models/training/pairs.py --work DIR [--minutes M] [--count N] [--held | --test | --second]``

``DIR/pairs/SEED.npz`` holds the vertebrae of one case: ``seen [K,56,72,32]`` and ``healthy`` int16 HU of the contract's
crop, ``context [K,56,36,16]`` the same field at twice the spacing and twice as far along the spine, ``masks`` uint8 bits
1 vertebra, 2 body, 4 fracture, 8 undamaged body; ``heights, healthy_heights, expected [K,3]`` mm (anterior,
middle, posterior; expected of the patient's own neighbours, by the node's rule); ``evidence [K,4], type, old, mimic,
level``.

Training seeds as in ``cases.py``; ``--held`` (calibration) and ``--test`` write to ``held/pairs`` and ``test/pairs``,
``--second`` takes selection seeds of the second generator (no undamaged twin there: ``healthy`` repeats ``seen``).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy.ndimage import map_coordinates

import devices
import phantoms
import second
from cases import (
    ACROSS,
    EVALUATION,
    HELD,
    SCANNED_KINDS,
    SCANNED_SHARE,
    across,
    finer,
    jittered,
    numpy,
    rounded,
    save,
    scan,
    truth,
)
from ovcf_node.domain.findings import Heights
from ovcf_node.infer.expected import expectations
from ovcf_node.infer.morphometry import measure
from ovcf_node.infer.resample import Crop, CropGrid
from ovcf_node.infer.restore import context_grid
from phantoms.atlas import shapes_folder
from phantoms.grids import Grid, crop_grid
from phantoms.norms import spine_index
from phantoms.solids import load_solids
from second.samples import LEVELS as SECOND_LEVELS
from second.samples import SIGNS, patient_of

RESTORED = ("T11", "T12", "L1", "L2", "L3", "L4", "L5")  # levels that neighbours predict
NEIGHBOURS_ERROR = 0.035  # SD (log) of neighbours' prediction, where a real shape has no neighbours of its own
MEASURED_ERROR_MM = 0.4  # SD of a height as the node measures it
KEYS = ("seen", "healthy", "context", "masks", "heights", "healthy_heights", "expected", "evidence", "type", "old", "mimic",
        "level")


def heights_of(values: dict[str, float]) -> list[float]:
    return [values[name] for name in ("anterior", "middle", "posterior")]


def predicted(vertebrae, rng: np.random.Generator, sound) -> dict[str, list[float]]:
    """What the neighbours let expect of each level, by the node's own rule; ``sound(v)`` says who may be a neighbour."""
    known = {v.level: v for v in vertebrae if v.level in RESTORED}
    heights = {k: heights_of(v.heights if hasattr(v, "heights") else v.heights_mm) for k, v in known.items()}
    measured = {k: Heights(*(h + rng.normal(0, MEASURED_ERROR_MM, 3)).tolist()) for k, h in heights.items()}
    rule = expectations(measured, [k for k, v in known.items() if sound(v)], dict.fromkeys(known))
    return {k: [e.heights.anterior, e.heights.middle, e.heights.posterior] for k, e in rule.items()}


def around(grid: Grid) -> Grid:
    """The context's grid of a crop's."""
    wide = context_grid(CropGrid(grid.affine, grid.shape))
    return Grid(wide.affine, wide.shape)


def bits(pair: phantoms.Pair) -> np.ndarray:
    """Masks on the `finer` grid as bits 1, 2, 4, 8 on the crop's."""
    out = np.zeros((*pair.body.shape[:2], pair.body.shape[2] // ACROSS), np.uint8)
    for bit, mask in ((1, pair.whole), (2, pair.body), (4, pair.fracture), (8, pair.healthy_body)):
        out |= np.where(across(numpy(mask)) >= 0.5, bit, 0).astype(np.uint8)
    return out


def placed(vertebra, rng: np.random.Generator) -> Grid:
    """The crop as the node's second look places it: on the seen body, along the seen plates, both nearly."""
    centre, frame, _ = jittered(vertebra, rng, 2.0, 4.0)
    share = float(rng.uniform(0.2, 1.2))
    return crop_grid(None, centre, phantoms.leaning(frame, vertebra, share) if hasattr(vertebra, "body") else frame)


def row(pair, context, heights, healthy, expected, facts) -> dict:
    values = (
        rounded(across(numpy(pair.seen))), rounded(across(numpy(pair.healthy))), rounded(numpy(context)), bits(pair),
        heights, healthy, expected, *facts,
    )
    return dict(zip(KEYS, values, strict=True))


def analytic(seed: int, every: bool, device: str = "cpu") -> list[dict]:
    """Pairs of one analytic case: every damaged vertebra twice and as many whole ones; with ``every``, each level once."""
    rng = np.random.default_rng([seed, 5])
    case = phantoms.sample_case(seed, profile="training" if seed % 2 == 0 else "study")
    expected = predicted(case.vertebrae, rng, lambda v: not v.fracture and not v.old_deformity)
    damaged, whole = [], []
    for k, v in enumerate(case.vertebrae):
        if v.level in expected:
            (damaged if v.fracture or v.old_deformity else whole).append(k)
    rng.shuffle(whole)
    wanted = sorted(damaged + whole) if every else damaged * 2 + whole[: max(2, len(damaged))]
    out = []
    for n, k in enumerate(wanted):
        v = case.vertebrae[k]
        grid, acq = placed(v, rng), scan(seed * 64 + (0 if every else n), "training")
        pair = phantoms.render_pair(case, k, finer(grid), acq, device=device)
        context = phantoms.render(case, around(grid), acq, device=device, truth=False).hu
        e, kind, old = truth(v)
        facts = (e, kind, old, int(v.mimic is not None), spine_index(v.level))
        healthy = heights_of(v.expected_mm if k in damaged else v.heights_mm)
        out.append(row(pair, context, heights_of(v.heights_mm), healthy, expected[v.level], facts))
    return out


def scanned(seed: int, solids, count: int = 6) -> list[dict]:
    """Pairs of real shapes; heights are measured, and stand with an error for what neighbours would have let expect."""
    rng = np.random.default_rng([seed, 6])
    solids = [s for s in solids if s.level in RESTORED]
    out = []
    for n in range(count):
        solid = solids[int(rng.integers(len(solids)))]
        vertebra = phantoms.sample_scanned(rng, solid, str(rng.choice(SCANNED_KINDS, p=SCANNED_SHARE)))
        grid, acq, draw = placed(vertebra, rng), scan(seed * 64 + n, "training"), int(rng.integers(2**31))
        pair = phantoms.render_scanned_pair(vertebra, finer(grid), acq, draw)
        context = phantoms.render_scanned(vertebra, around(grid), acq, np.random.default_rng(draw))[0]
        crop = Crop(CropGrid(grid.affine, grid.shape), across(numpy(pair.seen)), np.ones(grid.shape, bool))
        seen, healthy = (
            heights_of(asdict(measure(crop, mask, mask).heights))
            for mask in (across(numpy(m)) for m in (pair.body, pair.healthy_body))
        )
        if None in seen or None in healthy:
            continue
        expected = np.array(healthy) * np.exp(rng.normal(0, NEIGHBOURS_ERROR) + rng.normal(0, 0.012, 3))
        e, kind, old = truth(vertebra)
        facts = (e, kind, old, int(vertebra.mimic is not None), spine_index(solid.level))
        out.append(row(pair, context, seen, healthy, expected, facts))
    return out


def of_second(seed: int) -> list[dict]:
    """T12-L5 of one patient of the second generator, from one scanned series."""
    patient, rng = patient_of(seed), np.random.default_rng([seed, 92])
    picture = second.scan(patient, second.choose_scan(patient, seed, field=float(rng.uniform(105, 190))), seed)
    expected = predicted(patient.vertebrae, rng, lambda v: not v.old and not any(v.signs.values()))
    out = []
    for v in patient.vertebrae:
        if v.level not in expected:
            continue
        number, grid = SECOND_LEVELS.index(v.level) + 1, placed(SimpleNamespace(centre_mm=v.centre, frame=v.frame), rng)
        fine = finer(grid)
        own = sampled(picture, picture.instance == number, fine, 0) > 0
        body = own & (sampled(picture, picture.body, fine, 0) > 0)
        hu = sampled(picture, picture.hu, fine, 1)
        pair = phantoms.Pair(hu, hu, own, body, body, own & False)
        e = [int(v.signs[s]) for s in SIGNS]
        kind = "ABCD".find(v.denis or "x") + 1
        facts = (e, kind, int(v.old), int(v.mimic is not None), spine_index(v.level))
        heights = heights_of(v.heights)
        context = sampled(picture, picture.hu, around(grid), 1)
        out.append(row(pair, context, heights, heights_of(v.expected), expected[v.level], facts))
    return out


def sampled(picture, values: np.ndarray, grid: Grid, order: int) -> np.ndarray:
    """Values of a scanned series at a grid's points; air (or nothing) outside."""
    points = grid.point_of(np.stack(np.indices(grid.shape), -1))
    at = ((points - picture.low)[..., ::-1] / picture.spacing).transpose(3, 0, 1, 2)
    return map_coordinates(np.asarray(values, np.float32), at, order=order, mode="constant", cval=-1024.0 if order else 0.0)


def stacked(rows: list[dict]) -> dict[str, np.ndarray]:
    kinds = {"heights": np.float32, "healthy_heights": np.float32, "expected": np.float32, "seen": np.int16,
             "healthy": np.int16, "context": np.int16}
    return {k: np.stack([np.asarray(r[k], kinds.get(k, np.uint8)) for r in rows]) for k in KEYS}


def produce(work: Path, kind: str, minutes: float, count: int, start: int, device: str = "cpu") -> None:
    """Render files until the time or the count is up; seeds that are there already are skipped."""
    torch.set_num_threads(1)
    shapes = shapes_folder() if kind == "train" else None
    folder = {"train": work, "held": work / "held", "test": work / "test", "second": work / "second"}[kind] / "pairs"
    first = start + {"train": 0, "held": HELD, "test": EVALUATION, "second": second.SELECTION}[kind]
    end = time.time() + 60 * minutes
    for seed in range(first, first + (count or 10**6)):
        if time.time() > end:
            return
        if (folder / f"{seed}.npz").exists():
            continue
        began = time.time()
        if kind == "second":
            rows = of_second(seed)
        elif shapes and seed % 8 < 3:
            rows = scanned(seed, load_solids(shapes, work / "solids.pickle"))
        else:
            rows = analytic(seed, every=kind != "train", device=device)
        if rows:
            save(folder, str(seed), stacked(rows))
        print(f"{kind} {seed}: {len(rows)} in {time.time() - began:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--count", type=int, default=0, help="how many seeds (0: until the time is up)")
    parser.add_argument("--start", type=int, default=0, help="first seed, counted from the first of its kind")
    for kind in ("held", "test", "second"):
        parser.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, default="train")
    parser.add_argument("--device", choices=devices.NAMES, default="cpu", help="renders analytic pairs")
    a = parser.parse_args()
    produce(a.work, a.kind, a.minutes, a.count, a.start, devices.chosen(a.device).name)


if __name__ == "__main__":
    main()
