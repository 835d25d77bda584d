"""The chain: typical sizes of every level, discs, and where each body lies from the promontory up.

LPS mm with the middle of the sacral endplate at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .bodies import Body, Size, make_body
from .shapes import Frame, rotation

LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")  # head to foot
SACRAL_SLOPE = (37.0, 6.0, 26.0, 48.0)  # degrees: mean, deviation, least, most; supine, within clinical.md 3.1
OUTLINE = 0.9  # of the depth: where heights in front and behind are told


class Typical(NamedTuple):
    """Sizes of a level in mm, of an adult of mixed sex on CT; within a millimetre or two of clinical.md 3.2.

    Spinous process from the back of the canal, transverse processes from tip to tip, disc below the level.
    """

    anterior: float
    posterior: float
    upper_width: float
    upper_depth: float
    lower_width: float
    lower_depth: float
    pedicle_width: float
    pedicle_height: float
    canal_width: float
    canal_depth: float
    transverse: float
    spinous: float
    disc_front: float
    disc_back: float


TYPICAL = {
    "T9": Typical(20.0, 21.0, 31.5, 30.0, 33.5, 31.0, 7.0, 13.5, 17.5, 15.8, 60, 30, 5.0, 4.5),
    "T10": Typical(20.6, 21.8, 33.5, 31.0, 36.0, 31.8, 8.0, 14.0, 18.0, 15.8, 58, 29, 5.0, 4.5),
    "T11": Typical(21.6, 23.0, 36.0, 32.0, 39.0, 32.6, 8.8, 16.0, 19.5, 16.3, 53, 28, 6.0, 5.0),
    "T12": Typical(23.6, 25.1, 39.0, 32.8, 42.0, 33.6, 8.4, 16.3, 22.0, 17.8, 48, 27, 7.0, 5.5),
    "L1": Typical(25.0, 26.4, 41.0, 34.0, 43.3, 35.0, 8.6, 15.8, 23.5, 18.0, 72, 29, 9.0, 6.8),
    "L2": Typical(26.2, 26.8, 42.5, 34.5, 45.5, 34.8, 8.8, 15.0, 23.8, 17.7, 82, 32, 10.5, 7.5),
    "L3": Typical(27.2, 27.0, 44.0, 35.0, 47.5, 34.7, 10.2, 14.5, 24.0, 17.0, 91, 33, 12.0, 8.2),
    "L4": Typical(27.5, 26.3, 46.5, 35.3, 49.0, 34.2, 12.5, 15.0, 25.0, 17.5, 88, 30, 13.0, 8.5),
    "L5": Typical(29.0, 25.0, 48.0, 35.5, 49.5, 34.5, 15.0, 15.0, 27.0, 17.0, 93, 24, 13.5, 6.5),
}
SACRUM = Size(31.0, 26.0, 50.0, 34.0, 36.0, 23.0)  # its first body
SACRAL_SEGMENTS = (  # S2 to S5: degrees of bend, height, width and depth in mm
    (4, 24, 34, 22), (10, 20, 27, 17), (16, 17, 22, 14), (20, 14, 16, 10),
)


@dataclass
class Disc:
    """The disc below a level: heights in front and behind (mm); `vacuum` with gas in it."""

    front: float
    back: float
    vacuum: bool = False

    @property
    def height(self) -> float:
        return (self.front + self.back) / 2


@dataclass(frozen=True)
class Segment:
    """One of the sacral segments below the first; mm."""

    frame: Frame
    height: float
    width: float
    depth: float


@dataclass(frozen=True)
class Spine:
    """All bodies in place. `discs` and `disc_frames` go by the level above the disc."""

    scale: float
    bodies: dict[str, Body]
    frames: dict[str, Frame]
    discs: dict[str, Disc]
    disc_frames: dict[str, Frame]
    sacral: list[Segment]


def below(level: str) -> str:
    """The next level towards the feet."""
    return LEVELS[LEVELS.index(level) + 1]


def make_bodies(rng: np.random.Generator, scale: float) -> dict[str, Body]:
    """Healthy bodies by level, each a little off its typical size; `scale` 1 is the typical patient."""
    tall = rng.normal(1, 0.03)
    bodies = {}
    for level, typical in TYPICAL.items():
        height = scale * rng.normal(1, 0.02) * tall
        size = Size(
            typical.anterior * height * rng.normal(1, 0.015), typical.posterior * height * rng.normal(1, 0.012),
            *(side * scale * rng.normal(1, 0.02) for side in typical[2:6]),
        )
        bodies[level] = make_body(rng, size, bowls=(rng.uniform(0.8, 1.8), rng.uniform(1.5, 3.0)))
    sacrum = Size(*(scale * getattr(SACRUM, name) for name in Size.__dataclass_fields__))
    bodies["S1"] = make_body(rng, sacrum, bowls=(0.8, 0.0))
    return bodies


def make_discs(rng: np.random.Generator, scale: float) -> dict[str, Disc]:
    """Healthy discs by the level above them."""
    discs = {}
    for level, typical in TYPICAL.items():
        factor = scale * rng.uniform(0.8, 1.1)
        discs[level] = Disc(typical.disc_front * factor, typical.disc_back * factor)
    return discs


def wedge_angle(front: float, behind: float, depth: float) -> float:
    """Angle (rad) between two plates that are `front` and `behind` mm apart at the ends of a body's outline."""
    return float(np.arctan((front - behind) / (OUTLINE * depth)))


