"""One vertebral body: two endplates as height fields and a wall as a table of radii around them.

Frame of a body: x to the left, y to the back, z up, mm, origin midway between the undamaged plates. Endplate fields are
(CELLS, CELLS), indexed y, x, of GRID mm. The wall is indexed by the angle about z and the relative height between the
plates (-1 on the inferior one, 1 on the superior one, a little beyond for rims).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .shapes import Points, smooth_max

CELLS, GRID = 121, 0.5
ANGLES, STEPS, REACH = 181, 53, 1.3  # of the wall's table
MEASURED = {"anterior": -0.8, "middle": 0.0, "posterior": 0.8}  # of the half depth: clinical.md 2.1
BAND = 0.2  # of the half width, each side: clinical.md 2.1
EDGE = 1.6  # mm over which plate and wall round into each other
SIGNS = ("superior", "inferior", "anterior", "posterior")
THINNEST = 3.0  # mm left between the plates however deep they sink

_axis = (np.arange(CELLS) - CELLS // 2) * GRID
PLATE_Y, PLATE_X = np.meshgrid(_axis, _axis, indexing="ij")
WALL_ANGLE, WALL_STEP = np.meshgrid(np.linspace(-np.pi, np.pi, ANGLES), np.linspace(-REACH, REACH, STEPS), indexing="ij")
FRONT = -np.pi / 2  # the angle of the anterior wall


@dataclass
class Plate:
    """One endplate: `bowl` mm of normal concavity, the rest are fields.

    sunk   mm that the plate has moved towards the middle of the body
    whole  1 where the plate is continuous, 0 in a crack
    thick  factor on the thickness of its bone
    dense  0..1, where trabeculae under it are impacted
    """

    bowl: float
    sunk: np.ndarray = field(default_factory=lambda: np.zeros((CELLS, CELLS)))
    whole: np.ndarray = field(default_factory=lambda: np.ones((CELLS, CELLS)))
    thick: np.ndarray = field(default_factory=lambda: np.ones((CELLS, CELLS)))
    dense: np.ndarray = field(default_factory=lambda: np.zeros((CELLS, CELLS)))


@dataclass(frozen=True)
class Size:
    """Heights in front and behind, widths and depths of the superior and inferior plate; mm."""

    anterior: float
    posterior: float
    upper_width: float
    upper_depth: float
    lower_width: float
    lower_depth: float

    @property
    def width(self) -> float:
        return (self.upper_width + self.lower_width) / 2

    @property
    def depth(self) -> float:
        return (self.upper_depth + self.lower_depth) / 2

    @property
    def height(self) -> float:
        return (self.anterior + self.posterior) / 2


@dataclass(frozen=True)
class Band:
    """Impacted trabeculae under a sunken plate: HU above marrow, distance from the plate and half width in mm."""

    hu: float
    distance: float
    width: float


@dataclass(frozen=True)
class Oblique:
    """Impacted trabeculae behind a buckled front wall: relative height, relative depth, half width (mm), HU, slope."""

    step: float
    depth: float
    width: float
    hu: float
    slope: float


class Distances(NamedTuple):
    """Signed mm at some points, and where they fall on the wall's table (cells)."""

    surface: np.ndarray
    wall: np.ndarray
    below_superior: np.ndarray
    above_inferior: np.ndarray
    on_wall: list[np.ndarray]


