"""From logits to words: the calls, the abstentions and what stays unknown."""

from dataclasses import replace

import numpy as np
import pytest

from ovcf_node.domain.findings import Evidence, Heights
from ovcf_node.infer.evidence import Grading, Signs, calibrated, grade, is_suspect, weighed
from ovcf_node.infer.expected import Expectation
from ovcf_node.infer.judgement import Measured, judge
from ovcf_node.infer.stages import HeightWeight, RestoredWeight, VertebraStage

_POINTS = {"fracture": 0.5, "superior": 0.5, "inferior": 0.5, "anterior": 0.5, "posterior": 0.5, "old": 0.5,
           "abstain_below": 0.6}
STAGE = VertebraStage((1.0, 1.25, 3.0), (56, 72, 32), (27.5, 24.0, 15.5), (-300.0, 1300.0), _POINTS,
                      {"evidence": 1.0, "type": 1.0, "old": 1.0})
_YES, _NO = 3.0, -3.0


def _stage(fracture):
    """STAGE with another operating point of the combined probability."""
    return replace(STAGE, operating_points=_POINTS | {"fracture": fracture})


def _signs(pattern, kind, certainty=5.0, old=_NO):
    evidence = [_YES if letter in pattern else _NO for letter in "SINP"]
    types = [certainty if name == kind else 0.0 for name in ("none", "A", "B", "C", "D")]
    return calibrated(np.array([*evidence, *types, old]), STAGE)


@pytest.mark.parametrize(("pattern", "kind", "denis", "of"), [
    ("SI", "A", "A", "OF4"), ("SIN", "A", "A", "OF4"), ("S", "B", "B", "OF2"), ("SN", "B", "B", "OF2"),
    ("I", "C", "C", "OF2"), ("N", "D", "D", None),
])
def test_agreeing_signs_give_the_class_of_the_table(pattern, kind, denis, of):
    grading = grade(_signs(pattern, kind), STAGE, 0.3)
    assert (grading.fracture, grading.denis, grading.of, grading.abstain) == (True, denis, of, None)
    assert grading.age == "recent_features" and grading.old_deformity is False and grading.notes == ()


@pytest.mark.parametrize(("pattern", "kind", "certainty", "code"), [
    ("S", "A", 5.0, "evidence_conflict"), ("SI", "B", 5.0, "evidence_conflict"), ("N", "B", 5.0, "evidence_conflict"),
    ("SP", "B", 5.0, "posterior_wall"), ("SIP", "A", 5.0, "posterior_wall"),
])
def test_doubt_withholds_the_class_but_not_the_fracture(pattern, kind, certainty, code):
    grading = grade(_signs(pattern, kind, certainty), STAGE, 0.3)
    assert grading.fracture is True and grading.denis is None and grading.abstain.code == code
    assert grading.notes == ()
    if code == "posterior_wall":
        assert grading.ao in ("A3", "A4")
    else:
        assert grading.ao is None and grading.of is None


@pytest.mark.parametrize(("pattern", "kind"), [("S", "A"), ("SI", "B"), ("N", "B")])
def test_signs_and_direct_reading_that_disagree_withhold_the_class_at_any_point(pattern, kind):
    lenient = replace(STAGE, operating_points=_POINTS | {"abstain_below": 0.3})
    grading = grade(_signs(pattern, kind), lenient, 0.3)
    assert grading.fracture is True and grading.denis is None and grading.abstain.code == "evidence_conflict"
    assert kind in grading.abstain.text


def test_probability_is_the_mean_of_signs_and_direct_type():
    signs = _signs("S", "none", 2.0)
    sign, none = 1 / (1 + np.exp(-3.0)), np.exp(2.0) / (np.exp(2.0) + 4)
    assert signs.fracture == pytest.approx((sign + 1 - none) / 2, abs=1e-4)
    # The posterior wall alone is no compression fracture and does not raise the probability.
    assert _signs("P", "none").fracture == pytest.approx(_signs("", "none").fracture)


def test_temperature_divides_the_logits():
    cool = VertebraStage(*[getattr(STAGE, n) for n in ("spacing_mm", "shape", "origin_index", "window_hu")], _POINTS,
                         {"evidence": 3.0, "type": 2.0, "old": 3.0})
    signs = calibrated(np.array([3.0, 0, 0, 0, 0, 0, 2.0, 0, 0, 3.0]), cool)
    assert signs.evidence.superior == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
    assert signs.types[2] == pytest.approx(np.e / (np.e + 4))
    assert signs.old == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize("kind", ["none", "B"])
