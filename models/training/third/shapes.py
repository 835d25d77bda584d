"""Geometry that everything is built from: smooth steps and unions, frames, capsules, ellipsoids, noise.

Points are three float32 arrays (x, y, z) that broadcast against each other, in mm. Distances are signed mm, negative inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Points = Sequence[np.ndarray]


@dataclass(frozen=True)
class Frame:
    """A place in the patient (LPS mm): `axes` has the unit vectors to the left, the back and the head as its columns."""

    origin: np.ndarray
    axes: np.ndarray

    def to_local(self, points: Points) -> list[np.ndarray]:
        """Points of the patient as left, back and up of this frame."""
        shifted = [p - np.float32(o) for p, o in zip(points, self.origin, strict=True)]
        turn = self.axes.astype(np.float32)
        return [turn[0, i] * shifted[0] + turn[1, i] * shifted[1] + turn[2, i] * shifted[2] for i in range(3)]

    def to_patient(self, points: Points) -> list[np.ndarray]:
        """Points of this frame as LPS mm."""
        turn = self.axes.astype(np.float32)
        return [np.float32(self.origin[i]) + sum(turn[i, j] * points[j] for j in range(3)) for i in range(3)]

    def at(self, left: float = 0.0, back: float = 0.0, up: float = 0.0) -> np.ndarray:
        """One point of this frame as LPS mm (3,)."""
        return self.origin + self.axes @ np.array([left, back, up])


def rotation(forward: float, sideways: float = 0.0, turn: float = 0.0) -> np.ndarray:
    """Axes (3, 3) of something tilted forward, to the left and turned about its own axis (rad)."""
    up = np.array([np.sin(sideways), -np.sin(forward) * np.cos(sideways), np.cos(forward) * np.cos(sideways)])
    back = np.array([np.sin(turn), np.cos(forward), np.sin(forward)])
    back -= up * (back @ up)
    back /= np.linalg.norm(back)
    return np.stack([np.cross(back, up), back, up], 1)


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Union of two distances whose seam is rounded over `width` mm."""
    share = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + (a - b) * share - width * share * (1 - share)


def smooth_max(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Intersection of two distances whose edge is rounded over `width` mm."""
    return -smooth_min(-a, -b, width)


def capsule(
    points: Points, start: Sequence[float], end: Sequence[float], start_radius: float, end_radius: float,
    squeeze: Sequence[float] = (1.0, 1.0, 1.0),
) -> np.ndarray:
    """Distance to a rod between two points; an axis with a `squeeze` below 1 stretches its section by 1 / squeeze."""
    scale = np.asarray(squeeze, float)
    first = np.asarray(start, float)
    along = ((np.asarray(end, float) - first) * scale).astype(np.float32)
    moved = [(points[i] - np.float32(first[i])) * np.float32(scale[i]) for i in range(3)]
    length = np.float32(along @ along + 1e-6)
    where = np.clip((moved[0] * along[0] + moved[1] * along[1] + moved[2] * along[2]) / length, 0, 1)
    reach = np.sqrt(sum((moved[i] - where * along[i]) ** 2 for i in range(3)))
    radius = np.float32(start_radius) + where * np.float32(end_radius - start_radius)
    return (reach - radius) / np.float32(np.sqrt(scale.mean()))


def ellipsoid(points: Points, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """Distance to an ellipsoid, exact along its shortest axis only."""
    reach = np.sqrt(sum(((points[i] - np.float32(centre[i])) / np.float32(radii[i])) ** 2 for i in range(3)))
    return (reach - 1) * np.float32(min(radii))


def ellipse(across: np.ndarray, along: np.ndarray, half_across: float, half_along: float) -> np.ndarray:
    """Relative distance from the middle of an ellipse: 1 on its edge."""
    return np.sqrt((across / half_across) ** 2 + (along / half_along) ** 2)


def noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation 1; `sigma` in cells."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return field / field.std()


def lerp(values: np.ndarray, position: np.ndarray, axis: int) -> np.ndarray:
    """Values at fractional indices along one axis; linear, clamped to the first and last cell."""
    low = np.clip(position.astype(int), 0, values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    share = (position - low).astype(np.float32).reshape(shape)
    out = np.take(values, low, axis)
    step = np.take(values, low + 1, axis)
    step -= out
    step *= share
    out += step
    return out
