"""The wall of the body between its plates: waist, lips, spurs, and recent buckles.

Maps are over (w, angle) = (MAP_W, ANGLES) in the vertebra's own frame; radii and displacements in mm, outward > 0.
"""

from dataclasses import dataclass

import numpy as np

from .grid import ANGLES, MAP_U, MAP_V, MAP_W, chance, look, pick, ramp, smooth_noise

SHAPE = (MAP_W.size, ANGLES.size)
_FRONT = np.clip(np.cos(ANGLES), 0, 1)[None, :]


@dataclass
class Wall:
    """``radius`` in mm, ``thick`` factor on the shell, ``front`` and ``back`` 0..1 where recently broken."""

    radius: np.ndarray
    thick: np.ndarray
    front: np.ndarray
    back: np.ndarray
    rim: tuple[np.ndarray, np.ndarray]  # mm, height of the superior and inferior rim per angle


def rims(size, top, bottom):
    """Heights of both rims per angle, mm."""
    r = size.outline() * 0.93
    at = (-r * np.cos(ANGLES), r * np.sin(ANGLES))
    return look(top, (MAP_V, MAP_U), *at), look(bottom, (MAP_V, MAP_U), *at)


def whole(rng, size, top, bottom):
    """The unbroken wall: drawn in at mid-height, wider or narrower towards each plate as the plates are."""
    up, low = rims(size, top, bottom)
    t = np.clip((MAP_W[:, None] - (up + low) / 2) / np.maximum((up - low) / 2, 2.0), -1.3, 1.3)
    c, s = np.cos(ANGLES), np.sin(ANGLES)
    front, side, back = size.waist
    waist = np.where(c > 0, front * c**2, back * c**2) + side * s**2
    grow_a = (size.depth[0] - size.depth[1]) / 4 * np.abs(c)
    grow_b = (size.width[0] - size.width[1]) / 4 * np.abs(s)
    radius = size.outline() + (grow_a + grow_b) * t - waist * np.clip(1 - t * t, 0, 1) ** 1.3
    return Wall(
        radius,
        np.clip(1 + 0.25 * smooth_noise(rng, SHAPE, (5, 5)), 0.3, 1.8),
        np.zeros(SHAPE),
        np.zeros(SHAPE),
        (up, low),
    )


def sector(rng, middle, half):
    """Weight (0..1) of a sector of half-width ``half`` degrees about ``middle`` degrees, with soft or hard ends."""
    off = np.abs((np.degrees(ANGLES) - middle + 180) % 360 - 180)
    return ramp((half - off) / rng.uniform(8, 25) + 0.5)[None, :]


def _level(rng, wall, at, slope):
    """Signed height (mm) of every wall point above a wandering line at fraction ``at`` (0 low rim, 1 high rim)."""
    up, low = wall.rim
    line = low + at * (up - low) + slope * np.sin(ANGLES) * 6
    jag = smooth_noise(rng, ANGLES.size, rng.uniform(1.5, 5)) * rng.uniform(0.1, 0.9)
    return MAP_W[:, None] - (line + jag)


def buckle(rng, wall, at, size_mm):
    """Break the front wall at fraction ``at`` of its height by about ``size_mm``; shell gap and form vary."""
    middle = rng.uniform(-40, 40)
    sec = sector(rng, middle, rng.uniform(22, 80))
    d = _level(rng, wall, at, rng.uniform(-0.4, 0.4))
    name = pick(rng, {"kink": 3, "over": 3, "under": 2, "fold": 2, "corner": 1.5, "double": 1})
    sharp = rng.uniform(0.2, 0.9)
    if name == "kink":
        move = np.clip(1 - np.abs(d) / rng.uniform(2.0, 6.0), 0, 1)
    elif name == "over":  # the upper part rides forward over the lower
        move = ramp(d / sharp / 2 + 0.5) * np.exp(-np.clip(d, 0, None) / rng.uniform(4, 14))
        move = move - rng.uniform(0, 0.5) * ramp(-d / sharp / 2 + 0.5) * np.exp(np.clip(d, None, 0) / 4)
    elif name == "under":
        move = ramp(-d / sharp / 2 + 0.5) * np.exp(np.clip(d, None, 0) / rng.uniform(4, 14))
    elif name == "fold":  # infolded shell
        move = -np.clip(1 - np.abs(d) / rng.uniform(1.2, 2.5), 0, 1)
        move = move + rng.uniform(0, 0.6) * np.clip(1 - np.abs(d - 2.5) / 2, 0, 1)
    elif name == "corner":
        up, low = wall.rim
        reach = (up - MAP_W[:, None]) if at > 0.5 else (MAP_W[:, None] - low)
        span = np.maximum((1 - at if at > 0.5 else at) * (up - low), 2.0)
        move = ramp((span - reach) / 1.2 + 0.5) * rng.uniform(0.7, 1.0) - 0.25 * np.clip(1 - np.abs(d) / 1.5, 0, 1)
    else:
        move = np.clip(1 - np.abs(d) / 2.2, 0, 1) - 0.8 * np.clip(1 - np.abs(d - rng.uniform(3, 5)) / 1.8, 0, 1)
    wall.radius = wall.radius + size_mm * move * sec
    if chance(rng, 0.65):
        gap = np.clip(1.4 - np.abs(d) / rng.uniform(0.5, 1.3), 0, 1) * sec
        wall.thick = wall.thick * (1 - gap * rng.uniform(0.3, 1.0))
    wall.front = np.maximum(wall.front, np.clip(1.5 - np.abs(d) / (2.5 + size_mm * 0.7), 0, 1) * sec)


