"""What is said: a result in one sentence, unknown never as negative, limits of this series before the general ones."""

from dataclasses import replace

import pytest

from ovcf_node.domain.findings import PatientFinding
from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.volume import Acquisition
from ovcf_node.report import wording
from result_cases import ABSTAINED, make_findings, make_vertebra, not_assessed, partly_graded, withheld

PLAIN = Acquisition(kvp=120.0, contrast=False)


def unbroken(**changes):
    vertebrae = tuple(make_vertebra(level, fracture=False, denis=None) for level in GRADED)
    return make_findings(patient=PatientFinding(False, 0.04), vertebrae=vertebrae, **changes)


def test_fracture():
    assert wording.headline(make_findings()) == (
        "Suspected vertebral fracture: L1 (Denis compression type B: superior endplate, height loss 33%)."
    )


def test_fracture_that_is_no_compression_is_not_called_one():
    review = Reason("posterior_wall", "posterior wall involved: not compression")
    broken = make_vertebra("L1", denis=None, ao="A3", of="OF3", abstain=review, height_loss=None)
    text = wording.headline(make_findings(vertebrae=(broken,)))
    assert text.startswith("Suspected vertebral fracture: L1 (not a compression type, review).")


def test_fracture_without_a_sure_type_says_why():
    broken = make_vertebra("L1", denis=None, abstain=ABSTAINED, height_loss=None)
    text = wording.headline(make_findings(vertebrae=(broken,)))
    assert f"L1 (type undetermined: {ABSTAINED.text})." in text
    assert "not a compression type" not in text
    assert wording.describe(replace(broken, abstain=None)) == "L1 (type undetermined)"


def test_negative_names_what_it_covers():
    assert wording.headline(unbroken()) == "No vertebral fracture suspected in T12-L5."
    assert wording.headline(partly_graded()) == (
        "No vertebral fracture suspected in T12-L2. NOT GRADED: L3 (undetermined); L4 (not completely in the field); "
        "L5 (not found or not in the field)."
    )


def test_fracture_names_what_was_not_graded():
    broken = (make_vertebra("L1"), make_vertebra("L3", complete=None, fracture=None))
    assert wording.headline(make_findings(vertebrae=broken)).endswith(
        "NOT GRADED: T12, L2, L4-L5 (not found or not in the field); L3 (not measurable)."
    )


def test_what_holds_cement_is_named_beside_a_negative_and_beside_a_fracture():
    note = Reason("cement", "cement in this vertebra")
    treated = make_vertebra("L2", fracture=False, denis=None, notes=(note,))
    rest = [make_vertebra(level, fracture=False, denis=None) for level in GRADED if level != "L2"]
    said = "CEMENT in L2: a fracture under it, or an older one, is not ruled out."
    assert wording.headline(make_findings(vertebrae=(*rest, treated))) == (
        f"No vertebral fracture suspected in T12-L5. {said}"
    )
    assert said in wording.headline(make_findings(vertebrae=(make_vertebra("L1"), treated)))
    left = replace(treated, fracture=None, notes=(), abstain=note)
    assert "CEMENT" not in wording.headline(make_findings(vertebrae=(*rest, left)))


def test_coverage_is_blamed_only_for_a_body_that_is_cut():
    whys = wording.ungraded(partly_graded())
    assert [level for level, why in whys.items() if why == "not completely in the field"] == ["L4"]


@pytest.mark.parametrize(("fracture", "text"), [
    (True, f"L1 type of the fracture not given: {ABSTAINED.text}."), (None, f"L1 undetermined: {ABSTAINED.text}."),
])
def test_what_is_left_open(fracture: bool | None, text: str):
    assert wording.abstained(make_vertebra("L1", fracture=fracture, abstain=ABSTAINED)) == text
    assert wording.abstained(make_vertebra("L1")) is None


def test_withheld_and_not_assessed_never_read_as_negative():
    for findings in (withheld(), not_assessed()):
        text = wording.headline(findings)
        assert "NOT" in text and text.endswith("This does not mean that there is no fracture.")


def test_limits_put_this_series_first():
    limits = wording.limits(withheld(), PLAIN)
    assert limits[0] == wording.Limit("Slices or pixels coarser than 3 mm: fractures are not graded (4.25 mm).", True)
    assert limits[1].urgent and limits[1].text.startswith("VERTEBRAL NUMBERING UNCERTAIN. ")
    assert limits[1].text.endswith("Basis: S1 not in the field.")


def test_the_basis_of_a_certain_numbering_is_told_too():
    assert "Basis: counted from S1." in wording.numbering(make_findings(numbering_basis="counted from S1"))


def test_other_causes_are_never_assessed():
    assert wording.Limit(wording.OTHER_CAUSES, False) in wording.limits(unbroken(), PLAIN)


@pytest.mark.parametrize(("kvp", "contrast", "text"), [
    (120.0, False, None),
    (140.0, True, "HU: 140 kVp, contrast stated: not comparable with non-contrast 120 kVp thresholds."),
    (120.0, True, "HU: 120 kVp, contrast stated: not comparable with non-contrast 120 kVp thresholds."),
    (100.0, None, "HU: 100 kVp, contrast not stated: not comparable with non-contrast 120 kVp thresholds."),
    (120.0, None, "HU: 120 kVp, contrast not stated: may not be comparable with non-contrast 120 kVp thresholds."),
])
def test_comparability_of_hu(kvp: float | None, contrast: bool | None, text: str | None):
    facts = Acquisition(kvp=kvp, contrast=contrast)
    limit = wording.comparability(facts)
    assert limit == (wording.Limit(text, "may not" not in text) if text else None)
    told = [limit.text for limit in wording.limits(make_findings(), facts) if limit.text.startswith("HU:")]
    assert told == ([text] if text else [])
    without_hu = make_findings(vertebrae=(make_vertebra("L1", mean_hu=None),))
    assert not [limit for limit in wording.limits(without_hu, facts) if limit.text.startswith("HU:")]


def test_numbering_and_supine_caveats_are_always_there():
    texts = [limit.text for limit in wording.limits(make_findings(), PLAIN)]
    assert wording.NUMBERING in texts and wording.SUPINE in texts


def test_notes_of_a_vertebra_are_limits():
    vertebrae = tuple(make_vertebra(level) for level in REPORTED[:1])
    noted = replace(vertebrae[0], notes=(Reason("cement", "cement in the body"),))
    assert wording.Limit("T12: cement in the body.", True) in wording.limits(make_findings(vertebrae=(noted,)), PLAIN)


def test_never_claims_recent_or_osteoporotic():
    findings = make_findings()
    everything = " ".join([wording.headline(findings), *(limit.text for limit in wording.limits(findings, PLAIN))])
    assert "fresh" not in everything.lower() and "osteoporotic" not in everything.lower()
