"""The volume while it is painted: slices cut into thin sub-slices, so that thin plates do not alias into dashes.

Everything is (z, y, x), z towards the head, y towards the back, x towards the left, LPS mm.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from .shapes import Frame, Points, lerp, smoothstep

SUBSLICE = 0.6  # mm at most
FAR = 30.0  # mm, where no bone is near
TILE = 72  # cells of the trabecular texture, which repeats
TILE_CELLS = 1.25  # of the texture in a mm

Box = tuple[slice, slice, slice]


class Canvas:
    """HU on sub-slices, the distance to bone painted so far, and the labels, which are kept on whole slices.

    low      LPS mm (x, y, z) of the middle of the first voxel
    spacing  z, y, x mm of the picture
    shape    z, y, x voxels of the picture
    """

    def __init__(
        self, low: np.ndarray, spacing: tuple[float, float, float], shape: tuple[int, int, int], rng: np.random.Generator
    ) -> None:
        self.parts = int(np.ceil(spacing[0] / SUBSLICE))
        thin = spacing[0] / self.parts
        fine = (shape[0] * self.parts, *shape[1:])
        start = (low[2] - spacing[0] / 2 + thin / 2, low[1], low[0])
        steps = (thin, *spacing[1:])
        self.axes = [(s + np.arange(n) * d).astype(np.float32) for s, n, d in zip(start, fine, steps, strict=True)]
        self.soft_edge = np.float32(0.9 * spacing[1])
        self.hu = np.empty(fine, np.float32)
        self.bone = np.full(fine, FAR, np.float16)
        self.instance = np.zeros(shape, np.uint8)
        self.body = np.zeros(shape, bool)
        self._texture = trabecular_texture(rng)

    def box(self, centre: np.ndarray, half: tuple[float, float, float]) -> Box:
        """Voxels within `half` (x, y, z mm) of a point; whole slices, clipped to the field."""
        sides = zip(self.axes, centre[::-1], half[::-1], strict=True)
        ends = [np.searchsorted(axis, [middle - reach, middle + reach]) for axis, middle, reach in sides]
        first, last = ends[0][0] // self.parts, -(-ends[0][1] // self.parts)
        return (slice(first * self.parts, last * self.parts), *(slice(int(a), int(b)) for a, b in ends[1:]))

    def points(self, box: Box, frame: Frame) -> list[np.ndarray]:
        """Every voxel of a box in a frame: three arrays of the box's shape."""
        z, y, x = (axis[part] for axis, part in zip(self.axes, box, strict=True))
        return frame.to_local((x[None, None, :], y[None, :, None], z[:, None, None]))

    def chosen(self, box: Box, mask: np.ndarray, frame: Frame) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
        """Indices within a box where a mask is set, and those voxels in a frame."""
        index = np.nonzero(mask)
        z, y, x = (axis[part][i] for axis, part, i in zip(self.axes, box, index, strict=True))
        return index, frame.to_local((x, y, z))

    def smooth_distance(
        self, box: Box, frame: Frame, distance: Callable[[Points], np.ndarray], step: float = 1.4
    ) -> np.ndarray:
        """A distance over a box, computed every `step` mm only: distances are smooth, and capsules are many."""
        axes = [axis[part] for axis, part in zip(self.axes, box, strict=True)]
        coarse = [np.linspace(a[0], a[-1], max(3, int((a[-1] - a[0]) / step) + 2)).astype(np.float32) for a in axes]
        z, y, x = coarse
        out = distance(frame.to_local((x[None, None, :], y[None, :, None], z[:, None, None]))).astype(np.float32)
        for k, (fine, few) in enumerate(zip(axes, coarse, strict=True)):
            out = lerp(out, (fine - few[0]) / (few[1] - few[0]), k)
        return out

    def coverage(self, distance: np.ndarray) -> np.ndarray:
        """How much of a voxel lies inside a surface, 0..1, from the distance of its middle."""
        return smoothstep(0.5 - distance / self.soft_edge / np.float32(1.6))

    def mark(self, box: Box, distance: np.ndarray, number: int, body: bool = False) -> None:
        """Label the voxels whose sub-slices lie inside on average, where nothing is labelled yet."""
        mean = distance.reshape(-1, self.parts, *distance.shape[1:]).mean(1)
        whole = (slice(box[0].start // self.parts, box[0].stop // self.parts), *box[1:])
        label = self.instance[whole]
        label[(mean < 0) & (label == 0)] = number
        if body:
            self.body[whole] |= (mean < 0) & (label == number)

    def texture(self, points: Points) -> np.ndarray:
        """The trabecular texture at points: mean 0, standard deviation 1."""
        cells = [(p * np.float32(TILE_CELLS) + np.float32(10 * TILE + 0.5)).astype(np.int32) % TILE for p in points]
        return self._texture.ravel().take((cells[2] * TILE + cells[1]) * TILE + cells[0])


def trabecular_texture(rng: np.random.Generator) -> np.ndarray:
    """A cube of mostly vertical struts and larger patches, to be repeated; mean 0, standard deviation 1."""
    raw = rng.standard_normal((TILE, TILE, TILE), dtype=np.float32)
    struts = gaussian_filter(raw, (1.6, 0.7, 0.7), mode="wrap") * 2.2
    patches = gaussian_filter(raw[::-1], 3, mode="wrap") * 4.5
    return (struts + patches) / (struts + patches).std()


def union(a: Box, b: Box) -> Box:
    """The smallest box around two."""
    return tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))


def inside(outer: Box, inner: Box) -> Box:
    """Where a box lies in an array over a larger one."""
    return tuple(slice(q.start - p.start, q.stop - p.start) for p, q in zip(outer, inner, strict=True))


def empty(box: Box) -> bool:
    """Whether a box lies (almost) outside the field."""
    return any(part.stop - part.start < 3 for part in box)
