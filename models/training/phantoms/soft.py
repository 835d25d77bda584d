"""Primitives of everything that is not a vertebra, and the torso outline.

Primitives are analytic (ellipsoids, tapered capsules, thick triangles) in LPS mm, painted in order; shapes are engineering
choices that give a net the context of a CT, not anatomy for its own sake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """Filled ellipsoid; frame rows are its axes."""

    tissue: str
    centre: Point
    radii: Point
    frame: tuple[Point, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    rim: str | None = None
    rim_mm: float = 0.0


@dataclass(frozen=True)
class Capsule:
    """Tapered capsule from a to b with radii ra and rb; a rim paints a wall (vessel, bowel) of rim_mm inside the surface."""

    tissue: str
    a: Point
    b: Point
    ra: float
    rb: float
    rim: str | None = None
    rim_mm: float = 0.0


@dataclass(frozen=True)
class Triangle:
    """Thick triangle (flat bone)."""

    p: tuple[Point, ...]
    radius: float


@dataclass(frozen=True)
class BoneGroup:
    """Bones painted together: union of parts, one shell of rim_mm cortex around cancellous bone."""

    parts: tuple[Capsule | Triangle | Ellipsoid, ...]
    rim_mm: float


@dataclass(frozen=True)
class Torso:
    """Elliptic outline as functions of z: knots every `step` mm from z0 (LPS mm)."""

    z0: float
    step: float
    half_width: tuple[float, ...]
    half_depth: tuple[float, ...]
    centre_x: tuple[float, ...]
    centre_y: tuple[float, ...]
    cavity_shift: float
    fat_mm: float
    wall_mm: float
    lung_z: float
    square: float
    streaks: float
    table_gap: float | None

    @property
    def half_width_max(self) -> float:
        """Largest half width in mm."""
        return max(self.half_width)

    @property
    def half_depth_max(self) -> float:
        """Largest half depth in mm."""
        return max(self.half_depth)

    @property
    def centre_xy(self) -> tuple[float, float]:
        """Mean centre of the outline (LPS mm)."""
        return float(np.mean(self.centre_x)), float(np.mean(self.centre_y))


@dataclass(frozen=True)
class Scene:
    """Painting order: soft (organs, muscles, vessels), then vertebrae, then bones."""

    soft: tuple[Ellipsoid | Capsule, ...]
    bones: tuple[BoneGroup, ...]


@dataclass(frozen=True)
class Legs:
    """Elliptic thighs below the perineum at `top_z`: middles (x, y) right and left, half sizes there (LPS mm)."""

    top_z: float
    middles: tuple[tuple[float, float], tuple[float, float]]
    half_width: float
    half_depth: float
    taper: float  # share of the half sizes that each mm downwards takes


@dataclass(frozen=True)
class Additions:
    """What some patients have besides the scene; drawn from its own streams, so that patients without it stay as they are.

    Painted where the scene paints the same; `last` comes over all bones. `torso` replaces the outline (not the table).
    """

    soft: tuple[Ellipsoid | Capsule, ...] = ()
    bones: tuple[BoneGroup, ...] = ()
    last: tuple[Ellipsoid | Capsule, ...] = ()
    torso: Torso | None = None
    neck_z: float | None = None  # LPS z (mm) of T1 where a neck follows: the lungs end there, fat gets thin
    legs: Legs | None = None


def to_tuple(p) -> Point:
    """A point as plain floats."""
    return tuple(float(x) for x in p)


def sample_torso(rng: np.random.Generator, vertebrae, at: dict[str, np.ndarray], scale: float, clean: bool) -> Torso:
    """Outline, fat and muscle wall of a patient around a stacked spine; `at` holds the origins by level."""
    girth = 1.0 if clean else float(rng.uniform(0.85, 1.3))
    fat = 14.0 if clean else float(np.clip(rng.normal(18 * girth, 8), 4, 55))
    z0, step = at["S5"][2] - 260.0, 20.0
    z = np.arange(z0, at["T1"][2] + 160.0, step)
    marks = [z[0], at["S5"][2] - 40, *(at[n][2] for n in ("S1", "L3", "T11", "T6", "T2")), at["T1"][2] + 60, z[-1]]
    widths = np.array([165, 172, 165, 150, 150, 155, 150, 75, 62])
    width = np.interp(z, marks, widths * scale * (0.4 + 0.6 * girth))
    depth = np.interp(z, marks, np.array([95, 108, 108, 102, 108, 112, 88, 65, 62]) * scale * girth**0.9)
    back_y = _back(vertebrae, z, (9 + fat * 0.8) * scale)
    order = sorted(at.values(), key=lambda p: p[2])
    spine_x = np.interp(z, [p[2] for p in order], [p[0] for p in order])
    centre_x = np.full_like(z, float(np.mean(spine_x))) * 0.7 + spine_x * 0.3 + (0 if clean else rng.normal(0, 5))
    return Torso(
        z0=float(z0),
        step=step,
        half_width=to_tuple(width),
        half_depth=to_tuple(depth),
        centre_x=to_tuple(centre_x),
        centre_y=to_tuple(back_y - depth),
        cavity_shift=float(30 * scale),
        fat_mm=fat,
        wall_mm=float(rng.uniform(9, 16)),
        lung_z=float(at["T10"][2] + rng.uniform(-35, 25)),
        square=float(rng.uniform(0.0, 0.5)),
        streaks=0.25 if clean else float(rng.uniform(0.0, 0.9)),
        table_gap=float(rng.uniform(0, 6)) if clean or rng.random() < 0.8 else None,
    )


def _back(vertebrae, z: np.ndarray, cover: float) -> np.ndarray:
    """y of the skin of the back: it follows the spinous processes, smoothed, so it bridges the lumbar hollow."""
    tips = []
    for v in vertebrae:
        frame = np.asarray(v.frame)
        reach = v.body.half_depth + v.arch.canal_d + v.arch.sp_len + 2
        end = (
            np.asarray(v.origin_mm) + frame[1] * reach - frame[2] * (0.22 * v.arch.height + v.arch.sp_slope * v.arch.sp_len)
        )
        tips.append((end[2], end[1]))
    tips.sort()
    tip_y = np.interp(z, [t[0] for t in tips], [t[1] for t in tips])
    wide = np.convolve(np.pad(tip_y, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    back = np.maximum(tip_y, wide) + cover
    return np.convolve(np.pad(back, 2, mode="edge"), np.ones(5) / 5, mode="valid")
