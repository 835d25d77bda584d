"""Paint a patient on an axis-aligned grid: CT numbers before the scanner touches them, and what is true of every voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .anatomy import Patient, Vertebra
from .chains import Capsule, arch, canal, pelvis, ribs
from .shell import lookup, wall_lookup
from .tissue import soft

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Painted:
    """`instance` uint8: 1 + row of `patient.vertebrae`, 0 elsewhere; `body`, `fracture` bool. Voxel (0, 0, 0) at `low`."""

    hu: np.ndarray
    instance: np.ndarray
    body: np.ndarray
    fracture: np.ndarray
    low: np.ndarray
    spacing: tuple[float, float, float]  # z, y, x

    def point_of(self, index) -> np.ndarray:
        """(..., 3) indices z, y, x -> LPS mm."""
        return (np.asarray(index, float) * self.spacing)[..., ::-1] + self.low


class _Canvas:
    def __init__(self, low, shape, spacing):
        self.low, self.shape, self.spacing = np.asarray(low, float), shape, spacing

    def box(self, low: np.ndarray, high: np.ndarray) -> Box | None:
        """Voxels between two LPS corners, or None outside the grid."""
        a = np.floor((low - self.low)[::-1] / self.spacing).astype(int)
        b = np.ceil((high - self.low)[::-1] / self.spacing).astype(int) + 1
        a, b = np.maximum(a, 0), np.minimum(b, self.shape)
        return tuple(slice(int(i), int(j)) for i, j in zip(a, b, strict=True)) if (b > a).all() else None

    def points(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Open LPS coordinate arrays x, y, z of a box."""
        steps = (np.arange(s.start, s.stop, dtype=np.float32) for s in box)
        z, y, x = (self.low[2 - k] + self.spacing[k] * n for k, n in enumerate(steps))
        return x[None, None, :], y[None, :, None], z[:, None, None]


def paint(
    patient: Patient, low, shape: tuple[int, int, int], spacing: tuple[float, float, float], *, contrast: str = "none",
    outside: bool = True,
) -> Painted:
    """Paint; `outside` False leaves out ribs and pelvis (for crops that do not see them)."""
    canvas = _Canvas(low, shape, spacing)
    hu = soft(patient, canvas.low, shape, spacing, contrast)
    instance, body, fracture = np.zeros(shape, np.uint8), np.zeros(shape, bool), np.zeros(shape, bool)
    distance = np.full(shape, 9.0, np.float16)
    reach = max(spacing)
    for i in range(len(patient.vertebrae) - 1):
        _disc(canvas, hu, patient, i)
    if outside:
        for v in patient.vertebrae:
            if v.ribs:
                for side in ribs(patient, v):
                    _bone(canvas, hu, side, 120 + patient.trabecular * 0.5, 620)
        for side in pelvis(patient):
            _bone(canvas, hu, side, 0.8 * patient.trabecular, 560)
    for i, v in enumerate(patient.vertebrae):
        _vertebra(canvas, patient, i, v, reach, hu, instance, body, fracture, distance)
    return Painted(hu, instance, body, fracture, canvas.low, spacing)


def _local(canvas, v: Vertebra, box: Box) -> list[np.ndarray]:
    x, y, z = canvas.points(box)
    dx, dy, dz = x - v.origin[0], y - v.origin[1], z - v.origin[2]
    return [(dx * r[0] + dy * r[1] + dz * r[2]).astype(np.float32) for r in v.frame]


def body_distance(v: Vertebra, u, vv, w) -> tuple[np.ndarray, ...]:
    """Signed distance to the body (mm, negative inside), depth under either plate, wall depth, theta, relative height."""
    shell = v.shell
    theta = np.arctan2(u, -vv)
    rho = np.hypot(u, vv)
    superior, inferior = lookup(shell.superior, u, vv), lookup(shell.inferior, u, vv)
    t = (2 * w - superior - inferior) / np.maximum(superior - inferior, 2.0)
    inner = np.clip(t, -1, 1)
    radius = shell.outline.radius(theta) * (1 - shell.waist * (1 - inner**2)) + wall_lookup(shell.wall, theta, t)
    side, top, bottom = rho - radius, w - superior, inferior - w
    plate = np.maximum(top, bottom)
    k = 1.6
    blend = np.clip(0.5 + 0.5 * (side - plate) / k, 0, 1)
    return plate + (side - plate) * blend + k * blend * (1 - blend), -top, -bottom, -side, theta, t


