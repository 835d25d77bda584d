"""Recent failure, healed deformity and mimics, worked into the maps of a `Shell`.

A recent endplate failure is a crush: columns of the body under an irregular part of the endplate sink by a displacement
map with a sharp edge, and what they lose in height is found again as compacted bone below. Type D folds the front wall
and tilts the intact plate with it. Healed deformities sink too, but smoothly, under a thick whole plate.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from .shell import WALL_T, WALL_THETA, Shell, U, V, roughness

SIGNS = ("superior", "inferior", "anterior", "posterior")


def losses(before: dict[str, float], shell: Shell) -> float:
    """Largest relative loss of the three heights."""
    after = shell.heights()
    return max(0.0, *(1 - after[k] / before[k] for k in before))


def crush_map(rng: np.random.Generator, shell: Shell, smooth: bool) -> np.ndarray:
    """Displacement of an endplate, 0..1: front, central or one-sided, with a sharp (recent) or soft (healed) edge."""
    half = shell.outline.depth / 2
    kind = rng.choice(["front", "centre", "side"], p=[0.6, 0.25, 0.15])
    edge = rng.uniform(3.0, 6.0) if smooth else rng.uniform(0.5, 1.8)
    ragged = 0.0 if smooth else rng.uniform(0.6, 2.2)
    wobble = ragged * roughness(rng, 5.0)
    if kind == "front":
        limit = rng.uniform(-0.1, 0.6) * half
        zone = 1 / (1 + np.exp(np.clip((V + wobble - limit) / edge, -30, 30)))
        zone = zone * (1 - rng.uniform(0.2, 0.5) * np.clip((V + 0.55 * half) / (2 * half), 0, 1))
    elif kind == "centre":
        rho = np.hypot(U / (shell.outline.width / 2), (V + rng.uniform(-0.1, 0.3) * half) / half)
        zone = 1 / (1 + np.exp(np.clip(((rho - rng.uniform(0.55, 0.75)) * half + wobble) / edge, -30, 30)))
    else:
        angle = rng.uniform(-1.0, 1.0) + rng.choice([-0.7, 0.7])
        along = -V * np.cos(angle) + U * np.sin(angle)
        zone = 1 / (1 + np.exp(np.clip((-along - wobble + rng.uniform(-0.4, 0.05) * half) / edge, -30, 30)))
        zone = np.maximum(zone, 0.35 / (1 + np.exp(np.clip((V - 0.2 * half) / 3.0, -30, 30))))
    if not smooth:
        zone = zone * np.clip(1 + rng.uniform(0.05, 0.22) * roughness(rng, 4.0), 0.4, 1.6)
    return zone / zone[shell.inside()].max()


def sink(shell: Shell, before: dict[str, float], zones: dict[str, np.ndarray], loss: float) -> dict[str, float]:
    """Lower each plate along its map until the largest height loss is `loss`; returns the depth in mm by plate."""
    original = {name: getattr(shell, name).copy() for name in zones}
    scale = 1.0
    for _ in range(4):
        for name, zone in zones.items():
            sign = -1 if name == "superior" else 1
            setattr(shell, name, (original[name] + sign * scale * zone).astype(np.float32))
        scale *= float(np.clip(loss / max(losses(before, shell), 1e-3), 0.2, 8.0))
    gap = shell.superior - shell.inferior
    tight = gap < 4.0
    if tight.any():  # never through each other
        middle = (shell.superior + shell.inferior) / 2
        shell.superior = np.where(tight, middle + 2.0, shell.superior).astype(np.float32)
        shell.inferior = np.where(tight, middle - 2.0, shell.inferior).astype(np.float32)
    return {name: float((scale * zone).max()) for name, zone in zones.items()}


def edges(zone: np.ndarray) -> np.ndarray:
    """Where a displacement changes steeply: the fracture line, 0..1."""
    slope = np.hypot(*np.gradient(zone))
    return np.clip(slope / max(float(np.percentile(slope, 99)), 1e-6), 0, 1)


def fracture(rng: np.random.Generator, shell: Shell, kind: str, loss: float) -> tuple[dict[str, bool], float]:
    """Break a body as Denis type A, B, C, D or as burst; returns the signs that are present and the height loss."""
    before = shell.heights()
    signs = dict.fromkeys(SIGNS, False)
    if kind == "D":
        _fold(rng, shell, before, loss)
        signs["anterior"] = True
        return signs, losses(before, shell)
    plates = {"A": ("superior", "inferior"), "B": ("superior",), "C": ("inferior",)}.get(kind) or (
        ("superior",) if rng.random() < 0.6 else ("superior", "inferior")
    )
    zones = {}
    for name in plates:
        share = 1.0 if len(plates) == 1 else rng.uniform(0.4, 0.6)
        zones[name] = share * crush_map(rng, shell, smooth=False)
    depth = sink(shell, before, zones, loss)
    band = rng.random() < 0.75
    shell.band_hu = float(rng.uniform(70, 230)) if band else 0.0
    broken = not band or rng.random() < 0.85  # one of the two signs at least: a crush without any is a mere shape
    for name in plates:
        zone = zones[name] / max(zones[name].max(), 1e-6)
        setattr(shell, f"band_{name}", (zone * (2.0 + rng.uniform(0.7, 1.4) * depth[name])).astype(np.float32))
        if broken:
            holes = gaussian_filter((roughness(rng, 2.5) > 1.0).astype(float), 0.8) * (zone > 0.3)
            setattr(shell, f"break_{name}", np.clip(edges(zone) + holes, 0, 1).astype(np.float32))
        signs[name] = True
    top = "superior" in plates
    if rng.random() < 0.55 and loss > 0.12:
        _buckle(rng, shell, rng.uniform(1.6, 3.2), upper=top)
        signs["anterior"] = True
    if kind == "burst":
        bulge = rng.uniform(2.6, 6.0)
        place = rng.uniform(0.35, 0.75) * (1 if top else -1)
        shell.wall += bulge * _patch(np.pi, rng.uniform(0.35, 0.55), place, rng.uniform(0.22, 0.4)).astype(np.float32)
        line = _patch(np.pi, 0.5, place - np.sign(place) * 0.35, 0.06)
        shell.break_wall = np.maximum(line, shell.break_wall if shell.break_wall is not None else 0).astype(np.float32)
        back = 1 / (1 + np.exp(-(V - 0.35 * shell.outline.depth / 2) / 2.0))
        drop = rng.uniform(0.06, 0.16) * before["posterior"]
        if top:
            shell.superior = (shell.superior - drop * back).astype(np.float32)
        else:
            shell.inferior = (shell.inferior + drop * back).astype(np.float32)
        signs["posterior"] = True
    return signs, losses(before, shell)


def _patch(theta: float, width: float, t: float, height: float) -> np.ndarray:
    """A smooth bump on the wall."""
    away = np.abs(np.angle(np.exp(1j * (WALL_THETA - theta))))
    return np.exp(-((away / width) ** 2)) * np.exp(-(((WALL_T - t) / height) ** 2))


def _buckle(rng: np.random.Generator, shell: Shell, depth: float, upper: bool) -> float:
    """A fold of the front wall: out above, in below, with a broken line between; returns its relative height."""
    place = rng.uniform(0.25, 0.6) * (1 if upper else -1)
    turn, width, tall = rng.uniform(-0.35, 0.35), rng.uniform(0.5, 1.1), rng.uniform(0.06, 0.14)
    out = _patch(turn, width, place + tall, tall) - 0.7 * _patch(turn, width, place - tall, tall)
    shell.wall = (shell.wall + depth * out).astype(np.float32)
    if rng.random() < 0.8:
        line = _patch(turn, width * 0.9, place, 0.05)
        shell.break_wall = np.maximum(line, shell.break_wall if shell.break_wall is not None else 0).astype(np.float32)
    return place


def _fold(rng: np.random.Generator, shell: Shell, before: dict[str, float], loss: float) -> None:
    """Type D: the front wall folds; the plates stay whole and follow as one piece, hinged at the back."""
    half = shell.outline.depth / 2
    hinge = rng.uniform(0.3, 0.9) * half
    tilt = np.clip((hinge - V) / (hinge + half), 0, 1.3)
    upper = rng.random() < 0.75
    sink(shell, before, {"superior": tilt} if upper else {"inferior": tilt}, min(loss, 0.28))
    shell.fold_at = _buckle(rng, shell, rng.uniform(1.9, 4.2), upper)
    shell.band_hu = float(rng.uniform(60, 180)) if rng.random() < 0.6 else 0.0
    shell.band_front = float(rng.uniform(3.0, 9.0))


def healed(rng: np.random.Generator, shell: Shell) -> float:
    """A healed deformity: smooth, thick-plated, without a step; returns the height loss."""
    before = shell.heights()
    plates = [("superior",), ("inferior",), ("superior", "inferior")][int(rng.choice(3, p=[0.55, 0.15, 0.3]))]
    zones = {name: crush_map(rng, shell, smooth=True) for name in plates}
    sink(shell, before, zones, float(rng.uniform(0.12, 0.4)))
    for name in plates:
        setattr(shell, f"rim_{name}", np.full(U.shape, rng.uniform(0.3, 0.9), np.float32))
    if rng.random() < 0.6:
        lips(rng, shell, rng.uniform(2.0, 5.0), ("superior", "inferior"))
    return losses(before, shell)


def lips(rng: np.random.Generator, shell: Shell, size: float, plates: tuple[str, ...]) -> None:
    """Osteophytes: outward lips of the wall at the rims."""
    for name in plates:
        edge = 1.0 if name == "superior" else -1.0
        for _ in range(int(rng.integers(1, 4))):
            turn = rng.uniform(-1.7, 1.7)
            lip = np.exp(-((np.abs(np.angle(np.exp(1j * (WALL_THETA - turn)))) / rng.uniform(0.25, 0.7)) ** 2))
            shell.wall += (rng.uniform(0.5, 1.0) * size * lip * np.exp(-np.abs(WALL_T - edge) / 0.13)).astype(np.float32)


def mimic(rng: np.random.Generator, shell: Shell, name: str) -> dict:
    """Shape a body as one of the mimics; returns what the painter adds inside (blobs in the body's frame)."""
    half = shell.outline.depth / 2
    paint: dict = {}
    if name == "biconcave":
        for plate, sign in (("superior", -1), ("inferior", 1)):
            rho = np.clip(shell.polar(), 0, 1)
            deeper = sign * rng.uniform(1.2, 3.2) * np.clip(1 - rho**2, 0, None)
            setattr(shell, plate, (getattr(shell, plate) + deeper).astype(np.float32))
    elif name == "schmorl":
        plate = str(rng.choice(["superior", "inferior"]))
        sign = -1 if plate == "superior" else 1
        size, depth = rng.uniform(2.5, 5.0), rng.uniform(3.0, 7.0)
        v0, u0 = rng.uniform(-0.1, 0.5) * half, rng.uniform(-0.4, 0.4) * half
        away = np.hypot(U - u0, V - v0)
        pit = 1 / (1 + np.exp(np.clip((away - size) / 0.6, -30, 30)))
        setattr(shell, plate, (getattr(shell, plate) + sign * depth * pit).astype(np.float32))
        setattr(shell, f"rim_{plate}", np.exp(-(((away - size) / 2.0) ** 2)).astype(np.float32) * rng.uniform(0.3, 1.0))
    elif name == "osteophytes":
        lips(rng, shell, rng.uniform(3.0, 8.0), ("superior", "inferior"))
    elif name == "scheuermann":
        for plate, sign in (("superior", -1), ("inferior", 1)):
            wave = sign * np.abs(roughness(rng, 4.0)) * rng.uniform(0.3, 0.8)
            setattr(shell, plate, (getattr(shell, plate) + wave).astype(np.float32))
            setattr(shell, f"rim_{plate}", np.full(U.shape, rng.uniform(0.1, 0.5), np.float32))
    elif name == "sclerosis":
        plate = str(rng.choice(["superior", "inferior"]))
        zone = 1 / (1 + np.exp((V + rng.uniform(-0.6, 0.8) * half) / 3.0))
        setattr(shell, f"band_{plate}", (zone * rng.uniform(3, 9)).astype(np.float32))
        shell.band_hu = float(rng.uniform(60, 260))
    elif name == "limbus":
        paint["limbus"] = (float(rng.uniform(4.0, 8.0)), float(rng.uniform(0.8, 1.6)), float(rng.uniform(-0.3, 0.3)))
    elif name == "line":
        paint["line"] = (float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.5, 0.5)), float(rng.uniform(60, 220)))
    elif name in ("haemangioma", "island", "lesion", "cement"):
        size = {"haemangioma": (6, 11), "island": (2, 5), "lesion": (4, 8), "cement": (6, 10)}[name]
        centre = (rng.uniform(-0.35, 0.35) * half, rng.uniform(-0.35, 0.3) * half, rng.uniform(-2, 2))
        paint[name] = (tuple(map(float, centre)), float(rng.uniform(*size)))
    elif name == "screws":
        paint["screws"] = (float(rng.uniform(2.2, 3.2)),)
    return paint


def cupid(rng: np.random.Generator, shell: Shell) -> None:
    """Cupid's bow: two hollows beside the midline in the back of the lower plate."""
    for side in (-1, 1):
        bow = np.exp(-((U - side * 0.4 * shell.outline.width / 2) ** 2 + (V - 0.35 * shell.outline.depth / 2) ** 2) / 60.0)
        shell.inferior = (shell.inferior + rng.uniform(1.0, 2.4) * bow).astype(np.float32)


