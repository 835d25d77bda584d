"""Implants and surgical clips, and the streaks that metal throws in the axial plane.

Streaks are drawn, not simulated: a ray that meets more metal is read as darker behind and before it, and the edges throw
bright and dark lines in all directions, which turn from slice to slice.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from .acquisition import Acquisition
from .canvas import Canvas
from .patient import Case
from .soft import Capsule, to_tuple

Tensor = torch.Tensor
#: Lines around a piece of metal: their number in a full turn, and how fast they turn (radians per mm of z).
_LINES = ((2, 0.05), (5, 0.4), (9, -0.7), (14, 0.9), (23, -1.3))
#: How far (mm) beyond its own slices the thickness of the beam carries a streak.
_BEAM_MM = 1.2
LOWEST_HU = -1024.0


def hardware(case: Case) -> list[Capsule]:
    """Cement blobs and pedicle screws of the vertebrae that have them."""
    parts = []
    for index, vertebra in enumerate(case.vertebrae):
        details = vertebra.body.details
        if not (details.cement or details.screws):
            continue
        frame, origin = np.asarray(vertebra.frame), np.asarray(vertebra.origin_mm)
        rng = np.random.default_rng([case.seed, 9, index])
        body, arch = vertebra.body, vertebra.arch
        if details.cement:
            for _ in range(int(rng.integers(2, 5))):
                a = origin + frame.T @ (rng.uniform(-0.5, 0.5, 3) * (body.half_width, body.half_depth, body.r0))
                b = a + frame.T @ (rng.uniform(-6, 6, 3) * (1, 1, 0.6))
                parts.append(Capsule("cement", tuple(a), tuple(b), float(rng.uniform(3, 6)), float(rng.uniform(2, 5))))
        if details.screws:
            for side in (-1, 1):
                u = side * (arch.canal_w / 2 + arch.ped_w / 2)
                tip = origin + frame.T @ np.array([u * 0.6, -0.4 * body.half_depth, 0.1 * body.r0])
                head = origin + frame.T @ np.array([u * 1.15, body.half_depth + arch.canal_d + 14, 0.3 * body.r0])
                parts.append(Capsule("metal", tuple(tip), tuple(head), 2.4, 3.2))
    return parts


def clips(rng: np.random.Generator, case: Case, scale: float) -> list[Capsule]:
    """Clips of one operation: in the gallbladder's bed, behind the peritoneum, or along a seam of the bowel."""
    site = str(rng.choice(["gallbladder", "retroperitoneum", "bowel"], p=[0.45, 0.3, 0.25]))
    at = {v.level: np.asarray(v.origin_mm) for v in case.vertebrae}
    side = float(rng.choice([-1, 1]))
    middle, spread, count = {
        "gallbladder": (at["L1"] + np.array([-46, -68, -8]) * scale, (9, 8, 10), int(rng.integers(3, 7))),
        "retroperitoneum": (at["L2"] + np.array([side * 34, -24, -10]) * scale, (10, 9, 32), int(rng.integers(4, 11))),
        "bowel": (at["L4"] + np.array([side * 55, -66, 0]) * scale, (4, 4, 4), int(rng.integers(8, 15))),
    }[site]
    out = []
    for k in range(count):
        where = middle + rng.normal(0, 1, 3) * spread
        if site == "bowel":  # staples in a ring
            turn = 2 * np.pi * k / count
            where = middle + rng.normal(0, 1.2, 3) + 14 * np.array([np.cos(turn), 0.5 * np.sin(turn), np.sin(turn)])
        along = rng.normal(0, 1, 3)
        along *= (rng.uniform(1.2, 2.2) if site == "bowel" else rng.uniform(2.5, 4.5)) / np.linalg.norm(along)
        radius = float(rng.uniform(0.35, 0.55) if site == "bowel" else rng.uniform(0.6, 1.0))
        out.append(Capsule("metal", to_tuple(where - along), to_tuple(where + along), radius, radius))
    return out


def paint_last(canvas: Canvas, case: Case, acq: Acquisition) -> None:
    """Everything that lies over or in the bones: hardware and clips, their streaks beneath them."""
    parts = [*hardware(case), *case.additions.last]
    metal = [part for part in parts if part.tissue == "metal"]
    if acq.metal > 0 and metal:
        paint_streaks(canvas, metal, acq.metal, case.seed)
    for part in parts:
        win = canvas.window(*canvas.bounds(part))
        if win is not None:
            canvas.paint(win, canvas.cover(canvas.distance(win, part)), acq.hu(part.tissue))


