"""Arches, sacral wings, ribs, pelvis and femora as chains of tapered capsules, and the distance to them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .anatomy import Patient, Vertebra


@dataclass(frozen=True)
class Capsule:
    """A tapered rod from `a` to `b`; `squash` > 1 makes it thinner along that axis of its frame."""

    a: tuple[float, float, float]
    b: tuple[float, float, float]
    ra: float
    rb: float
    squash: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        s = np.array(self.squash)
        a, b = np.array(self.a) * s, np.array(self.b) * s
        d = b - a
        px, py, pz = x * s[0] - a[0], y * s[1] - a[1], z * s[2] - a[2]
        t = np.clip((px * d[0] + py * d[1] + pz * d[2]) / max(float(d @ d), 1e-6), 0, 1)
        away = np.sqrt((px - t * d[0]) ** 2 + (py - t * d[1]) ** 2 + (pz - t * d[2]) ** 2)
        return (away - (self.ra + t * (self.rb - self.ra))) / float(s.mean())


def arch(v: Vertebra) -> list[Capsule]:
    """Posterior elements in the vertebra's frame; of the sacrum also the wings."""
    s, outline = v.sizes, v.shell.outline
    h, back, ped = s["height"], outline.depth / 2, s["pedicle"] / 2
    canal_w, canal_d = s["canal"], 0.72 * s["canal"]
    x = canal_w / 2 + ped
    roof = back + canal_d
    parts: list[Capsule] = []
    for side in (-1.0, 1.0):
        k = side * (1 + side * s["asymmetry"])
        if v.sacral:
            wing = s["span"] / 2 * k
            thick = 0.44 * h
            parts += [
                Capsule((0.30 * outline.width * k, 0.0, 0.05 * h), (wing * 0.9, back * 0.55, 0.02 * h), thick, thick * 0.75,
                        (1, 1.25, 1)),
                Capsule((wing * 0.75, back * 0.3, 0), (wing, back * 1.25, -0.1 * h), thick * 0.8, thick * 0.6),
                Capsule((x, back + 2, 0), (x * 0.9, roof + 1, -0.1 * h), 5.0, 4.0),
                Capsule((x * 0.9, roof + 2, -0.1 * h), (0, roof + 4, -0.15 * h), 3.0, 3.0, (1, 1.2, 0.5)),
            ]
            continue
        tall = 0.29 if v.level.startswith("L") else 0.34
        squash = (1.0, 1.0, min(1.0, ped / (tall * h)))
        lumbar = v.level.startswith("L")
        root = (x * k, back + 9, 0.16 * h)
        parts += [
            Capsule((x * 0.95 * k, back - 5, 0.16 * h), root, ped * 1.05, ped, squash),
            Capsule(root, ((x + 2) * k, roof - 3, 0.52 * h), 4.6, 4.2),
            Capsule(((x - 1) * k, roof - 4, -0.05 * h), ((x - 1.5) * k, roof + 3, -0.62 * h), 4.6, 4.4),
            Capsule(((x - 1) * k, roof - 1, -0.02 * h), (0, roof + 4, -0.28 * h), 2.6, 2.6, (1, 1.1, 0.42)),
        ]
        tip = (s["span"] / 2 * k, back + (8 if lumbar else 17), (0.16 if lumbar else 0.3) * h)
        parts.append(Capsule((x * k, back + 8, 0.14 * h), tip, 4.4, 2.6 if lumbar else 4.0, (1, 1.3 if lumbar else 1, 1)))
        if v.wing:
            tip = (s["span"] / 2 * 1.15 * k, back - 2, -0.35 * h)
            parts.append(Capsule(((x + 5) * k, back + 6, 0.1 * h), tip, v.wing * 0.7, v.wing))
    slope = 0.35 if v.level.startswith("L") else 0.9
    end = (float(2 * np.sign(s["asymmetry"])), roof + 4 + s["spinous"], -0.35 * h - slope * 0.5 * s["spinous"])
    if v.sacral:
        parts.append(Capsule((0, roof + 4, -0.1 * h), (0, roof + 4 + s["spinous"], -0.2 * h), 3.4, 3.0, (1.2, 1, 0.6)))
    else:
        parts.append(Capsule((0, roof + 3, -0.3 * h), end, 3.0, 3.6, (1.15, 1, 0.36 if v.level.startswith("L") else 0.6)))
    return parts


