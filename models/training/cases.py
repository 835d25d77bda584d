"""Renders training samples from the phantoms and caches them on disk, for as long as it is left running.

``python models/training/cases.py --work DIR [--kind fields|spines|crops|all|damaged] [--minutes M] [--bundle FOLDER]``

- ``DIR/fields/*.npz``: one 6 mm field a file (rendered at 3 mm, averaged by 2): ``hu`` int16, ``labels``, ``instance``
  (row of ``centres`` + 1) and ``body`` (fraction x 255) uint8, all ``[z,y,x]``; ``centres [K,3]`` in voxels (z, y, x)
  and ``level [K]``, the count that names each (T11 = 2 ... S1 = 9; an extra vertebra shares its neighbour's); ``random``:
  appearance of the random family (fields with label maps always are).
- ``DIR/spines/*.npz`` (``--kind spines``): the same fields at 3 mm, cut to the vertebrae and 24-60 mm around them.
- ``DIR/crops/*.npz``: the crops of one case: ``hu [K,56,72,32]`` int16, ``masks`` uint8 bits 1 vertebra, 2 body,
  4 fracture; ``evidence [K,4], type, old, mimic, level, random`` and ``loss`` (largest height loss).
  One file in five is plain (``phantoms/plain.py``), one the fourth painter's (``fourth/``). With ``--bundle FOLDER`` a
  fifth are cut from whole series by its stages, as the node does (``placed.py``).
- ``DIR/painted/*.npz`` (``--kind damaged``): whole vertebrae of ``DIR/crops`` with damage painted by ``DIR/damage.pt``, in
  the same format (``painted.py``).

Seeds from ``HELD`` upwards are never rendered for training; ``--held`` writes to ``held/fields`` and ``held/crops``.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

import devices
import fourth
import painted
import phantoms
import placed
from fields import coarse, field, numpy, rendered_field, rounded, spine
from networks import EVIDENCE, TYPES
from ovcf_node import infer
from ovcf_node.infer.cement import cement_of, without_cement
from ovcf_node.infer.resample import Crop, CropGrid
from phantoms import plain
from phantoms.atlas import shapes_folder
from phantoms.grids import CROP_ORIGIN, CROP_SHAPE, CROP_SPACING, Grid, crop_grid
from phantoms.norms import spine_index
from phantoms.solids import load_solids

HELD = 5_000_000  # calibration and choice of checkpoints
EVALUATION = 6_000_000  # evaluate.py
CROP_LEVELS = ("T11", "T12", "T13", "L1", "L2", "L3", "L4", "L5", "L6", "S1")
ACROSS = 3  # samples a voxel from left to right
SPARE_LEVELS = ("T8", "T9", "T10")  # their fractures are worth learning from


def jittered(vertebra, rng: np.random.Generator, mm: float = 4.0, degrees: float = 6.0):
    """Centre and frame as an imperfect first stage would give them (a quarter twice as bad), and a scale of +-5 %."""
    if rng.random() < 0.25:
        mm, degrees = 2 * mm, 2 * degrees
    a, b, c = np.radians(rng.uniform(-degrees, degrees, 3))
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    frame = np.asarray(vertebra.frame, float)
    centre = np.asarray(vertebra.centre_mm, float) + rng.uniform(-mm, mm, 3) @ frame
    return centre, rz @ ry @ rx @ frame, rng.uniform(0.95, 1.05)


def scaled(grid, factor: float):
    """The same grid with its spacing multiplied, origin of the vertebra frame kept."""
    middle = grid.point_of(np.asarray(CROP_ORIGIN))
    affine = grid.affine.copy()
    affine[:3, :3] *= factor
    affine[:3, 3] = middle + (grid.affine[:3, 3] - middle) * factor
    return Grid(affine, grid.shape)


def finer(grid: Grid) -> Grid:
    """The grid on which a crop is rendered. Of an even number of samples half could lie inside, and masks would grow."""
    return grid.refined((1, 1, ACROSS))


def across(x: np.ndarray) -> np.ndarray:
    """Means from left to right: what was rendered on the `finer` grid, on the crop's."""
    return x.astype(np.float32).reshape(*x.shape[:2], -1, ACROSS).mean(3)