class _Section:
    """Where axial slices cut a capsule: per z the middle of the cut, half its length, and whether the slice meets it."""

    def __init__(self, part: Capsule, z: Tensor) -> None:
        a, d = np.asarray(part.a), np.subtract(part.b, part.a)
        self.radius = (part.ra + part.rb) / 2
        rise = float(d[2]) if abs(d[2]) > 0.1 else 0.1
        first, second = ((z - float(a[2]) + k * self.radius) / rise for k in (-1, 1))
        first, second = first.clamp(0, 1), second.clamp(0, 1)
        middle = (first + second) / 2
        self.flat = float(np.hypot(d[0], d[1]))
        self.x, self.y = middle * float(d[0]) + float(a[0]), middle * float(d[1]) + float(a[1])
        self.half = (second - first).abs() / 2 * self.flat
        self.along = (float(d[0]), float(d[1])) if self.flat < 0.1 else (float(d[0]) / self.flat, float(d[1]) / self.flat)
        low, high = sorted((float(a[2]), float(a[2] + d[2])))
        gap = torch.maximum(low - self.radius - z, z - high - self.radius).clamp(min=0)
        self.here = torch.exp(-((gap / _BEAM_MM) ** 2))


def paint_streaks(canvas: Canvas, metal: list[Capsule], strength: float, seed: int) -> None:
    """Add the streaks of capsules of metal to the canvas: of each alone, and between two that one slice cuts."""
    rng = np.random.default_rng([seed, 42])
    for part in metal:
        phases, size = rng.uniform(0, 2 * np.pi, len(_LINES)), float(np.linalg.norm(np.subtract(part.b, part.a)))
        reach = 30.0 + 1.2 * size
        win = _around(canvas, [part], reach)
        if win is None:
            continue
        x, y, z = canvas.local(win, np.zeros(3))
        cut = _Section(part, z)
        dx, dy = x - cut.x, y - cut.y
        along = (dx * cut.along[0] + dy * cut.along[1]).abs()
        across = (dx * cut.along[1] - dy * cut.along[0]).abs()
        beyond = (along - cut.half).clamp(min=0)
        away = torch.sqrt(beyond**2 + across**2)
        path = 2 * (cut.half + cut.radius)
        width = cut.radius + 0.8 + 0.04 * beyond  # a streak fans out
        dark = (0.6 * torch.exp(-(((across - 2.2 * width) / width) ** 2)) - torch.exp(-((across / width) ** 2))) * (
            40 + 9 * path
        )
        turn = torch.atan2(dy, dx)
        lines = sum(torch.cos(n * turn + float(p) + w * z) for (n, w), p in zip(_LINES, phases, strict=True))
        fine = lines * (45 + 3 * path) * torch.exp(-away / (reach / 4))
        fade = (1 - away / reach).clamp(0, 1)
        canvas.hu[win] += (dark * torch.exp(-beyond / (reach / 2)) + fine) * fade * cut.here * strength
    for pair in combinations(metal, 2):
        _shade_between(canvas, pair, strength)
    canvas.hu.clamp_(min=LOWEST_HU)


def _shade_between(canvas: Canvas, pair: tuple[Capsule, Capsule], strength: float) -> None:
    """The dark band between two pieces of metal and a little beyond them, where the same slices cut both."""
    heights = [sorted((part.a[2], part.b[2])) for part in pair]
    middles = [np.add(part.a, part.b) / 2 for part in pair]
    span = float(np.hypot(*(middles[1] - middles[0])[:2]))
    if max(h[0] for h in heights) - min(h[1] for h in heights) > 2 * _BEAM_MM or not 3 < span < 90:
        return
    win = _around(canvas, list(pair), 20.0)
    if win is None:
        return
    x, y, z = canvas.local(win, np.zeros(3))
    one, two = (_Section(part, z) for part in pair)
    ex, ey = two.x - one.x, two.y - one.y
    length = torch.sqrt(ex**2 + ey**2).clamp(min=1.0)
    along = ((x - one.x) * ex + (y - one.y) * ey) / length
    across = ((x - one.x) * ey - (y - one.y) * ex) / length
    outside = torch.maximum(-along, along - length).clamp(min=0)
    width = 1.0 + torch.maximum(one.half, two.half) * 0.5 + min(one.radius, two.radius)
    depth = 30 + 6 * (one.half + two.half + one.radius + two.radius)
    band = torch.exp(-((across / width) ** 2) - outside / 8) * one.here * two.here
    canvas.hu[win] -= band * depth * strength


def _around(canvas: Canvas, parts: list[Capsule], reach: float):
    """The window of all slices that cut the parts, `reach` mm around them."""
    ends = np.array([end for part in parts for end in (part.a, part.b)])
    half = (ends.max(0) - ends.min(0)) / 2 + max(max(part.ra, part.rb) for part in parts)
    return canvas.window((ends.max(0) + ends.min(0)) / 2, half + np.array([reach, reach, 2.5 * _BEAM_MM]))