@dataclass
class Body:
    """A body as it is now; `damage` and `mimics` change it in place before it is drawn."""

    size: Size
    superior: Plate
    inferior: Plate
    radius: np.ndarray  # (ANGLES, STEPS) mm
    whole: np.ndarray  # (ANGLES, STEPS) 1 where the cortex is continuous
    lean: float  # sideways slope of the plates
    marrow: float  # HU above the patient's
    anterior_loss: float = 0.0  # of the height in front, by tilting plates
    posterior_loss: float = 0.0
    band: Band | None = None
    oblique: Oblique | None = None
    healed: bool = False
    swelling: float = 0.0  # mm of soft tissue around a fresh fracture
    signs: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(SIGNS, False))

    def plate(self, side: str) -> Plate:
        return self.superior if side == "superior" else self.inferior

    def edges(self, damaged: bool = True) -> tuple[float, float]:
        """Heights in front and behind without bowl and sinking; the chain of the spine is stacked by them."""
        front, behind = self.size.anterior, self.size.posterior
        return (front * (1 - self.anterior_loss), behind * (1 - self.posterior_loss)) if damaged else (front, behind)

    def surfaces(self, damaged: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """z of the superior and the inferior plate (mm), slightly smoothed: what is drawn and what is measured."""
        front, behind = self.edges(damaged)
        half = (front + behind) / 4
        slope = (front - behind) / (2 * 0.9 * self.size.depth)
        upper = half - PLATE_Y * slope + self.lean * PLATE_X - self.superior.bowl * self._bowl(0.12)
        lower = -half + PLATE_Y * slope + self.lean / 2 * PLATE_X + self.inferior.bowl * self._bowl(0.1)
        if damaged:
            upper, lower = upper - self.superior.sunk, lower + self.inferior.sunk
        upper = np.maximum(upper, lower + THINNEST)
        return ndimage.gaussian_filter(upper, 0.7), ndimage.gaussian_filter(lower, 0.7)

    def _bowl(self, back: float) -> np.ndarray:
        """Normal concavity, 1 in the middle, deepest somewhat behind it: clinical.md 3.2."""
        x, y = self.relative()
        return np.clip(1 - (np.abs(x) / 0.82) ** 2.4 - (np.abs(y - back) / 0.82) ** 2.4, 0, 1)

    def relative(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the plates' cells in half widths and half depths."""
        return PLATE_X / (self.size.width / 2), PLATE_Y / (self.size.depth / 2)

    def heights(self, damaged: bool = True) -> dict[str, float]:
        """Mean height (mm) over the central band in front, amid and behind, as clinical.md 2.1 measures it."""
        upper, lower = self.surfaces(damaged)
        x, _ = self.relative()
        half = self.size.depth / 2
        return {
            name: float((upper - lower)[(np.abs(x) <= BAND) & (np.abs(PLATE_Y - where * half) < 1.0)].mean())
            for name, where in MEASURED.items()
        }

    def loss(self) -> float:
        """Largest relative loss of the three heights against the undamaged body."""
        now, before = self.heights(), self.heights(damaged=False)
        return max(1 - now[k] / before[k] for k in now)

    def depth_of(self, side: str) -> float:
        """mm that a plate has sunk over a tenth of its area: the smallest area of a depression in clinical.md 2.4."""
        x, y = self.relative()
        return float(np.quantile(self.plate(side).sunk[x**2 + y**2 < 1], 0.9))

    def distances(self, points: Points) -> Distances:
        """Distances at points of the body's frame."""
        upper, lower = (at_plate(s, points) for s in self.surfaces())
        step = (2 * points[2] - upper - lower) / np.maximum(upper - lower, THINNEST)
        angle = np.arctan2(points[1], points[0]) + np.pi
        cell = (REACH + np.clip(step, 0.01 - REACH, REACH - 0.01)) / (2 * REACH) * (STEPS - 1)
        on_wall = [angle / (2 * np.pi) * (ANGLES - 1), cell]
        radius = ndimage.gaussian_filter(self.radius, (1, 0.5), mode=("wrap", "nearest"))
        # 0.96: the wall leans, so that the radial distance overstates the one along its normal
        wall = (np.hypot(points[0], points[1]) - at_cells(radius, on_wall)) * np.float32(0.96)
        below, above = upper - points[2], points[2] - lower
        surface = smooth_max(smooth_max(wall, -below, EDGE), -above, EDGE)
        return Distances(surface, wall, below, above, on_wall)

    def centre(self) -> np.ndarray:
        """Centroid (3,) of the body as it will be drawn, in its own frame; mm."""
        axis = np.arange(-34, 34.1, 1.0, dtype=np.float32)
        up, back, left = np.meshgrid(axis, axis, axis, indexing="ij")
        inside = self.distances((left, back, up)).surface < 0
        return np.array([float(p[inside].mean()) for p in (left, back, up)])


def make_body(rng: np.random.Generator, size: Size, bowls: tuple[float, float]) -> Body:
    """A healthy body with a kidney-shaped outline and a waist; `bowls` of the superior and inferior plate in mm."""
    level = (np.clip(WALL_STEP, -1, 1) + 1) / 2
    half_width = (size.lower_width + (size.upper_width - size.lower_width) * level) / 2
    half_depth = (size.lower_depth + (size.upper_depth - size.lower_depth) * level) / 2
    power = rng.uniform(2.2, 2.6)
    radius = (np.abs(np.cos(WALL_ANGLE)) / half_width) ** power + (np.abs(np.sin(WALL_ANGLE)) / half_depth) ** power
    radius **= -1 / power
    radius *= 1 - rng.uniform(0.04, 0.08) * np.exp(-(((WALL_ANGLE + FRONT) / 0.42) ** 2))  # hollow towards the canal
    waist = rng.uniform(0.07, 0.12) * np.where(np.sin(WALL_ANGLE) > 0.6, 0.45, 1)
    radius *= 1 - waist * (1 - np.clip(np.abs(WALL_STEP), 0, 1) ** 2.2)
    for lobes in (2, 3, 4):
        radius *= 1 + rng.normal(0, 0.007) * np.cos(lobes * WALL_ANGLE + rng.uniform(0, 6))
    lean, marrow = rng.normal(0, 0.012), rng.normal(0, 6)
    return Body(size, Plate(bowls[0]), Plate(bowls[1]), radius, np.ones_like(radius), lean, marrow)


def at_plate(values: np.ndarray, points: Points) -> np.ndarray:
    """A plate's field at points of the body's frame."""
    return at_cells(values, np.broadcast_arrays(points[1] / GRID + CELLS // 2, points[0] / GRID + CELLS // 2))


def at_cells(values: np.ndarray, cells: list[np.ndarray]) -> np.ndarray:
    """A table at fractional cells; linear, the nearest outside."""
    return ndimage.map_coordinates(values.astype(np.float32), cells, order=1, mode="nearest")
