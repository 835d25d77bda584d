"""Analytic spines in a real background: the organ label map of one real CT without its spine (hollow.py), drawn around the
spine of a `Case`.

The map has 1.5 mm voxels, index (z, y, x), axes head, back, left; its points are mm (x, y, z) = index * STEP. A `Fit` takes
patient points (LPS, mm) to it so that the map's spine comes to lie on the case's, level by level. Everything is
deterministic by seed; the truth is the case's own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy import ndimage

from .acquisition import Acquisition, sample_acquisition
from .atlas import STEP, Atlas, shapes_folder
from .case import sample_case
from .grids import Grid, sample_field
from .hollow import COVER_MM, PAD, load_background
from .labelmaps import Bend, painted, sample_palette
from .norms import LEVELS
from .patient import Additions, Case, VertebraTruth
from .render import Rendered, render

Tensor = torch.Tensor
#: From the middle of the map to its ilia (mm) at S1 and S2, measured where the alae meet them.
ILIA_MM = 50.0

def pasted_case(
    seed: int, *, spacing: float = 3.0, folder: Path | None = None, profile: str = "training"
) -> tuple[Rendered, tuple[VertebraTruth, ...]]:
    """One field of the case `seed` in a real background: volumes and truth as `render` gives them, and its vertebrae."""
    folder = folder or shapes_folder()
    if folder is None:
        raise FileNotFoundError("SHAPES does not name a folder with masks/s0327")
    case, acq = sample_case(seed, profile=profile), sample_acquisition(seed, profile=profile)
    case = replace(case, neck=(), neck_discs=(), additions=Additions())  # the map ends where a neck begins
    background = Background(seed, case, acq, load_background(Path(folder)))
    grid = sample_field(np.random.default_rng([seed, 1]), background.patient, spacing)
    return render(case, grid, acq, background=background), case.vertebrae


class Background:
    """HU of everything but the spine of a case, on any grid; `patient` is the case with the map's torso."""

    def __init__(self, seed: int, case: Case, acq: Acquisition, atlas: Atlas) -> None:
        rng = np.random.default_rng([seed, 41])
        self._atlas, self._fit = atlas, Fit(rng, case, atlas)
        marrow = case.trabecular_hu * acq.trabecular_gain + acq.trabecular_shift
        self._palette = sample_palette(rng, acq, marrow)
        self._grain = int(rng.integers(2**31))
        self.patient = replace(case, torso=self._fit.torso)

    def __call__(self, grid: Grid) -> Tensor:
        """Mean of the map's voxels in each voxel of the grid (the nearest one where the grid is finer)."""
        parts = tuple(max(1, round(s / STEP)) for s in grid.spacing)
        place = int(np.abs(np.round(grid.affine[:3, 3] * 8)).sum())  # slabs of one grid differ in their grain
        grain = torch.Generator().manual_seed(self._grain * 4099 + place)
        fine = painted(self._palette, grain, self._atlas, self._fit, grid.refined(parts))
        return torch.nn.functional.avg_pool3d(fine[None, None], parts)[0, 0]


class Fit:
    """Patient point -> map point. Near the spine every level's centre meets the map's; towards the flanks and the belly
    this fades into one affine map of the whole trunk, so that organs keep their shapes in a scoliotic patient. Slices
    stay level. `torso`: half sizes and centre of the trunk (patient mm).
    """

    def __init__(self, rng: np.random.Generator, case: Case, atlas: Atlas) -> None:
        here, there = _knots(case, atlas)
        scale = np.ptp(here[:, 2]) / np.ptp(there[:, 2])
        own = 1 / (scale * rng.uniform((0.9, 0.88), (1.12, 1.15)))  # map mm per patient mm, along x and y
        if rng.random() < 0.3:
            own[0] = -own[0]  # mirrored organs, same levels
        self._scale = np.array([*own, 0.0])
        # map = own * patient + shift + lean * z, least squares over the levels
        lean, shift = np.polyfit(here[:, 2], there - here * self._scale, 1)
        self._lean, self._shift = lean, shift
        extent = np.array(atlas.tissue.shape[::-1]) * STEP
        self._bend = Bend(rng, extent)
        z = np.arange(here[:, 2].min() - 60.0, here[:, 2].max() + 60.0)
        order = np.argsort(here[:, 2])
        rest = there - self._straight(torch.tensor(here, dtype=torch.float32)).numpy()
        table = [np.interp(z, here[order, 2], column[order]) for column in (*rest.T, here[:, 0], here[:, 1])]
        deep = _cover(atlas, np.interp(z, here[order, 2], there[order, 2])) / _reach(case, z, table[4])
        table.append(np.clip(deep, 0.6, 1.7) - own[1])
        wide = np.interp(z, *_widths(case, here[order, 2], 1 / scale))
        table.append(np.sign(own[0]) * wide - own[0])
        self._table = torch.tensor(ndimage.gaussian_filter1d(table, 8.0, axis=1, mode="nearest"), dtype=torch.float32)
        self._bottom = float(z[0])
        half = 0.45 * (extent[:2] - STEP * np.array([sum(PAD[2]), sum(PAD[1])])) / np.abs(own)
        middle = here[:, 2].mean()
        centre = (extent[:2] / 2 - shift[:2] - lean[:2] * middle) / own
        self.torso = SimpleNamespace(
            half_width_max=float(half[0]), half_depth_max=float(half[1]), centre_xy=tuple(map(float, centre))
        )

    def _straight(self, points: Tensor) -> Tensor:
        scale, lean, shift = (torch.tensor(v, dtype=torch.float32) for v in (self._scale, self._lean, self._shift))
        base = points * scale + points[..., 2:] * lean + shift
        return base + self._bend(base)

    def __call__(self, points: Tensor) -> Tensor:
        """(..., 3) patient mm -> (..., 3) map mm, both (x, y, z)."""
        k = (points[..., 2] - self._bottom).round().long().clamp(0, self._table.shape[1] - 1)
        *rest, x, y, deep, wide = (row[k] for row in self._table)
        # Behind the spine nothing fades: the back follows the spinous processes.
        aside, ahead = points[..., 0] - x, points[..., 1] - y
        away = torch.hypot(aside, ahead.clamp(max=0))
        t = ((away - 45) / 120).clamp(0, 1)
        near = 1 - 0.7 * t * t * (3 - 2 * t)
        rest[0] = rest[0] + wide * aside
        rest[1] = rest[1] + deep * ahead.clamp(min=0)
        return self._straight(points) + near[..., None] * torch.stack(rest, dim=-1)