def test_a_fracture_no_sign_speaks_for_has_no_class_and_says_so(kind):
    # A point as low as the reference bundle's lets the direct reading alone pass, whatever class it prefers.
    grading = grade(_signs("", kind, 2.0), _stage(0.1), 0.3)
    assert grading.fracture is True and grading.abstain.code == "no_sign"
    assert (grading.denis, grading.ao, grading.of, grading.age) == (None, None, None, "indeterminate")


def test_a_type_that_no_sign_spells_is_named_where_both_readings_lean_to_it():
    signs = Signs(Evidence(0.05, 0.05, 0.4, 0.05), (0.2, 0.02, 0.03, 0.03, 0.72), 0.05, 0.6, 0.0, 0.6)
    grading = grade(signs, STAGE, 0.2)
    assert (grading.denis, grading.age) == ("D", "indeterminate")
    silent = replace(signs, evidence=Evidence(0.001, 0.001, 0.02, 0.001))
    assert grade(silent, STAGE, 0.2).abstain.code == "no_sign", "a share of next to nothing spells nothing"


def test_height_loss_is_weighed_on_one_scale_with_its_absence():
    weight = HeightWeight(1.0, 4.0, -0.8, 1.0, -0.2)
    stage = replace(STAGE, height=weight)
    signs = _signs("S", "none", 2.0)
    little, some, much, more = (weighed(signs, stage, loss).fracture for loss in (0.0, 0.1, 0.15, 0.4))
    assert little < some < much == more, "a kept height speaks against a fracture, a great loss not for one"
    assert little < weighed(signs, stage, None).fracture and weighed(signs, STAGE, 0.0).fracture == signs.fracture


def test_the_restored_vertebra_speaks_where_its_bundle_gives_it_weight_and_it_was_painted():
    signs = Signs(Evidence(), (0.5, 0.2, 0.1, 0.1, 0.1), 0.0, 0.5, 0.0, 0.5)
    heard = replace(STAGE, height=HeightWeight(1.0, 4.0, -0.8, 1.0, -0.2), restored=RestoredWeight(1.0, 2.0, 2.0, 1.0, -1.0))
    said = lambda *told: weighed(signs, heard, *told).fracture  # noqa: E731
    assert said(0.3, 0.0, 0.0) < said(0.3, 0.3, 0.0) < said(0.3, 0.3, 80.0)
    assert said(0.3, 0.3, 80.0) == pytest.approx(1 / (1 + np.exp(-(2 * 0.3 + 0.8 - 1.0))), abs=1e-4)
    assert said(0.0, 0.3, 80.0) == pytest.approx(1 / (1 + np.exp(-(-2 * 1.0 + 2 * 0.3 + 0.8 - 1.0))), abs=1e-4)
    deaf = replace(heard, restored=None)
    for told in ((0.3, None, None), (0.3, 0.3, None), (0.3, None, 80.0), (None, 0.3, 80.0)):
        assert said(*told) == weighed(signs, deaf, told[0]).fracture
    old = replace(signs, old=1.0)
    assert weighed(old, heard, 0.3, 0.3, 80.0).fracture == weighed(old, heard, 0.3, 0.0, 0.0).fracture, "age explains it"


def test_a_weighed_down_picture_is_not_surely_whole():
    # By the picture a break is possible; only the weighing (here the intercept) pulls it below what counts as surely whole.
    stage = replace(STAGE, height=HeightWeight(1.09, 3.18, -0.94, 1.0, -0.6))
    signs = Signs(Evidence(0.1, 0.1, 0.1, 0.05), (0.6, 0.1, 0.1, 0.1, 0.1), 0.7, 0.26, 0.0, 0.26)
    after = weighed(signs, stage, 0.3)
    assert after.fracture < 0.15 and grade(after, stage, 0.3).fracture is None


