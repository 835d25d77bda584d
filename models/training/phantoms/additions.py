"""What patients of the training profile have on top of the others (the cohort `negatives` draws its patients there too).

Each addition draws from a stream of its own ([seed, 40] and up): whoever lacks it stays the patient of before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .metal import clips
from .neck import neck_tissues, neck_torso, neck_vertebrae
from .patient import Case
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
