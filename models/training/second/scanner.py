"""How the second generator scans: field, spacing, blur, filtered noise, streaks, circle of reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .anatomy import Patient
from .paint import Painted, paint

LIMIT = 13_000_000  # voxels: keeps a case within seconds on one core


@dataclass(frozen=True)
class Scan:
    """Field and manner of one series. `low` LPS mm of voxel (0, 0, 0); `spacing` z, y, x; noise SD in HU."""

    low: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    thickness: float
    noise: float
    blur: float
    sharp: float
    contrast: str
    streaks: float
    circle: float  # radius of reconstruction relative to half the field, 0 for none
    kernel: str


def choose_scan(patient: Patient, seed: int, *, complete: bool = True, thickest: float = 3.0, field: float | None = None,
                ) -> Scan:
    """Draw a series; `complete` keeps every body from T12 to S1 in the field, otherwise ends may be cut."""
    rng = np.random.default_rng([seed, 70])
    field = field or float(rng.uniform(80, 200) if rng.random() < 0.45 else rng.uniform(200, 350))
    slices, often = (0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0), (0.14, 0.24, 0.2, 0.12, 0.14, 0.06, 0.1)
    thickness = float(min(thickest, rng.choice(slices, p=often)))
    step = thickness * float(rng.choice([1.0, 0.8], p=[0.75, 0.25]))
    pixel = max(0.45, field / 512)
    upper, lower = patient.find("T12").origin, patient.find("S1").origin
    high = upper[2] + rng.uniform(26, 70) * patient.scale
    low = lower[2] - rng.uniform(28, 70) * patient.scale
    if field > 280 and rng.random() < 0.5:
        high, low = high + rng.uniform(0, 90), low - rng.uniform(0, 110)
    if not complete:
        kind = rng.choice(["whole", "head", "foot", "both"], p=[0.55, 0.2, 0.15, 0.1])
        if kind in ("head", "both"):
            high = float(np.interp(rng.random(), [0, 1], [patient.find("L3").origin[2], upper[2] + 20]))
        if kind in ("foot", "both"):
            low = float(np.interp(rng.random(), [0, 1], [lower[2] - 20, patient.find("L4").origin[2] - 10]))
    along = [v.origin for v in patient.vertebrae if low < v.origin[2] < high]
    span = np.array([np.min(along, 0), np.max(along, 0)])
    middle = span.mean(0)
    wide = field if field >= 160 else max(field, float(np.ptp(span[:, 0])) + 74)
    tall = max(field if field < 250 else 0.82 * field, float(np.ptp(span[:, 1])) + (78 if complete else 60))
    slack_x, slack_y = max(0.0, wide - np.ptp(span[:, 0]) - 74) / 2, max(0.0, tall - np.ptp(span[:, 1]) - 78) / 2
    off_x = rng.uniform(-1, 1) * min(slack_x, 22)
    off_y = rng.uniform(-0.6, 1) * min(slack_y, 25) + 10
    if field > 250:
        off_x, off_y = rng.uniform(-8, 8), -min(slack_y, 52)
    voxels = lambda p: (high - low) / step * wide / p * tall / p  # noqa: E731
    if voxels(pixel) > LIMIT:
        pixel = pixel * np.sqrt(voxels(pixel) / LIMIT)
    shape = tuple(round(float(n)) for n in ((high - low) / step, tall / pixel, wide / pixel))
    corner = (middle[0] + off_x - wide / 2, middle[1] + off_y - tall / 2, low)
    sharp = float(rng.choice([0.0, 0.5, 1.1], p=[0.5, 0.25, 0.25]))
    noise = rng.uniform(9, 20) * np.sqrt(1.5 / thickness) * (1 + 0.8 * sharp) * (0.8 + patient.fat / 60)
    contrast = str(rng.choice(["none", "arterial", "venous", "oral"], p=[0.68, 0.08, 0.18, 0.06]))
    return Scan(
        tuple(map(float, corner)), shape, (step, float(pixel), float(pixel)), thickness, float(noise),
        float(rng.uniform(0.35, 0.7) * (1.25 if sharp == 0 else 0.8)), sharp, contrast, float(rng.uniform(0, 14)),
        1.0 if field > 280 and rng.random() < 0.35 else 0.0, "BONE" if sharp > 1 else "STANDARD",
    )


def scan(patient: Patient, how: Scan, seed: int) -> Painted:
    """Paint and scan: float32 HU, truth unchanged."""
    painted = paint(patient, np.array(how.low), how.shape, how.spacing, contrast=how.contrast)
    return expose(painted, how, seed, patient)


def expose(painted: Painted, how: Scan, seed: int, patient: Patient) -> Painted:
    """What the scanner does to painted CT numbers."""
    rng = np.random.default_rng([seed, 80])
    hu, spacing = painted.hu, painted.spacing
    metal = any("screws" in v.extras for v in patient.vertebrae)
    bright = (hu > 2900) if metal else None
    hu = gaussian_filter(hu, [0.33 * how.thickness / spacing[0], how.blur / spacing[1], how.blur / spacing[2]])
    if how.sharp:
        hu = hu + how.sharp * (hu - gaussian_filter(hu, [0, 1.1 / spacing[1], 1.1 / spacing[2]]))
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    grain = gaussian_filter(white, [0.35, 0.75, 0.75])
    grain -= 0.75 * gaussian_filter(grain, [0, 2.2, 2.2])
    grain *= how.noise / float(grain.std())
    y = np.linspace(-1, 1, hu.shape[1], dtype=np.float32)[None, :, None]
    x = np.linspace(-1, 1, hu.shape[2], dtype=np.float32)[None, None, :]
    hu = hu + grain * (1.15 - 0.35 * (x * x + y * y))
    lines = gaussian_filter1d(rng.standard_normal((hu.shape[0], hu.shape[1], 1)).astype(np.float32), 1.2, axis=1)
    z = painted.low[2] + spacing[0] * np.arange(hu.shape[0])
    at = patient.find("S1").origin[2]
    starved = np.exp(-(((z - at + 30) / 60) ** 2)).astype(np.float32)[:, None, None]
    hu = hu + how.streaks * starved * lines
    if bright is not None:
        for k in np.flatnonzero(bright.any((1, 2))):
            hu[k] += _metal_streaks(rng, bright[k])
        hu[bright] = 3071
    if how.circle:
        hu = np.where((x * x + y * y) <= how.circle**2, hu, -1024)
    return Painted(
        np.clip(hu, -1024, 3071).astype(np.float32), painted.instance, painted.body, painted.fracture, painted.low, spacing
    )


def _metal_streaks(rng, mask: np.ndarray) -> np.ndarray:
    """Dark and bright rays from the centre of metal in one slice."""
    cy, cx = np.argwhere(mask).mean(0)
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    angle, away = np.arctan2(y - cy, x - cx), np.hypot(y - cy, x - cx) + 4
    rays = sum(rng.normal() * np.cos(n * angle + rng.uniform(0, 6.28)) for n in (2, 5, 9, 14))
    return (900 * rays / away).astype(np.float32)
