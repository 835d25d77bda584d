"""What a phantom patient shows that is no fracture: in its bodies, around them, and in how it was scanned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import phantoms
from ovcf_node.domain.levels import GRADED
from phantoms.norms import NORMS

AROUND = ("scoliosis", "discs", "vacuum", "clips", "sharp_contrast", "padding", "cut", "lumbar_rib")
"""What is not of one body; the last three are done to patients who are called so (`scanned`, `cut_window`, `grown`)."""

COBB = 10.0  # degrees: below it is no scoliosis
SHARP = 0.3  # edge enhancement from which a kernel is called BONE
WORN = 0.76  # of the usual height of a disc
NARROW_MM = 200.0  # a padding circle in a narrower field would take part of the spine


def of_bodies(case) -> set[str]:
    """Mimics and healed deformities T12..L5, and the variant of the patient."""
    mine = [v for v in case.vertebrae if v.level in GRADED]
    shown = {v.mimic for v in mine} | {case.variant}
    return shown | ({"old"} if any(v.old_deformity and v.mimic != "cement" for v in mine) else set())


def around(case, acquisition, low: np.ndarray, size: np.ndarray) -> set[str]:
    """Those of `AROUND` that the patient shows in a field of this low corner and size (x, y, z mm)."""
    gaps = [
        (vacuum, height / ((NORMS[v.level].disc_a + NORMS[v.level].disc_p) / 2))
        for v, (vacuum, height) in zip(case.vertebrae, case.discs, strict=True) if v.level in GRADED
    ]
    metal = [np.array(part.a) for part in case.additions.last if part.tissue == "metal"]
    found = {
        "scoliosis": cobb(case) >= COBB,
        "discs": sum(height < WORN for _, height in gaps) >= 2,
        "vacuum": any(vacuum > 0 for vacuum, _ in gaps),
        "clips": any(((low + 5 < at) & (at < low + size - 5)).all() for at in metal),
        "sharp_contrast": acquisition.contrast != "none" and acquisition.edge > SHARP,
        "padding": size[0] > NARROW_MM,
        "cut": case.variant == "none",  # whether a transitional spine is doubted cannot be asked of a part of it
        "lumbar_rib": case.variant == "none",
    }
    return {name for name, shows in found.items() if shows}


def cobb(case) -> float:
    """Largest angle in degrees between two bodies T11..L5 in the coronal plane (Cobb)."""
    levels = [v for v in case.vertebrae if v.level in ("T11", *GRADED)]
    tilts = [np.degrees(np.arctan2(v.frame[2][0], v.frame[2][2])) for v in levels]
    return float(max(tilts) - min(tilts))


def grown(kind: str, case):
    """The patient of that kind: with ribs at L1 where it is called so."""
    return phantoms.with_lumbar_ribs(case) if kind == "lumbar_rib" else case


def scanned(kind: str, acquisition):
    """The scan of a patient called so: clips throw streaks, padding surrounds a reconstruction circle."""
    rng = np.random.default_rng([acquisition.seed, 9])
    if kind == "clips":
        return replace(acquisition, metal=float(rng.uniform(0.25, 1.2)))
    return phantoms.padded(rng, acquisition) if kind == "padding" else acquisition


def cut_window(seed: int, centres: np.ndarray, low: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The field that ends within T12, within L5, or both; `centres` of T12..S1 (LPS mm), head to foot."""
    rng = np.random.default_rng([seed, 10])
    ends = str(rng.choice(["top", "bottom", "both"]))
    bottom, top = low[2], low[2] + size[2]
    if ends != "bottom":
        top = centres[0, 2] + rng.uniform(-6, 6)
    if ends != "top":
        bottom = centres[-2, 2] + rng.uniform(-6, 6)
    return np.array([low[0], low[1], bottom]), np.array([size[0], size[1], top - bottom])
