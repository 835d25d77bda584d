"""Who is held against whom: what kept its height is a reference again, what lost it is none."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_spine import VERTEBRA_STAGE

from ovcf_node.domain.findings import HeightLines, Heights
from ovcf_node.infer.judgement import Measured, judge, measured
from ovcf_node.infer.morphometry import Geometry
from ovcf_node.infer.norms import NORMS
from ovcf_node.infer.stages import HeightWeight

STAGE = replace(VERTEBRA_STAGE, height=HeightWeight(1.0, 6.0, 0.0, 1.0, 0.0))
WHOLE, BROKEN, UNCLEAR = -6.0, 6.0, 1.5  # log-odds of the upper plate


def known(**signs: float):
    """What is measured of a spine of healthy heights, but `lost` at L2, by the log-odds of a sign at each level."""
    lost = signs.pop("lost", 0.0)
    readings = [SimpleNamespace(level=level, looks=np.array([[odds, -6.0, -6.0, -6.0, -odds, -6.0, odds, -6.0, -6.0, -6.0]]))
                for level, odds in signs.items()]
    heights = {level: np.array(NORMS[level].heights) * (1.0 - lost if level == "L2" else 1.0) for level in signs}
    geometry = {
        level: Geometry(True, (0.0, 0.0, 0.0), Heights(*map(float, heights[level])), HeightLines(), None, None, None,
                        False, False)
        for level in signs
    }
    return measured(readings, geometry, STAGE)


def test_what_looks_broken_and_kept_its_height_is_a_reference():
    found = known(T12=WHOLE, L1=WHOLE, L2=UNCLEAR, L3=BROKEN, L4=BROKEN)
    assert found["L1"].expectation.references == 2 and "L2" in found["L1"].expectation.source
    assert found["L2"].kept and found["L1"].kept  # with T12 alone L1 would have had too few


@pytest.mark.parametrize("odds", [UNCLEAR, BROKEN])
def test_what_lost_height_is_none(odds):
    assert "L2" not in known(T12=WHOLE, L1=WHOLE, L2=odds, L3=BROKEN, L4=BROKEN, lost=0.3)["L1"].expectation.source


def test_nor_is_what_surely_looks_broken():
    assert "L2" not in known(T12=WHOLE, L1=WHOLE, L2=BROKEN, L3=BROKEN, L4=BROKEN)["L1"].expectation.source


@pytest.mark.parametrize(("odds", "said", "why"), [(WHOLE, None, "not_measurable"), (BROKEN, True, None)])
def test_a_body_too_crushed_to_measure_is_never_called_whole(odds, said, why):
    crushed = Measured(known(L2=odds)["L2"].signs, False, None, None)
    grading = judge({"L2": crushed}, {}, {}, STAGE)["L2"].grading
    assert grading.fracture is said and (grading.abstain.code if grading.abstain else None) == why