def retropulse(rng, wall, size_mm):
    """Break the back wall: its upper or lower part bulges or steps into the canal by ``size_mm``."""
    at = rng.uniform(0.55, 0.9) if chance(rng, 0.75) else rng.uniform(0.1, 0.45)
    sec = sector(rng, 180 + rng.uniform(-15, 15), rng.uniform(20, 50))
    d = _level(rng, wall, at, rng.uniform(-0.2, 0.2))
    if chance(rng, 0.5):
        move = np.exp(-((d / rng.uniform(3, 6)) ** 2))
    else:
        s = 1 if at > 0.5 else -1
        move = ramp(s * d / 1.5 + 0.5) * np.exp(-np.clip(s * d, 0, None) / 12)
    wall.radius = wall.radius + size_mm * move * sec
    gap = np.clip(1.5 - np.abs(d - rng.uniform(-4, 4)) / rng.uniform(0.6, 1.5), 0, 1) * sec
    wall.thick = wall.thick * (1 - gap * rng.uniform(0.5, 1.0))
    wall.back = np.maximum(wall.back, np.clip(move * 1.5, 0, 1) * sec)


def _rim_height(wall, high):
    """Distance (mm) of every wall point from the superior (``high``) or inferior rim, towards mid-height."""
    return (wall.rim[0] - MAP_W[:, None]) if high else (MAP_W[:, None] - wall.rim[1])


def lip(rng, wall, size_mm, high, middle=0.0, half=50.0):
    """A smooth corner lip or claw spur of ``size_mm`` at one rim."""
    reach = rng.uniform(2.0, 6.0)
    h = _rim_height(wall, high)
    grow = np.clip(1 - h / reach, 0, 1.5) ** rng.uniform(1.0, 2.2)
    wall.radius = wall.radius + size_mm * np.clip(grow, 0, 1.2) * sector(rng, middle, half)


def spur(rng, wall, size_mm, at):
    """A bony beak of ``size_mm`` on an unbroken front wall at fraction ``at`` of its height."""
    d = _level(rng, wall, at, rng.uniform(-0.3, 0.3))
    tooth = np.clip(1 - np.abs(d) / rng.uniform(1.8, 4.0), 0, 1) ** rng.uniform(0.8, 1.6)
    sec = sector(rng, rng.uniform(-45, 45), rng.uniform(12, 60))
    wall.radius = wall.radius + size_mm * tooth * sec
    wall.thick = wall.thick * (1 + tooth * sec * rng.uniform(-0.2, 1.0))


def notch(rng, wall, size_mm):
    """A vessel's notch in the middle of the front wall: narrow, with a normal or thin shell."""
    d = _level(rng, wall, rng.uniform(0.38, 0.62), rng.uniform(-0.2, 0.2))
    pit = np.exp(-((d / rng.uniform(1.0, 2.6)) ** 2)) * sector(rng, rng.uniform(-35, 35), rng.uniform(12, 50))
    wall.radius = wall.radius - size_mm * pit
    if chance(rng, 0.4):
        wall.thick = wall.thick * (1 - 0.6 * pit)


def waves(rng, wall, size_mm):
    """A wavy but whole front wall."""
    up, low = wall.rim
    t = (MAP_W[:, None] - low) / np.maximum(up - low, 4)
    wave = np.cos(2 * np.pi * (t * rng.uniform(1.3, 3.2) + rng.uniform(0, 1)) + np.sin(ANGLES) * rng.uniform(-2, 2))
    wall.radius = wall.radius + size_mm * wave * _FRONT ** rng.uniform(0.4, 1.5) * np.clip(
        1.2 - np.abs(2 * t - 1), 0, 1
    )


def draw_in(rng, wall, size_mm):
    """A deep physiological waist of the front and side walls."""
    up, low = wall.rim
    t = np.clip((MAP_W[:, None] - (up + low) / 2) / np.maximum((up - low) / 2, 2), -1, 1)
    shape = (1 - np.abs(t - rng.uniform(-0.15, 0.15)) ** rng.uniform(1.2, 3.0)).clip(0)
    wall.radius = wall.radius - size_mm * shape * (0.4 + 0.6 * _FRONT) * (np.cos(ANGLES) > -0.4)
