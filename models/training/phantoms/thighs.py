"""Thighs below the perineum: two outlines instead of one, femoral shafts with a thick cortex, septa and vessels (LPS mm)."""

from __future__ import annotations

import numpy as np
import torch

from .soft import Capsule, Ellipsoid, Legs, Torso, to_tuple

Tensor = torch.Tensor
#: How far (mm) the thighs reach up into the pelvis, so that the outlines merge, and how fast they get slimmer there.
_OVERLAP_MM, _SLIMMER = 90.0, 0.005
#: The groin rises forwards at this slope from where the pubis is, so many mm before the middle of the thighs.
_GROIN, _PUBIS_MM = 0.6, 40.0


def sample_legs(rng: np.random.Generator, torso: Torso, femora: list[Capsule], s1_z: float, scale: float) -> Legs:
    """Thighs around two shafts that continue the hips of a torso."""
    top = float(s1_z - rng.uniform(165, 180) * scale)
    knots = torso.z0 + torso.step * np.arange(len(torso.half_width))
    a, b, cx, cy = (
        float(np.interp(top, knots, table)) for table in (torso.half_width, torso.half_depth, torso.centre_x, torso.centre_y)
    )
    width = a * float(rng.uniform(0.46, 0.5))
    depth = min(1.05 * width, 0.88 * b)
    middles = []
    for shaft in femora:
        x, y, _ = np.add(shaft.a, shaft.b) / 2
        side = np.sign(x - np.mean([f.a[0] for f in femora]))
        # Between the middle of a hip and that of muscles around the shaft, which lies behind and outside it.
        middles.append((
            float((cx + side * (a - width) + x - side * 0.25 * width) / 2), float((cy + b - depth + y - 0.1 * depth) / 2)
        ))  # fmt: skip
    return Legs(top, tuple(middles), width, depth, float(rng.uniform(0.0004, 0.0012)))


def floor_z(legs: Legs, y: Tensor) -> Tensor:
    """LPS z (mm) at which the torso ends: the perineum, and in front of it the groin."""
    return legs.top_z + _GROIN * (float(np.mean([m[1] for m in legs.middles])) - _PUBIS_MM - y).clamp(min=0)


def with_legs(body: Tensor, legs: Legs | None, point: tuple[Tensor, Tensor, Tensor], shrink: Tensor | float) -> Tensor:
    """The signed distance `body` of a torso layer, `shrink` mm under its skin, closed at the perineum and joined to the
    same layer of the thighs.
    """
    if legs is None:
        return body
    x, y, z = point
    out = torch.maximum(body, floor_z(legs, y) + shrink - z)
    slim = 1 - legs.taper * (legs.top_z - z).clamp(min=0) - _SLIMMER * (z - legs.top_z).clamp(0, _OVERLAP_MM)
    a, b = legs.half_width * slim - shrink, legs.half_depth * slim - shrink
    for cx, cy in legs.middles:
        r = torch.sqrt(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2)
        out = torch.minimum(out, torch.maximum((r - 1) * b, z - legs.top_z - _OVERLAP_MM))
    return out


def thigh_tissues(rng: np.random.Generator, legs: Legs, femora: list[Capsule], scale: float) -> tuple[list, list]:
    """Soft parts in painting order, and cortex and marrow of the shafts, which come over the other bones."""
    soft, last = [], []
    for shaft in femora:
        a, b = np.asarray(shaft.a), np.asarray(shaft.b)
        cx, cy = min(legs.middles, key=lambda middle: abs(middle[0] - a[0]))
        side = np.sign(a[0] - np.mean([middle[0] for middle in legs.middles]))
        middle = np.array([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2])
        for turn, length in ((0.1, 0.8), (2.3, 1.0), (4.2, 0.9)):  # planes of fat between extensors, adductors, flexors
            turn = side * (turn + rng.normal(0, 0.15))
            ray = np.array([np.sin(turn) * side, -np.cos(turn), 0.0])
            half = length * min(legs.half_width, legs.half_depth) * 0.42
            frame = (to_tuple(ray), (float(-ray[1]), float(ray[0]), 0.0), (0.0, 0.0, 1.0))
            where = middle + ray * (half + shaft.rb * 0.8)
            soft.append(Ellipsoid("fat", to_tuple(where), (half, float(rng.uniform(1.2, 3.0)), 170.0), frame))
        canal = np.array([cx - side * 0.35 * legs.half_width, cy - 0.35 * legs.half_depth, middle[2]])
        for tissue, radius, shift in (("fat", 12, (0, 0)), ("vein", 5.5, (-5, 3)), ("artery", 4.5, (4, -2))):
            where = canal + (*np.multiply(shift, scale), 0.0)
            up = np.array([side * 12.0, -10.0, 150.0])
            soft.append(Capsule(tissue, to_tuple(where + up), to_tuple(where - up), radius * scale, radius * scale))
        start, radius = a + 0.2 * (b - a), shaft.ra + 0.2 * (shaft.rb - shaft.ra)
        last += [
            Capsule("cortex", to_tuple(start), to_tuple(b), radius, shaft.rb),
            Capsule("fat", to_tuple(a), to_tuple(b), radius - 3.0, shaft.rb * float(rng.uniform(0.45, 0.62))),
        ]
    return soft, last
