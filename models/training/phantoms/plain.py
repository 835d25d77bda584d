"""Crops of plain vertebrae: superelliptic bodies with an even shell, blocks for the arch, one CT number a tissue.

The other sources imitate anatomy; this one does not. Its pictures share no texture, outline or fracture profile with them,
so a network that reads them has learned what a deformity is and not what one painter's bone looks like. Numpy only, one
crop in well under a second. The policy of what counts as a fracture is that of `damage.py` and `undated.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .grids import CROP_ORIGIN, CROP_SHAPE, CROP_SPACING
from .norms import spine_index
from .undated import UNDATED

LEVELS = {  # anterior, middle, posterior height, width, disc below (mm)
    "T11": (21.5, 21.3, 23.0, 37.0, 5.5), "T12": (23.5, 23.2, 25.0, 40.5, 6.5), "L1": (25.0, 24.5, 26.3, 42.3, 8.3),
    "L2": (26.2, 25.4, 26.8, 44.1, 9.3), "L3": (27.0, 25.9, 26.9, 46.1, 10.3), "L4": (27.3, 25.9, 26.3, 48.1, 11.3),
    "L5": (29.5, 26.2, 25.8, 48.4, 10.3),
}
KINDS = {"A": 0.13, "B": 0.13, "C": 0.12, "D": 0.11, "old": 0.13, "mimic": 0.16, "plain": 0.22}
SHAPES = ("wedge", "bowl", "crush", "step", "patch")  # of plates that sank
MIMICS = ("wedge", "biconcave", "schmorl", "sclerosis", "lines", "osteophytes", "haemangioma", "limbus")
FINE = (3, 3, 1)  # rendered this many times finer, then averaged; odd, or masks would grow by the ties
DISH = 0.25  # middle height that plates lose at most which are hollow evenly, from rim to rim, and whole
SUNK_MM = 1.2  # least depression of either plate of a type A
PLATE_MM = 5.0  # how deep under a broken plate the fracture region reaches


@dataclass
class Plan:
    """One vertebra: sizes, what happened to it, and its truth."""

    level: str
    kind: str
    half_width: float
    half_depth: float
    heights: np.ndarray  # anterior, middle, posterior
    power: float  # of the outline's superellipse
    waist: float  # mm by which the walls are drawn in at mid height
    dish: float  # mm by which each plate is concave without any damage
    lost: dict[str, np.ndarray] = field(default_factory=dict)  # plate -> (amount, shape parameters)
    loss: float = 0.0
    signs: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    type: int = 0
    old: int = 0
    mimic: str | None = None
    break_seen: bool = False
    buckle: float = 0.0


def plan(rng: np.random.Generator) -> Plan:
    """A random vertebra and its damage."""
    level = str(rng.choice(list(LEVELS)))
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    size = rng.uniform(0.82, 1.18)
    a, m, p, width, _ = LEVELS[level]
    out = Plan(
        level, kind, width / 2 * size * rng.uniform(0.9, 1.1), width / 2 * size * rng.uniform(0.66, 0.9),
        np.array([a, m, p]) * size * rng.uniform(0.94, 1.06, 3), rng.uniform(2.0, 4.5), rng.uniform(0, 3.0),
        rng.uniform(0, 1.0),
    )
    if kind in "ABC":
        _compress(out, rng, kind)
    elif kind == "D":
        out.buckle, out.signs, out.type, out.break_seen = rng.uniform(1.8, 5.0), [0, 0, 1, 0], 4, True
        out.loss = rng.uniform(0.08, 0.35)
        out.lost["tilt"] = np.array([out.loss * out.heights[0]])
    elif kind == "old":
        _compress(out, rng, str(rng.choice(list("ABC"))))
        out.signs, out.type, out.old, out.break_seen = [0, 0, 0, 0], 0, 1, False
    elif kind == "mimic":
        out.mimic = str(rng.choice(MIMICS))
        if out.mimic in ("wedge", "biconcave"):
            bowl = ("both", UNDATED["biconcave"] - 0.02) if rng.random() < 0.5 else ("dish", DISH)
            shape, most = ("tilt", 0.12) if out.mimic == "wedge" else bowl
            out.loss = rng.uniform(0.03, most)
            out.lost[shape] = np.array([out.loss * out.heights[0 if shape == "tilt" else 1], rng.uniform(0.3, 0.7)])
    return out


def _compress(out: Plan, rng: np.random.Generator, kind: str) -> None:
    """Plates that sank: a wedge, a bowl, a crush, a step or a ragged patch, with or without signs of a break."""
    often = [0.27, 0.3, 0.13, 0.1, 0.2] if out.kind != "old" else [0.4, 0.4, 0.2, 0, 0]  # what has healed is smooth
    shape = str(rng.choice(SHAPES, p=often))
    seen = bool(rng.random() < 0.6) or shape in ("step", "patch")
    least = 0.10 if seen else UNDATED[{"wedge": "wedge", "bowl": "biconcave", "crush": "crush"}[shape]]
    out.loss = float(rng.uniform(least, max(least + 0.12, rng.choice([0.25, 0.4, 0.6]))))
    share = {"A": rng.uniform(0.35, 0.65), "B": 1.0, "C": 0.0}[kind]
    at = {"wedge": 0, "bowl": 1, "crush": 1, "step": 0, "patch": 0}[shape]
    amount = max(out.loss * out.heights[at], 2.0 if seen else 0.0)
    if kind == "A":  # a plate that hardly sank is none of two that broke
        amount = max(amount, SUNK_MM / min(share, 1 - share))
    form = np.array([SHAPES.index(shape), rng.uniform(-0.3, 0.3), rng.uniform(0.35, 0.7),
                     rng.uniform(0.6, 1.6), rng.uniform(-0.2, 0.5)])
    if share > 0:
        out.lost["top"] = np.concatenate([[share * amount], form])
    if share < 1:
        out.lost["low"] = np.concatenate([[(1 - share) * amount], form])
    out.loss = amount / out.heights[at]
    out.signs, out.type = [int(share > 0), int(share < 1), 0, 0], {"A": 1, "B": 2, "C": 3}[kind]
    out.break_seen = seen
    if seen and out.kind != "old" and rng.random() < 0.4:  # beside broken plates too: a buckled wall alone is no type D
        out.buckle, out.signs[2] = float(rng.uniform(1.2, 3.5)), 1


def _sunk(parameters: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """How far a plate sank (mm) at depth q (-1 front, 1 back) and side r (-1..1)."""
    amount, form, middle, half, edge, back = parameters
    side = np.clip((edge + 0.15 - np.abs(r)) / 0.3, 0, 1)
    if form == 0:
        return amount * np.clip((1 - q) / 2 * 1.1 - 0.05, 0, 1) * np.clip(side + 0.5, 0, 1)
    if form == 1:
        return amount * np.exp(-(((q - middle) / half) ** 2)) * np.exp(-((r / edge) ** 2))
    if form == 2:
        return amount * np.ones_like(q) * np.clip(side + 0.6, 0, 1)
    if form == 4:  # what lies before a ragged line aslant, deepest in front; four numbers place it
        slant, wave = 3 * middle, 12 * half
        ahead = back - q + slant * r + 0.12 * np.sin(wave * r + 5 * edge) + 0.08 * np.sin(2.3 * wave * q - 7 * edge)
        return amount * np.clip(ahead / (0.06 + 0.25 * abs(middle)), 0, 1) * np.clip(0.8 - 0.3 * q, 0.5, 1)
    return amount * (q < back) * side


def crop(seed: int) -> tuple[np.ndarray, np.ndarray, Plan]:
    """HU ``[56,72,32]`` float32, mask bits (1 vertebra, 2 body, 4 fracture) and the plan of one crop."""
    rng = np.random.default_rng([seed, 11])
    what = plan(rng)
    points = _points(rng)
    hu, bits = _paint(what, points, rng)
    hu = _scanned(hu, rng)
    w, v, u = CROP_SHAPE
    blocks = lambda x: x.reshape(w, FINE[0], v, FINE[1], u, FINE[2]).mean((1, 3, 5))  # noqa: E731
    packed = np.zeros(CROP_SHAPE, np.uint8)
    for bit in (1, 2, 4):
        packed |= np.where(blocks((bits & bit > 0).astype(np.float32)) >= 0.5, bit, 0).astype(np.uint8)
    return blocks(hu) + rng.normal(0, rng.uniform(0, 25), CROP_SHAPE).astype(np.float32), packed, what


def _points(rng: np.random.Generator) -> np.ndarray:
    """(u, v, w) in mm of every fine voxel in the vertebra's frame, the crop placed as a first stage would place it."""
    rough = 2.0 if rng.random() < 0.25 else 1.0
    spacing = np.array(CROP_SPACING) * rng.uniform(0.95, 1.05)
    axes = [
        ((np.arange(n * f) + 0.5) / f - 0.5 - o) * s
        for n, f, o, s in zip(CROP_SHAPE, FINE, CROP_ORIGIN, spacing, strict=True)
    ]
    w, v, u = np.meshgrid(*axes, indexing="ij")
    points = np.stack([u, v, w], -1)
    a, b, c = np.radians(rng.uniform(-6, 6, 3) * rough)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (points @ (rx @ ry @ rz).T + rng.uniform(-4, 4, 3) * rough).astype(np.float32)


