"""Reformats through the centres of the vertebral bodies: what a person sees of a spine in one glance.

A view is a plane bent along the spine: the sagittal one follows the bodies from side to side, the coronal one from
front to back, so that scoliosis and lordosis do not carry a vertebra out of it. Distances along its two axes are true.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from ovcf_node.domain.findings import Findings, Point
from ovcf_node.domain.levels import REPORTED, mask_value
from ovcf_node.domain.volume import OUTSIDE_HU, Masks, Volume

_WINDOW_HU = (-250.0, 850.0)  # a bone window that still shows soft tissue
_MARGIN_MM = 32.0  # above the topmost and below the lowest body centre
_LEAST_EXTENT_MM = 200.0  # the coronal view is then wide enough for a whole body
_SLAB_MM = (-1.0, 0.0, 1.0)  # averaged across the view against noise


@dataclass(frozen=True)
class View:
    """A reformat of `shape` pixels, row 0 at the head, `scale` pixels per mm.

    axis     LPS axis along the columns: 1 (posterior) in the sagittal, 0 (left) in the coronal view
    grey     uint8 (rows, columns)
    levels   level -> boolean (rows, columns), the vertebra; only levels with a pixel
    fractures  the same for fracture regions
    """

    axis: int
    scale: float
    first_mm: float
    top_mm: float
    grey: np.ndarray
    levels: dict[str, np.ndarray]
    fractures: dict[str, np.ndarray]

    def pixel(self, point: Point) -> tuple[float, float]:
        """Return (column, row) of an LPS point."""
        return (point[self.axis] - self.first_mm) * self.scale, (self.top_mm - point[2]) * self.scale


def views(
    volume: Volume, findings: Findings, masks: Masks | None, *, height: int, sagittal_width: int, coronal_width: int,
) -> tuple[View, View]:
    """Return the sagittal and the coronal view at one common scale."""
    knots = _knots(volume, findings)
    top, bottom = _window(volume, knots)
    scale = height / (top - bottom)
    sagittal_centre = (knots[:, 1].min() + knots[:, 1].max()) / 2
    coronal_centre = (knots[:, 0].min() + knots[:, 0].max()) / 2
    return (
        _view(volume, masks, knots, 1, scale, sagittal_centre, top, (height, sagittal_width)),
        _view(volume, masks, knots, 0, scale, coronal_centre, top, (height, coronal_width)),
    )


def _window(volume: Volume, knots: np.ndarray) -> tuple[float, float]:
    """Return top and bottom (LPS z, mm) of the views: round the bodies, moved to where the volume has an image."""
    top, bottom = float(knots[0, 2]) + _MARGIN_MM, float(knots[-1, 2]) - _MARGIN_MM
    lacking = max(0.0, _LEAST_EXTENT_MM - (top - bottom)) / 2
    top, bottom = top + lacking, bottom - lacking
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in volume.hu.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    heights = corners @ volume.affine[2, :3] + volume.affine[2, 3]
    up = min(max(0.0, heights.min() - bottom), max(0.0, heights.max() - top))
    down = min(max(0.0, top - heights.max()), max(0.0, bottom - heights.min()))
    return top + up - down, bottom + up - down


def _knots(volume: Volume, findings: Findings) -> np.ndarray:
    """Return body centres (n, 3) LPS mm from head to foot; the middle of the volume where none is known."""
    centres = [v.centroid_mm for v in findings.vertebrae if v.centroid_mm is not None]
    if not centres:
        middle = (np.array(volume.hu.shape) - 1) / 2
        centres = [tuple(volume.affine[:3, :3] @ middle + volume.affine[:3, 3])]
    array = np.array(centres, float)
    return array[np.argsort(-array[:, 2])]


def _view(
    volume: Volume, masks: Masks | None, knots: np.ndarray, axis: int, scale: float, centre: float, top: float,
    shape: tuple[int, int],
) -> View:
    rows, columns = shape
    first = centre - columns / 2 / scale
    across = 1 - axis
    heights = top - np.arange(rows) / scale
    points = np.empty((3, rows, columns))
    points[2] = heights[:, None]
    points[axis] = first + np.arange(columns) / scale
    points[across] = np.interp(heights, knots[::-1, 2], knots[::-1, across])[:, None]
    to_index = np.linalg.inv(volume.affine)
    index = np.tensordot(to_index[:3, :3], points, 1) + to_index[:3, 3, None, None]
    step = to_index[:3, across, None, None]
    hu = np.mean([_sample(volume.hu, index + offset * step, OUTSIDE_HU) for offset in _SLAB_MM], axis=0)
    low, high = _WINDOW_HU
    grey = (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    levels = _outlines(masks.vertebrae, masks, index) if masks else {}
    fractures = _outlines(masks.fractures, masks, index) if masks else {}
    return View(axis, scale, first, top, grey, levels, fractures)


def _outlines(region: np.ndarray, masks: Masks, index: np.ndarray) -> dict[str, np.ndarray]:
    inside_box = index - np.array(masks.origin)[:, None, None]
    found = {}
    for level in REPORTED:
        chosen = region == mask_value(level)
        if chosen.any():
            box, offset = _cut(chosen)
            drawn = _sample(box.view(np.uint8), inside_box - np.array(offset)[:, None, None], 0) > 0.5
            if drawn.any():
                found[level] = drawn
    return found


def _cut(chosen: np.ndarray) -> tuple[np.ndarray, Sequence[int]]:
    """Return the part of a mask that holds anything, with one voxel of rim where there is one, and its offset."""
    slices = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        occupied = np.flatnonzero(chosen.any(axis=others))
        slices.append(slice(max(0, occupied[0] - 1), occupied[-1] + 2))
    return np.ascontiguousarray(chosen[tuple(slices)]), [s.start for s in slices]


def _sample(array: np.ndarray, index: np.ndarray, outside: float) -> np.ndarray:
    return map_coordinates(array, index, output=np.float32, order=1, mode="constant", cval=outside, prefilter=False)
