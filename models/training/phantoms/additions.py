"""What patients of the training profile have on top of the others (the cohort `negatives` draws its patients there too).

Each addition draws from a stream of its own ([seed, 40] and up): whoever lacks it stays the patient of before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .metal import clips
from .neck import neck_tissues, neck_torso, neck_vertebrae
from .patient import Case
from .skeleton import rib
from .soft import Capsule
from .thighs import sample_legs, thigh_tissues

CLIPS, LEGS = 0.1, 0.25  # shares of patients


def with_additions(case: Case, scale: float) -> Case:
    """The patient with a neck, one in ten with surgical clips, one in four with thighs."""
    case = _with_neck(np.random.default_rng([case.seed, 40]), case, scale)
    rng = np.random.default_rng([case.seed, 41])
    if rng.random() < CLIPS:
        more = case.additions
        case = replace(case, additions=replace(more, last=(*more.last, *clips(rng, case, scale))))
    rng = np.random.default_rng([case.seed, 43])
    return _with_legs(rng, case, scale) if rng.random() < LEGS else case


def _with_neck(rng: np.random.Generator, case: Case, scale: float) -> Case:
    t1 = case.vertebrae[0]
    neck, discs = neck_vertebrae(rng, t1, scale)
    soft, bones = neck_tissues(rng, (t1, *neck[::-1]), scale)
    z = t1.origin_mm[2]
    more = case.additions
    more = replace(
        more, soft=(*more.soft, *soft), bones=(*more.bones, *bones), torso=neck_torso(case.torso, z, neck), neck_z=z
    )
    return replace(case, neck=neck, neck_discs=discs, additions=more)


def _with_legs(rng: np.random.Generator, case: Case, scale: float) -> Case:
    parts = [part for group in case.scene.bones for part in group.parts if isinstance(part, Capsule)]
    femora = sorted(parts, key=lambda part: part.b[2])[:2]  # nothing else reaches as far down
    legs = sample_legs(rng, case.torso, femora, case.find("S1").origin_mm[2], scale)
    soft, last = thigh_tissues(rng, legs, femora, scale)
    more = case.additions
    return replace(case, additions=replace(more, soft=(*more.soft, *soft), last=(*more.last, *last), legs=legs))


def with_lumbar_ribs(case: Case) -> Case:
    """The patient with short ribs at L1, or one: 1.5 % of people (clinical reference 3.2).

    It keeps its name; others would call it T13, so that an evaluation asks whether the numbering is doubted.
    """
    rng = np.random.default_rng([case.seed, 46])
    l1, scale, more = case.find("L1"), (case.stature_cm - 100) / 67, case.additions
    sides = ((-1, 1), (-1,), (1,))[int(rng.choice(3, p=[0.6, 0.2, 0.2]))]
    # One point of the wall, or two: a lumbar rib is shorter than the twelfth.
    grown = [
        rib(l1, case.torso, scale, 13, side, float(rng.choice([0.5, 0.72])), float(rng.uniform(0.8, 0.88))) for side in sides
    ]
    return replace(case, variant="lumbar_rib", additions=replace(more, bones=(*more.bones, *grown)))
