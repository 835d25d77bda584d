"""Real vertebrae as signed distances in their own frames: the second and third source of shapes for vertebra crops.

From the label map of one real CT (``atlas.py``) and from surface meshes of two open models (``meshes.py``). Every level
from T4 to S1 becomes a `Solid`: distances of the whole vertebra, of its body and of the other bones around it, the soft
tissue, and the maps of its endplates, on a 1.5 mm lattice in the vertebra's frame (w up, v back, u left; origin at the
body centre).
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.special import ndtri

from .atlas import STEP, TISSUE_NAMES, Atlas, load_atlas
from .meshes import mesh_atlases
from .norms import LEVELS
from .shape import BodyShape, solve_rims

Tensor = torch.Tensor
#: Lattice of a solid: lowest corner (w, v, u) in mm and number of points.
CORNER = (-54.0, -51.0, -69.0)
POINTS = (73, 93, 93)
_SMOOTH_MM = 1.0  # removes the stairs of a 1.5 mm label map
_EFFECTIVE_MM = 1.15  # with what interpolation adds
SOURCES = tuple(name for name in LEVELS if name not in ("T1", "T2", "T3", "S2", "S3", "S4", "S5"))
_BONES = tuple(TISSUE_NAMES.index(name) for name in ("spongy", "shell", "arch_shell"))


@dataclass(frozen=True)
class Solid:
    """One real vertebra.  Volumes ``[1, 1, w, v, u]`` on the lattice, distances in mm (negative inside); maps ``[1, 1, v,
    u]`` in mm. `shape` is the analytic body of the same size, from which damage is scaled.
    """

    level: str
    whole: Tensor
    body: Tensor
    others: Tensor
    tissue: Tensor
    top: Tensor
    bottom: Tensor
    foot: Tensor
    shape: BodyShape
    bare: bool  # no soft tissue known


@lru_cache(maxsize=1)
def load_solids(folder: Path, cache: Path | None = None) -> tuple[Solid, ...]:
    """All solids of a shapes folder (a minute); kept for the life of the process, and in the file `cache`."""
    if cache is not None and cache.exists():
        return pickle.loads(cache.read_bytes())  # noqa: S301 - written below, in our own work folder
    out = [solid_of(level, load_atlas(folder), bare=False) for level in SOURCES]
    for atlas in mesh_atlases(folder / "meshes"):
        out += [
            solid_of(level, atlas, bare=True) for level in LEVELS if level in atlas.centres and not level.startswith("S")
        ]
    if cache is not None:
        temporary = cache.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(pickle.dumps(tuple(out)))
        temporary.rename(cache)
    return tuple(out)


def _frame(level: str, centres: dict) -> tuple[np.ndarray, np.ndarray]:
    """Body centre and frame rows (u, v, w), all as (z, y, x): w along the line of the centres, as the node finds it."""
    k = LEVELS.index(level)
    near = [np.array(centres[LEVELS[j]]) for j in (k + 1, k, k - 1) if 0 <= j < len(LEVELS) and LEVELS[j] in centres]
    w = near[-1] - near[0]
    w = w / np.linalg.norm(w)
    u = np.array([0.0, 0.0, 1.0])
    u = u - (u @ w) * w
    u = u / np.linalg.norm(u)
    v = np.array([0.0, 1.0, 0.0])
    v = v - (v @ w) * w - (v @ u) * u
    return np.array(centres[level]), np.stack([u, v / np.linalg.norm(v), w])


def _lattice(level: str, centres: dict) -> np.ndarray:
    """Voxel coordinates (3, w, v, u) of the lattice in the atlas."""
    centre, (u, v, w) = _frame(level, centres)
    axes = [low + STEP * np.arange(n) for low, n in zip(CORNER, POINTS, strict=True)]
    a, b, c = np.meshgrid(*axes, indexing="ij")
    points = centre + a[..., None] * w + b[..., None] * v + c[..., None] * u
    return np.moveaxis(points / STEP, -1, 0)


def _distance(mask: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Signed distance (mm) of a label-map part on the lattice: sub-voxel near the surface, exact farther off."""
    low = np.floor(where.reshape(3, -1).min(1)).astype(int) - 3
    high = np.ceil(where.reshape(3, -1).max(1)).astype(int) + 4
    start = np.clip(low, 0, None)
    box = tuple(slice(a, max(a + 1, min(b, n))) for a, b, n in zip(start, high, mask.shape, strict=True))
    soft = ndimage.gaussian_filter(mask[box].astype(np.float32), _SMOOTH_MM / STEP)
    filled = ndimage.map_coordinates(soft, where - start[:, None, None, None], order=1, mode="constant")
    inside = filled > 0.5
    if not inside.any():
        return np.full(filled.shape, 60.0, np.float32)
    far = ndimage.distance_transform_edt(~inside) * STEP - ndimage.distance_transform_edt(inside) * STEP
    near = -_EFFECTIVE_MM * ndtri(np.clip(filled, 1e-3, 1 - 1e-3))
    return np.where(np.abs(far) < 2.6, near, far).astype(np.float32)


