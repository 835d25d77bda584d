"""Bring the crops' masks back to the source's voxels: one label each, the likelier vertebra where two claim one.

A crop ends 48 mm to each side and 60 mm behind the body's centre; the wings of the sacrum and long processes do not. What
lies beyond goes on as the field's map has it (the segment stage's, or the label stage's), and never takes a voxel that a
crop has given to a vertebra.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from ovcf_node.domain.levels import mask_value
from ovcf_node.domain.volume import Masks, Volume
from ovcf_node.infer.label import Labels
from ovcf_node.infer.vertebra import VertebraReading

_HALF = 128  # probability 0.5 on the 0..255 scale
_FULL = 250  # within the crop's outermost planes; past them its masks fade out over a voxel, which left a slit
_LEAST_BEYOND = 8  # voxels of the field's map outside the crop: fewer are its rounding
_SHARE = 0.25  # of the segment stage in a voxel that a crop has seen too: two looks of different networks err apart
_LEAST_SEEN = 0.5  # of what the crop holds: a map that knows less of this vertebra has missed it
_RIM_MM = 3.0  # a fracture region may stand out of its vertebra by this much


def masks_on_grid(
    volume: Volume, labels: Labels, readings: list[VertebraReading], fractured: frozenset[str], threads: int = 2
) -> Masks | None:
    """Return the masks of `readings` on the volume's grid, cut to their common box; None where nothing is found.

    Fracture regions are kept only for the levels in `fractured`, inside their vertebra and a thin rim around it.
    """
    with ThreadPoolExecutor(max_workers=threads) as pool:  # scipy releases the interpreter lock while it interpolates
        parts = [p for p in pool.map(lambda r: _part(volume, labels, r, r.level in fractured), readings) if p is not None]
        parts += [p for p in pool.map(lambda r: _beyond(volume, labels, r), readings) if p is not None]
    if not parts:
        return None
    low = np.min([start for _, start, _, _ in parts], axis=0)
    high = np.max([np.add(start, whole.shape) for _, start, whole, _ in parts], axis=0)
    best = np.full(high - low, _HALF - 1, dtype=np.uint8)
    vertebrae, fractures = np.zeros_like(best), np.zeros_like(best)
    for value, start, whole, _ in parts:
        box = tuple(slice(a, a + n) for a, n in zip(start - low, whole.shape, strict=True))
        wins = whole > best[box]
        vertebrae[box][wins] = value
        best[box] = np.maximum(best[box], whole)
    for value, start, whole, fracture in parts:
        if fracture is not None:
            box = tuple(slice(a, a + n) for a, n in zip(start - low, whole.shape, strict=True))
            # Free of other vertebrae: the region of one level never paints its neighbour.
            fractures[box][fracture & np.isin(vertebrae[box], (0, value))] = value
    held = vertebrae > 0
    if not held.any():
        return None
    spans = [np.flatnonzero((held | (fractures > 0)).any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    box = tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans)
    origin = tuple(int(low[a]) + box[a].start for a in range(3))
    return Masks(
        np.ascontiguousarray(vertebrae[box]), np.ascontiguousarray(fractures[box]), origin,
        tuple(int(n) for n in volume.hu.shape),
    )


def _part(
    volume: Volume, labels: Labels, reading: VertebraReading, fractured: bool
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray | None] | None:
    """One vertebra on its own box of the volume: value, first index, probability (uint8), fracture region or None."""
    probability = _seen_twice(labels, reading)
    found = _span(probability > 0.3, probability.shape)
    if found is None:
        return None
    box = _box(volume, reading.crop.grid.affine, found)
    if box is None:
        return None
    start, shape = box
    matrix, offset = _from_volume(volume, reading.crop.grid.affine, start)
    whole = _upsample(probability, matrix, offset, shape)
    region = None
    if fractured:
        spacing = reading.crop.grid.spacing
        near = ndimage.distance_transform_edt(probability <= 0.5, sampling=spacing) <= _RIM_MM
        region = _upsample(np.where(near, reading.fracture, 0), matrix, offset, shape) >= _HALF
    return mask_value(reading.level), start, whole, region


def _seen_twice(labels: Labels, reading: VertebraReading) -> np.ndarray:
    """Probability of the whole vertebra on the crop's grid: the crop's own, and the segment stage's where there is one."""
    mine = labels.numbers == _number(labels, reading)
    held = (reading.vertebra > 0.5).sum() * float(np.prod(reading.crop.grid.spacing))
    if not labels.segmented or mine.sum() * labels.field.spacing**3 < _LEAST_SEEN * held:
        return reading.vertebra
    rim = ndimage.binary_dilation(mine) & (mine | (labels.numbers == 0))
    to_field = np.linalg.inv(labels.field.affine) @ reading.crop.grid.affine
    other = ndimage.affine_transform(
        np.where(rim, 1.0 - labels.voxels.classes[0], 0.0).astype(np.float32), to_field[:3, :3], to_field[:3, 3],
        output_shape=reading.vertebra.shape, order=1, cval=np.nan,
    )
    return np.where(np.isnan(other), reading.vertebra, (1.0 - _SHARE) * reading.vertebra + _SHARE * other)


