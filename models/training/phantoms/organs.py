"""Organs, muscles, vessels, ribs and pelvis placed around a stacked spine (LPS mm).

Sizes and positions are engineering choices with wide random ranges; they stand in for context, not for anatomy.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .skeleton import pelvis, ribs
from .soft import Capsule, Ellipsoid, Scene, Torso, sample_torso, to_tuple


def build_scene(rng: np.random.Generator, vertebrae, scale: float, *, clean: bool) -> tuple[Torso, Scene]:
    """Torso and scene around a stacked spine."""
    at = {v.level: np.asarray(v.origin_mm) for v in vertebrae}
    torso = sample_torso(rng, vertebrae, at, scale, clean)
    soft = [
        *_thorax(rng, at, torso, scale),
        *_abdomen(rng, at, torso, scale, clean),
        *_muscles(rng, vertebrae, at, scale),
        *_vessels(rng, vertebrae, at, scale),
    ]
    bones = (*ribs(rng, vertebrae, torso, scale), *pelvis(rng, at, scale))
    return torso, Scene(tuple(soft), bones)


def _thorax(rng, at, torso, scale) -> list:
    """Heart and mediastinum; the lungs themselves are carved from the torso by the renderer."""
    spine = at["T8"]
    return [
        Ellipsoid(
            "blood",
            to_tuple(spine + (rng.uniform(10, 30), -85 * scale, rng.uniform(-10, 15))),
            (52 * scale, 42 * scale, 48 * scale),
        ),
        Ellipsoid("muscle", to_tuple(at["T5"] + (0, -55 * scale, 0)), (28 * scale, 32 * scale, 75 * scale)),
        Capsule(
            "gas", to_tuple(at["T1"] + (0, -42 * scale, 25)), to_tuple(at["T5"] + (0, -36 * scale, 0)), 8, 8, "muscle", 2.0
        ),
        Capsule("muscle", to_tuple(at["T2"] + (5, -28 * scale, 0)), to_tuple(at["T10"] + (14, -34 * scale, 0)), 7, 8),
    ]


def _abdomen(rng, at, torso, scale, clean) -> list:
    mix = lambda low, high: (low + high) / 2 if clean else float(rng.uniform(low, high))  # noqa: E731
    items: list = []
    l1, l3, s1 = at["L1"], at["L3"], at["S1"]
    inner = torso.half_width_max - torso.fat_mm - torso.wall_mm
    items.append(
        Ellipsoid(
            "liver",
            to_tuple((l1[0] - 0.52 * inner, l1[1] - 55 * scale, at["T11"][2] + mix(-25, 15))),
            (0.46 * inner + 10, mix(68, 88) * scale, mix(75, 100) * scale),
        )
    )
    items.append(
        Ellipsoid(
            "spleen",
            to_tuple((l1[0] + 0.72 * inner, l1[1] - mix(0, 25) * scale, at["T11"][2] + mix(-25, 10))),
            (mix(18, 28), mix(35, 50), mix(40, 62)),
        )
    )
    items.append(
        Ellipsoid(
            "stomach",
            to_tuple((l1[0] + mix(35, 60), l1[1] - 80 * scale, at["T12"][2])),
            (mix(30, 50), mix(25, 42), mix(35, 60)),
            rim="muscle",
            rim_mm=4,
        )
    )
    items.append(
        Ellipsoid(
            "gas",
            to_tuple((l1[0] + mix(35, 60), l1[1] - 98 * scale, at["T12"][2] + 5)),
            (mix(12, 32), mix(8, 18), mix(15, 35)),
        )
    )
    for side in (-1, 1):
        if not clean and rng.random() < 0.04:
            continue
        centre = np.array(
            [
                l1[0] + side * mix(54, 68) * scale,
                l1[1] - mix(-8, 12) * scale,
                (at["L1"][2] + at["L2"][2]) / 2 + side * 8 + mix(-15, 15),
            ]
        )
        lean = side * 0.3
        frame = ((np.cos(lean), 0, np.sin(lean)), (0, 1, 0), (-np.sin(lean), 0, np.cos(lean)))
        items.append(
            Ellipsoid("kidney", to_tuple(centre), (mix(23, 30) * scale, mix(24, 31) * scale, mix(48, 62) * scale), frame)
        )
        items.append(Ellipsoid("sinus", to_tuple(centre - (side * 10, 0, 0)), (9, 9, 22), frame))
    items.append(
        Capsule("organ", to_tuple(l1 + (-25, -48 * scale, -18)), to_tuple(l1 + (55, -48 * scale, 5)), 12, 9)
    )  # pancreas
    for _ in range(14 if clean else int(rng.integers(6, 26))):  # bowel
        where = np.array(
            [
                l3[0] + rng.uniform(-0.8, 0.8) * inner,
                l3[1] - rng.uniform(45, 125) * scale,
                rng.uniform(s1[2] - 70, at["L1"][2]),
            ]
        )
        along = rng.normal(0, 1, 3)
        along *= rng.uniform(15, 45) / np.linalg.norm(along)
        radius = rng.uniform(9, 20)
        inside = str(rng.choice(["gas", "stool", "water", "organ"], p=[0.3, 0.3, 0.2, 0.2]))
        items.append(
            Capsule(
                inside,
                to_tuple(where - along),
                to_tuple(where + along),
                radius,
                radius * rng.uniform(0.7, 1.2),
                "muscle",
                2.5,
            )
        )
    for side in (-1, 1):  # colon
        x = l3[0] + side * 0.78 * inner
        for k in range(4):
            z = s1[2] + 10 + k * 38
            items.append(
                Ellipsoid(
                    "gas" if rng.random() < 0.4 else "stool",
                    to_tuple((x + rng.normal(0, 6), l3[1] - mix(25, 60), z)),
                    (mix(15, 24), mix(15, 24), mix(16, 26)),
                    rim="muscle",
                    rim_mm=3,
                )
            )
    items.append(
        Ellipsoid(
            "water",
            to_tuple(at["S5"] + (0, -70 * scale, -5)),
            (mix(25, 48), mix(22, 40), mix(20, 45)),
            rim="muscle",
            rim_mm=4,
        )
    )
    items.append(
        Capsule(
            "stool" if rng.random() < 0.6 else "gas",
            to_tuple(at["S2"] + (0, -32 * scale, -5)),
            to_tuple(at["S5"] + (0, -22 * scale, -35)),
            mix(11, 20),
            mix(11, 18),
            "muscle",
            3.5,
        )
    )
    return items


def _muscles(rng, vertebrae, at, scale) -> list:
    items: list = []
    by = {v.level: v for v in vertebrae}
    bulk = rng.uniform(0.65, 1.15)
    names = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")
    radius = dict(zip(names, (5, 9, 14, 18, 21, 21, 19), strict=False))
    for side in (-1, 1):
        chain = []
        for name in (n for n in names if n in by):
            v = by[name]
            u, back, _ = np.asarray(v.frame)
            out = v.body.half_width + radius[name] * bulk * scale * 0.75
            forward = {"L5": -8, "S1": -26}.get(name, 4)
            chain.append(np.asarray(v.origin_mm) + u * side * out + back * forward)
        chain.append(at["S4"] + (side * 78 * scale, -80 * scale, -45))
        radii = [radius[name] * bulk * scale for name in names if name in by] + [16 * bulk]
        items += [
            Capsule("muscle", to_tuple(a), to_tuple(b), ra, rb)
            for a, b, ra, rb in zip(chain, chain[1:], radii, radii[1:], strict=False)
        ]
        lumbar = [np.asarray(by[n].origin_mm) + (side * 66 * scale, 22 * scale, 0) for n in ("T12", "L4")]
        items.append(Capsule("muscle", to_tuple(lumbar[0]), to_tuple(lumbar[1]), 9 * bulk, 14 * bulk))
        glutes = at["S3"] + (side * 82 * scale, 42 * scale, -20)
        items.append(Ellipsoid("muscle", to_tuple(glutes), (52 * scale, 28 * scale, 75 * scale)))
        items.append(
            Ellipsoid("muscle", to_tuple(at["S1"] + (side * 108 * scale, -5, -40)), (26 * scale, 45 * scale, 65 * scale))
        )
    return items


def _vessels(rng, vertebrae, at, scale) -> list:
    items: list = []
    by = {v.level: v for v in vertebrae}
    levels = [n for n in by if n in ("T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4")]
    old = rng.random() < 0.5
    wander = rng.uniform(-3, 14)
    aorta = [
        np.asarray(by[n].origin_mm)
        + (wander + (8 if n[0] == "T" else 0), -by[n].body.half_depth - rng.uniform(9, 13) * scale, 0)
        for n in levels
    ]
    size = rng.uniform(8.5, 13.5)
    pieces: list = [Capsule("artery", to_tuple(a), to_tuple(b), size, size) for a, b in pairwise(aorta)]
    if old and rng.random() < 0.7:  # calcified plaques on the wall
        for a in aorta:
            for _ in range(int(rng.integers(0, 4))):
                turn = rng.uniform(0, 6.28)
                frame = ((np.cos(turn), np.sin(turn), 0.0), (-np.sin(turn), np.cos(turn), 0.0), (0.0, 0.0, 1.0))
                where = a + np.array([np.cos(turn) * size, np.sin(turn) * size, rng.uniform(-14, 14)])
                pieces.append(
                    Ellipsoid(
                        "calcium", to_tuple(where), (rng.uniform(0.8, 1.6), rng.uniform(2, 5), rng.uniform(2, 7)), frame
                    )
                )
    cava_levels = [n for n in levels if n not in ("T5", "T6", "T7", "T8")]
    cava = [
        np.asarray(by[n].origin_mm)
        + (-18 * scale + rng.normal(0, 2), -by[n].body.half_depth - rng.uniform(6, 14) * scale, 0)
        for n in cava_levels
    ]
    items += [Capsule("vein", to_tuple(a), to_tuple(b), 10 * scale, 10 * scale) for a, b in pairwise(cava)]
    fork = aorta[-1]
    for side in (-1, 1):
        hip = at["S3"] + (side * 62 * scale, -72 * scale, -30)
        middle = at["S1"] + (side * 32 * scale, -38 * scale, 0)
        items += [
            Capsule("vein", to_tuple(cava[-1]), to_tuple(middle + (0, 8, 0)), 8, 8),
            Capsule("vein", to_tuple(middle + (0, 8, 0)), to_tuple(hip + (0, 8, 0)), 7, 7),
        ]
        pieces += [
            Capsule("artery", to_tuple(fork), to_tuple(middle), 6.5, 5.5),
            Capsule("artery", to_tuple(middle), to_tuple(hip), 5.5, 4.5),
        ]
    return items + pieces