@pytest.mark.parametrize("point", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("pattern", ["", "S", "I", "N", "P", "SI", "SP", "NP", "SINP"])
def test_no_answer_contradicts_itself(point, pattern):
    for kind in ("none", "A", "B", "C", "D"):
        grading = grade(_signs(pattern, kind), _stage(point), 0.1)
        if grading.fracture is True:
            assert (grading.denis is None) == (grading.abstain is not None)
        elif grading.fracture is False:
            assert pattern == "" and grading.abstain is None
        else:
            assert grading.abstain.code == "evidence_conflict" and grading.probability is not None


_KEEN = replace(STAGE, height=HeightWeight(1.0, 6.0, 0.0, 1.0, 0.0))


@pytest.mark.parametrize(("pattern", "loss", "kept", "said"), [
    ("N", 0.03, True, False), ("S", 0.0, True, False), ("N", 0.03, False, None), ("", 0.0, True, False),
    ("N", 0.2, False, True), ("N", None, False, True),
])
def test_a_sign_on_a_body_that_kept_its_height_is_noted_and_not_called(pattern, loss, kept, said):
    signs = _signs(pattern, "D" if pattern else "none", 2.0)
    grading = grade(weighed(signs, _KEEN, loss), _KEEN, loss, kept=kept)
    assert grading.fracture is said
    assert [n.code for n in grading.notes] == (["height_kept"] if said is False and pattern else [])
    assert grading.abstain is None if said is not None else grading.abstain.code == "evidence_conflict"


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("loss", [0.0, 0.08, 0.12, 0.3])
@pytest.mark.parametrize(("spread", "posterior"), [(0.0, 0.0), (0.8, 0.0), (0.0, 0.3)])
@pytest.mark.parametrize("anterior", [0.4, 0.62])  # below and above its operating point
def test_what_looks_broken_is_never_silently_whole_and_more_doubt_never_makes_a_firmer_no(
    references, loss, spread, posterior, anterior
):
    held = Expectation(Heights(25.0, 25.0, 25.0), "T12, L2, L3", 0.03, references)
    order, answers = {False: 0, None: 1, True: 2}, []
    for picture in np.linspace(0.01, 0.99, 50):
        signed, types = Evidence(0.0, 0.0, anterior, posterior), (1 - picture, 0.0, 0.0, 0.0, picture)
        signs = Signs(signed, types, 0.0, picture, spread, picture)
        said = judge({"L1": Measured(signs, False, held, loss)}, {}, {}, _KEEN)["L1"].grading
        looks = anterior > 0.5 or weighed(signs, _KEEN, None).fracture >= _KEEN.operating_points["fracture"]
        if said.fracture is False and looks and loss < 0.25:
            assert [n.code for n in said.notes] == ["height_kept"]
            assert (references, spread, posterior) == (3, 0.0, 0.0) and loss < 0.1
        answers.append(order[said.fracture])
    assert answers == sorted(answers)


def test_height_overrules_nothing_in_a_bundle_that_gives_it_no_weight():
    deaf = replace(STAGE, height=HeightWeight(1.0, 0.0, -3.0, 1.0, -3.0))
    for stage in (deaf, replace(STAGE, height=None)):
        signs = replace(weighed(_signs("N", "none"), stage, 0.0), fracture=0.2)
        assert grade(signs, stage, 0.0, kept=True).abstain.code == "evidence_conflict"


@pytest.mark.parametrize("pattern", ["S", "P", "NP"])
def test_no_fracture_is_never_said_against_a_sign_on_a_body_that_lost_height(pattern):
    for old in (_NO, _YES):
        signs = _signs(pattern, "none", old=old)
        grading = grade(signs, _stage(0.99), 0.3)
        assert grading.fracture is None and grading.abstain.code == "evidence_conflict"
        assert (grading.old_deformity, grading.age, grading.notes) == (None, None, ())
        assert grading.probability == signs.fracture and grading.evidence == signs.evidence


@pytest.mark.parametrize(("old", "loss", "deformity", "age", "note"), [
    (_NO, 0.03, False, None, []), (_YES, 0.25, True, "old", ["height_loss_without_break"]), (_YES, 0.1, True, "old", []),
    (_NO, 0.20, None, "indeterminate", ["height_loss_without_break"]), (_NO, 0.19, False, None, []),
    (_NO, 0.249, None, "indeterminate", ["height_loss_without_break"]), (_NO, None, False, None, []),
])
def test_no_fracture_and_only_the_old_output_says_old(old, loss, deformity, age, note):
    grading = grade(_signs("", "none", old=old), STAGE, loss)
    assert grading.fracture is False and grading.denis is None and grading.abstain is None
    assert (grading.old_deformity, grading.age, [n.code for n in grading.notes]) == (deformity, age, note)


@pytest.mark.parametrize("loss", [0.25, 0.47])
def test_much_height_lost_without_a_break_is_undetermined(loss):
    grading = grade(_signs("", "none"), STAGE, loss)
    assert grading.fracture is None and grading.abstain.code == "height_loss_without_break"
    assert f"{loss:.0%}" in grading.abstain.text and "Scheuermann" in grading.abstain.text
    assert (grading.old_deformity, grading.age, grading.notes) == (None, None, ())
    assert grading.probability is not None


def test_fresh_break_in_an_old_deformity_is_indeterminate_in_age():
    grading = grade(_signs("S", "B", old=_YES), STAGE, 0.3)
    assert grading.fracture is True and grading.age == "indeterminate" and grading.old_deformity is True


@pytest.mark.parametrize(("old", "age"), [(0.24, "recent_features"), (0.26, "indeterminate")])
def test_recent_needs_a_break_and_little_that_looks_old(old, age):
    grading = grade(_signs("S", "B", old=np.log(old / (1 - old))), STAGE, 0.3)
    assert grading.fracture is True and grading.age == age and grading.old_deformity is False


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


def _looks(*certainties):
    """Looks that see a broken superior endplate (positive) or nothing (negative)."""
    return calibrated(np.array([[c, -3, -3, -3, -c, -3, c, -3, -3, -3] for c in certainties], dtype=float), STAGE)


def test_looks_that_agree_decide_by_their_mean():
    signs = _looks(3.0, 2.0, 2.5)
    assert signs.spread < 0.1 and _looks(3.0).fracture > signs.fracture > _looks(2.0).fracture
    assert grade(signs, STAGE, 0.3).denis == "B"


def test_looks_that_contradict_each_other_leave_a_close_call_open():
    grading = grade(_looks(4.0, -4.0, 0.5), STAGE, 0.05)
    assert (grading.fracture, grading.abstain.code) == (None, "unsteady")


def test_one_look_against_a_clear_majority_changes_nothing():
    grading = grade(_looks(6.0, 6.0, 6.0, -4.0), STAGE, 0.3)
    assert grading.fracture is True


@pytest.mark.parametrize(("old", "loss", "said", "code"), [
    (0.55, 0.26, None, "height_loss_without_break"), (0.65, 0.26, False, None), (0.55, 0.24, False, None),
])
def test_only_what_surely_looks_old_explains_a_quarter_of_the_height(old, loss, said, code):
    grading = grade(_signs("", "none", old=np.log(old / (1 - old))), STAGE, loss)
    assert grading.fracture is said and (grading.abstain.code if grading.abstain else None) == code
    assert grading.old_deformity is (None if said is None else True)


def _unsure(inferior, kind, certainty):
    """A surely broken upper plate and a lower one that the signs leave open."""
    types = [certainty if name == kind else 0.0 for name in ("none", "A", "B", "C", "D")]
    return calibrated(np.array([3.0, inferior, -3, -3, *types, -3]), STAGE)


@pytest.mark.parametrize(("inferior", "kind", "certainty", "denis", "code"), [
    (0.2, "B", 4.0, "B", None), (-0.2, "A", 4.0, "A", None),  # the direct reading settles what the signs leave open
    (-0.2, "B", 0.2, None, "low_confidence"), (0.2, "B", 0.2, None, "evidence_conflict"),
])
def test_type_is_the_mean_of_both_readings(inferior, kind, certainty, denis, code):
    grading = grade(_unsure(inferior, kind, certainty), STAGE, 0.3)
    assert grading.denis == denis and (grading.abstain.code if grading.abstain else None) == code
    assert grading.of == {"A": "OF4", "B": "OF2", None: None}[denis]


@pytest.mark.parametrize(("references", "loss", "fracture"), [(3, 0.04, False), (0, 0.04, None), (3, 0.22, None)])
def test_beside_cement_only_the_patients_own_vertebrae_clear_one(references, loss, fracture):
    expectation = Expectation(Heights(25.0, 24.0, 26.0), "T12, L2, L3" if references else "level norms", 0.04, references)
    known = Measured(_signs("", "none"), False, expectation, loss, cement=True)
    grading = judge({"L1": known}, {}, {}, STAGE)["L1"].grading
    assert grading.fracture is fracture
    assert [n.code for n in grading.notes] == (["cement"] if fracture is False else [])


@pytest.mark.parametrize("other", [-3.0, -4.0, -6.0])
def test_a_sharper_contradiction_never_makes_a_firmer_no(other):
    grading = grade(_looks(6.0, other, other), STAGE, 0.05)
    assert (grading.fracture, grading.abstain.code) == (None, "unsteady")
