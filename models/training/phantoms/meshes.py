"""Surface meshes of lumbar vertebrae as label maps: two open models (MANIFEST.md in the shapes folder).

``remus_*`` L1-L5 and sacrum in pose (BSD-3), ``clouthier_*`` the mean L2-L5 of 87 CTs (MIT). Both have x forward, y left,
z up; here they become the maps of an `Atlas` (z up, y back, x left; 1.5 mm) without soft tissue.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .atlas import STEP, TISSUE_NAMES, Atlas, ball, canal_line, centres_of, split_bodies
from .norms import LEVELS

_MARGIN_MM = 30.0


def mesh_atlases(folder: Path) -> list[Atlas]:
    """One atlas per mesh model that is in the folder."""
    out = []
    if (folder / "remus_L1.obj").exists():
        out.append(_atlas({name: _read_obj(folder / f"remus_{name}.obj") for name in ("L1", "L2", "L3", "L4", "L5", "S1")}))
    if (folder / "clouthier_meanMesh_faces.csv").exists():
        out.append(_atlas(_read_clouthier(folder)))
    return out


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (mm) and triangles of an OBJ file in metres."""
    points, faces = [], []
    for line in path.read_text().splitlines():
        if line.startswith("v "):
            points.append([float(x) for x in line.split()[1:4]])
        elif line.startswith("f "):
            faces.append([int(x.split("/")[0]) - 1 for x in line.split()[1:4]])
    return np.array(points) * 1000.0, np.array(faces)


def _read_clouthier(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    points = np.loadtxt(folder / "clouthier_meanMesh_vertices.csv", delimiter=",")
    faces = np.loadtxt(folder / "clouthier_meanMesh_faces.csv", delimiter=",", dtype=int) - 1
    ends = np.r_[faces[:, 0], faces[:, 1]], np.r_[faces[:, 1], faces[:, 2]]
    count, part = connected_components(coo_matrix((np.ones(len(ends[0])), ends), shape=(len(points),) * 2), directed=False)
    order = sorted(range(count), key=lambda k: -points[part == k, 2].mean())
    return {f"L{n + 2}": (points, faces[part[faces[:, 0]] == k]) for n, k in enumerate(order)}


def _atlas(models: dict[str, tuple[np.ndarray, np.ndarray]]) -> Atlas:
    models = {name: (p @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), f) for name, (p, f) in models.items()}
    low = np.min([p[f.ravel()].min(0) for p, f in models.values()], axis=0) - _MARGIN_MM
    high = np.max([p[f.ravel()].max(0) for p, f in models.values()], axis=0) + _MARGIN_MM
    shape = tuple(np.ceil((high - low) / STEP).astype(int)[::-1])
    levels = np.zeros(shape, np.uint8)
    for name, (points, faces) in models.items():
        levels[_filled((points - low) / STEP, faces, shape)] = LEVELS.index(name) + 1
    cord = np.zeros(shape, bool)
    body, sac = split_bodies(levels, canal_line(levels, cord))
    body &= levels != LEVELS.index("S1") + 1  # the mesh is the whole sacrum
    tissue = np.full(shape, TISSUE_NAMES.index("fat"), np.uint8)
    discs = ndimage.binary_closing(levels > 0, ball(5)) & ndimage.binary_dilation(body, ball(5))
    tissue[discs] = TISSUE_NAMES.index("disc")
    tissue[sac] = TISSUE_NAMES.index("sac")
    tissue[levels > 0] = TISSUE_NAMES.index("spongy")
    return Atlas(tissue, levels, body, centres_of(levels, body))


def _filled(points: np.ndarray, faces: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Voxels (z, y, x) inside a closed surface given in voxel units (x, y, z): parity of crossings along z."""
    toggles = np.zeros((shape[0] + 1, *shape[1:]), np.int32)
    for a, b, c in points[faces] + np.array([1e-4, 2e-4, 0.0]):  # off the lattice: no edge is hit exactly
        x0, x1 = np.ceil(min(a[0], b[0], c[0])), np.floor(max(a[0], b[0], c[0]))
        y0, y1 = np.ceil(min(a[1], b[1], c[1])), np.floor(max(a[1], b[1], c[1]))
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if x1 < x0 or y1 < y0 or abs(area) < 1e-9:
            continue
        y, x = np.mgrid[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1]
        s = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
        t = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
        hit = (s >= 0) & (t >= 0) & (s + t <= 1)
        z = np.ceil(a[2] + s * (b[2] - a[2]) + t * (c[2] - a[2])).astype(int)
        np.add.at(toggles, (z[hit], y[hit], x[hit]), 1)
    return (np.cumsum(toggles, axis=0)[:-1] % 2).astype(bool)