def _plates(what: Plan, q: np.ndarray, r: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Upper and lower plate (mm) over the body's outline, and how far each sank by damage."""
    a, m, p = what.heights
    t = (q + 1) / 2
    half = (a * (1 - t) * (1 - 2 * t) + 4 * m * t * (1 - t) + p * t * (2 * t - 1)) / 2
    dish = what.dish * np.clip(1 - q**2, 0, 1) * np.clip(1 - r**2, 0, 1)
    top, low = half - dish, -half + dish
    sunk_top, sunk_low = (
        _sunk(what.lost[n], q, r) if n in what.lost else np.zeros_like(q) for n in ("top", "low")
    )
    if "tilt" in what.lost:
        top = top - what.lost["tilt"][0] * np.clip((1 - q) / 2, 0, 1)
    if "dish" in what.lost:
        dished = np.clip(1 - q**2, 0, 1) * np.clip(1 - r**2, 0, 1) * what.lost["dish"][0]
        top, low = top - dished * what.lost["dish"][1], low + dished * (1 - what.lost["dish"][1])
    if "both" in what.lost:
        bowl = what.lost["both"][0] / 2 * np.exp(-((q / 0.6) ** 2) - (r / 0.8) ** 2)
        top, low = top - bowl, low + bowl
    if what.break_seen and rng.random() < 0.5:  # uneven where it broke
        wave = np.sin(q * rng.uniform(4, 9) + rng.uniform(0, 6)) * np.cos(r * rng.uniform(3, 7)) * rng.uniform(0.3, 1.0)
        sunk_top, sunk_low = (s + wave * (s > 0.8) for s in (sunk_top, sunk_low))
    return top - sunk_top, low + sunk_low, sunk_top, sunk_low


def _paint(what: Plan, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    u, v, w = points[..., 0], points[..., 1], points[..., 2]
    hu = _tissue(u, v, rng)
    bits = np.zeros(hu.shape, np.uint8)
    marrow, cortex, arch = rng.uniform(20, 260), rng.uniform(220, 900), rng.uniform(180, 600)
    shell, disc = rng.uniform(0.5, 2.2), rng.uniform(50, 120)
    _, _, _, _, gap = LEVELS[what.level]
    reach = what.heights.mean() + gap * rng.uniform(0.6, 1.3)
    lean = rng.uniform(-0.25, 0.25)
    inside_column = (np.abs(u / what.half_width) ** what.power + np.abs(v / what.half_depth) ** what.power) < 1
    hu[inside_column & (np.abs(w) < reach)] = disc
    intact = Plan(what.level, "plain", what.half_width, what.half_depth, what.heights * rng.uniform(0.95, 1.05), what.power,
                  what.waist, what.dish)
    for step in (-1, 1):  # the neighbours, tilted along the curve
        far = w - step * reach
        place = (u, v * np.cos(lean) - step * far * np.sin(lean), far * np.cos(lean) + step * v * np.sin(lean))
        _bone(hu, None, intact, *place, marrow, cortex, arch, shell, rng)
    _bone(hu, bits, what, u, v, w, marrow, cortex, arch, shell, rng)
    return hu, bits


def _bone(hu, bits, what: Plan, u, v, w, marrow, cortex, arch, shell, rng) -> None:
    """One vertebra into the picture, and into the masks where they are given."""
    q, r = np.clip(v / what.half_depth, -1.2, 1.2), np.clip(u / what.half_width, -1.2, 1.2)
    top, low, sunk_top, sunk_low = _plates(what, np.clip(q, -1, 1), np.clip(r, -1, 1), rng)
    middle, height = (top + low) / 2, np.maximum(top - low, 4.0)
    level = np.clip((w - middle) / height * 2, -1, 1)
    waist = what.waist * (1 - level**2)
    front = 0.0
    if what.buckle:  # the front wall folds outward or overlaps, beside the one plate that broke or anywhere
        beside = ("top" in what.lost) - ("low" in what.lost)
        at, wide = 0.35 * beside + rng.uniform(-0.4, 0.4) * (0.6 if beside else 1), rng.uniform(0.12, 0.3)
        fold = np.exp(-(((level - at) / wide) ** 2)) * np.clip(1 - np.abs(r) / rng.uniform(0.6, 1.1), 0, 1) * (q < 0)
        front = what.buckle * fold * (1 if rng.random() < 0.65 else -1)
    depth = what.half_depth - waist * 0.6 + front
    radius = (np.abs(u / (what.half_width - waist)) ** what.power + np.abs(v / depth) ** what.power) ** (1 / what.power)
    body = (radius < 1) & (w < top) & (w > low)
    under_top, over_low = top - w, w - low
    wall = (1 - radius) * np.minimum(what.half_depth, what.half_width)
    mine = np.full(hu.shape, marrow, np.float32)
    if rng.random() < 0.5:
        mine += (rng.uniform(-40, 40) * level + rng.uniform(-30, 30) * q).astype(np.float32)
    broken = np.zeros(hu.shape, bool)
    thick = shell * (rng.uniform(1.5, 3.0) if what.old else 1.0)
    for sunk, beneath in ((sunk_top, under_top), (sunk_low, over_low)):
        hurt = sunk > np.maximum(0.8, 0.3 * sunk.max())
        if sunk.max() < 0.8:
            continue
        broken |= hurt & (beneath < PLATE_MM)
        if what.old or (what.break_seen and rng.random() < 0.6):  # a band of dense bone
            wide = rng.uniform(2.0, 6.0)
            mine += np.where(hurt | (what.old > 0), np.clip(1 - beneath / wide, 0, 1) * rng.uniform(40, 250), 0)
        if what.break_seen and rng.random() < 0.4:  # a dark or bright line
            at = rng.uniform(1.0, 6.0)
            line = hurt & (np.abs(beneath - at) < rng.uniform(0.5, 1.0))
            mine += np.where(line, rng.choice([-1, 1]) * rng.uniform(60, 250), 0)
    if what.buckle:
        near = (np.abs(front) > 0.3 * what.buckle) & (wall < PLATE_MM) & (q < -0.2)
        broken |= near
        mine += np.where(near, rng.uniform(0, 200), 0)
    hard = (wall < shell) | (under_top < thick) | (over_low < thick)
    if what.break_seen and rng.random() < 0.4:  # the shell is open somewhere along the break
        hard &= ~(broken & (np.sin(3.1 * u + 2.3 * v + rng.uniform(0, 6)) > rng.uniform(0.2, 0.7)))
    mine[hard] = cortex
    body, mine = _mimicked(what, body, mine, (u, v, w, q, r, level, under_top, over_low), marrow, cortex, rng)
    whole = body | _arch(hu, what, u, v, w, arch, rng)
    hu[body] = mine[body]
    if bits is not None:
        bits[whole] |= 1
        bits[body] |= 2
        if any(what.signs):
            bits[broken & body] |= 4


def _arch(hu, what: Plan, u, v, w, arch, rng) -> np.ndarray:
    """Pedicles, lamina, spinous and transverse processes as blocks with round edges; True where they are."""
    back = what.half_depth
    tilt = rng.uniform(-0.5, 0.1)
    spine = (np.abs(u) < rng.uniform(2.5, 5)) & (v > back + 12) & (v < back + rng.uniform(24, 42)) & (
        np.abs(w - tilt * (v - back - 12) + 2) < rng.uniform(5, 11))
    pedicle = np.hypot(np.abs(u) - rng.uniform(11, 16), w - rng.uniform(2, 6)) < rng.uniform(4, 7)
    pedicle &= (v > back - 3) & (v < back + 14)
    lamina = (np.abs(u) < rng.uniform(14, 22)) & (np.abs(v - back - 13 - 0.1 * np.abs(u)) < rng.uniform(2.5, 4.5)) & (
        np.abs(w) < rng.uniform(7, 13))
    across = (np.abs(u) > 12) & (np.abs(u) < rng.uniform(28, 44)) & (np.hypot(v - back - 8, w - 3) < rng.uniform(3, 6))
    every = spine | pedicle | lamina | across
    hu[every] = arch
    return every


def _mimicked(what: Plan, body, mine, place, marrow, cortex, rng):
    """Things that resemble fractures, each alone."""
    u, v, w, q, r, level, under_top, over_low = place
    beneath = under_top if rng.random() < 0.5 else over_low
    if what.mimic == "schmorl":
        pit = np.hypot(u - rng.uniform(-6, 6), v - rng.uniform(-3, 5)) < rng.uniform(3, 6)
        deep = rng.uniform(2, 5)
        body = body & ~(pit & (beneath < deep))
        mine[pit & (beneath < deep + 1.5)] = cortex * 0.8
    elif what.mimic == "sclerosis":
        mine += np.clip(1 - beneath / rng.uniform(3, 8), 0, 1) * rng.uniform(60, 300) * (beneath > 1)
    elif what.mimic == "lines":
        mine[np.abs(level - rng.uniform(-0.6, 0.6)) < 0.06] += rng.choice([-80, 150])
    elif what.mimic == "haemangioma":
        ball = np.linalg.norm(np.stack([u, v, w]) - rng.uniform(-6, 6, 3)[:, None, None, None], axis=0) < rng.uniform(5, 10)
        mine[ball] = marrow - 80 + 150 * (np.sin(u[ball] * 2) * np.sin(v[ball] * 2) > 0.3)
    elif what.mimic == "limbus":
        corner = (q < -0.6) & (under_top < rng.uniform(3, 6))
        mine[corner & (np.abs(under_top + 8 * (q + 0.8)) < 1.5)] = marrow - 60
    if what.mimic == "osteophytes" or (what.old and rng.random() < 0.6):
        beak = (np.abs(level) > 0.75) & (np.abs(level) <= 1) & (under_top > -1) & (over_low > -1) & (q < -0.7)
        grown = beak & (np.abs(v / (what.half_depth + rng.uniform(2, 6))) < 1) & (np.abs(r) < 0.9)
        mine[grown & ~body] = cortex * 0.8
        body = body | grown
    return body, mine


def _tissue(u, v, rng: np.random.Generator) -> np.ndarray:
    """Soft tissue, canal, vessels and fat around."""
    hu = np.full(u.shape, rng.uniform(0, 80), np.float32)
    if rng.random() < 0.6:
        hu[v < rng.uniform(-34, -20)] = rng.uniform(-120, 20)
    if rng.random() < 0.5:
        hu[np.hypot(u - rng.uniform(-12, 15), v + rng.uniform(30, 40)) < rng.uniform(7, 12)] = rng.uniform(30, 350)
    if rng.random() < 0.5:
        hu[np.abs(u) > rng.uniform(26, 40)] = rng.uniform(-110, 80)
    hu[(np.abs(u) < 9) & (v > 14) & (v < 34)] = rng.uniform(0, 60)
    return hu


def _scanned(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a kernel leaves, at the fine grid: a separable blur of 0-1.6 mm."""
    from scipy.ndimage import gaussian_filter

    fine = np.array(CROP_SPACING) / FINE
    return gaussian_filter(hu, rng.uniform(0.0, 0.8) / fine)


def crops(seed: int, count: int = 8) -> dict[str, np.ndarray]:
    """Training samples as `cases.crops` gives them: ``hu, masks, loss, evidence, type, old, mimic, level, random``."""
    rows = [crop(seed * 64 + k) for k in range(count)]
    return {
        "hu": np.clip(np.round(np.stack([hu for hu, _, _ in rows])), -1100, 3500).astype(np.int16),
        "masks": np.stack([bits for _, bits, _ in rows]),
        "loss": np.array([p.loss for _, _, p in rows], np.float32),
        "evidence": np.array([p.signs for _, _, p in rows], np.uint8),
        "type": np.array([p.type for _, _, p in rows], np.uint8),
        "old": np.array([p.old for _, _, p in rows], np.uint8),
        "mimic": np.array([p.mimic is not None for _, _, p in rows], np.uint8),
        "level": np.array([spine_index(p.level) for _, _, p in rows], np.uint8),
        "random": np.ones(len(rows), np.uint8),  # one drawn CT number a tissue is no physics
    }
