"""Sizes of the vertebrae T11-S1 and of the discs between them, drawn per patient (mm, CT scale)."""

from dataclasses import dataclass

import numpy as np

from .grid import ANGLES, MAP_U, MAP_V

LEVELS = ("T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")

# Ha, Hp, width and depth of the superior and the inferior plate, pedicle width and height, canal width and depth,
# span of the transverse processes, length of the spinous process.
_TABLE = {
    "T10": (20.5, 22.0, 33, 30, 35, 31, 8.0, 15.0, 18.5, 16.0, 58, 28),
    "T11": (21.5, 23.0, 35, 32, 39, 32.5, 9.0, 16.5, 19.4, 16.1, 52, 28),
    "T12": (23.5, 25.0, 39, 32.8, 42, 33.5, 8.3, 16.5, 22.2, 18.1, 47, 27),
    "L1": (25.0, 26.3, 41.2, 34.1, 43.3, 35.3, 8.6, 15.9, 23.7, 19.0, 72, 29),
    "L2": (26.2, 26.8, 42.6, 34.6, 45.5, 34.9, 8.6, 15.0, 23.8, 18.2, 82, 32),
    "L3": (27.0, 26.9, 44.1, 35.2, 48.0, 34.8, 10.2, 14.4, 24.3, 17.5, 92, 33),
    "L4": (27.3, 26.3, 46.6, 35.5, 49.5, 33.9, 13.0, 15.0, 25.4, 18.0, 90, 30),
    "L5": (29.5, 25.8, 47.3, 35.5, 49.4, 35.0, 16.1, 15.5, 28.2, 17.5, 95, 24),
    "S1": (30.0, 25.0, 50.0, 34.0, 38.0, 24.0, 18.0, 18.0, 31.0, 15.0, 100, 12),
    "S2": (24.0, 20.0, 36.0, 22.0, 28.0, 16.0, 15.0, 14.0, 24.0, 10.0, 90, 8),
}
_ORDER = tuple(_TABLE)
# Disc below each level: anterior, posterior height.
_DISC = {
    "T10": (5.5, 4.5),
    "T11": (6.0, 5.0),
    "T12": (7.5, 5.5),
    "L1": (9.5, 7.0),
    "L2": (11.0, 7.5),
    "L3": (12.5, 8.0),
    "L4": (14.0, 8.5),
    "L5": (14.0, 6.5),
    "S1": (3.0, 2.5),
}


@dataclass
class Size:
    """Sizes of one vertebra in mm; ``power`` shapes its outline, ``dent`` hollows its back wall (fraction)."""

    level: str
    front: float
    back: float
    width: tuple[float, float]  # superior, inferior
    depth: tuple[float, float]
    pedicle: tuple[float, float]
    canal: tuple[float, float]
    span: float
    spine: float
    hollow: tuple[float, float]  # mm, how deep the middle of the superior and the inferior plate lies
    waist: tuple[float, float, float]  # mm, how far the front, side and back wall are drawn in
    power: float
    dent: float

    @property
    def a(self):
        """Half depth, mm."""
        return sum(self.depth) / 4

    @property
    def b(self):
        """Half width, mm."""
        return sum(self.width) / 4

    @property
    def height(self):
        """Mean of the front and the back height, mm."""
        return (self.front + self.back) / 2

    def outline(self):
        """Radius of the mid-height outline per angle of ``ANGLES``, mm: rounded front, flat or hollow back."""
        c, s = np.abs(np.cos(ANGLES)), np.abs(np.sin(ANGLES))
        n = np.where(np.cos(ANGLES) > 0, self.power, self.power + 1.0)
        r = ((c / self.a) ** n + (s / self.b) ** n) ** (-1 / n)
        back = np.clip(-np.cos(ANGLES), 0, None)
        return r * (1 - self.dent * np.exp(-((r * s / (0.4 * self.b)) ** 2)) * back)


def sizes(rng, level, porous):
    """Sizes of the vertebrae above, at and below ``level``, drawn together; ``porous`` in 0..1 hollows the plates."""
    i = _ORDER.index(level)
    patient = rng.normal(1.0, 0.06)
    power, dent = rng.uniform(2.1, 2.6), rng.uniform(0.0, 0.16)
    waist = rng.uniform((0.8, 1.2, 0.2), (3.8, 4.5, 1.5))
    hollow = rng.uniform((0.4, 1.0), (1.6, 2.8)) + porous * rng.uniform(0, 1.6, 2)
    out = []
    for name in (_ORDER[i - 1], level, _ORDER[min(i + 1, len(_ORDER) - 1)]):
        r = np.array(_TABLE[name]) * patient * rng.normal(1.0, 0.025, 12)
        out.append(
            Size(name, r[0], r[1], (r[2], r[4]), (r[3], r[5]), (r[6], r[7]), (r[8], r[9]), r[10], r[11],
                 tuple(hollow * rng.uniform(0.8, 1.2, 2)), tuple(waist * rng.uniform(0.8, 1.2, 3)), power, dent)
        )  # fmt: skip
    return out


def discs(rng, level):
    """(anterior, posterior) heights in mm of the discs above and below ``level``; some are narrowed."""
    i = _ORDER.index(level)
    out = []
    for name in (_ORDER[i - 1], level):
        front, back = np.array(_DISC[name]) * rng.normal(1, 0.12)
        narrow = rng.uniform(0.35, 0.75) if rng.random() < 0.2 else 1.0
        out.append((max(front * narrow, 1.5), max(back * narrow, 1.2)))
    return out


def plates(size):
    """Undamaged superior and inferior endplate heights over (MAP_V, MAP_U), mm in the vertebra's own frame.

    The apex of the hollow lies in the back half; the ring apophysis stays flat, so the hollow fades out before it.
    """
    x, y = MAP_V[:, None] / size.a, MAP_U[None, :] / size.b
    half = (size.front * (1 - x) + size.back * (1 + x)) / 4
    bowl_s = np.clip(1 - np.hypot(x - 0.12, y * 0.95) ** 2 / 0.9, 0, None) ** 0.9
    # The inferior plate is hollow as a pair of flat bowls beside the midline.
    pair = np.maximum(np.clip(1 - np.hypot(x - 0.2, (np.abs(y) - 0.3) * 1.1) ** 2 / 0.7, 0, None), 0)
    return half - size.hollow[0] * bowl_s, -half + size.hollow[1] * (0.75 * pair + 0.25 * bowl_s)