def _knots(case: Case, atlas: Atlas) -> tuple[np.ndarray, np.ndarray]:
    """Centres (K, 3), x, y, z in mm, that belong together: of the case (patient) and of the map. The lowest rib-bearing
    vertebra is the map's T12, whatever it is called; four or six lumbar vertebrae share the height of the map's five.
    """
    centres = np.array([atlas.centres[name][::-1] for name in LEVELS])
    first, sacrum = LEVELS.index("L1"), LEVELS.index("S1")
    groups = {letter: [v for v in case.vertebrae if v.level.startswith(letter)] for letter in "TLS"}
    ranks = [
        first - len(groups["T"]) + np.arange(len(groups["T"]), dtype=float),
        np.linspace(first, sacrum - 1, len(groups["L"])),
        sacrum + np.arange(len(groups["S"]), dtype=float),
    ]
    rank = np.concatenate(ranks)
    here = np.array([v.centre_mm for letter in "TLS" for v in groups[letter]])
    there = np.stack([np.interp(rank, np.arange(len(LEVELS)), column) for column in centres.T], axis=1)
    kept = (rank >= 0) & (rank <= LEVELS.index("S4"))
    return here[kept], there[kept]


def _widths(case: Case, z: np.ndarray, usual: float) -> tuple[np.ndarray, np.ndarray]:
    """Heights (mm, rising) and map mm per patient mm along x beside the spine: ribs keep to the vertebrae's own scale
    (`usual`), and the alae of the sacrum meet the ilia, which are ILIA_MM from the middle of the map.
    """
    heights, ratios = [], []
    for v in (case.find("S2"), case.find("S1")):
        heights.append(v.origin_mm[2] + 1.3 * v.body.half_depth * v.frame[1][2])  # of the tips of its alae
        ratios.append(np.clip(ILIA_MM / (v.arch.tp_span / 2 + 1.5), 0.75 * usual, 1.3 * usual))
    up = z[z > case.find("S1").centre_mm[2] + 25]
    return np.array([*heights, *up]), np.array([*ratios, *(usual for _ in up)])


def _reach(case: Case, z: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """How far (mm) the spinous processes of a case reach behind the centres of the bodies, y = `middle`, at heights z."""
    tips = []
    for v in case.vertebrae:
        _, back, up = np.asarray(v.frame)
        fall = 0.22 * v.arch.height + v.arch.sp_slope * v.arch.sp_len
        tips.append(np.asarray(v.origin_mm) + back * (v.body.half_depth + v.arch.canal_d + v.arch.sp_len + 2) - up * fall)
    tips = np.array(sorted(tips, key=lambda p: p[2]))
    reach = np.interp(z, tips[:, 2], tips[:, 1] - np.interp(tips[:, 2], z, middle))
    return np.maximum(ndimage.maximum_filter1d(reach, 21), 15.0)


def _cover(atlas: Atlas, z: np.ndarray) -> np.ndarray:
    """How far (mm) behind the centres of the map's bodies its spinous processes may reach, at heights z (mm of the map)."""
    centres = np.array(sorted(atlas.centres.values()))
    y, x = (np.interp(z, centres[:, 0], centres[:, k]) for k in (1, 2))
    columns = atlas.tissue[(z / STEP).astype(int).clip(0, atlas.tissue.shape[0] - 1), :, (x / STEP).astype(int)] > 0
    skin = (columns.shape[1] - 1 - columns[:, ::-1].argmax(axis=1)) * STEP
    return skin - COVER_MM - y
