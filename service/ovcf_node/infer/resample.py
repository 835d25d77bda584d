"""Resample a CT volume: the whole field at a few millimetres, and crops in a vertebra's own frame.

Both keep the grid as it is (sheared under gantry tilt, oblique, sagittal or coronal): every output point is placed in
LPS and looked up through the inverse of the volume's affine. Averages come first, so that noise and fine structure do
not alias.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array

from ovcf_node.domain.volume import OUTSIDE_HU, Volume

AIR_HU = -1024
_HIGHEST_HU = 3071
_SPLINE_REACH = 5  # slices beyond which one weighs less than a thousandth in a cubic spline
_NO_WEIGHT = 1e-4
_CLOSE = 0.8  # of a crop's finest spacing: slices so near need none between them
_ROUNDING = 0.01  # of that, in positions that a header rounds
_ZYX = [2, 1, 0]  # LPS rows x, y, z <-> array axes z, y, x


@dataclass(frozen=True)
class Field:
    """The whole field on an isotropic LPS-aligned grid.

    hu      float32 (z, y, x); `AIR_HU` where the CT has nothing.
    inside  bool (z, y, x): the CT covers this voxel.
    origin  LPS mm of the centre of voxel (0, 0, 0); spacing in mm.
    """

    hu: np.ndarray
    inside: np.ndarray
    origin: np.ndarray
    spacing: float

    @property
    def affine(self) -> np.ndarray:
        """4x4 map of (z, y, x, 1) indices to LPS mm."""
        out = np.eye(4)
        out[:3, :3] = np.eye(3)[_ZYX] * self.spacing
        out[:3, 3] = self.origin
        return out

    def point_of(self, index: np.ndarray) -> np.ndarray:
        """Map (..., 3) indices (z, y, x) to LPS mm."""
        return np.asarray(index, dtype=float)[..., _ZYX] * self.spacing + self.origin

    def index_of(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) LPS mm to fractional indices (z, y, x)."""
        return ((np.asarray(points, dtype=float) - self.origin) / self.spacing)[..., _ZYX]


@dataclass(frozen=True)
class CropGrid:
    """The crop grid of one vertebra frame: `affine` maps (w, v, u, 1) indices to LPS mm."""

    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def spacing(self) -> np.ndarray:
        """Distance between neighbours along (w, v, u) in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def point_of(self, index: np.ndarray) -> np.ndarray:
        """Map (..., 3) indices (w, v, u) to LPS mm."""
        return np.asarray(index, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3]


@dataclass(frozen=True)
class Crop:
    """CT numbers at a crop grid: `hu` float32 (w, v, u), unclipped above air; `inside` says where the CT has data."""

    grid: CropGrid
    hu: np.ndarray
    inside: np.ndarray


def window(hu: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Clip HU to `limits` and map them linearly to [-1, 1], float32."""
    low, high = limits
    return ((np.clip(hu, low, high) - low) * (2.0 / (high - low)) - 1.0).astype(np.float32)


def isotropic(volume: Volume, spacing: float) -> Field:
    """Resample the whole field to `spacing` mm: block means along the volume's own axes, then linear interpolation."""
    factors = [max(1, min(n, int(spacing / step))) for n, step in zip(volume.hu.shape, volume.step_mm, strict=True)]
    small, covered, affine = _block_mean(volume, factors)
    low, high = _bounds(volume)
    count = np.maximum(1, np.floor((high - low) / spacing).astype(int))
    origin = (low + high) / 2 - (count - 1) / 2 * spacing
    shape = tuple(int(n) for n in count[_ZYX])
    to_small = np.linalg.inv(affine)[:3] @ np.vstack([
        np.column_stack([np.eye(3)[:, axis] * spacing for axis in _ZYX] + [origin]), [0, 0, 0, 1],
    ])
    hu = np.full(shape, AIR_HU, dtype=np.float32)
    inside = np.zeros(shape, dtype=bool)
    plane = np.indices(shape[1:], dtype=np.float32).reshape(2, -1)
    half = 0.5 + 1e-3
    limit = np.asarray(small.shape, dtype=np.float32)[:, None] - 1 + half
    in_plane = to_small[:, 1:3].astype(np.float32) @ plane
    for z in range(shape[0]):  # slice by slice: coordinates of the whole field would outweigh the field
        at = in_plane + (to_small[:, 0] * z + to_small[:, 3]).astype(np.float32)[:, None]
        ok = np.all((at >= -half) & (at <= limit), axis=0)
        if ok.any():
            values = ndimage.map_coordinates(small, at[:, ok], order=1, mode="nearest", output=np.float32)
            seen = ndimage.map_coordinates(covered, at[:, ok], order=0, mode="nearest")
            hu[z].ravel()[ok] = values
            inside[z].ravel()[ok] = seen
    return Field(hu, inside, origin, spacing)


