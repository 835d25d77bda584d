"""Sampling grids in patient space (LPS, mm).  Index order is (z, y, x) everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .patient import Case

#: The vertebra crop of the bundle contract (models/README.md): spacing (w, v, u), shape, index of the frame's origin.
CROP_SPACING = (1.0, 1.25, 3.0)
CROP_SHAPE = (56, 72, 32)
CROP_ORIGIN = (27.5, 24.0, 15.5)


@dataclass(frozen=True)
class Grid:
    """`affine` maps homogeneous (z, y, x) indices to LPS mm; voxel centres are at integer indices."""

    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def spacing(self) -> np.ndarray:
        """Distance between neighbours along (z, y, x) in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def index_of(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) LPS mm -> fractional (z, y, x)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points) @ inverse[:3, :3].T + inverse[:3, 3]

    def point_of(self, index: np.ndarray) -> np.ndarray:
        """(..., 3) indices (z, y, x) -> LPS mm."""
        return np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def refined(self, factors: tuple[int, int, int]) -> Grid:
        """The same box, every voxel split into `factors` equal parts along (z, y, x)."""
        f = np.asarray(factors, dtype=float)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] / f
        affine[:3, 3] = self.point_of((1 / f - 1) / 2)
        return Grid(affine, tuple(int(n * k) for n, k in zip(self.shape, factors, strict=False)))

    def rows(self, start: int, stop: int) -> Grid:
        """The slab of slices [start, stop)."""
        affine = self.affine.copy()
        affine[:3, 3] = self.point_of((start, 0, 0))
        return Grid(affine, (stop - start, self.shape[1], self.shape[2]))


def _axis_aligned(low: np.ndarray, spacing_zyx: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, step in enumerate(spacing_zyx):
        affine[2 - axis, axis] = step
    affine[:3, 3] = low
    return Grid(affine, shape)


def crop_grid(vertebra, centre=None, frame=None) -> Grid:
    """The contract's crop grid.  Pass a vertebra (anything with centre_mm and frame) or None with `centre` and `frame`
    (rows u, v, w).
    """
    centre = np.asarray(vertebra.centre_mm if centre is None else centre, dtype=float)
    u, v, w = np.asarray(vertebra.frame if frame is None else frame, dtype=float)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([w * CROP_SPACING[0], v * CROP_SPACING[1], u * CROP_SPACING[2]], axis=1)
    affine[:3, 3] = centre - affine[:3, :3] @ np.asarray(CROP_ORIGIN)
    return Grid(affine, CROP_SHAPE)


def axial_grid(
    case: Case | None,
    *,
    spacing: float,
    slice_spacing: float,
    field_mm: tuple[float, float],
    z_range: tuple[float, float],
    centre: tuple[float, float] | None = None,
) -> Grid:
    """Axial grid of `field_mm` = (x, y) over z_range (LPS z, mm), centred on `centre` = (x, y) or on the lumbar spine of
    the case.
    """
    if centre is None:
        inside = [v.centre_mm for v in case.vertebrae if z_range[0] <= v.centre_mm[2] <= z_range[1]] or [
            v.centre_mm for v in case.vertebrae
        ]
        mean = np.mean(inside, axis=0)
        centre = (float(mean[0]), float(mean[1]))
    nx, ny = (max(8, round(extent / spacing)) for extent in field_mm)
    nz = max(1, round((z_range[1] - z_range[0]) / slice_spacing))
    low = np.array([centre[0] - (nx - 1) * spacing / 2, centre[1] - (ny - 1) * spacing / 2, z_range[0] + slice_spacing / 2])
    return _axis_aligned(low, (slice_spacing, spacing, spacing), (nz, ny, nx))


def sample_field(
    rng: np.random.Generator, case: Case, spacing: float, *, narrow: float = 0.55, max_z_mm: float = 620.0
) -> Grid:
    """A random isotropic field of view: a narrow off-centre spine field (80-200 mm, probability `narrow`) or a whole
    abdomen.  Patients with a neck are also scanned up to any level of it, those with thighs down to their femoral shafts.
    """
    own = rng.spawn(1)[0]  # of the additions: `rng` itself draws what it always drew
    heights = {v.level: v.centre_mm[2] for v in case.vertebrae}
    bottom, top = heights["S5"] - 120.0, heights["T1"] + 30.0
    draw = rng.random()
    if draw < 0.62:  # thoracolumbar: some of T8-T12 down to some of L5-S5
        high = rng.uniform(heights["T12"], heights["T7"] + 15)
        low = rng.uniform(heights["S3"] - 60, heights.get("L5", heights["L4"]) + 10)
    elif draw < 0.78:  # abdomen without the sacrum, or pelvis without the ribs
        high = rng.uniform(heights["L2"], heights["T9"])
        low = high - rng.uniform(110, 260)
    elif draw < 0.9:  # thorax, perhaps with the first lumbar vertebrae, from the neck
        high = rng.uniform(heights["T6"], top)
        low = rng.uniform(heights["L2"], heights["T11"] + 20)
    else:  # anywhere, long
        low = rng.uniform(bottom, heights["L3"])
        high = low + rng.uniform(180, max_z_mm)
    low, high = max(low, bottom), min(high, top + 30)
    high = max(high, low + 90.0)
    if case.neck:
        low, high = _with_neck(own, case, low, high, max_z_mm)
    inside = np.mean(
        [v.centre_mm for v in case.column if low <= v.centre_mm[2] <= high] or [case.vertebrae[-5].centre_mm], axis=0
    )
    if rng.random() < narrow:
        width = rng.uniform(80, 200)
        depth = width if rng.random() < 0.6 else rng.uniform(100, 200)
        slack = np.array([max(0.0, width / 2 - 32), max(0.0, depth / 2 - 40)])
        offset = np.array([0.0, 18.0]) + rng.uniform(-1, 1, 2) * slack * 0.85
    else:
        torso = case.torso
        width, depth = (2 * torso.half_width_max * rng.uniform(0.75, 1.25), 2 * torso.half_depth_max * rng.uniform(0.8, 1.3))
        offset = np.array([torso.centre_xy[0] - inside[0], torso.centre_xy[1] - inside[1]]) + rng.normal(0, 12, 2)
        if rng.random() < 0.15:  # cut on one side
            offset[0] += rng.choice([-1, 1]) * width * rng.uniform(0.1, 0.25)
        if case.additions.legs and low < heights["S1"] and own.random() < 0.9:
            low = heights["S5"] - own.uniform(95, 180)
            high = min(high, low + max_z_mm)
    shape = tuple(max(8, round(extent / spacing)) for extent in (high - low, depth, width))
    centre = np.array([inside[0] + offset[0], inside[1] + offset[1], (low + high) / 2])
    low_corner = centre - (np.array(shape[::-1]) - 1) * spacing / 2
    return _axis_aligned(low_corner, (spacing,) * 3, shape)


def _with_neck(
    rng: np.random.Generator, case: Case, low: float, high: float, max_z_mm: float
) -> tuple[float, float]:
    """LPS z (mm) of a field that reaches C3 at most, where nothing else is above it: most of those from T3, few others."""
    top, draw = case.neck[0].centre_mm[2], rng.random()
    if high > case.find("T3").centre_mm[2] and draw < 0.7:
        high = rng.uniform(case.find("T1").centre_mm[2], top)
    elif draw < 0.04:
        high = rng.uniform(case.neck[3].centre_mm[2], top)
        low = high - rng.uniform(110, 380)
    return max(low, high - max_z_mm), high
