"""A patient: which levels are broken, healed or look broken, and what is true of every vertebra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bodies import Body
from .damage import MOST_LOSS, fracture, heal
from .mimics import schmorl_node, wedge, worn_plate
from .shapes import Frame
from .spine import LEVELS, Disc, Spine, assemble, below, make_bodies, make_discs

KINDS = ("A", "B", "C", "D", "none")
BREAKS_AT = {"T12": 0.26, "L1": 0.31, "L2": 0.19, "L3": 0.11, "L4": 0.08, "L5": 0.05}  # L1 first: clinical.md 3.2
GRADED = tuple(BREAKS_AT)
TWO_BROKEN = 0.2
LEAST_LOSS, MILD_LOSS = 0.12, 0.2  # half of the recent fractures lie between them: clinical.md 2.3, F3
OLD = {True: 0.1, False: 0.25}  # how often a patient with and without a recent fracture has a healed one
OLD_LOSS = (0.15, 0.35)
WORN = 0.45  # how often a patient has degenerate discs
SCHMORL, WEDGE = 0.08, 0.10  # how often a free level has one
PLATES = ("superior", "inferior")


@dataclass(frozen=True)
class Vertebra:
    """What is true of one vertebra.

    denis    the type of a recent fracture, or None
    old      a healed deformity
    mimic    "schmorl", "wedge" or "degenerative" at a level that is not broken, or None
    loss     largest relative loss of the three heights by a recent or healed fracture; a mimic loses nothing
    heights  anterior, middle and posterior height in mm, as clinical.md 2.1 measures them
    centre   centroid of the body, LPS mm
    signs    superior and inferior: that plate is broken; anterior: the front wall is buckled; posterior: never here
    frame    of the body: the axes along which its heights are measured
    """

    level: str
    denis: str | None
    old: bool
    mimic: str | None
    loss: float
    heights: dict[str, float]
    centre: np.ndarray
    signs: dict[str, bool]
    frame: Frame


@dataclass(frozen=True)
class Tissue:
    """What differs between patients besides shape: HU, mm, and the fat in the back muscles (0..1)."""

    marrow: float
    cortex: float
    shell: float
    muscle_fat: float
    back_fat: float
    last_rib: float


@dataclass(frozen=True)
class Patient:
    """One patient; `vertebrae` from head to foot, whose number in a picture is 1 + their index."""

    seed: int
    kind: str
    sex: str
    age: int
    vertebrae: list[Vertebra]
    spine: Spine
    tissue: Tissue
    variant: str = "none"  # of the numbering: nobody here has one


def sample_patient(seed: int, kind: str) -> Patient:
    """The patient of a seed. `kind` is the Denis type of the recent fractures (A to D), or "none"."""
    rng = np.random.default_rng([seed, 1, KINDS.index(kind)])
    sex, age = str(rng.choice(["F", "M"], p=[0.65, 0.35])), int(rng.integers(60, 91))
    scale = rng.uniform(0.92, 1.01) if sex == "F" else rng.uniform(0.97, 1.06)
    bodies, discs = make_bodies(rng, scale), make_discs(rng, scale)
    broken = _break(bodies, kind, rng) if kind != "none" else []
    old = _heal(bodies, broken, rng)
    mimics = _wear(bodies, discs, broken + old, rng) | _deform(bodies, broken + old, rng)
    spine = assemble(rng, scale, bodies, discs)
    vertebrae = [
        _vertebra(level, spine, kind if level in broken else None, level in old, mimics.get(level)) for level in LEVELS
    ]
    return Patient(seed, kind, sex, age, vertebrae, spine, _tissue(rng))


def _break(bodies: dict[str, Body], denis: str, rng: np.random.Generator) -> list[str]:
    """Break one level or two of them, the second one milder, and name them."""
    number = 2 if rng.random() < TWO_BROKEN else 1
    levels = [str(level) for level in rng.choice(GRADED, number, replace=False, p=list(BREAKS_AT.values()))]
    worst = draw_loss(rng)
    if number == 2:  # first, since a plate that must sink by 2 mm may cost it more than was drawn
        milder = bodies[levels[1]]
        fracture(milder, denis, rng.uniform(LEAST_LOSS, max(LEAST_LOSS, worst - 0.02)), rng)
        worst = min(MOST_LOSS, max(worst, milder.loss() + 0.02))
    fracture(bodies[levels[0]], denis, worst, rng)
    return levels


def draw_loss(rng: np.random.Generator) -> float:
    """Largest height loss of a recent fracture: half below 20 %, the rest up to 50 %, severe ones rarer."""
    if rng.random() < 0.5:
        return float(rng.uniform(LEAST_LOSS, MILD_LOSS))
    return float(MILD_LOSS + (MOST_LOSS - MILD_LOSS) * rng.random() ** 1.6)


def _heal(bodies: dict[str, Body], taken: list[str], rng: np.random.Generator) -> list[str]:
    if rng.random() >= OLD[bool(taken)]:
        return []
    level = str(rng.choice([level for level in GRADED if level not in taken]))
    heal(bodies[level], float(rng.uniform(*OLD_LOSS)), rng)
    return [level]


def _wear(
    bodies: dict[str, Body], discs: dict[str, Disc], taken: list[str], rng: np.random.Generator
) -> dict[str, str]:
    """Wear out none to three of the lower discs; the levels above them that show it."""
    if rng.random() >= WORN:
        return {}
    free = [level for level in ("L2", "L3", "L4", "L5") if level not in taken and below(level) not in taken]
    number = min(len(free), int(rng.integers(1, 4)))
    worn = [str(level) for level in rng.choice(free, number, replace=False)] if number else []
    for level in worn:
        discs[level] = Disc(discs[level].front * 0.55, discs[level].back * 0.6, vacuum=bool(rng.random() < 0.6))
        worn_plate(bodies[level], "inferior", rng)
        worn_plate(bodies[below(level)], "superior", rng)
    return dict.fromkeys(worn, "degenerative")


def _deform(bodies: dict[str, Body], taken: list[str], rng: np.random.Generator) -> dict[str, str]:
    """Schmorl nodes and physiological wedges at free levels."""
    shown = {}
    for level in GRADED:
        node, narrow, side = rng.random() < SCHMORL, rng.random() < WEDGE, str(rng.choice(PLATES))
        if level in taken:
            continue
        if narrow:
            wedge(bodies[level], rng)
            shown[level] = "wedge"
        if node:
            schmorl_node(bodies[level], side, rng)
            shown[level] = "schmorl"
    return shown


def _vertebra(level: str, spine: Spine, denis: str | None, old: bool, mimic: str | None) -> Vertebra:
    body, frame = spine.bodies[level], spine.frames[level]
    loss = max(0.0, body.loss()) if denis or old else 0.0
    centre = frame.at(*body.centre())
    return Vertebra(level, denis, old, mimic, loss, body.heights(), centre, dict(body.signs), frame)


def _tissue(rng: np.random.Generator) -> Tissue:
    """Marrow mostly as in osteoporosis and osteopenia, now and then dense (clinical.md 2.5)."""
    marrow = rng.uniform(150, 200) if rng.random() < 0.18 else rng.uniform(30, 110)
    return Tissue(
        marrow=marrow, cortex=520 + 1.6 * marrow + rng.uniform(-40, 60), shell=0.55 + 0.0018 * marrow,
        muscle_fat=rng.uniform(0, 0.7), back_fat=rng.uniform(8, 28), last_rib=rng.uniform(60, 120),
    )
