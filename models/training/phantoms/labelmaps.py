"""Label-stage samples from the real label maps: random affine and elastic deformation, random HU per organ (SynthSeg-
style).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from .acquisition import Acquisition, degrade, outside_circle, sample_acquisition
from .atlas import STEP, TISSUE_NAMES, Atlas, load_atlas, shapes_folder
from .grids import Grid, sample_field
from .norms import LEVELS, label_index
from .render import Rendered
from .soft import Additions

Tensor = torch.Tensor


@dataclass(frozen=True)
class LabelledCentre:
    """Truth of one vertebra of a label-map sample (LPS mm); `index` + 1 is its value in Rendered.instance."""

    level: str
    centre_mm: tuple[float, float, float]
    index: int


class Bend:
    """A smooth random displacement (mm) of atlas points (x, y, z mm), up to 6 mm SD at nodes 35-80 mm apart."""

    def __init__(self, rng: np.random.Generator, extent: np.ndarray) -> None:
        self._centre = torch.tensor(extent / 2, dtype=torch.float32)
        nodes = np.maximum(4, np.round(extent / rng.uniform(35, 80))).astype(int)
        strength = rng.uniform(0, 6)
        self._field = torch.from_numpy((rng.normal(0, 1, (1, 3, *nodes[::-1])) * strength).astype(np.float32))

    def __call__(self, points: Tensor) -> Tensor:
        where = (points / self._centre - 1).reshape(1, 1, 1, -1, 3)
        bend = torch.nn.functional.grid_sample(self._field, where, padding_mode="border", align_corners=True)
        return bend[0, :, 0, 0].T.reshape(points.shape)


class _Warp:
    """Patient point (x, y, z mm) -> atlas point (mm): affine about the atlas centre plus a smooth displacement."""

    def __init__(self, rng: np.random.Generator, atlas: Atlas) -> None:
        self.extent = np.array(atlas.tissue.shape[::-1]) * STEP  # x, y, z
        angles = np.deg2rad(rng.normal(0, (4, 4, 6)))
        matrix = np.diag(1 / rng.uniform(0.86, 1.16, 3) * rng.uniform(0.92, 1.08))
        for axis, angle in enumerate(angles):
            i, j = [k for k in range(3) if k != axis]
            turn = np.eye(3)
            turn[i, i] = turn[j, j] = np.cos(angle)
            turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        matrix = matrix + rng.normal(0, 0.03, (3, 3)) * (1 - np.eye(3))
        if rng.random() < 0.3:
            matrix = np.diag([-1.0, 1, 1]) @ matrix  # mirrored organs, same levels
        self.matrix = matrix
        self.bend = Bend(rng, self.extent)

    def __call__(self, points: Tensor) -> Tensor:
        """(..., 3) patient mm -> (..., 3) atlas mm, both (x, y, z)."""
        centre = torch.tensor(self.extent / 2, dtype=torch.float32)
        base = points @ torch.tensor(self.matrix.T, dtype=torch.float32) + centre
        return base + self.bend(base)

    def back(self, target: np.ndarray) -> np.ndarray:
        """Patient points of atlas points (fixed-point iteration; the displacement is smooth and small)."""
        inverse = np.linalg.inv(self.matrix)
        goal = torch.tensor(target, dtype=torch.float32)
        points = (target - self.extent / 2) @ inverse.T
        for _ in range(12):
            missing = (goal - self(torch.tensor(points, dtype=torch.float32))).numpy()
            points = points + missing @ inverse.T
        return points


def label_map_case(
    seed: int, *, spacing: float = 3.0, folder: Path | None = None, profile: str = "training"
) -> tuple[Rendered, tuple[LabelledCentre, ...]]:
    """One field from the deformed label maps: volumes like `render` gives (no fracture truth) and the body centres of
    the whole spine.
    """
    folder = folder or shapes_folder()
    if folder is None:
        raise FileNotFoundError("SHAPES does not name a folder with masks/s0327")
    atlas = load_atlas(Path(folder))
    rng = np.random.default_rng([seed, 31])
    warp = _Warp(rng, atlas)
    levels = [name for name in LEVELS if name in atlas.centres]
    centres = warp.back(np.array([atlas.centres[name][::-1] for name in levels]))
    truth = tuple(
        LabelledCentre(name, tuple(map(float, c)), i) for i, (name, c) in enumerate(zip(levels, centres, strict=False))
    )
    lateral = 0.45 * warp.extent[0]
    torso = SimpleNamespace(half_width_max=lateral, half_depth_max=0.45 * warp.extent[1], centre_xy=(0.0, 0.0))
    patient = SimpleNamespace(vertebrae=truth, column=truth, neck=(), torso=torso, additions=Additions())
    grid = sample_field(rng, patient, spacing)
    acq = sample_acquisition(seed, profile=profile)
    factor = max(1, round(spacing / STEP))
    palette = sample_palette(rng, acq)
    grain = torch.Generator().manual_seed(int(rng.integers(2**31)))
    hu = painted(palette, grain, atlas, warp, grid.refined((factor,) * 3))
    hu = torch.nn.functional.avg_pool3d(hu[None, None], factor)[0, 0] if factor > 1 else hu
    generator = torch.Generator().manual_seed(seed * 977 + 5)
    hu = degrade(hu, grid, acq, generator=generator, antialias_mm=spacing)
    index = _indices(warp, grid, atlas)
    number = torch.from_numpy(atlas.levels).view(-1)[index].reshape(grid.shape)
    body = torch.from_numpy(atlas.body).view(-1)[index].reshape(grid.shape)
    to_label, to_instance = np.zeros(len(LEVELS) + 1, np.uint8), np.zeros(len(LEVELS) + 1, np.uint8)
    for item in truth:
        to_label[LEVELS.index(item.level) + 1], to_instance[LEVELS.index(item.level) + 1] = (
            label_index(item.level),
            item.index + 1,
        )
    outside = outside_circle(grid, acq)
    if outside is not None:
        hu, number = torch.where(outside, acq.padding_hu, hu), number * ~outside
    labels, instance = (torch.from_numpy(table)[number.long()] for table in (to_label, to_instance))
    return Rendered(grid, hu, labels, body & (labels > 0), instance, None), truth


def _points(grid: Grid) -> Tensor:
    """LPS points (Z, Y, X, 3) of a grid."""
    affine = torch.tensor(grid.affine, dtype=torch.float32)
    z, y, x = (torch.arange(n, dtype=torch.float32) for n in grid.shape)
    return (
        affine[:3, 3]
        + z[:, None, None, None] * affine[:3, 0]
        + y[None, :, None, None] * affine[:3, 1]
        + x[None, None, :, None] * affine[:3, 2]
    )


def _indices(warp: Callable[[Tensor], Tensor], grid: Grid, atlas: Atlas) -> Tensor:
    """Flat atlas index of the nearest voxel of every grid point; points outside go to index 0 (air, no vertebra)."""
    where = (warp(_points(grid)) / STEP).round_().long().flip(-1)
    shape = torch.tensor(atlas.tissue.shape)
    inside = ((where >= 0) & (where < shape)).all(-1)
    where = torch.minimum(where.clamp_(min=0), shape - 1)
    flat = (where[..., 0] * shape[1] + where[..., 1]) * shape[2] + where[..., 2]
    return torch.where(inside, flat, torch.zeros_like(flat)).reshape(-1)


@dataclass(frozen=True)
class Palette:
    """HU by index in TISSUE_NAMES: mean and SD of the grain of a 1.5 mm voxel."""

    mean: Tensor
    spread: Tensor


def sample_palette(rng: np.random.Generator, acq: Acquisition, marrow: float | None = None) -> Palette:
    """A value per tissue, its own grain, random shell and marrow (or `marrow`, HU as `acq` sees it)."""
    spongy = rng.uniform(40, 260) * acq.trabecular_gain + acq.trabecular_shift * (1.0 if acq.family == "physical" else 0.5)
    spongy = spongy if marrow is None else marrow
    # A 1.5 mm boundary voxel holds about 0.6 mm of cortex (bodies) or 1.2 mm (arches, ribs).
    own = {
        "spongy": spongy,
        "shell": spongy + (acq.hu("cortex") - spongy) * rng.uniform(0.15, 0.45) * min(acq.shell, 1.6),
        "arch_shell": spongy + (acq.hu("arch") - spongy) * rng.uniform(0.4, 0.8) * min(acq.shell, 1.3),
    }
    mean = torch.tensor([own[name] if name in own else acq.hu(name) for name in TISSUE_NAMES], dtype=torch.float32)
    spread = torch.tensor([0.0 if name == "air" else rng.uniform(2, 30) for name in TISSUE_NAMES], dtype=torch.float32)
    if rng.random() < 0.4:  # colon filled with gas
        mean[TISSUE_NAMES.index("stool")] = acq.hu("gas")
    return Palette(mean, spread)


def painted(
    palette: Palette, generator: torch.Generator, atlas: Atlas, warp: Callable[[Tensor], Tensor], grid: Grid
) -> Tensor:
    """HU of the warped tissue map on a fine grid, nearest voxel, white grain."""
    out = torch.empty(grid.shape, dtype=torch.float32)
    flat = torch.from_numpy(atlas.tissue).view(-1)
    step = max(1, 4_000_000 // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], step):
        slab = grid.rows(start, min(start + step, grid.shape[0]))
        tissue = flat[_indices(warp, slab, atlas)].long()
        noise = torch.randn(tissue.shape, generator=generator)
        out[start : start + slab.shape[0]] = (palette.mean[tissue] + palette.spread[tissue] * noise).reshape(slab.shape)
    return out