def part_of(volume: Volume, low: np.ndarray, high: np.ndarray) -> Volume:
    """The voxels of a volume that lie in an LPS box (mm), as a view: at least one, in whole rows of its own grid."""
    to_index = np.linalg.inv(volume.affine)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    index = corners @ to_index[:3, :3].T + to_index[:3, 3]
    last = np.asarray(volume.hu.shape) - 1
    first = np.clip(np.floor(index.min(axis=0)).astype(int), 0, last)
    stop = np.clip(np.ceil(index.max(axis=0)).astype(int), first, last) + 1
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ first
    box = tuple(slice(a, b) for a, b in zip(first, stop, strict=True))
    return replace(volume, hu=volume.hu[box], affine=affine, sources=volume.sources[box[0]])


def padded(image: np.ndarray, multiple: int, value: float) -> np.ndarray:
    """Pad the end of every axis to a multiple."""
    return np.pad(image, [(0, -n % multiple) for n in image.shape], constant_values=value)


def carried(mask: np.ndarray, affine: np.ndarray, grid: CropGrid) -> np.ndarray:
    """A bool mask, whose indices `affine` maps to LPS mm, on the nearest voxels of another grid; False beyond it."""
    to_mask = np.linalg.inv(affine) @ grid.affine
    return ndimage.affine_transform(
        mask.astype(np.uint8), to_mask[:3, :3], to_mask[:3, 3], output_shape=grid.shape, order=0, cval=0
    ).astype(bool)


def crop_grid(
    centre: np.ndarray, frame: np.ndarray, spacing: tuple[float, float, float], shape: tuple[int, int, int],
    origin_index: tuple[float, float, float],
) -> CropGrid:
    """Place the contract's crop: `centre` LPS mm at `origin_index`, rows of `frame` are the unit vectors u, v, w."""
    u, v, w = frame
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([w * spacing[0], v * spacing[1], u * spacing[2]])
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ np.asarray(origin_index)
    return CropGrid(affine, tuple(shape))


def context_grid(crop: CropGrid) -> CropGrid:
    """The grid of the neighbours around a crop: twice its spacing, the same field across, twice as far along the spine."""
    affine = crop.affine.copy()
    affine[:3, :3] *= 2.0
    affine[:3, 3] = crop.point_of(np.array([0.5 - crop.shape[0] / 2, 0.5, 0.5]))
    return CropGrid(affine, context_shape(crop.shape))


def context_shape(crop: tuple[int, int, int]) -> tuple[int, int, int]:
    """Shape (w, v, u) of the neighbours' picture around a crop: twice the spacing, twice the length along the spine."""
    w, v, u = crop
    return w, v // 2, u // 2


def sample_crop(volume: Volume, grid: CropGrid) -> Crop:
    """Return the CT numbers at `grid`, smoothed to its spacing where the CT's voxels are finer.

    Between slices it is a cubic spline: linear, a plate that runs aslant across them looks like a dotted line.
    """
    to_index = np.linalg.inv(volume.affine) @ grid.affine  # crop index -> volume index
    sigmas = _antialias(to_index[:3, :3])
    margin = np.ceil(2 * sigmas).astype(int) + _SPLINE_REACH
    corners = _corners(grid.shape) @ to_index[:3, :3].T + to_index[:3, 3]
    size = np.asarray(volume.hu.shape)
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - margin, 0, size)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + margin + 1, 0, size)
    if np.any(low >= high):
        return Crop(grid, np.full(grid.shape, AIR_HU, np.float32), np.zeros(grid.shape, bool))
    part = volume.hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    outside = part <= OUTSIDE_HU
    box = np.clip(part, AIR_HU, _HIGHEST_HU).astype(np.float32)
    for axis, sigma in enumerate(sigmas):
        if sigma > 0.3:
            box = ndimage.gaussian_filter1d(box, sigma, axis=axis, mode="nearest", truncate=2.0)
    offset = to_index[:3, 3] - low
    box, finer = _more_slices(box, volume.step_mm[0], _CLOSE * min(grid.spacing))
    to_box = np.diag([finer, 1.0, 1.0])
    hu = ndimage.affine_transform(
        box, to_box @ to_index[:3, :3], to_box @ offset, output_shape=grid.shape, order=1, mode="nearest", output=np.float32
    )
    inside = _within(grid.shape, to_index, size)
    if outside.any():
        inside &= ~ndimage.affine_transform(
            outside.astype(np.uint8), to_index[:3, :3], offset, output_shape=grid.shape, order=0, mode="nearest"
        ).astype(bool)
    np.maximum(hu, AIR_HU, out=hu)  # a spline undershoots beside metal
    hu[~inside] = AIR_HU
    return Crop(grid, hu, inside)


