"""What is said: a result in one sentence, unknown never as negative, limits of this series before the general ones."""

from dataclasses import replace

from ovcf_node.domain.findings import PatientFinding
from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.domain.reasons import Reason
from ovcf_node.report import wording
from result_cases import ABSTAINED, make_findings, make_vertebra, not_assessed, withheld


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
    assert text == "Suspected vertebral fracture: L1 (not a compression type, review)."


def test_fracture_without_a_sure_type():
    broken = make_vertebra("L1", denis=None, abstain=ABSTAINED, height_loss=None)
    assert wording.headline(make_findings(vertebrae=(broken,))).endswith("L1 (type undetermined).")


def test_negative_names_what_it_covers():
    assert wording.headline(unbroken()) == "No vertebral fracture suspected in T12, L1, L2, L3, L4, L5."
    findings = unbroken()
    partly = replace(findings, vertebrae=(*findings.vertebrae[1:5], make_vertebra("L5", fracture=None, abstain=ABSTAINED)))
    assert wording.headline(partly).endswith("L1, L2, L3, L4. Undetermined: L5. Not in the field: T12.")


def test_withheld_and_not_assessed_never_read_as_negative():
    for findings in (withheld(), not_assessed()):
        text = wording.headline(findings)
        assert "NOT" in text and text.endswith("This does not mean that there is no fracture.")


def test_limits_put_this_series_first():
    limits = wording.limits(withheld())
    assert limits[0] == wording.Limit("Slices thicker than 3 mm: fractures are not graded (4.25 mm).", True)
    assert limits[1].urgent and limits[1].text.startswith("VERTEBRAL NUMBERING UNCERTAIN (S1 not in the field)")


def test_numbering_and_supine_caveats_are_always_there():
    texts = [limit.text for limit in wording.limits(make_findings())]
    assert wording.NUMBERING in texts and wording.SUPINE in texts


def test_notes_of_a_vertebra_are_limits():
    vertebrae = tuple(make_vertebra(level) for level in REPORTED[:1])
    noted = replace(vertebrae[0], notes=(Reason("cement", "cement in the body"),))
    assert wording.Limit("T12: cement in the body.", True) in wording.limits(make_findings(vertebrae=(noted,)))


def test_never_claims_recent_or_osteoporotic():
    everything = " ".join([wording.headline(make_findings()), *(limit.text for limit in wording.limits(make_findings()))])
    assert "fresh" not in everything.lower() and "osteoporotic" not in everything.lower()