def _number(labels: Labels, reading: VertebraReading) -> int:
    return next(v.instance.number for v in labels.vertebrae if v.label == reading.level)


def _beyond(volume: Volume, labels: Labels, reading: VertebraReading) -> tuple[int, np.ndarray, np.ndarray, None] | None:
    """What the field's map gives this vertebra outside its crop, on its own box; None where that is next to nothing."""
    coarse = labels.numbers == _number(labels, reading)
    crop = reading.crop.grid
    index = np.argwhere(coarse)
    at = (labels.field.point_of(index) - crop.affine[:3, 3]) @ np.linalg.inv(crop.affine[:3, :3]).T
    outside = index[((at < 0) | (at > np.array(crop.shape) - 1)).any(axis=1)]
    if len(outside) < _LEAST_BEYOND:
        return None
    found = tuple(slice(int(a), int(b) + 1) for a, b in zip(outside.min(axis=0), outside.max(axis=0), strict=True))
    box = _box(volume, labels.field.affine, found)
    if box is None:
        return None
    start, shape = box
    whole = _upsample(coarse.astype(np.float32), *_from_volume(volume, labels.field.affine, start), shape) >= _HALF
    in_crop = _upsample(np.ones(crop.shape, np.float32), *_from_volume(volume, crop.affine, start), shape) >= _FULL
    return mask_value(reading.level), start, np.where(whole & ~in_crop, _HALF, 0).astype(np.uint8), None


def _box(volume: Volume, affine: np.ndarray, found: tuple[slice, ...]) -> tuple[np.ndarray, tuple[int, ...]] | None:
    """First index and shape of the volume's box that holds the indices `found` of a grid; None outside the volume."""
    to_index = np.linalg.inv(volume.affine) @ affine
    ends = [(s.start - 1.0, s.stop) for s in found]
    corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T @ to_index[:3, :3].T + to_index[:3, 3]
    size = np.asarray(volume.hu.shape)
    start = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, size)
    stop = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, size)
    return None if np.any(stop <= start) else (start, tuple(int(n) for n in stop - start))


def _from_volume(volume: Volume, affine: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset from indices of the volume's box at `start` to indices of a grid."""
    back = np.linalg.inv(affine) @ volume.affine
    return back[:3, :3], back[:3, :3] @ start + back[:3, 3]


def _upsample(probability: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation onto the source grid, as uint8 0..255; 0 outside the crop."""
    scaled = (probability * 255.0).astype(np.float32)
    return ndimage.affine_transform(
        scaled, matrix, offset, output_shape=shape, order=1, mode="grid-constant", cval=0.0, output=np.uint8
    )


def _span(held: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
    if not held.any():
        return None
    spans = [np.flatnonzero(held.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    return tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans)
