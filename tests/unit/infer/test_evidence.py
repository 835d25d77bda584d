"""From logits to words: the calls, the abstentions and what stays unknown."""

import numpy as np
import pytest

from ovcf_node.infer.bundle import VertebraStage
from ovcf_node.infer.evidence import Grading, calibrated, grade, is_suspect

_POINTS = {"fracture": 0.5, "superior": 0.5, "inferior": 0.5, "anterior": 0.5, "posterior": 0.5, "old": 0.5,
           "abstain_below": 0.6}
STAGE = VertebraStage((1.0, 1.25, 3.0), (56, 72, 32), (27.5, 24.0, 15.5), (-300.0, 1300.0), _POINTS,
                      {"evidence": 1.0, "type": 1.0, "old": 1.0})
_YES, _NO = 3.0, -3.0


def _signs(pattern, kind, certainty=5.0, old=_NO):
    evidence = [_YES if letter in pattern else _NO for letter in "SINP"]
    types = [certainty if name == kind else 0.0 for name in ("none", "A", "B", "C", "D")]
    return calibrated(np.array(evidence), np.array(types), old, STAGE)


@pytest.mark.parametrize(("pattern", "kind", "denis", "of"), [
    ("SI", "A", "A", "OF4"), ("SIN", "A", "A", "OF4"), ("S", "B", "B", "OF2"), ("SN", "B", "B", "OF2"),
    ("I", "C", "C", "OF2"), ("N", "D", "D", "OF2"),
])
def test_agreeing_signs_give_the_class_of_the_table(pattern, kind, denis, of):
    grading = grade(_signs(pattern, kind), STAGE, 0.3)
    assert (grading.fracture, grading.denis, grading.of, grading.abstain) == (True, denis, of, None)
    assert grading.age == "recent_features" and grading.old_deformity is False and grading.notes == ()


@pytest.mark.parametrize(("pattern", "kind", "certainty", "code"), [
    ("S", "A", 5.0, "evidence_conflict"), ("SI", "B", 5.0, "evidence_conflict"), ("S", "none", 1.0, "evidence_conflict"),
    ("S", "B", 1.0, "low_confidence"), ("SP", "B", 5.0, "posterior_wall"), ("SIP", "A", 5.0, "posterior_wall"),
])
def test_doubt_withholds_the_class_but_not_the_fracture(pattern, kind, certainty, code):
    grading = grade(_signs(pattern, kind, certainty), STAGE, 0.3)
    assert grading.fracture is True and grading.denis is None and grading.abstain.code == code
    if code == "posterior_wall":
        assert grading.ao in ("A3", "A4") and [n.code for n in grading.notes] == ["posterior_wall"]
    else:
        assert grading.ao is None and grading.of is None


def test_probability_is_the_mean_of_signs_and_direct_type():
    signs = _signs("S", "none", 2.0)
    sign, none = 1 / (1 + np.exp(-3.0)), np.exp(2.0) / (np.exp(2.0) + 4)
    assert signs.fracture == pytest.approx((sign + 1 - none) / 2, abs=1e-4)
    # The posterior wall alone is no compression fracture and does not raise the probability.
    assert _signs("P", "none").fracture == pytest.approx(_signs("", "none").fracture)


def test_temperature_divides_the_logits():
    cool = VertebraStage(*[getattr(STAGE, n) for n in ("spacing_mm", "shape", "origin_index", "window_hu")], _POINTS,
                         {"evidence": 3.0, "type": 2.0, "old": 3.0})
    signs = calibrated(np.array([3.0, 0, 0, 0]), np.array([0, 0, 2.0, 0, 0]), 3.0, cool)
    assert signs.evidence.superior == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
    assert signs.types[2] == pytest.approx(np.e / (np.e + 4))
    assert signs.old == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize(("old", "loss", "deformity", "age", "note"), [
    (_NO, 0.03, False, None, []), (_YES, 0.25, True, "old", ["height_loss_without_break"]), (_YES, 0.1, True, "old", []),
    (_NO, 0.20, True, "old", ["height_loss_without_break"]), (_NO, 0.19, False, None, []), (_NO, None, False, None, []),
])
def test_deformity_without_break_is_old_and_no_fracture(old, loss, deformity, age, note):
    grading = grade(_signs("", "none", old=old), STAGE, loss)
    assert grading.fracture is False and grading.denis is None and grading.abstain is None
    assert (grading.old_deformity, grading.age, [n.code for n in grading.notes]) == (deformity, age, note)


def test_fresh_break_in_an_old_deformity_is_indeterminate_in_age():
    grading = grade(_signs("S", "B", old=_YES), STAGE, 0.3)
    assert grading.fracture is True and grading.age == "indeterminate" and grading.old_deformity is True


def test_fracture_without_measurable_deformity_is_noted():
    assert [n.code for n in grade(_signs("N", "D"), STAGE, 0.049).notes] == ["no_measurable_deformity"]
    assert grade(_signs("N", "D"), STAGE, 0.05).notes == ()
    assert grade(_signs("N", "D"), STAGE, None).notes == ()


def test_unfit_references_are_broken_or_old():
    assert is_suspect(_signs("S", "B"), STAGE) and is_suspect(_signs("", "none", old=_YES), STAGE)
    assert not is_suspect(_signs("", "none"), STAGE)


def test_nothing_is_known_before_grading():
    silent = Grading()
    assert silent.fracture is None and silent.old_deformity is None and silent.evidence.superior is None
