"""A simulated conventional reader: the 20 % height rule on caliper measurements with a published error. Nothing more.

It stands beside the bundle in the paired test because the study compared against conventional reading. It is a rule with
noise, not a radiologist: it looks for no broken endplate and no buckled cortex, and no claim over readers follows from it.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ovcf_node.domain.levels import GRADED
from ovcf_node.evaluate.study import CALIPER_SD
from ovcf_node.infer.norms import NORMS

RULE = 0.20


def reads_fracture(record: Mapping[str, Any]) -> bool | None:
    """Return what the rule says of a patient; None where the true heights are not known.

    Each height is compared with the nearest measured neighbours on either side that are not fractured, scaled by the
    ratio of the level norms; the largest loss plus one measurement error per vertebra is held against 20 %.
    """
    rows = {v["level"]: v for v in record["vertebrae"] if v["level"] in GRADED and v.get("heights_mm")}
    if len(rows) < 2:
        return None
    rng = np.random.default_rng(zlib.crc32(f"{record['cohort']}/{record['case']}".encode()))
    errors = dict(zip(GRADED, rng.normal(0.0, CALIPER_SD, len(GRADED)), strict=True))
    return any(_loss(level, rows) + errors[level] >= RULE for level in rows)


def _loss(level: str, rows: dict[str, dict]) -> float:
    order = [n for n in GRADED if n in rows]
    here = order.index(level)
    sound = [n for n in order if n != level and not rows[n]["fracture"]]
    above = [n for n in sound if order.index(n) < here][-1:]
    below = [n for n in sound if order.index(n) > here][:1]
    nearest = above + below
    if not nearest:
        return 0.0
    losses = []
    for position, value in rows[level]["heights_mm"].items():
        expected = np.mean([
            rows[n]["heights_mm"][position] * getattr(NORMS[level], position) / getattr(NORMS[n], position)
            for n in nearest
        ])
        losses.append(1 - value / float(expected))
    return max(losses)
