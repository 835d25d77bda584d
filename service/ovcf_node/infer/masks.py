"""Bring the crops' masks back to the source's voxels: one label each, the likelier vertebra where two claim one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from ovcf_node.domain.levels import mask_value
from ovcf_node.domain.volume import Masks, Volume
from ovcf_node.infer.vertebra import VertebraReading

_HALF = 128  # probability 0.5 on the 0..255 scale
_RIM_MM = 3.0  # a fracture region may stand out of its vertebra by this much


def masks_on_grid(
    volume: Volume, readings: list[VertebraReading], fractured: frozenset[str], threads: int = 2
) -> Masks | None:
    """Return the masks of `readings` on the volume's grid, cut to their common box; None where nothing is found.

    Fracture regions are kept only for the levels in `fractured`, inside their vertebra and a thin rim around it.
    """
    with ThreadPoolExecutor(max_workers=threads) as pool:  # scipy releases the interpreter lock while it interpolates
        parts = [p for p in pool.map(lambda r: _part(volume, r, r.level in fractured), readings) if p is not None]
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
    volume: Volume, reading: VertebraReading, fractured: bool
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray | None] | None:
    """One vertebra on its own box of the volume: value, first index, probability (uint8), fracture region or None."""
    probability = reading.vertebra
    found = _span(probability > 0.3, probability.shape)
    if found is None:
        return None
    to_index = np.linalg.inv(volume.affine) @ reading.crop.grid.affine
    ends = [(s.start - 1.0, s.stop) for s in found]
    corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T @ to_index[:3, :3].T + to_index[:3, 3]
    size = np.asarray(volume.hu.shape)
    start = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, size)
    stop = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, size)
    if np.any(stop <= start):
        return None
    back = np.linalg.inv(to_index)
    matrix, offset = back[:3, :3], back[:3, :3] @ start + back[:3, 3]
    shape = tuple(int(n) for n in stop - start)
    whole = _upsample(probability, matrix, offset, shape)
    region = None
    if fractured:
        spacing = reading.crop.grid.spacing
        near = ndimage.distance_transform_edt(probability <= 0.5, sampling=spacing) <= _RIM_MM
        region = _upsample(np.where(near, reading.fracture, 0), matrix, offset, shape) >= _HALF
    return mask_value(reading.level), start, whole, region


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
