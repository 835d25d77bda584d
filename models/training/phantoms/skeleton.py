"""Ribs and pelvis with femora around a stacked spine (LPS mm)."""

from __future__ import annotations

import numpy as np

from .soft import BoneGroup, Capsule, Ellipsoid, Triangle, to_tuple


def ribs(rng, vertebrae, torso, scale) -> list[BoneGroup]:
    """Twelve pairs: head at the body's posterolateral edge, neck to the transverse process, then around the thoracic
    wall.
    """
    groups = []
    reach = {1: 1.9, 2: 2.3, 3: 2.5, 4: 2.6, 5: 2.6, 6: 2.6, 7: 2.5, 8: 2.35, 9: 2.15, 10: 1.9, 11: 1.35, 12: 0.85, 13: 0.5}
    short12 = rng.uniform(0.35, 0.5) if rng.random() < 0.126 else rng.uniform(0.7, 1.15)
    squeeze = rng.uniform(0.8, 0.88)
    for v in (v for v in vertebrae if v.level.startswith("T")):
        number = int(v.level[1:])
        for side in (-1, 1):
            groups.append(rib(v, torso, scale, number, side, short12 if number == 12 else reach[number], squeeze))
    return groups


def rib(v, torso, scale: float, number: int, side: int, end: float, squeeze: float) -> BoneGroup:
    """One rib of a vertebra, to the angle `end` (radians from the back) of a wall squeezed to that share of the torso's."""
    u, back, up = np.asarray(v.frame)
    origin = np.asarray(v.origin_mm)
    low = np.clip((origin[2] - torso.z0) / torso.step, 0, len(torso.half_width) - 1)
    k = np.arange(len(torso.half_width))
    a, b = (np.interp(low, k, x) for x in (torso.half_width, torso.half_depth))
    cx, cy = (np.interp(low, k, x) for x in (torso.centre_x, torso.centre_y))
    a, b = (a - torso.fat_mm) * squeeze + 8, (b - torso.fat_mm) * squeeze + 4
    head = (
        origin
        + u * side * v.body.half_width * 0.92
        + back * v.body.half_depth * 0.85
        + up * v.body.r0 * (0.55 if number < 11 else 0.1)
    )
    neck = (
        origin
        + u * side * (v.arch.tp_span / 2 + 2)
        + back * (v.body.half_depth + v.arch.canal_d * 0.5 + v.arch.tp_back * 0.5)
        + up * 2
    )
    fall = (75 + 8 * number) * scale
    points = [head, neck]
    for phi in np.arange(0.5, end + 0.01, 0.22):
        down = fall * (phi - 0.35) / np.pi * (1.25 if phi < 1.7 else 1.1)
        points.append(np.array([cx + side * a * np.sin(phi), cy + b * np.cos(phi), origin[2] - down]))
    radii = [4.4 * scale] * 2 + [4.8 * scale] * (len(points) - 2)
    parts = tuple(
        Capsule("spongy", to_tuple(p), to_tuple(q), r, s)
        for p, q, r, s in zip(points, points[1:], radii, radii[1:], strict=False)
    )
    return BoneGroup(parts, 1.3)


def pelvis(rng, at, scale) -> list[BoneGroup]:
    groups = []
    s1 = at["S1"]
    for side in (-1, 1):

        def place(x, y, z, side=side):
            return to_tuple(s1 + np.array([side * x, y, z]) * scale)

        hip = place(87, -20, -112)
        joint, crest, front, rear = place(60, 28, -28), place(112, 5, 48), place(122, -62, -32), place(72, 52, 30)
        spine = place(42, 52, -30)
        roof = place(92, -14, -84)
        wing = (
            Triangle((roof, front, crest), 4.2),
            Triangle((roof, crest, rear), 4.2),
            Triangle((roof, rear, spine), 5.5),
            Triangle((roof, joint, spine), 6.5),
            Capsule("spongy", front, crest, 6, 6),
            Capsule("spongy", crest, rear, 6.5, 7),
            Capsule("spongy", rear, spine, 7.5, 8),
            Capsule("spongy", roof, place(70, 12, -52), 14, 9),
        )
        groups.append(BoneGroup(wing, 1.6))
        pubis, tuber = place(12, -62, -135), place(62, 20, -165)
        groups.append(
            BoneGroup(
                (
                    Capsule("spongy", roof, pubis, 13, 9),
                    Capsule("spongy", roof, tuber, 15, 13),
                    Capsule("spongy", tuber, pubis, 8, 8),
                ),
                1.8,
            )
        )
        head = np.asarray(hip)
        neck = head + np.array([side * 38, 6, -28]) * scale
        groups.append(
            BoneGroup(
                (
                    Ellipsoid("spongy", to_tuple(head), (23.5 * scale,) * 3),
                    Capsule("spongy", to_tuple(head), to_tuple(neck), 15 * scale, 17 * scale),
                    Capsule(
                        "spongy", to_tuple(neck), to_tuple(neck + np.array([-side * 8, -5, -190])), 17 * scale, 14 * scale
                    ),
                ),
                2.2,
            )
        )
    return groups