def canal(v: Vertebra) -> tuple[float, float, float]:
    """Centre (v) and half axes (u, v) of the spinal canal in the vertebra's frame."""
    depth = 0.72 * v.sizes["canal"]
    return v.shell.outline.depth / 2 * 0.97 + depth / 2, v.sizes["canal"] / 2, depth / 2


def ribs(patient: Patient, v: Vertebra) -> list[list[Capsule]]:
    """The right and the left rib of a vertebra in LPS: round an elliptic chest, sinking to the front."""
    out = []
    rng = np.random.default_rng([patient.seed, 40, int(10 * v.sizes["level"])])
    wide, deep = 128 * patient.scale * rng.uniform(0.95, 1.05), 92 * patient.scale
    middle = v.origin + np.array([0, -58.0 * patient.scale, 0])
    for side in (-1.0, 1.0):
        length = v.ribs * (1 + side * float(rng.uniform(0, 0.12)))
        u, back, w = v.frame
        head = v.origin + u * side * 0.5 * v.shell.outline.width + back * 0.33 * v.shell.outline.depth
        points = [head + w * 0.25 * v.sizes["height"], v.origin + u * side * (v.sizes["span"] / 2 - 1) + back * (
            v.shell.outline.depth / 2 + 13) + w * 0.2 * v.sizes["height"]]
        gone, angle = float(np.linalg.norm(points[1] - points[0])), 0.38
        while gone < length:
            angle += 0.16
            drop = 12 + 62 * np.sin((angle - 0.38) / 2.2) ** 2
            point = middle + np.array([side * wide * np.sin(angle), deep * 0.95 * np.cos(angle), -drop])
            gone += float(np.linalg.norm(point - points[-1]))
            points.append(point)
        thick = np.linspace(4.3, 3.2, len(points))
        pieces = zip(pairwise(points), thick, strict=False)
        out.append([Capsule(tuple(a), tuple(b), r, r, (1.15, 1.15, 0.75)) for (a, b), r in pieces])
    return out


def pelvis(patient: Patient) -> list[list[Capsule]]:
    """Right and left iliac wing, hip socket, femoral head and shaft in LPS; S1 lies at the origin."""
    k, both = patient.scale, []
    joint = patient.find("S1").sizes["span"] / 2 / k + 4
    for side in (-1.0, 1.0):
        root = (side * joint * k, 14 * k, -14 * k)
        out: list[Capsule] = []
        rim = [(112, -6, 48), (124, -38, 44), (128, -66, 26), (122, -84, 2), (112, -86, -24)]
        fan = np.array([np.interp(np.linspace(0, 4, 11), range(5), np.array(rim)[:, c]) for c in range(3)]).T
        for x, y, z in fan:
            out.append(Capsule(root, (side * x * k, y * k, z * k), 6.5, 3.6, (1.25, 1, 1)))
        crest = [(joint, 22, 8), *rim]
        out += [Capsule(tuple(np.array(a) * (side * k, k, k)), tuple(np.array(b) * (side * k, k, k)), 5.2, 5.2)
                for a, b in pairwise(crest)]
        socket = (side * 92 * k, -44 * k, -84 * k)
        out += [
            Capsule(root, socket, 11, 16), Capsule((side * 112 * k, -86 * k, -24 * k), socket, 8, 14),
            Capsule((side * joint * k, 20 * k, -30 * k), (side * 70 * k, 4 * k, -90 * k), 9, 9),
            Capsule((side * 98 * k, -48 * k, -92 * k), (side * 98 * k, -48 * k, -92.5 * k), 22 * k, 22 * k),
            Capsule((side * 98 * k, -48 * k, -92 * k), (side * 132 * k, -38 * k, -116 * k), 13, 14),
            Capsule((side * 132 * k, -38 * k, -116 * k), (side * 120 * k, -44 * k, -290 * k), 15, 13),
            Capsule(socket, (side * 18 * k, -96 * k, -120 * k), 10, 8),
            Capsule((side * 18 * k, -96 * k, -120 * k), (side * 62 * k, -48 * k, -160 * k), 8, 11),
        ]
        both.append(out)
    return both
