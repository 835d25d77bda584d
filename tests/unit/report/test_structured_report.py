"""The structured report: what it says, for every kind of reading, read back from its content tree."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from sr_reading import children, evaluations, groups, name, said, value

from ovcf_node.domain.findings import Findings, PatientFinding
from ovcf_node.domain.identity import Dialect
from ovcf_node.domain.levels import REPORTED
from ovcf_node.report import encode
from ovcf_node.report.measurements import MEASUREMENTS
from result_cases import (
    ABSTAINED,
    Case,
    make_case,
    make_context,
    make_findings,
    make_vertebra,
    not_assessed,
    partly_graded,
    withheld,
)


def report(case: Case, findings: Findings | None = None, dialect: Dialect | None = None, **changes) -> Dataset:
    given = findings or case.findings
    masks = None if given.status == "not_assessed" else case.masks
    [encoded] = encode(
        changes.get("context", make_context()), changes.get("headers", case.headers), given, masks, None,
        dialect or Dialect(), case.volume.sources, roles=("sr",),
    )
    return encoded.dataset


@pytest.fixture(scope="module")
def usual(case: Case) -> Dataset:
    return report(case)


PATIENT = "Suspected vertebral fracture in T12 to L5"


def walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


def test_one_group_per_patient_vertebra_and_fracture(usual: Dataset):
    assert list(groups(usual)) == ["T12-S1", "T12", "L1", "L1 fracture", "L2", "L3", "L4", "L5", "S1"]


def test_measurements_equal_the_table(case: Case, usual: Dataset):
    by_level = groups(usual)
    for vertebra in case.findings.vertebrae:
        for row in MEASUREMENTS:
            expected = row.value(vertebra)
            assert said(by_level[vertebra.level], row.concept.meaning) == ([] if expected is None else [expected])


def test_qualitative_evaluations_of_a_fracture(usual: Dataset):
    by_level = groups(usual)
    for tracking in ("L1", "L1 fracture"):
        group = by_level[tracking]
        assert said(group, "Suspected vertebral fracture") == ["Present"]
        assert said(group, "Denis compression type") == ["Denis compression type B: superior endplate"]
        assert said(group, "AOSpine thoracolumbar injury type") == ["AOSpine type A1"]
        assert said(group, "CT features of fracture age") == ["CT features suggestive of recent fracture"]
    assert said(by_level["L1"], "Genant semiquantitative grade") == ["Genant grade 2 (moderate, 25 to 40 %)"]
    assert said(by_level["L1"], "Source of the expected heights") == ["T12 and L2"]
    assert said(by_level["L2"], "Suspected vertebral fracture") == ["Absent"]
    assert said(by_level["S1"], "Suspected vertebral fracture") == ["Undetermined"]


def test_tracking_and_segments_are_those_of_the_segmentations(case: Case):
    objects = {o.role: o for o in encode(
        make_context(), case.headers, case.findings, case.masks, None, Dialect(), case.volume.sources,
    )}
    by_level = groups(objects["sr"].dataset)
    for role in ("seg_vertebrae", "seg_fractures"):
        for segment in objects[role].dataset.SegmentSequence:
            group = by_level[segment.TrackingID]
            assert said(group, "Tracking Unique Identifier") == [segment.TrackingUID]
            [reference] = children(group, "Referenced Segment")[0].ReferencedSOPSequence
            assert reference.ReferencedSOPInstanceUID == objects[role].sop_instance_uid
            assert reference.ReferencedSegmentNumber == segment.SegmentNumber
            [finding] = children(group, "Finding")
            assert finding.ConceptCodeSequence[0].CodeValue == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue


def test_study_level_result(usual: Dataset):
    container = evaluations(usual)
    assert said(container, "Impression")[0].startswith("Suspected vertebral fracture: L1 (Denis compression type B")
    assert said(container, PATIENT) == ["Present"]
    assert said(container, "Probability in words") == ["97 % (highest probability of any level, model estimate)"]
    assert said(groups(usual)["T12-S1"], "Highest probability of vertebral fracture of any level") == [97.0]
    assert said(container, "CAD Processing and Findings Summary") == ["All algorithms succeeded; with findings"]
    assert any("Not for diagnosis" in text for text in said(container, "Conditions of use"))
    assert any("Supine CT" in text for text in said(container, "Quality Finding"))


def clear(**changes) -> Findings:
    vertebrae = tuple(
        make_vertebra(v, fracture=None if v == "S1" else False, denis=None, ao=None, of=None) for v in REPORTED
    )
    return make_findings(**{"patient": PatientFinding(False, 0.04), "vertebrae": vertebrae, **changes})


@pytest.mark.parametrize(("findings", "answer", "summary"), [
    (clear(), "Absent", "All algorithms succeeded; without findings"),
    (clear(patient=PatientFinding(None, 0.04)), "Undetermined", "Not all algorithms succeeded; without findings"),
    (partly_graded(), "Undetermined", "Not all algorithms succeeded; without findings"),
    (make_findings(vertebrae=(make_vertebra("L1"),)), "Present", "Not all algorithms succeeded; with findings"),
], ids=["clear", "patient undetermined", "partly", "fracture, other levels unread"])
def test_absence_and_success_need_every_level(case: Case, findings: Findings, answer: str, summary: str):
    dataset = report(case, findings)
    container = evaluations(dataset)
    assert said(container, PATIENT) == said(groups(dataset)["T12-S1"], PATIENT) == [answer]
    assert said(container, "CAD Processing and Findings Summary") == [summary]


def test_numbering_is_uncertain_or_unknown_never_certain(case: Case, usual: Dataset):
    assert said(evaluations(usual), "Vertebral numbering uncertain") == ["Undetermined"]
    based = evaluations(report(case, make_findings(numbering_basis="counted from the sacrum")))
    assert [t for t in said(based, "Quality Finding") if t.endswith("Basis: counted from the sacrum.")]


@pytest.mark.parametrize(("complete", "answer"), [(True, "Yes"), (False, "No"), (None, "Undetermined")])
def test_completeness_of_a_body(case: Case, complete: bool | None, answer: str):
    group = groups(report(case, make_findings(vertebrae=(make_vertebra("L2", complete=complete),))))["L2"]
    assert said(group, "Vertebral body completely in the field of view") == [answer]


@pytest.mark.parametrize(("header", "expected"), [
    ({"KVP": "120", "ContrastBolusAgent": "NONE"}, None),
    ({"KVP": "140", "ContrastBolusAgent": "Omnipaque"}, "HU: 140 kVp, contrast stated: not comparable"),
    ({"KVP": "120"}, "HU: 120 kVp, contrast not stated: may not be comparable"),
    ({"KVP": lambda i: "120" if i else "100"}, "HU: tube voltage not stated, contrast not stated: may not be comparable"),
    ({"KVP": "100", "ContrastBolusAgent": "NONE"}, "HU: 100 kVp, no contrast: not comparable"),
    ({"KVP": "80", "enhanced": True}, "HU: 80 kVp, contrast not stated: not comparable"),
])
def test_comparability_of_hu_comes_from_the_headers(tmp_path: Path, header: dict, expected: str | None):
    case = make_case(tmp_path, spacing=4.0, **header)
    findings = make_findings(vertebrae=case.findings.vertebrae[:1])
    said_of_hu = [t for t in said(evaluations(report(case, findings)), "Quality Finding") if t.startswith("HU:")]
    assert [t.startswith(expected) for t in said_of_hu] == ([] if expected is None else [True])


def test_withheld_grading_is_undetermined_never_absent(case: Case):
    dataset = report(case, withheld())
    answers = {value(i) for i in walk(dataset) if i.get("ConceptNameCodeSequence") and name(i).startswith("Suspected")}
    assert answers == {"Undetermined"}
    container = evaluations(dataset)
    assert said(container, "CAD Processing and Findings Summary") == ["Not all algorithms succeeded; without findings"]
    assert said(container, "Vertebral numbering uncertain") == ["Yes"]
    assert "L1 fracture" not in groups(dataset)
    assert children(groups(dataset)["L1"], "Referenced Segment")


def test_no_finding_of_a_fracture_unless_there_is_one(case: Case):
    for findings in (withheld(), not_assessed()):
        found = {said(group, "Finding")[0] for group in groups(report(case, findings)).values()}
        assert not [text for text in found if "fracture" in text.lower()]


def test_not_assessed_gives_one_group_and_the_reason(case: Case):
    dataset = report(case, not_assessed())
    assert list(groups(dataset)) == ["T12-S1"]
    container = evaluations(dataset)
    assert said(container, "Analysis status") == ["Not assessed"]
    assert said(container, "CAD Processing and Findings Summary") == ["No algorithms succeeded; without findings"]
    assert said(container, PATIENT) == ["Undetermined"]
    assert said(container, "Quality Finding") == ["Slices are missing (3 of 120)."]


def test_abstained_reading_says_why(case: Case):
    vertebrae = tuple(make_vertebra(v, fracture=None, denis=None, abstain=ABSTAINED) for v in REPORTED)
    group = groups(report(case, make_findings(vertebrae=vertebrae)))["L2"]
    assert said(group, "Reading abstained") == [ABSTAINED.text]
    assert said(group, "Suspected vertebral fracture") == ["Undetermined"]


def test_fracture_of_undetermined_type(case: Case):
    vertebrae = tuple(make_vertebra(level, denis=None, ao=None, of=None) for level in REPORTED)
    group = groups(report(case, make_findings(vertebrae=vertebrae)))["L1 fracture"]
    assert said(group, "Denis compression type") == ["Undetermined"]


@pytest.mark.parametrize("sr_class", ["88.34", "88.33", "88.22"])
@pytest.mark.parametrize("profile", ["air", "ohif-text"])
def test_dialects_differ_only_in_class_title_and_uids(case: Case, usual: Dataset, sr_class: str, profile: str):
    dataset = report(case, dialect=Dialect(sr_class, profile))
    assert dataset.SOPClassUID == f"1.2.840.10008.5.1.4.1.1.{sr_class}"
    title = "Vertebral fracture analysis report" if profile == "ohif-text" else "Imaging Measurement Report"
    assert name(dataset) == title
    assert dataset.ContentSequence == usual.ContentSequence


def test_flags(usual: Dataset):
    dataset = usual
    assert (dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )


def test_evidence_names_every_source_and_both_segmentations(case: Case, usual: Dataset):
    [study] = usual.CurrentRequestedProcedureEvidenceSequence
    named = {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
    identity = make_context().identity
    segmentations = {identity.sop_instance_uid(role, Dialect()) for role in ("seg_vertebrae", "seg_fractures")}
    assert named == {h.SOPInstanceUID for h in case.headers} | segmentations


def test_predecessors(case: Case, usual: Dataset):
    old = ("1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.4.5")
    context = make_context(predecessors=(old,))
    context = replace(context, identity=replace(context.identity, revision=2))
    dataset = report(case, context=context)
    [study] = dataset.PredecessorDocumentsSequence
    [series] = study.ReferencedSeriesSequence
    [instance] = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == old[:2]
    assert (instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID) == old[2:]
    assert dataset.InstanceNumber == 2
    assert dataset.SeriesInstanceUID == usual.SeriesInstanceUID
    assert dataset.SOPInstanceUID != usual.SOPInstanceUID


def code(code_value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code_value, scheme, meaning
    return item


def with_header(case: Case, **changes) -> list[Dataset]:
    first = Dataset()
    first.update(case.headers[0])
    for keyword, given in changes.items():
        setattr(first, keyword, given)
    return [first, *case.headers[1:]]


def test_procedure_reported_is_the_sources_own(case: Case, usual: Dataset):
    assert said(usual, "Procedure reported") == ["CT unspecified body region"]
    headers = with_header(case, ProcedureCodeSequence=Sequence([code("CTLWS", "99RIS", "CT lumbar spine")]))
    dataset = report(case, headers=headers)
    assert said(dataset, "Procedure reported") == ["CT lumbar spine"]
    declared = [item.CodingSchemeDesignator for item in dataset.CodingSchemeIdentificationSequence]
    assert declared == ["99OVCF", "99RIS"]


def test_request_is_copied(case: Case):
    request = Dataset()
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP1", "CT spine"
    headers = with_header(case, RequestAttributesSequence=Sequence([request]))
    [copied] = report(case, headers=headers).ReferencedRequestSequence
    assert (copied.RequestedProcedureID, copied.AccessionNumber) == ("RP1", "A1")
    assert copied.StudyInstanceUID == case.headers[0].StudyInstanceUID and "IssuerOfAccessionNumberSequence" not in copied
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "RIS"
    request.AccessionNumber, request.IssuerOfAccessionNumberSequence = "A2", Sequence([issuer])
    [copied] = report(case, headers=headers).ReferencedRequestSequence
    assert copied.AccessionNumber == "A2"
    assert copied.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "RIS"