def _chain(canvas: _Canvas, parts: list[Capsule], box: Box, soft: float, v: Vertebra | None = None) -> np.ndarray:
    """Distance to a chain on a box of the canvas, 9 mm where it is far; capsules in the frame of `v` or in LPS."""
    total = np.zeros([s.stop - s.start for s in box], np.float32)
    for part in parts:
        ends = np.array([part.a, part.b])
        if v is not None:
            ends = ends @ v.frame + v.origin
        reach = max(part.ra, part.rb) / min(part.squash) + 6.0
        own = canvas.box(ends.min(0) - reach, ends.max(0) + reach)
        if own is None:
            continue
        own = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(own, box, strict=True))
        if any(s.stop <= s.start for s in own):
            continue
        at = _local(canvas, v, own) if v is not None else canvas.points(own)
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(own, box, strict=True))
        total[inner] += np.exp(np.clip(-part.distance(*at) / soft, -20, 20))
    return np.where(total > 1e-3, -soft * np.log(np.maximum(total, 1e-9)), 9.0).astype(np.float32)


def _vertebra(canvas, patient, i, v, reach, hu, instance, body, fracture, distance) -> None:
    """Paint one vertebra into its box; works on the voxels near its surfaces only."""
    parts = arch(v)
    ends = np.array([e for part in parts for e in (part.a, part.b)]) @ v.frame + v.origin
    around = np.array([v.shell.outline.width, v.shell.outline.depth, 1.7 * v.sizes["height"]]) / 2 + 13
    low, high = np.minimum(ends.min(0) - 12, v.origin - around), np.maximum(ends.max(0) + 12, v.origin + around)
    box = canvas.box(low, high)
    if box is None:
        return
    rng = np.random.default_rng([patient.seed, 50, i])
    rear = _chain(canvas, parts, box, 2.2, v)
    sd = np.full(rear.shape, 9.0, np.float32)
    core = canvas.box(v.origin - around, v.origin + around)
    texture = np.zeros(rear.shape, np.float32)
    if core is not None:
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(core, box, strict=True))
        sd[inner] = body_distance(v, *_local(canvas, v, core))[0]
        texture[inner] = _trabeculae(rng, sd[inner].shape, canvas.spacing)
    near = np.flatnonzero(np.minimum(sd, rear) < 2.5 + reach)
    if not len(near):
        return
    at = np.unravel_index(near, rear.shape)
    u, vv, w = (c[at] for c in np.broadcast_arrays(*_local(canvas, v, box)))
    sd, rear, texture = sd.ravel()[near], rear.ravel()[near], texture.ravel()[near]
    rear = rear + 0.8 * np.sin(0.21 * u + i) * np.cos(0.17 * w + 0.13 * vv + 2 * i)
    centre, half_u, half_v = canal(v)
    tunnel = (1 - np.sqrt((u / half_u) ** 2 + ((vv - centre) / half_v) ** 2)) * half_v
    rear = np.maximum(rear, tunnel)
    if v.sacral and v.level != "S5":  # foramina between the segments
        hole = np.hypot(np.abs(u) - 0.62 * v.shell.outline.width, w + 0.5 * v.sizes["height"])
        rear = np.maximum(rear, 6.0 - hole)
    close = sd < 8.0  # elsewhere only the arch is near, and the body's maps mean nothing
    under_top, over_bottom, wall, theta, t = (np.full(u.shape, -9.0, np.float32) for _ in range(5))
    values = body_distance(v, u[close], vv[close], w[close])
    for target, value in zip((under_top, over_bottom, wall, theta, t), values[1:], strict=True):
        target[close] = value
    if "limbus" in v.extras:
        size, gap, _ = v.extras["limbus"]
        plane = (-(vv + v.shell.outline.depth / 2) + (w - v.sizes["height"] / 2) + size) / 1.414
        sd = np.where(plane > 0, np.maximum(sd, gap - plane), np.maximum(sd, plane))
    whole = np.minimum(sd, rear)
    places = tuple(c + s.start for c, s in zip(at, box, strict=True))
    best = distance[places]
    own = (whole < best) & (whole < 1.5 + 0.5 * reach)
    occupied = np.clip(0.5 - whole / (1.1 * reach), 0, 1)
    spongy = patient.trabecular * (0.9 if v.sacral else 1.0)
    fill = spongy + texture * (22 + 0.22 * spongy)
    vein = np.exp(-((u / 5.5) ** 2) - ((w - 0.5) / 3.0) ** 2) * np.clip((vv + 2) / (v.shell.outline.depth / 2), 0, 1)
    fill = fill - 70 * vein * (sd < 0)
    region = np.zeros(u.shape, bool)
    inside = sd < 0
    for name, depth in (("superior", under_top), ("inferior", over_bottom)):
        band = getattr(v.shell, f"band_{name}")
        if band is not None:
            thick = lookup(band, u, vv)
            soft_edge = np.clip((thick - depth) / 2.0 + 0.5, 0, 1) * (thick > 0.8) * inside
            fill = fill + v.shell.band_hu * soft_edge * (1 + 0.25 * texture)
            if v.signs[name]:
                region |= (depth < np.clip(thick, 2.5, 9.0)) & (thick > 1.2) & (sd < 0.5)
    if v.shell.band_front:
        front = np.exp(-((theta / 0.9) ** 2)) * np.clip((v.shell.band_front - wall) / 2.0, 0, 1) * (wall < 12) * inside
        fill = fill + v.shell.band_hu * front * np.exp(-(((t - v.shell.fold_at) / 0.5) ** 2))
    if v.signs["anterior"] or v.signs["posterior"]:
        moved = (np.abs(wall_lookup(v.shell.wall, theta, t)) > 0.8) & (wall < 5.0) & (sd < 0.5)
        region |= moved & (((np.abs(theta) < 1.3) & v.signs["anterior"]) | ((np.abs(theta) > 2.4) & v.signs["posterior"]))
    fill, metal = _extras(v, u, vv, w, t, fill, texture)
    old = hu[places]
    bone = np.where(rear < sd, 0.6 * spongy + 90, fill)
    value = old * (1 - occupied) + bone * occupied
    cortex = rng.uniform(620, 980)
    thickness = _thickness(v, u, vv, under_top, over_bottom, wall)
    breaks = _breaks(v, u, vv, theta, t, under_top, over_bottom, wall)
    for surface, thick, level, broken in (
        (np.abs(sd + 0.3), thickness, cortex, breaks), (np.abs(rear + 0.7), 1.5, cortex * 0.95, 0.0),
    ):
        spread = np.sqrt((thick / 2) ** 2 + (0.4 * reach) ** 2)
        shell = np.minimum(1.0, thick / (2 * spread)) * np.exp(-((surface / spread) ** 2)) * (1 - 0.92 * broken)
        shell = shell * (whole > -2.2 - reach)  # no cortex where body and arch merge
        value = value + np.clip(level - value, 0, None) * shell
    if metal is not None:
        value, own = np.where(metal, 3071, value), own | metal
    hu[places] = np.where(own, value, old)
    label = own & (whole < 0)
    distance[places] = np.where(own, whole, best)
    chosen = tuple(c[label] for c in places)
    instance[chosen] = i + 1
    body[chosen] = (sd < 0)[label]
    fracture[chosen] = (region & (v.denis is not None))[label]


