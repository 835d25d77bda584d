"""A second reading as an SR: who, what, about which objects; and nothing else of the first changes."""

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from sr_reading import children, evaluations, groups, said, value

from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict, assessable
from ovcf_node.domain.identity import Dialect
from ovcf_node.report import SecondReport, encode, to_bytes
from ovcf_node.report.context import ResultContext
from result_cases import Case, make_context

SAID = SecondReading("anna", "Bergmann^Anna", 1_710_000_000.0, (
    Assessment("L1", Verdict.ACCEPTED), Assessment("L3", Verdict.REJECTED), Assessment("L4", Verdict.CORRECTED, "L5"),
))
SEGMENTATIONS = {"seg_vertebrae": "2.25.111", "seg_fractures": "2.25.112"}


def second_context(reading: SecondReading = SAID, **changes) -> ResultContext:
    return make_context(second=SecondReport(reading, 2, SEGMENTATIONS), **changes)


def report(case: Case, context: ResultContext, dialect: Dialect | None = None, headers=None) -> Dataset:
    [encoded] = encode(context, headers or case.headers, case.findings, case.masks, None, dialect or Dialect(),
                       case.volume.sources, roles=("sr",))
    return encoded.dataset


@pytest.fixture(scope="module")
def first(case: Case) -> Dataset:
    return report(case, make_context())


@pytest.fixture(scope="module")
def second(case: Case) -> Dataset:
    return report(case, second_context())


def test_new_instance_of_the_same_series_that_is_still_unverified(first, second):
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    assert (second.VerificationFlag, second.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_states_its_own_time_and_the_algorithm_that_of_the_analysis(first, second):
    assert second.ContentDate + second.ContentTime != first.ContentDate + first.ContentTime
    moments = [[str(i.ContributionDateTime) for i in ds.ContributingEquipmentSequence if "ContributionDateTime" in i]
               for ds in (first, second)]
    assert moments[0] == moments[1]


def test_the_person_observes_beside_the_device(first, second):
    assert [value(i) for i in children(second, "Observer Type")] == ["Person", "Device"]
    assert [str(i.PersonName) for i in children(second, "Person Observer Name")] == ["Bergmann^Anna"]
    assert said(second, "Person Observer's Login Name") == ["anna"]
    assert children(first, "Person Observer Name") == []


def test_each_assessed_finding_carries_its_verdict(second):
    verdicts = {level: said(group, "Reader's assessment of the finding") for level, group in groups(second).items()}
    assert verdicts["L1"] == verdicts["L1 fracture"] == ["Finding accepted by the reader"]
    assert verdicts["L3"] == ["Finding rejected by the reader"]
    assert verdicts["L2"] == verdicts["T12-S1"] == []
    assert said(groups(second)["L4"], "Level of the finding according to the reader") == ["L5 vertebra"]


def test_the_impression_says_that_a_person_looked(first, second):
    [impression] = said(evaluations(second), "Impression")
    assert impression.startswith("SECOND READING by a person: L1 accepted, L3 REJECTED, L4 corrected to L5. First reading")
    assert impression.endswith(said(evaluations(first), "Impression")[0])
    assert "Bergmann" not in impression


def test_refers_to_the_segmentations_that_exist(second):
    text = second.to_json()
    assert all(uid in text for uid in SEGMENTATIONS.values())
    assert make_context().identity.sop_instance_uid("seg_vertebrae", Dialect()) not in text


@pytest.mark.parametrize("dialect", [Dialect(), Dialect("88.33", "ohif-text"), Dialect("88.22")], ids=lambda d: d.key)
def test_the_same_reading_gives_the_same_bytes(case, dialect):
    assert to_bytes(report(case, second_context(), dialect)) == to_bytes(report(case, second_context(), dialect))


@pytest.mark.parametrize(("character_set", "name"), [("ISO_IR 100", "王^小"), (["", "ISO 2022 IR 87"], "Weber^Märta")])
def test_a_name_in_other_letters_than_the_source_s_gives_way_to_the_account(case, character_set, name):
    headers = [Dataset() for _ in case.headers]
    for header, source in zip(headers, case.headers, strict=True):
        header.update(source)
        header.SpecificCharacterSet = character_set
    dataset = report(case, second_context(replace(SAID, name=name)), headers=headers)
    assert [str(i.PersonName) for i in children(dataset, "Person Observer Name")] == ["anna^"]


@pytest.mark.parametrize(("level", "verdict", "corrected"), [
    ("L1", Verdict.CORRECTED, None), ("L1", Verdict.CORRECTED, "L1"), ("L1", Verdict.ACCEPTED, "L2"),
    ("C3", Verdict.ACCEPTED, None), ("L1", Verdict.CORRECTED, "C3"),
])
def test_what_cannot_be_said(level, verdict, corrected):
    with pytest.raises(ValueError):
        Assessment(level, verdict, corrected)


def test_only_answers_can_be_assessed(case):
    assert [v.level for v in assessable(case.findings)] == ["T12", "L1", "L2", "L3", "L4", "L5"]
