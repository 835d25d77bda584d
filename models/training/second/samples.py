"""Samples of this generator in the format of `cases.py`, to select checkpoints and calibrate with; never to train.

``python -m second.samples --out DIR --count 24`` writes ``DIR/fields/SEED.npz`` (whole fields at 6 mm) and
``DIR/crops/SEED.npz`` (one crop of each level T11-S1, 1.0 x 1.25 x 3.0 mm, frames jittered as by a first stage).
Patients have names that the label stage can say: no thirteenth rib, no sixth lumbar vertebra.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from .anatomy import Patient, Vertebra, sample_patient
from .paint import Painted, paint
from .scanner import choose_scan, expose, scan

LEVELS = tuple(f"T{i}" for i in range(1, 13)) + tuple(f"L{i}" for i in range(1, 6)) + tuple(f"S{i}" for i in range(1, 6))
CROP_LEVELS = ("T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")
CROP_SHAPE, CROP_SPACING, CROP_ORIGIN = (56, 72, 32), (1.0, 1.25, 3.0), (27.5, 24.0, 15.5)
SIGNS = ("superior", "inferior", "anterior", "posterior")
BELOW = 10  # label of the sacrum below S1


def patient_of(seed: int) -> Patient:
    """A patient whose vertebrae all have names of the label stage."""
    pick = np.random.default_rng([seed, 90]).random()
    return sample_patient(seed, variant="none" if pick < 0.93 else "sacralised" if pick < 0.97 else "lumbarised")


def field(seed: int) -> dict[str, np.ndarray]:
    """One 6 mm field: painted at 3 mm, scanned, averaged by two. Keys as in `cases.field`."""
    patient = patient_of(seed)
    how = choose_scan(patient, seed, complete=False)
    size = np.array(how.shape) * how.spacing
    shape = tuple(int(max(8, 2 * round(s / 6))) for s in size)
    painted = paint(patient, np.array(how.low), shape, (3.0, 3.0, 3.0), contrast=how.contrast)
    painted = expose(painted, how, seed, patient)
    eight = _parts(painted.hu).mean(0)
    instance = _majority(_parts(painted.instance), len(LEVELS) + 1)
    labels = np.where(instance > 0, np.clip(instance.astype(int) - 9, 1, BELOW), 0)
    body = np.round(_parts(painted.body.astype(np.float32)).mean(0) * 255)
    centres = np.stack([((v.centre - painted.low)[::-1] / 3.0 - 0.5) / 2 for v in patient.vertebrae])
    return {
        "hu": np.clip(np.round(eight), -1100, 3500).astype(np.int16), "labels": labels.astype(np.uint8),
        "instance": instance, "body": body.astype(np.uint8), "centres": centres.astype(np.float32),
        "origin": (painted.low + 1.5).astype(np.float32),
    }


def crops(seed: int, jitter: bool = True) -> dict[str, np.ndarray]:
    """Crops of T11-S1 of one patient, sampled from one scanned series. Keys as in `cases.crops`."""
    patient = patient_of(seed)
    rng = np.random.default_rng([seed, 91])
    how = choose_scan(patient, seed, field=float(rng.uniform(105, 190)))
    picture = scan(patient, how, seed)
    rows: dict[str, list] = {n: [] for n in ("hu", "masks", "evidence", "type", "old", "mimic", "level", "loss")}
    for v in patient.vertebrae:
        if v.level not in CROP_LEVELS:
            continue
        index = LEVELS.index(v.level)
        hu, bits = _crop(picture, v, index + 1, rng if jitter else None)
        e = [int(v.signs[s]) for s in SIGNS]
        kind = "_ABCD".index(v.denis) if v.denis in list("ABCD") else 1 if e[0] and e[1] else 2 if e[0] else 3 if e[1] else 0
        for name, value in zip(rows, (hu, bits, e, kind, v.old, v.mimic is not None, index, v.loss), strict=True):
            rows[name].append(value)
    return {
        "hu": np.stack(rows["hu"]), "masks": np.stack(rows["masks"]), "loss": np.array(rows["loss"], np.float32),
        **{k: np.array(rows[k], np.uint8) for k in ("evidence", "type", "old", "mimic", "level")},
    }


def _parts(x: np.ndarray) -> np.ndarray:
    """The eight parts of each voxel of twice the size."""
    z, y, w = (n // 2 for n in x.shape)
    return x[: 2 * z, : 2 * y, : 2 * w].reshape(z, 2, y, 2, w, 2).transpose(1, 3, 5, 0, 2, 4).reshape(8, z, y, w)


def _majority(parts: np.ndarray, count: int) -> np.ndarray:
    """Most frequent value over the first axis; ties go to the larger one."""
    best, out = np.zeros(parts.shape[1:], np.uint8), np.zeros(parts.shape[1:], np.uint8)
    for k in range(count):
        votes = (parts == k).sum(0).astype(np.uint8)
        out, best = np.where(votes >= np.maximum(best, 1), k, out).astype(np.uint8), np.maximum(best, votes)
    return out


def _crop(picture: Painted, v: Vertebra, number: int, rng) -> tuple[np.ndarray, np.ndarray]:
    centre, frame, scale = v.centre, v.frame, 1.0
    if rng is not None:
        wide = 2.0 if rng.random() < 0.25 else 1.0
        turn = np.radians(rng.uniform(-6, 6, 3) * wide)
        skew = np.array([[0, -turn[2], turn[1]], [turn[2], 0, -turn[0]], [-turn[1], turn[0], 0]])
        turned, _, right = np.linalg.svd(frame @ (np.eye(3) + skew))
        frame, scale = turned @ right, rng.uniform(0.95, 1.05)
        centre = centre + rng.uniform(-4, 4, 3) * wide
    fine = (CROP_SHAPE[0], CROP_SHAPE[1], 2 * CROP_SHAPE[2])
    w, b, u = np.meshgrid(*(np.arange(n, dtype=float) for n in fine), indexing="ij")
    offsets = ((w - CROP_ORIGIN[0]) * CROP_SPACING[0], (b - CROP_ORIGIN[1]) * CROP_SPACING[1],
               (u / 2 - 0.25 - CROP_ORIGIN[2]) * CROP_SPACING[2])
    points = centre + scale * sum(o[..., None] * axis for o, axis in zip(offsets, frame[::-1], strict=True))
    at = (((points - picture.low)[..., ::-1]) / picture.spacing).transpose(3, 0, 1, 2)
    pairs = lambda x: x.reshape(*CROP_SHAPE, 2).mean(3)  # noqa: E731
    hu = pairs(map_coordinates(picture.hu, at, order=1, mode="constant", cval=-1024.0))
    nearest = tuple(np.clip(np.rint(a).astype(int), 0, n - 1) for a, n in zip(at, picture.hu.shape, strict=True))
    inside = np.all([(a > -0.5) & (a < n - 0.5) for a, n in zip(at, picture.hu.shape, strict=True)], axis=0)
    own = (picture.instance[nearest] == number) & inside
    bits = np.zeros(CROP_SHAPE, np.uint8)
    for bit, mask in ((1, own), (2, own & picture.body[nearest]), (4, own & picture.fracture[nearest])):
        bits |= np.where(pairs(mask.astype(np.float32)) >= 0.5, bit, 0).astype(np.uint8)
    return np.clip(np.round(hu), -1100, 3500).astype(np.int16), bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--start", type=int, default=0, help="first seed, counted from 7_000_000")
    parser.add_argument("--kind", choices=("fields", "crops", "both"), default="both")
    a = parser.parse_args()
    for seed in range(7_000_000 + a.start, 7_000_000 + a.start + a.count):
        for kind, make in (("fields", field), ("crops", crops)):
            path = a.out / kind / f"{seed}.npz"
            if a.kind not in (kind, "both") or path.exists():
                continue
            began = time.time()
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{seed}.npz")
            np.savez(temporary, **make(seed))
            temporary.rename(path)
            print(f"{kind} {seed} {time.time() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