def _trabeculae(rng, shape, spacing) -> np.ndarray:
    """Band-passed noise, longer along the axis of load, unit standard deviation."""
    noise = rng.standard_normal(shape).astype(np.float32)
    fine = gaussian_filter(noise, [1.3 / spacing[0], 0.6 / spacing[1], 0.6 / spacing[2]])
    fine = fine - gaussian_filter(fine, [3.0 / spacing[0], 2.0 / spacing[1], 2.0 / spacing[2]])
    return np.clip(fine / max(float(fine.std()), 1e-6), -2.5, 3.5)


def _thickness(v, u, vv, under_top, over_bottom, wall) -> np.ndarray:
    """Cortex in mm: thin walls, thicker endplates, thickest where sclerosis lies."""
    plate = np.minimum(np.abs(under_top), np.abs(over_bottom)) < np.abs(wall)
    out = np.where(plate, 0.75, 0.5).astype(np.float32)
    for name, depth in (("superior", under_top), ("inferior", over_bottom)):
        rim = getattr(v.shell, f"rim_{name}")
        if rim is not None:
            out = out + 2.2 * lookup(rim, u, vv) * (np.abs(depth) < 4)
    return out


def _breaks(v, u, vv, theta, t, under_top, over_bottom, wall) -> np.ndarray:
    """Where the cortex is interrupted, 0..1."""
    out = np.zeros(u.shape, np.float32)
    for name, depth in (("superior", under_top), ("inferior", over_bottom)):
        lines = getattr(v.shell, f"break_{name}")
        if lines is not None:
            out = np.maximum(out, lookup(lines, u, vv) * (np.abs(depth) < 4))
    if v.shell.break_wall is not None:
        out = np.maximum(out, wall_lookup(v.shell.break_wall, theta, t) * (np.abs(wall) < 4))
    return np.clip(out, 0, 1)


