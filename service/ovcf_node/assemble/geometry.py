"""Fit an even grid to the positions of a stack: order, orientation, spacing, tilt, gaps and unevenness.

All positions are LPS mm. The normal of a plane is row cosines x column cosines (PS3.3 C.7.6.2.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovcf_node.assemble.frames import Frame
from ovcf_node.assemble.stacks import cross

MAX_OBLIQUE_DEGREES = 31.0  # gantries tilt up to 30
SAME_POSITION_MM = 0.01
_AXES = {"axial": (0.0, 0.0, 1.0), "sagittal": (1.0, 0.0, 0.0), "coronal": (0.0, 1.0, 0.0)}
_JITTER_MM = 0.05
_JITTER_FRACTION = 0.05  # of the slice spacing
_SHIFT_MM = 0.5  # in-plane wandering of the origin; below a pixel everywhere


@dataclass(frozen=True, eq=False)
class Grid:
    """The even grid nearest to a stack's positions, frames in order along +S, +L or +P.

    origin, step    position of the first voxel of slice 0, and from one slice to the next (LPS mm)
    places          slice number of each frame on the grid; a number left out is a missing slice
    spacing_mm      distance between slice planes along their normal
    deviation_mm    largest distance of a plane from its place, along the normal
    shift_mm        largest distance of an origin from the line of origins, within the plane
    tilt_degrees    between the step and the normal (gantry tilt)
    extent_mm       size of the field along (L, P, S); along the stack it is what the slices cover along their normal
    """

    frames: tuple[Frame, ...]
    orientation: str | None
    origin: np.ndarray
    step: np.ndarray
    places: np.ndarray
    spacing_mm: float
    deviation_mm: float
    shift_mm: float
    tilt_degrees: float
    extent_mm: tuple[float, float, float]

    @property
    def missing(self) -> int:
        return int(self.places[-1]) + 1 - len(self.places)

    @property
    def gaps_in_words(self) -> str:
        gaps = np.diff(in_order(self.frames)[1])
        return f"{gaps.min():.2f} to {gaps.max():.2f} mm" if len(gaps) else "one slice"

    @property
    def tolerance_mm(self) -> float:
        return max(_JITTER_MM, _JITTER_FRACTION * self.spacing_mm)

    @property
    def even(self) -> bool:
        return self.deviation_mm <= self.tolerance_mm

    @property
    def straight(self) -> bool:
        return self.shift_mm <= _SHIFT_MM

    @property
    def affine(self) -> np.ndarray:
        """4x4: (slice, row, column, 1) -> LPS mm."""
        first = self.frames[0]
        matrix = np.eye(4)
        matrix[:3, 0] = self.step
        matrix[:3, 1] = np.array(first.column_cosines) * first.pixel_spacing[0]
        matrix[:3, 2] = np.array(first.row_cosines) * first.pixel_spacing[1]
        matrix[:3, 3] = self.origin
        return matrix


def orientation_of(frame: Frame) -> str | None:
    """Return axial, sagittal or coronal; None when the plane lies between them."""
    normal = np.array(cross(frame.row_cosines, frame.column_cosines))
    limit = np.cos(np.deg2rad(MAX_OBLIQUE_DEGREES))
    return next((name for name, axis in _AXES.items() if abs(normal @ axis) >= limit), None)


def in_order(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], np.ndarray]:
    """Sort along +S (axial), +L (sagittal), +P (coronal); return the frames and their depths (mm, increasing)."""
    normal = _directed_normal(frames[0])
    positions = np.array([frame.position for frame in frames], float)
    found = positions @ normal
    names = [(frame.sop_instance_uid, frame.frame_number or 0) for frame in frames]
    order = sorted(range(len(frames)), key=lambda i: (found[i], names[i]))
    return tuple(frames[i] for i in order), found[order]


def fit(frames: Sequence[Frame]) -> Grid:
    """Fit the even grid to frames that all have a position; no two may share one."""
    ordered, found = in_order(frames)
    first, normal = ordered[0], _directed_normal(ordered[0])
    positions = np.array([frame.position for frame in ordered], float)
    places = _places(np.diff(found))
    if len(ordered) > 1:
        design = np.stack([np.ones(len(places)), places], axis=1)
        (origin, step), *_ = np.linalg.lstsq(design, positions, rcond=None)
        residual = positions - design @ np.stack([origin, step])
    else:
        origin, step = positions[0], normal * (first.thickness or 1.0)
        residual = np.zeros((1, 3))
    along = residual @ normal
    across = residual - along[:, None] * normal
    spacing = float(step @ normal)
    cosine = np.clip(spacing / max(float(np.linalg.norm(step)), 1e-9), -1.0, 1.0)
    grid = Grid(
        ordered, orientation_of(first), origin, step, places, spacing, float(np.abs(along).max()),
        float(np.linalg.norm(across, axis=1).max()), float(np.degrees(np.arccos(cosine))), (0.0, 0.0, 0.0),
    )
    return Grid(**{**grid.__dict__, "extent_mm": _extent(grid)})


def _directed_normal(frame: Frame) -> np.ndarray:
    normal = np.array(cross(frame.row_cosines, frame.column_cosines))
    name = orientation_of(frame)
    axis = np.array(_AXES[name]) if name else np.eye(3)[np.abs(normal).argmax()]
    return normal if normal @ axis > 0 else -normal


def _places(gaps: np.ndarray) -> np.ndarray:
    """Return slice numbers such that neighbours are 1 apart and a gap of k spacings counts k."""
    if not len(gaps):
        return np.zeros(1)
    smallest = gaps.min()
    base = np.median(gaps[gaps <= 1.25 * smallest + SAME_POSITION_MM])
    multiples = np.maximum(1, np.rint(gaps / max(base, SAME_POSITION_MM)))
    # Slices that mostly "miss" a neighbour are not missing: the spacing is uneven. Fit plain numbers and let that show.
    if multiples.sum() > 2 * len(gaps):
        multiples = np.ones(len(gaps))
    return np.concatenate([[0.0], np.cumsum(multiples)])


def _extent(grid: Grid) -> tuple[float, float, float]:
    frame = grid.frames[0]
    size = np.abs(grid.affine[:3, 1:3]) @ np.array([frame.rows, frame.columns])
    if grid.orientation:
        size[np.argmax(_AXES[grid.orientation])] = (grid.places[-1] + 1) * grid.spacing_mm
    return tuple(float(v) for v in size)
