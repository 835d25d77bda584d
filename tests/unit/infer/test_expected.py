"""Expected heights come from the unbroken; losses and grades have exact edges."""

import pytest

from ovcf_node.domain.findings import Heights
from ovcf_node.infer.expected import STANDARD_ERROR, expectations, genant, height_loss
from ovcf_node.infer.norms import NORMS

_LEVELS = ("T11", "T12", "L1", "L2", "L3", "L4", "L5")


def _spine(scale=0.93, growth=0.0, levels=_LEVELS):
    """Heights of a patient whose vertebrae are the norms' times `scale`, changing by `growth` a level."""
    return {level: Heights(*(h * scale * (1 + growth * k) for h in NORMS[level].heights))
            for k, level in enumerate(_LEVELS) if level in levels}


def _broken(heights, fraction):
    return Heights(heights.anterior * (1 - fraction), heights.middle * (1 - fraction / 2), heights.posterior)


def test_the_fractured_one_is_no_reference_for_itself_or_others():
    spine = _spine()
    measured = spine | {"L1": _broken(spine["L1"], 0.35)}
    found = expectations(measured, [level for level in _LEVELS if level != "L1"], {})
    for level in _LEVELS:
        assert found[level].heights.anterior == pytest.approx(spine[level].anterior, rel=0.005)
        assert level not in found[level].source and "L1" not in found[level].source
    assert height_loss(measured["L1"], found["L1"].heights) == pytest.approx(0.35, abs=0.01)
    assert found["L1"].source == "T11, T12, L2, L3, L4"


def test_an_unflagged_deformity_leaves_the_references_by_itself():
    spine = _spine()
    measured = spine | {"L2": _broken(spine["L2"], 0.4)}
    found = expectations(measured, _LEVELS, {})
    assert "L2" not in found["L1"].source
    assert found["L1"].heights.anterior == pytest.approx(spine["L1"].anterior, rel=0.01)
    assert height_loss(measured["L2"], found["L2"].heights) == pytest.approx(0.4, abs=0.015)


def test_a_patient_whose_vertebrae_grow_unlike_the_norms_is_followed():
    spine = _spine(growth=0.02)
    found = expectations(spine, [level for level in _LEVELS if level != "L2"], {})
    assert found["L2"].heights.middle == pytest.approx(spine["L2"].middle, rel=0.015)


def test_one_neighbour_sets_the_scale():
    spine = _spine(0.9, levels=("L1", "L2"))
    found = expectations(spine, ["L2"], {})
    assert found["L1"].source == "L2"
    assert found["L1"].heights.posterior == pytest.approx(0.9 * NORMS["L1"].posterior, abs=0.02)


def test_without_references_the_norms_scale_with_the_width():
    measured = {"L1": Heights(15.0, 15.0, 20.0)}
    assert expectations(measured, [], {})["L1"].heights.anterior == NORMS["L1"].anterior
    found = expectations(measured, [], {"L1": 0.9 * NORMS["L1"].width})["L1"]
    assert found.source == "level norms" and found.standard_error == 0.07
    assert found.heights.anterior == pytest.approx(0.9 * NORMS["L1"].anterior, abs=0.01)


def test_only_what_is_named_is_used():
    spine = _spine()
    before = expectations(spine, _LEVELS, {})["L5"]
    assert before.source == "L2, L3, L4" and before.standard_error == 0.03
    far = spine | {"T11": Heights(*(1.1 * h for h in vars(spine["T11"]).values()))}
    assert expectations(far, _LEVELS, {})["L5"] == before
    assert expectations(far, _LEVELS, {})["L2"] != expectations(spine, _LEVELS, {})["L2"]
    alone = expectations(_spine(0.95, levels=("T11", "L5")), ["T11"], {})["L5"]
    assert (alone.source, alone.heights.middle) == ("level norms", NORMS["L5"].middle)


def test_s1_and_the_unmeasured_have_no_expectation():
    measured = _spine() | {"S1": Heights(30.0, 29.0, 25.0), "L4": Heights(None, 25.0, 25.0)}
    found = expectations(measured, measured, {})
    assert "S1" not in found and "L4" not in found and "L3" in found


def test_height_loss_is_the_largest_and_never_negative():
    assert height_loss(Heights(20, 24, 30), Heights(25, 25, 25)) == pytest.approx(0.2)
    assert height_loss(Heights(26, 26, 26), Heights(25, 25, 25)) == 0.0
    assert height_loss(Heights(20, None, None), Heights(25, 25, 25)) == pytest.approx(0.2)
    assert height_loss(Heights(), Heights(25, 25, 25)) is None


@pytest.mark.parametrize(("loss", "grade", "near"), [
    (0.0, 0, False), (0.1699, 0, False), (0.171, 0, True), (0.1999, 0, True), (0.2, 1, True), (0.2499, 1, True),
    (0.25, 2, True), (0.28, 2, False), (0.3, 2, False), (0.371, 2, True), (0.3999, 2, True), (0.4, 3, True),
    (0.429, 3, True), (0.44, 3, False), (1.0, 3, False),
])
def test_genant_bins_are_half_open(loss, grade, near):
    result = genant(loss, STANDARD_ERROR)
    assert (result.grade, result.near_boundary) == (grade, near)


def test_a_larger_error_reaches_more_boundaries():
    assert not genant(0.15, 0.03).near_boundary and genant(0.15, 0.07).near_boundary


def test_unknown_loss_has_no_grade():
    assert genant(None, STANDARD_ERROR) is None
