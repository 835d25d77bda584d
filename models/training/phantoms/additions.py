"""What training patients have on top of the others.

Each addition draws from a stream of its own ([seed, 40] and up): whoever lacks it stays the patient of before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .neck import neck_tissues, neck_torso, neck_vertebrae
from .patient import Case


def with_additions(case: Case, scale: float) -> Case:
    """The patient with a neck."""
    return _with_neck(np.random.default_rng([case.seed, 40]), case, scale)


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