def assemble(rng: np.random.Generator, scale: float, bodies: dict[str, Body], discs: dict[str, Disc]) -> Spine:
    """Stack discs and bodies on the sacrum; every wedge turns what lies above it."""
    mean, deviation, least, most = SACRAL_SLOPE
    tilt = float(np.radians(np.clip(rng.normal(mean, deviation), least, most)))
    curve, phase = np.radians(rng.normal(0, 1.2)), rng.uniform(0, 6)  # a slight scoliosis
    top = np.zeros(3)
    front, behind = bodies["S1"].edges()
    turned = rotation(tilt + wedge_angle(front, behind, bodies["S1"].size.depth) / 2)
    frames = {"S1": Frame(top - turned[:, 2] * (front + behind) / 4, turned)}
    disc_frames = {}
    for n, level in enumerate(reversed(LEVELS[:-1])):
        body, disc = bodies[level], discs[level]
        sideways = curve * np.sin(0.6 * n + phase)
        bend = wedge_angle(disc.front, disc.back, body.size.depth)
        turned = rotation(tilt - bend / 2, sideways)
        disc_frames[level] = Frame(top + turned[:, 2] * disc.height / 2, turned)
        top, tilt = top + turned[:, 2] * disc.height, tilt - bend
        front, behind = body.edges()
        bend = wedge_angle(front, behind, body.size.depth)
        turned = rotation(tilt - bend / 2, sideways, rng.normal(0, 0.01))
        frames[level] = Frame(top + turned[:, 2] * (front + behind) / 4, turned)
        top, tilt = top + turned[:, 2] * (front + behind) / 2, tilt - bend
    return Spine(scale, bodies, frames, discs, disc_frames, _sacral_segments(scale, bodies["S1"], frames["S1"]))


def _sacral_segments(scale: float, body: Body, frame: Frame) -> list[Segment]:
    """S2 to S5, each bent further backwards, down from the lower plate of S1."""
    end = frame.at(up=-sum(body.edges()) / 4)
    tilt = float(np.arctan2(-frame.axes[1, 2], frame.axes[2, 2]))
    segments = []
    for bend, height, width, depth in SACRAL_SEGMENTS:
        tilt -= np.radians(bend)
        turned = rotation(tilt)
        middle = end - turned[:, 2] * (height * scale / 2 + 0.8)
        segments.append(Segment(Frame(middle, turned), height * scale, width * scale, depth * scale))
        end = middle - turned[:, 2] * height * scale / 2
    return segments
