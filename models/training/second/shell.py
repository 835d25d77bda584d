"""A vertebral body as maps: an outline in polar Fourier form, two endplate height maps and a wall map.

Local frame of a vertebra, mm: u to the patient's left, v to the back, w to the head; the origin is the middle of the
undamaged body. Theta is 0 at the front, +-pi at the back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

STEP = 0.6  # mm between nodes of an endplate map
HALF = 39.0
AXIS = np.arange(-HALF, HALF + 1e-6, STEP)
V, U = np.meshgrid(AXIS, AXIS, indexing="ij")
THETAS, LEVELS_T = 128, 65  # nodes of a wall map
WALL_THETA = np.linspace(-np.pi, np.pi, THETAS)[:, None]
WALL_T = np.linspace(-1.0, 1.0, LEVELS_T)[None, :]


@dataclass(frozen=True)
class Outline:
    """Radius by angle: an ellipse-like base, a flattened or hollow back and rounded corners beside it."""

    width: float
    depth: float
    hollow: float  # of the back, fraction of half the depth
    corner: float
    heart: float  # narrows the front, as thoracic bodies have it
    ripple: tuple[float, float] = (0.0, 0.0)

    def radius(self, theta: np.ndarray) -> np.ndarray:
        base = (self.width + self.depth) / 4
        a = (self.depth - self.width) / (self.depth + self.width)
        away = np.abs(theta)
        r = 1 + a * np.cos(2 * theta) - self.heart * np.exp(-((away / 0.9) ** 2))
        r = r - self.hollow * np.exp(-(((np.pi - away) / 0.42) ** 2)) + self.corner * np.exp(-(((away - 2.25) / 0.38) ** 2))
        r = r + self.ripple[0] * np.cos(5 * theta) + self.ripple[1] * np.sin(4 * theta)
        return base * r


@dataclass
class Shell:
    """Everything that shapes one body. Maps are [v, u] (mm or 0..1); wall maps are [theta, t], t = -1 below .. 1 above.

    superior, inferior   height maps; wall   outward displacement; waist   relative narrowing at mid height
    break_*              1 where the cortex is broken; band_*   mm of compacted bone under that endplate
    rim_*                extra sclerosis of the endplate, 0..1
    """

    outline: Outline
    superior: np.ndarray
    inferior: np.ndarray
    waist: float
    wall: np.ndarray = field(default_factory=lambda: np.zeros((THETAS, LEVELS_T), np.float32))
    break_superior: np.ndarray | None = None
    break_inferior: np.ndarray | None = None
    break_wall: np.ndarray | None = None
    band_superior: np.ndarray | None = None
    band_inferior: np.ndarray | None = None
    band_hu: float = 0.0
    band_front: float = 0.0  # mm of compaction behind a folded front wall
    fold_at: float = 0.0  # relative height of that fold
    rim_superior: np.ndarray | None = None
    rim_inferior: np.ndarray | None = None

    def polar(self) -> np.ndarray:
        """Distance from the axis relative to the outline, on the endplate nodes."""
        return np.hypot(U, V) / self.outline.radius(np.arctan2(U, -V))

    def inside(self) -> np.ndarray:
        return self.polar() < 0.97

    def heights(self) -> dict[str, float]:
        """Anterior, middle, posterior height: 80 % of the half-depth, central +-20 % of the half-width."""
        front, back = -float(self.outline.radius(np.array(0.0))), float(self.outline.radius(np.array(np.pi)))
        middle, half = (front + back) / 2, (back - front) / 2
        u = np.linspace(-0.2, 0.2, 9) * self.outline.width / 2
        out = {}
        for name, side in (("anterior", -0.8), ("middle", 0.0), ("posterior", 0.8)):
            v = np.full_like(u, middle + side * half)
            out[name] = float(np.mean(lookup(self.superior, u, v) - lookup(self.inferior, u, v)))
        return out

    def middle_w(self) -> float:
        """Height of the body's centroid in its frame."""
        held = self.inside()
        thick = (self.superior - self.inferior)[held]
        return float(((self.superior + self.inferior)[held] / 2 * thick).sum() / thick.sum())


def lookup(grid: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An endplate map at points of the frame."""
    return map_coordinates(grid, [(v + HALF) / STEP, (u + HALF) / STEP], order=1, mode="nearest")


def wall_lookup(grid: np.ndarray, theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A wall map at angles and relative heights."""
    return map_coordinates(
        grid, [(theta + np.pi) / (2 * np.pi) * (THETAS - 1), (np.clip(t, -1, 1) + 1) / 2 * (LEVELS_T - 1)],
        order=1, mode="nearest",
    )


def roughness(rng: np.random.Generator, millimetres: float) -> np.ndarray:
    """Smooth random map of unit standard deviation with features of about this size."""
    noise = gaussian_filter(rng.standard_normal(U.shape), millimetres / STEP)
    return noise / noise.std()


def build(
    rng: np.random.Generator, outline: Outline, front: float, back: float, *, dish: tuple[float, float], lift: float = 0.0,
) -> Shell:
    """An undamaged body: planes through front and back height, dished inside a rim.

    `dish` is the depth of the upper and the lower endplate's hollow; `lift` raises the cranial rim's back corner.
    """
    span = outline.depth / 2
    lean = (back - front) / 2 * (V / span) * 0.5
    middle = (front + back) / 4
    rho = np.hypot(U, V) / outline.radius(np.arctan2(U, -V))
    centre = rng.uniform(0.0, 0.25, 2)
    superior = middle + lean + lift * np.clip(V / span, 0, 1) ** 2
    inferior = -middle - lean
    for grid, depth, sign, shift in ((superior, dish[0], -1, centre[0]), (inferior, dish[1], 1, centre[1])):
        off = np.hypot(U, V - shift * span) / outline.radius(np.arctan2(U, -V))
        grid += sign * depth * np.clip(1 - np.clip(off, 0, 1.1) ** 2.6, 0, None)
        grid += -sign * 0.5 * np.exp(-(((rho - 0.93) / 0.08) ** 2))
        grid += 0.12 * roughness(rng, 4.0)
    return Shell(outline, superior.astype(np.float32), inferior.astype(np.float32), float(rng.uniform(0.05, 0.12)))
