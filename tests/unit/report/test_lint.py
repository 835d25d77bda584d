"""Every rule can fail: each test breaks one object in one way and reads the complaint."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ovcf_node.domain.identity import Dialect
from ovcf_node.report import encode, lint
from result_cases import Case, make_context

PICTURE = np.zeros((20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def sound(case: Case) -> dict[str, Dataset]:
    objects = encode(
        make_context(), case.headers, case.findings, case.masks, PICTURE, Dialect(), case.volume.sources,
    )
    return {o.role: o.dataset for o in objects}


def test_sound_objects_pass(sound: dict[str, Dataset]):
    assert {role: lint(dataset, Dialect()) for role, dataset in sound.items()} == {role: [] for role in sound}


def first_group(dataset: Dataset) -> Dataset:
    return next(i for i in dataset.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010").ContentSequence[0]


def drop(container: Dataset, code: str) -> None:
    container.ContentSequence = [
        i for i in container.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue != code
    ]


def put(dataset: Dataset, keyword: str, value: object) -> None:
    setattr(dataset, keyword, value)


def blank_frame(dataset: Dataset) -> None:
    size = int(dataset.Rows) * int(dataset.Columns) // 8
    dataset.PixelData = bytes(size) + dataset.PixelData[size:]


BREAKS: dict[str, tuple[str, Callable[[Dataset], None], str]] = {
    "type 2": ("sr", lambda d: d.pop("PatientID"), "PatientID is missing"),
    "foreign UID": ("summary", lambda d: put(d, "SOPInstanceUID", "1.2.3"), "SOPInstanceUID is not one of our UIDs"),
    "time": ("sr", lambda d: put(d, "ContentTime", ""), "ContentTime is missing or wrong"),
    "time zone": ("sr", lambda d: d.pop("TimezoneOffsetFromUTC"), "TimezoneOffsetFromUTC"),
    "equipment": ("seg_vertebrae", lambda d: put(d, "SoftwareVersions", ""), "SoftwareVersions is empty"),
    "device UID": ("sr", lambda d: d.ContributingEquipmentSequence[-1].pop("DeviceUID"), "has no DeviceUID"),
    "source images": ("summary", lambda d: d.pop("SourceImageSequence"), "does not name its source images"),
    "final": ("sr", lambda d: put(d, "PreliminaryFlag", "FINAL"), "flags are not"),
    "no algorithm": ("sr", lambda d: put(d, "ContributingEquipmentSequence", []), "names the algorithm"),
    "scheme": ("sr", lambda d: put(d, "CodingSchemeIdentificationSequence", []), "99OVCF is not declared"),
    "long text": ("sr", lambda d: d["SeriesDescription"].__setattr__("_value", "x" * 65), "longer than 64"),
    "referenced series": ("seg_vertebrae", lambda d: d.pop("ReferencedSeriesSequence"), "analysed series"),
    "frame of reference": ("seg_vertebrae", lambda d: d.pop("FrameOfReferenceUID"), "FrameOfReferenceUID is missing"),
    "empty frame": ("seg_vertebrae", blank_frame, "a frame is empty"),
    "segment numbers": ("seg_vertebrae", lambda d: put(d.SegmentSequence[0], "SegmentNumber", 9), "count from 1"),
    "algorithm": ("seg_vertebrae", lambda d: d.SegmentSequence[0].pop("SegmentAlgorithmName"), "name its algorithm"),
    "identification": (
        "seg_vertebrae", lambda d: d.SegmentSequence[0].pop("SegmentationAlgorithmIdentificationSequence"),
        "has no AlgorithmVersion",
    ),
    "tracking": ("seg_fractures", lambda d: d.SegmentSequence[0].pop("TrackingUID"), "no tracking identifiers"),
    "derivation": (
        "seg_vertebrae", lambda d: d.PerFrameFunctionalGroupsSequence[0].pop("DerivationImageSequence"),
        "no Derivation Image",
    ),
    "continuous": ("sr", lambda d: put(first_group(d), "ContinuityOfContent", "CONTINUOUS"), "not SEPARATE"),
    "procedure": ("sr", lambda d: drop(d, "121058"), "no procedure reported"),
    "evaluations": ("sr", lambda d: drop(d, "C0034375"), "no qualitative evaluations"),
    "no group": ("sr", lambda d: drop(d, "126010"), "no measurement group"),
    "group tracking": ("sr", lambda d: drop(first_group(d), "112040"), "no tracking identifier of its own"),
    "group site": ("sr", lambda d: drop(first_group(d), "363698007"), "no finding site"),
    "evidence": ("sr", lambda d: d.pop("CurrentRequestedProcedureEvidenceSequence"), "not in the evidence"),
    "flags": ("sr", lambda d: put(d, "VerificationFlag", "VERIFIED"), "flags"),
    "burned in": ("summary", lambda d: put(d, "BurnedInAnnotation", "YES"), "BurnedInAnnotation"),
    "body part": ("summary", lambda d: d.pop("BodyPartExamined"), "BodyPartExamined is missing"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule(name: str, sound: dict[str, Dataset]):
    role, break_it, complaint = BREAKS[name]
    broken = deepcopy(sound[role])
    break_it(broken)
    assert any(complaint in violation for violation in lint(broken, Dialect()))


def test_dialect(sound: dict[str, Dataset]):
    assert lint(sound["sr"], Dialect("88.33")) == ["the SR's class is not the dialect's"]
    assert lint(sound["sr"], Dialect(sr_profile="ohif-text")) == ["the SR's title is not the dialect's"]


def test_segments_that_do_not_exist(sound: dict[str, Dataset]):
    known = {sound["seg_vertebrae"].SOPInstanceUID: set(range(1, 7))}
    assert set(lint(sound["sr"], Dialect(), known)) == {"the content refers to a segment that does not exist"}