def _extras(v, u, vv, w, t, fill, texture):
    """Haemangioma, bone island, lysis, cement, a healed line, screws."""
    metal = None
    for name, item in v.extras.items():
        if name in ("haemangioma", "island", "lesion", "cement"):
            (a, b, c), r = item
            away = np.sqrt((u - a) ** 2 + (vv - b) ** 2 + (w - c) ** 2) + 0.6 * texture
            inside = np.clip((r - away) / 1.0 + 0.5, 0, 1)
            stripes = (np.sin(1.7 * u) * np.sin(1.5 * vv) > 0.55) * 330.0
            level = {"haemangioma": -20 + stripes, "island": 780.0, "lesion": 45.0, "cement": 1900 + 250 * texture}[name]
            fill = fill * (1 - inside) + level * inside
        elif name == "line":
            place, lean, gain = item
            fill = fill + gain * np.exp(-(((t - place - lean * vv / 30) / 0.07) ** 2))
        elif name == "screws":
            x = v.sizes["canal"] / 2 + v.sizes["pedicle"] / 2
            for side in (-1, 1):
                tail = (side * x * 1.15, v.shell.outline.depth / 2 + 34, 5)
                rod = Capsule((side * x * 0.55, -8, 1), tail, item[0], item[0])
                hit = rod.distance(u, vv, w) < 0
                metal = hit if metal is None else metal | hit
    return fill, metal


def _disc(canvas, hu, patient, i) -> None:
    """The disc below vertebra i and the piece of spinal canal behind the pair."""
    a, b = patient.vertebrae[i], patient.vertebrae[i + 1]
    middle = (a.origin + b.origin) / 2
    reach = np.array([36.0, 62.0, 34.0]) * patient.scale
    box = canvas.box(middle - reach + (0, 14, 0), middle + reach + (0, 14, 0))
    if box is None:
        return
    rng = np.random.default_rng([patient.seed, 60, i])
    ua, va, wa = _local(canvas, a, box)
    ub, vb, wb = _local(canvas, b, box)
    below = lookup(a.shell.inferior, ua, va) - wa  # > 0 below the upper body
    above = wb - lookup(b.shell.superior, ub, vb)
    theta = np.arctan2(ub, -vb)
    edge = b.shell.outline.radius(theta) * rng.uniform(0.97, 1.07) - np.hypot(ub, vb)
    view = hu[box]
    centre, half_u, half_v = canal(b)
    away = np.sqrt((ub / half_u) ** 2 + ((vb - centre) / half_v) ** 2)
    near = (np.abs(wb) < b.sizes["height"] * 0.6 + patient.gaps[i]) & (away < 1)
    value = np.where(near, np.where(away < 0.78, 24, -60), view)
    held = (below > -1) & (above > -1) & (edge > 0)
    ring = np.clip(1 - edge / 9, 0, 1)
    value = np.where(held, 72 + 34 * ring + rng.uniform(-12, 12), value)
    if patient.vacuum[i] > 0:
        gas = held & (edge > 7) & (np.abs(below - above) < patient.gaps[i] * 0.35 * patient.vacuum[i] + 1.0)
        value = np.where(gas & (ub * np.cos(i) + vb * np.sin(i) < 6), -620, value)
    hu[box] = value


def _bone(canvas, hu, parts: list[Capsule], spongy: float, cortex: float) -> None:
    """A rib or one side of the pelvis: cortex over spongy bone."""
    ends = np.array([e for part in parts for e in (part.a, part.b)])
    reach = max(max(p.ra, p.rb) / min(p.squash) for p in parts) + 2
    box = canvas.box(ends.min(0) - reach, ends.max(0) + reach)
    if box is None:
        return
    sd = _chain(canvas, parts, box, 1.6)
    near = np.flatnonzero(sd < 1.2 * max(canvas.spacing))
    places = tuple(c + s.start for c, s in zip(np.unravel_index(near, sd.shape), box, strict=True))
    sd = sd.ravel()[near]
    occupied = np.clip(0.5 - sd / (1.1 * max(canvas.spacing)), 0, 1)
    target = cortex + (spongy - cortex) * np.clip((-sd - 0.8) / 1.2, 0, 1)
    hu[places] += (target - hu[places]) * occupied