def _more_slices(box: np.ndarray, step: float, close: float) -> tuple[np.ndarray, int]:
    """Slices between those of `box`, `step` mm apart, until they lie `close` mm apart; and how many for each one."""
    finer, count = max(1, int(np.ceil(step / close - _ROUNDING))), len(box)
    if finer == 1:
        return box, 1
    between = np.meshgrid(np.arange((count - 1) * finer + 1) / finer, np.arange(count), indexing="ij")
    weights = ndimage.map_coordinates(np.eye(count, dtype=np.float32), between, order=3, mode="mirror")
    weights[np.abs(weights) < _NO_WEIGHT] = 0  # a spline is linear in the slices that it runs through, the near ones
    made = csr_array(weights) @ box.reshape(count, -1)
    return made.reshape(-1, *box.shape[1:]), finer


def _block_mean(volume: Volume, factors: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average blocks of `factors` voxels; the remainder is cut evenly at both ends.

    Returns the means (float32), which blocks lie in the reconstructed field (uint8), and the blocks' affine.
    """
    counts = [n // f for n, f in zip(volume.hu.shape, factors, strict=True)]
    starts = [(n - c * f) // 2 for n, c, f in zip(volume.hu.shape, counts, factors, strict=True)]
    rows, columns = (slice(starts[i], starts[i] + counts[i] * factors[i]) for i in (1, 2))
    small = np.empty(counts, dtype=np.float32)
    covered = np.empty(counts, dtype=np.uint8)
    shape = (counts[1], factors[1], counts[2], factors[2])
    for k in range(counts[0]):  # slab by slab: never a second copy of the volume
        first = starts[0] + k * factors[0]
        slab = volume.hu[first : first + factors[0], rows, columns]
        total = np.clip(slab, AIR_HU, _HIGHEST_HU).sum(axis=0, dtype=np.int32)
        small[k] = total.reshape(shape).sum(axis=1).sum(axis=2)
        middle = slab[factors[0] // 2]
        covered[k] = middle[factors[1] // 2 :: factors[1], factors[2] // 2 :: factors[2]] > OUTSIDE_HU
    small /= float(np.prod(factors))
    affine = volume.affine.astype(float).copy()
    affine[:3, :3] = volume.affine[:3, :3] * np.asarray(factors)
    first_centre = np.asarray(starts) + (np.asarray(factors) - 1) / 2
    affine[:3, 3] = volume.affine[:3, :3] @ first_centre + volume.affine[:3, 3]
    return small, covered, affine


def _bounds(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Smallest LPS box around the volume's voxels, faces included."""
    corners = _corners(volume.hu.shape, 0.5) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return corners.min(axis=0), corners.max(axis=0)


def _corners(shape: tuple[int, ...], pad: float = 0.0) -> np.ndarray:
    ends = [(-pad, n - 1 + pad) for n in shape]
    return np.array(np.meshgrid(*ends, indexing="ij"), dtype=float).reshape(3, -1).T


def _antialias(to_index: np.ndarray) -> np.ndarray:
    """Sigma (voxels) per volume axis that gives a sample a crop voxel's width: (width^2 - 1) / 12 of variance."""
    width = np.sqrt((to_index**2).sum(axis=1))
    return np.sqrt(np.maximum(width**2 - 1.0, 0.0) / 12.0)


def _within(shape: tuple[int, int, int], to_index: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Which crop points lie in the volume, voxel faces included."""
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    inside = np.ones(shape, dtype=bool)
    for row, n in zip(to_index[:3].astype(np.float32), size, strict=True):
        at = (
            row[0] * axes[0][:, None, None] + row[1] * axes[1][None, :, None]
            + (row[2] * axes[2] + row[3])[None, None, :]
        )
        inside &= (at >= -0.5) & (at <= n - 0.5)
    return inside
