"""Measure a vertebral body in its own frame: heights, completeness, volume, trabecular CT number.

Definition (six-point morphometry, clinical notes 2.1): endplate to endplate at 80 % of the half-depth anterior and
posterior of the body centre and at mid-depth, each the mean over the central band of +-20 % of the half-width, along the
front and back walls. The crop's w is the mean normal of both plates: in a wedged body it leans against the walls, and a
column along it would leave through one. Endplates are where the body probability crosses one half, between voxels. Works
with anyone's body probability.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ovcf_node.domain.findings import HeightLines, Heights, Point
from ovcf_node.infer.cement import Cement
from ovcf_node.infer.resample import Crop

DEPTH_FRACTION = 0.8
BAND_FRACTION = 0.2
_MARGIN_MM = 2.0
_WALL = 2.5  # voxels along v around a wall that are still the wall: its waist and its lips
_CUT_SHARE = 0.01  # of a vertebra's voxels that may lie on the faces of its crop: the tip of a process
_CORTEX_MM = 3.0
_ROI_FRACTION = 0.7  # semi-axes of the trabecular ellipsoid, as a fraction of the body's half sizes
_LEAST_ROI_CM3 = 0.3
_METAL_HU, _METAL_MM3, _METAL_REACH_MM = 2600.0, 120.0, 12.0


@dataclass(frozen=True)
class Geometry:
    """What can be measured of one vertebra without judging it. Unknown is None; lengths in mm; no CT number of cement."""

    complete: bool
    centroid: Point
    heights: Heights
    lines: HeightLines
    width: float | None
    volume_cm3: float | None
    mean_hu: float | None
    metal: bool
    cement: bool


def measure(crop: Crop, vertebra: np.ndarray, body: np.ndarray, cement: Cement | None = None) -> Geometry:
    """Measure one vertebra from its crop and the probabilities (w, v, u) of the whole vertebra and of its body.

    `cement` in it counts as metal where it leaves too little to read; a mean CT number would be the cement's.
    """
    inner = body > 0.5
    complete = _complete(crop, inner)
    heights, lines, width = _heights(crop, body) if complete else (Heights(), HeightLines(), None)
    voxel_cm3 = float(np.prod(crop.grid.spacing)) / 1000.0
    centroid = crop.grid.point_of(np.argwhere(inner).mean(axis=0))
    metal = _metal(crop, inner) or (cement is not None and not cement.readable)
    return Geometry(
        complete, tuple(round(float(x), 2) for x in centroid), heights, lines, width,
        round(float((vertebra > 0.5).sum()) * voxel_cm3, 2) if _whole(crop, vertebra) else None,
        None if metal or cement else _trabecular_hu(crop, inner), metal, cement is not None,
    )


def _complete(crop: Crop, body: np.ndarray) -> bool:
    """The body lies in the field with a margin of 2 mm (as far as the crop shows it), and does not touch the crop's edge."""
    steps = np.maximum(1, np.ceil(_MARGIN_MM / crop.grid.spacing - 1e-6).astype(int))
    span = [np.flatnonzero(body.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    first, last = np.array([s[0] for s in span]), np.array([s[-1] for s in span])
    if np.any(first < 1) or np.any(last >= np.array(body.shape) - 1):
        return False
    low, high = np.maximum(first - steps, 0), last + steps
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    if crop.inside[box].all():
        return True
    grown = ndimage.binary_dilation(body[box], structure=np.ones(2 * steps + 1, dtype=bool))
    return bool(crop.inside[box][grown].all())


def _whole(crop: Crop, vertebra: np.ndarray) -> bool:
    """The vertebra, processes included, is not cut by the field; its crop may cut the very tip of a process, no more."""
    own = vertebra > 0.5
    rim = ndimage.binary_dilation(own)
    cut = own.sum() - own[1:-1, 1:-1, 1:-1].sum()
    return bool(rim.any() and crop.inside[rim].all() and cut <= _CUT_SHARE * own.sum())


def endplates(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return superior and inferior surface (v, u) in w indices, sub-voxel, median-smoothed; NaN outside the body."""
    inner = body > 0.5
    held = inner.any(axis=0)
    count = body.shape[0]
    top = count - 1 - np.argmax(inner[::-1], axis=0)
    bottom = np.argmax(inner, axis=0)
    superior = _crossing(body, top, np.minimum(top + 1, count - 1))
    inferior = _crossing(body, bottom, np.maximum(bottom - 1, 0))
    for surface in (superior, inferior):
        surface[~held] = np.nan
    return _smooth(superior), _smooth(inferior)


def _crossing(body: np.ndarray, last: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Index between `last` (inside) and `beyond` (outside) where the probability is one half."""
    a = np.take_along_axis(body, last[None], axis=0)[0]
    b = np.take_along_axis(body, beyond[None], axis=0)[0]
    fraction = np.clip((a - 0.5) / np.maximum(a - b, 1e-6), 0.0, 1.0)
    return last + (beyond - last) * fraction.astype(float)


def _smooth(surface: np.ndarray) -> np.ndarray:
    """Median over the 3 x 3 neighbours that exist."""
    wide = np.pad(surface, 1, constant_values=np.nan)
    rows, columns = surface.shape
    around = np.stack([wide[i : i + rows, j : j + columns] for i in range(3) for j in range(3)])
    held = np.isfinite(surface)
    out = np.full_like(surface, np.nan)
    out[held] = np.nanmedian(around[:, held], axis=0)
    return out


def _heights(crop: Crop, body: np.ndarray) -> tuple[Heights, HeightLines, float | None]:
    spacing = crop.grid.spacing
    extent = _extent(body, spacing)
    if extent is None:
        return Heights(), HeightLines(), None
    middle_v, half_v = (extent.front + extent.back) / 2, (extent.back - extent.front) / 2
    middle_u, half_u = (extent.right + extent.left) / 2, (extent.left - extent.right) / 2
    band = middle_u + np.linspace(-BAND_FRACTION, BAND_FRACTION, 9) * half_u
    plates = endplates(body)
    values, lines = {}, {}
    for name, side in (("anterior", -DEPTH_FRACTION), ("middle", 0.0), ("posterior", DEPTH_FRACTION)):
        ends = [_along_walls(plate, extent, middle_v + side * half_v, band) for plate in plates]
        if None in ends:
            values[name], lines[name] = None, None
            continue
        top, bottom = (np.array([*end, middle_u]) for end in ends)
        values[name] = round(float(np.linalg.norm((top - bottom) * spacing)), 2)
        lines[name] = tuple(tuple(round(float(x), 2) for x in end) for end in crop.grid.point_of(np.stack([top, bottom])))
    return Heights(**values), HeightLines(**lines), round(float(2 * half_u * spacing[2]), 1)


def _along_walls(surface: np.ndarray, extent: "_Extent", v: float, band: np.ndarray) -> tuple[float, float] | None:
    """Where the line along the walls that crosses the middle level at `v` meets an endplate, (w, v) in indices."""
    at = v
    for _ in range(4):  # a plate is flat beside a wall: each step brings the point some ten times nearer
        w = _sample(surface, at, band)
        if w is None:
            return None
        at = v + extent.lean * (w - extent.level)
    return w, at


@dataclass(frozen=True)
class _Extent:
    """The edges of a body in indices: front and back (v, in the central band, at the level w), right and left (u).

    lean  how far the walls move along v for each w: the mean of front and back.
    """

    front: float
    back: float
    right: float
    left: float
    level: float
    lean: float


def _extent(body: np.ndarray, spacing: np.ndarray) -> _Extent | None:
    """Find the edges of a body; None where there is hardly one.

    Each is a fifth (20 %) over the levels between the endplates, so that a lip, a buckle or the waist does not move it.
    """
    inner = body > 0.5
    levels = np.flatnonzero(inner.any(axis=(1, 2)))
    if len(levels) * spacing[0] < 5.0:
        return None
    cut = max(1, round(0.1 * len(levels)))
    levels = levels[cut:-cut]
    columns = np.flatnonzero(inner[levels].any(axis=(0, 1)))
    rows = np.flatnonzero(inner[levels].any(axis=(0, 2)))
    centre_u, centre_v = columns.mean(), rows.mean()
    half_u, half_v = len(columns) / 2, len(rows) / 2
    band = body[levels][:, :, _window(centre_u, BAND_FRACTION * half_u, body.shape[2])].mean(axis=2)
    fronts, backs = _edges(band)
    across = body[levels][:, _window(centre_v - 0.2 * half_v, 0.3 * half_v, body.shape[1])].max(axis=1)
    rights, lefts = _edges(across)
    if not len(fronts) or not len(rights):
        return None
    at = levels[(band > 0.5).any(axis=1)].astype(float)
    level = float(at.mean())
    lean = _lean(at - level, fronts, backs)
    upright = lean * (at - level)
    front, back = float(np.percentile(fronts - upright, 20)), float(np.percentile(backs - upright, 80))
    right, left = float(np.percentile(rights, 20)), float(np.percentile(lefts, 80))
    return _Extent(front, back, right, left, level, lean) if back - front > 4 and left - right > 2 else None


def _lean(at: np.ndarray, fronts: np.ndarray, backs: np.ndarray) -> float:
    """How far the walls move along v for each w: the mean of front and back, by their edges at the levels `at`.

    Beside the shorter wall of a wedge the first or last body of a level is a plate's: what lies behind the wall is left out.
    """
    lean = 0.0
    for _ in range(4):
        front, back = fronts - lean * at, backs - lean * at
        walls = front <= np.percentile(front, 20) + _WALL, back >= np.percentile(back, 80) - _WALL
        slopes = [_slope(at[wall], edge[wall]) for wall, edge in zip(walls, (fronts, backs), strict=True)]
        lean = float(np.mean(slopes))
    return lean


def _slope(at: np.ndarray, edge: np.ndarray) -> float:
    """Slope of the line through an edge that most of its points lie near (Theil 1950, Sen 1968); a buckle is few of them."""
    first, second = np.triu_indices(len(at), 3)
    return float(np.median((edge[second] - edge[first]) / (at[second] - at[first]))) if len(first) else 0.0


def _window(centre: float, half: float, size: int) -> slice:
    return slice(max(0, int(np.floor(centre - half))), min(size, int(np.ceil(centre + half)) + 1))


def _edges(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last half-crossing of each row (rows, n) that has one."""
    inner = profile > 0.5
    rows = np.flatnonzero(inner.any(axis=1))
    first, last = [], []
    count = profile.shape[1]
    for row in rows:
        p = profile[row]
        at = np.flatnonzero(inner[row])
        a, b = at[0], at[-1]
        first.append(a - (p[a] - 0.5) / max(p[a] - p[a - 1], 1e-6) if a > 0 else a)
        last.append(b + (p[b] - 0.5) / max(p[b] - p[b + 1], 1e-6) if b + 1 < count else b)
    return np.array(first, dtype=float), np.array(last, dtype=float)


def _sample(surface: np.ndarray, v: float, band: np.ndarray) -> float | None:
    """Mean of a surface along `band` (u indices) at `v`, linear between columns; None where less than half exists."""
    held = np.isfinite(surface)
    at = np.array([np.full(len(band), v), band])
    weight = ndimage.map_coordinates(held.astype(float), at, order=1)
    total = ndimage.map_coordinates(np.where(held, surface, 0.0), at, order=1)
    good = weight > 0.5
    return float(np.mean(total[good] / weight[good])) if good.mean() > 0.5 else None


def _trabecular_hu(crop: Crop, body: np.ndarray) -> float | None:
    """Mean CT number of a central ellipsoid at least 3 mm from the body's surface."""
    index = np.argwhere(body)
    span = [(index[:, a].min(), index[:, a].max()) for a in range(3)]
    box = tuple(slice(max(0, a - 1), b + 2) for a, b in span)
    deep = ndimage.distance_transform_edt(body[box], sampling=crop.grid.spacing) >= _CORTEX_MM
    grid = np.indices(deep.shape, dtype=float)
    distance = np.zeros(deep.shape)
    for axis, (a, b) in enumerate(span):
        middle = (a + b) / 2 - box[axis].start
        distance += ((grid[axis] - middle) / (_ROI_FRACTION * max((b - a + 1) / 2, 1.0))) ** 2
    region = deep & (distance <= 1.0) & crop.inside[box]
    if region.sum() * np.prod(crop.grid.spacing) < 1000.0 * _LEAST_ROI_CM3:
        return None
    return round(float(crop.hu[box][region].mean()), 1)


def _metal(crop: Crop, body: np.ndarray) -> bool:
    """Metal in or beside the body: more than a clip's volume beyond the CT number of any bone and most cement."""
    voxel = float(np.prod(crop.grid.spacing))
    bright = crop.hu > _METAL_HU
    if bright.sum() * voxel <= _METAL_MM3:
        return False
    near = ndimage.distance_transform_edt(~body, sampling=crop.grid.spacing) <= _METAL_REACH_MM
    return bool((bright & near).sum() * voxel > _METAL_MM3)