def _maps(body: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper and lower endplate (mm) and the footprint's distance (mm), all (v, u); plates go on flat outside it."""
    w = CORNER[0] + STEP * np.arange(POINTS[0])
    inside = body < 0
    columns = inside.sum(0) * STEP > 7.0
    columns = ndimage.binary_opening(columns, iterations=2)
    last = POINTS[0] - 1 - np.argmax(inside[::-1], axis=0)
    first = np.argmax(inside, axis=0)
    edge = lambda index, step: w[index] + step * np.clip(-np.take_along_axis(body, index[None], 0)[0], 0, STEP)  # noqa: E731
    top, bottom = edge(last, 1.0), edge(first, -1.0)
    nearest = ndimage.distance_transform_edt(~columns, return_distances=False, return_indices=True)
    top, bottom = (ndimage.gaussian_filter(x[tuple(nearest)], 0.8) for x in (top, bottom))
    foot = ndimage.distance_transform_edt(~columns) - ndimage.distance_transform_edt(columns) + 0.5
    return top, bottom, foot * STEP


def solid_of(level: str, atlas: Atlas, *, bare: bool) -> Solid:
    where = _lattice(level, atlas.centres)
    number = LEVELS.index(level) + 1
    own = atlas.levels == number
    body = _distance(own & atlas.body, where)
    bone = np.isin(atlas.tissue, _BONES)
    top, bottom, foot = _maps(body)
    nearest = np.round(where).astype(int)
    limit = np.array(atlas.tissue.shape).reshape(3, 1, 1, 1) - 1
    nearest = np.clip(nearest, 0, limit)
    soft = atlas.tissue.copy()
    soft[bone] = TISSUE_NAMES.index("muscle")
    tensor = lambda x: torch.from_numpy(np.ascontiguousarray(x, np.float32))[None, None]  # noqa: E731
    return Solid(
        level,
        tensor(_distance(own, where)),
        tensor(body),
        tensor(_distance(bone & ~own, where)),
        torch.from_numpy(soft[tuple(nearest)]),
        tensor(top),
        tensor(bottom),
        tensor(foot),
        _fitted(body, top, bottom, foot),
        bare,
    )


def _fitted(body: np.ndarray, top: np.ndarray, bottom: np.ndarray, foot: np.ndarray) -> BodyShape:
    """The analytic body with the size and the heights of a real one."""
    v = CORNER[1] + STEP * np.arange(POINTS[1])
    u = CORNER[2] + STEP * np.arange(POINTS[2])
    inside = foot < 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    half_depth, half_width = (v[rows[-1]] - v[rows[0]]) / 2 + 0.7, (u[columns[-1]] - u[columns[0]]) / 2 + 0.7
    middle = np.abs(u) < 0.2 * half_width
    heights = []
    for s in (-0.8, 0.0, 0.8):
        row = np.argmin(np.abs(v - s * half_depth))
        heights.append(float((top - bottom)[row, middle].mean()))
    r0, r1, dip = solve_rims(*heights, 0.15, 0.8)
    dip = min(dip, 5.0)  # a deep pit of one plate is not the shape of both
    return BodyShape(half_width, half_depth, 0.0, 0.0, r0, r1, dip * 0.4, dip * 0.6, 0.15, 0.08, 2.5, 0.05)