def packed(masks, shape) -> np.ndarray:
    """Whole vertebra, body and fracture masks on the `finer` grid as bits 1, 2, 4 on the crop's."""
    bits = np.zeros(shape, np.uint8)
    for bit, mask in zip((1, 2, 4), masks, strict=False):
        bits |= np.where(across(mask) >= 0.5, bit, 0).astype(np.uint8)
    return bits


COLUMNS = ("hu", "masks", "evidence", "type", "old", "mimic", "level", "loss", "random")


def stacked(rows: dict[str, list]) -> dict[str, np.ndarray]:
    return {
        "hu": np.stack(rows["hu"]),
        "masks": np.stack(rows["masks"]),
        "loss": np.array(rows["loss"], np.float32),
        **{k: np.array(rows[k], np.uint8) for k in ("evidence", "type", "old", "mimic", "level", "random")},
    }


def crop(
    case, index: int, acquisition, rng: np.random.Generator | None, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """HU ``[56,72,32]`` and mask bits of one vertebra; frame jittered when ``rng`` is given."""
    vertebra = case.vertebrae[index]
    if rng is None:
        grid = crop_grid(vertebra)
    else:
        centre, frame, factor = jittered(vertebra, rng)
        grid = scaled(crop_grid(None, centre, frame), factor)
    rendered = phantoms.render(case, finer(grid), acquisition, device=device)
    own = numpy(rendered.instance) == index + 1
    masks = (own, own & (numpy(rendered.body) > 0), own & (numpy(rendered.fracture) > 0))
    return rounded(across(numpy(rendered.hu))), packed(masks, grid.shape)


def truth(vertebra) -> tuple[list[int], int, int]:
    """Evidence bits, type index (burst and lytic by their endplates; 0 without fracture) and old-deformity bit."""
    e = [int(bool(vertebra.evidence[name])) for name in EVIDENCE]
    if vertebra.denis in TYPES:
        kind = TYPES.index(vertebra.denis)
    else:
        s, i, n, _ = e
        kind = 1 if s and i else 2 if s else 3 if i else 4 if n else 0
    return e, kind, int(bool(vertebra.old_deformity))


def scan(seed: int, profile: str):
    """An acquisition that the node would grade (slices up to 3.2 mm)."""
    while True:
        acquisition = phantoms.sample_acquisition(seed, profile=profile)
        if acquisition.slice_mm <= 3.2:
            return acquisition
        seed += 1 << 40


def crops(
    seed: int, profile: str = "training", jitter: bool = True, every: bool = False, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Crops of one case: variants of every fracture and old deformity, and as many of the rest.

    ``every``: one crop of each level T11-S1, as a study would have them. Otherwise odd seeds take the patients of the
    study profile, four in five of them fractured (with the scans of ``profile``).
    """
    rng = np.random.default_rng([seed, 2])
    case = phantoms.sample_case(seed, profile=profile if every or seed % 2 == 0 else "study", varied=not every)
    wanted: list[int] = []
    rest = []
    for k, v in enumerate(case.vertebrae):
        e, _, old = truth(v)
        if v.level not in CROP_LEVELS and (every or not any(e) or v.level not in SPARE_LEVELS):
            continue
        if every:
            wanted.append(k)
        elif any(e):
            wanted += [k] * (4 if e[3] else 2)  # posterior wall and healed deformities are rare
        elif old:
            wanted += [k] * 3
        else:
            rest.append(k)
    if not every:
        rng.shuffle(rest)
        wanted += rest[: max(3, min(len(rest), len(wanted)))]
    rows = {name: [] for name in COLUMNS}
    for n, k in enumerate(wanted):
        v = case.vertebrae[k]
        acquisition = scan(seed * 64 + (0 if every else n), profile)
        hu, bits = crop(case, k, acquisition, rng if jitter else None, device)
        e, kind, old = truth(v)
        values = (hu, bits, e, kind, old, int(v.mimic is not None), spine_index(v.level), v.height_loss,
                  acquisition.family == "random")
        for name, value in zip(rows, values, strict=True):
            rows[name].append(value)
    return stacked(rows)


SCANNED_KINDS = ("A", "B", "C", "D", "old", "mimic", "plain")
SACRAL = 0.09  # one level of eight at run time, one shape of many here
SCANNED_SHARE = (0.12, 0.13, 0.12, 0.11, 0.13, 0.16, 0.23)
LOW_LUMBAR = 2.0  # how much more often L4 and L5 are drawn than the other levels: few shapes, many false alarms


def scanned_crops(seed: int, solids, profile: str = "training", count: int = 8) -> dict[str, np.ndarray]:
    """Crops of real shapes (``phantoms/scanned.py``): like ``crops``, each of another vertebra."""
    rng = np.random.default_rng([seed, 4])
    rows = {name: [] for name in COLUMNS}
    for n in range(count):
        sacral = [s for s in solids if s.level == "S1"]
        pool = sacral if sacral and rng.random() < SACRAL else [s for s in solids if s.level != "S1"]
        weight = np.array([LOW_LUMBAR if s.level in ("L4", "L5") else 1.0 for s in pool])
        solid = pool[int(rng.choice(len(pool), p=weight / weight.sum()))]
        kind = str(rng.choice(SCANNED_KINDS, p=SCANNED_SHARE))
        if solid.level == "S1" and kind in "ABCD":
            kind = "plain"
        vertebra = phantoms.sample_scanned(rng, solid, kind)
        centre, frame, factor = jittered(vertebra, rng)
        grid = scaled(crop_grid(None, centre, frame), factor)
        acquisition = scan(seed * 64 + n, profile)
        rendered = phantoms.render_scanned(vertebra, finer(grid), acquisition, rng)
        hu, masks = rendered[0], [m for m in rendered[1:] if m is not None]
        bits = packed([numpy(m) for m in masks], grid.shape)
        e, t, old = truth(vertebra)
        values = (rounded(across(numpy(hu))), bits, e, t, old, int(vertebra.mimic is not None), spine_index(solid.level))
        for name, value in zip(rows, (*values, vertebra.height_loss, acquisition.family == "random"), strict=True):
            rows[name].append(value)
    return stacked(rows)


def fourth_crops(seed: int, count: int = 8) -> dict[str, np.ndarray]:
    """Crops of the fourth painter, like ``crops``."""
    sample = fourth.crops(seed, count)
    return {**sample, "level": np.array([spine_index(fourth.LEVELS[k]) for k in sample["level"]], np.uint8)}


REFILLED = 2 / 3  # of the crops with cement: the node shows its network both, the first time as it is


def refilled(sample: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The crops, most of those with readable cement shown without it as the node does (`ovcf_node.infer.cement`)."""
    grid = CropGrid(np.diag([*CROP_SPACING, 1.0]), CROP_SHAPE)
    hu = sample["hu"].copy()
    for picture, bits in zip(hu, sample["masks"], strict=True):
        shown = Crop(grid, picture.astype(np.float32), np.ones(CROP_SHAPE, bool))
        cement = cement_of(shown, bits & 1 > 0, bits & 2 > 0)
        if cement is not None and cement.readable and rng.random() < REFILLED:
            picture[:] = rounded(without_cement(shown.hu, cement.hole, cement.bone, grid.spacing))
    return {**sample, "hu": hu}


def save(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write so that a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}"
    with open(temporary, "wb") as stream:
        np.savez(stream, **arrays)
    temporary.rename(folder / f"{name}.npz")


def rendered(cache: Path | None, profile: str, seed: int, kind: str) -> dict[str, np.ndarray]:
    """Field, spine or crops of an evaluation case, from the cache where it is there."""
    path = cache / profile / kind / f"{seed}.npz" if cache else None
    if path and path.exists():
        with np.load(path) as data:
            return {k: data[k] for k in data.files}
    if kind == "spines":
        sample = spine(*rendered_field(seed, profile), np.random.default_rng([seed, 5]))
    else:
        sample = field(seed, profile) if kind == "fields" else crops(seed, profile, every=True)
    if path:
        save(path.parent, str(seed), sample)
    return sample


def produce(
    work: Path, kind: str, minutes: float, count: int, held: bool, start: int, pace: float = 0.0, keep: int = 4000,
    device: str = "cpu", bundle: Path | None = None,
) -> None:
    """Render samples of each kind by turns until the time or the count is up; seeds that are already there are skipped."""
    torch.set_num_threads(1)
    base = work / "held" if held else work
    end, seed, done = time.time() + 60 * minutes, start + (HELD if held else 0), 0
    kinds = ("fields", "spines", "crops") if kind == "all" else (kind,)
    reader = infer.load(bundle, threads=1) if bundle else None
    while time.time() < end and (count == 0 or done < count):
        turn = time.process_time()
        shapes, whole = shapes_folder(), None
        for what in kinds:
            folder = base / what
            if (folder / f"{seed}.npz").exists():
                continue
            began = time.time()
            if what in ("fields", "spines"):
                whole = whole or rendered_field(seed, device=device, shapes=shapes)
                arrays = coarse(*whole) if what == "fields" else spine(*whole, np.random.default_rng([seed, 5]))
            elif seed % 5 == 4:
                arrays = plain.crops(seed)
            elif seed % 5 == 3:
                arrays = fourth_crops(seed)
            elif reader and seed % 3 == 2:
                rows = placed.crops(seed, reader, truth, device)
                arrays = stacked({k: [row[k] for row in rows] for k in COLUMNS}) if rows else None
            elif shapes and seed % 8 < 5:
                arrays = scanned_crops(seed, load_solids(shapes, work / "solids.pickle"))
            else:
                arrays = crops(seed, device=device)
            if arrays is None:
                continue
            if what == "crops":
                arrays = refilled(arrays, np.random.default_rng([seed, 12]))
            save(folder, str(seed), arrays)
            print(f"{what} {seed} {arrays['hu'].shape} {time.time() - began:.1f} s", flush=True)
            if not held and seed - keep >= start:  # its own only: others may render into the same folder
                (folder / f"{seed - keep}.npz").unlink(missing_ok=True)
        seed, done = seed + 1, done + 1
        time.sleep(pace * (time.process_time() - turn))


def damaged(work: Path, minutes: float, count: int) -> None:
    """Paint damage on the whole vertebrae of ``DIR/crops`` until the time is up or ``count`` files are read."""
    torch.set_num_threads(1)
    net, plans = painted.load(work / "damage.pt")
    end, done = time.time() + 60 * minutes, 0
    for path in sorted((work / "crops").glob("*.npz")):
        if time.time() > end or done == count > 0:
            return
        if not path.exists():  # producers take their oldest files away
            continue
        name = f"{path.stem}p"  # its own: painted files may lie beside the others
        if (work / "painted" / f"{name}.npz").exists():
            continue
        with np.load(path) as data:
            sample = {k: data[k] for k in data.files}
        rows = painted.of_file(net, plans, sample, np.random.default_rng([*path.stem.encode(), 8]))
        if rows:
            save(work / "painted", name, stacked({k: [row[k] for row in rows] for k in COLUMNS}))
        done += 1
        print(f"damaged {path.stem}: {len(rows)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kind", choices=("fields", "spines", "crops", "all", "damaged"), default="all")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--count", type=int, default=0, help="stop after this many seeds or files (0: never)")
    parser.add_argument("--held", action="store_true", help="held-out seeds")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--bundle", type=Path, help="whose stages place a fifth of the crops")
    parser.add_argument("--pace", type=float, default=0.0, help="rest this many times the CPU time of a seed after it")
    parser.add_argument("--device", choices=devices.NAMES, default="cpu", help="renders analytic samples")
    a = parser.parse_args()
    if a.kind == "damaged":
        damaged(a.work, a.minutes, a.count)
        return
    device = devices.chosen(a.device).name
    produce(a.work, a.kind, a.minutes, a.count, a.held, a.start, a.pace, device=device, bundle=a.bundle)


if __name__ == "__main__":
    main()
