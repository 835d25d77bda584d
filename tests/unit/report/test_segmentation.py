"""Segmentations: every voxel where the mask has it, whatever the source looks like, and every reference to a real frame."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ct_series import turned
from ovcf_node.domain.identity import Dialect
from ovcf_node.domain.levels import REPORTED, mask_value
from ovcf_node.domain.volume import Masks
from ovcf_node.report import encode
from result_cases import Case, make_case, make_context, make_findings, make_vertebra

SEGMENTATIONS = ("seg_vertebrae", "seg_fractures")


def segmentations(case: Case, **changes) -> dict[str, Dataset]:
    objects = encode(
        make_context(), case.headers, changes.get("findings", case.findings), changes.get("masks", case.masks), None,
        Dialect(), case.volume.sources, roles=SEGMENTATIONS,
    )
    return {encoded.role: encoded.dataset for encoded in objects}


def drawn(dataset: Dataset, case: Case) -> np.ndarray:
    """Rebuild the mask from the file's own frames: position -> slice, segment number -> level."""
    level_of = {s.SegmentNumber: s.TrackingID.split()[0] for s in dataset.SegmentSequence}
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    rebuilt = np.zeros(case.masks.shape, np.uint8)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        holder = groups if "SegmentIdentificationSequence" in groups else shared
        level = level_of[holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        index = np.linalg.solve(case.volume.affine[:3, :3], position - case.volume.affine[:3, 3])
        assert np.allclose(index[1:], 0, atol=1e-3) and abs(index[0] - round(index[0])) < 1e-3
        rebuilt[round(index[0])][frame > 0] = mask_value(level)
    return rebuilt


def expected(region: np.ndarray, masks: Masks) -> np.ndarray:
    whole = np.zeros(masks.shape, np.uint8)
    whole[tuple(slice(o, o + n) for o, n in zip(masks.origin, region.shape, strict=True))] = region
    return whole


SOURCES = {
    "axial": {},
    "sagittal": {"orientation": "sagittal"},
    "coronal": {"orientation": "coronal"},
    "gantry tilt": {"tilt_degrees": 18.0},
    "oblique": {"rotation": turned("L", 12.0) @ turned("P", 7.0)},
    "feet first": {"rotation": turned("P", 180.0)},
    "frames no multiple of eight pixels": {"spacing": 3.1},
    "reversed instance numbers": {"reverse_numbers": True},
    "enhanced": {"enhanced": True},
    "enhanced shuffled": {"enhanced": True, "shuffle": True},
    "concatenation": {"enhanced": True, "parts": 3, "shuffle": True},
    "enhanced sagittal": {"enhanced": True, "orientation": "sagittal"},
    "no slice thickness": {"SliceThickness": None},
}


@pytest.mark.parametrize("name", SOURCES)
def test_masks_survive(name: str, tmp_path: Path):
    case = make_case(tmp_path, **{"spacing": 3.0} | SOURCES[name])
    found = segmentations(case)
    np.testing.assert_array_equal(drawn(found["seg_vertebrae"], case), expected(case.masks.vertebrae, case.masks))
    np.testing.assert_array_equal(drawn(found["seg_fractures"], case), expected(case.masks.fractures, case.masks))


@pytest.mark.parametrize("name", ["axial", "enhanced shuffled", "concatenation"])
def test_every_frame_names_its_source(name: str, tmp_path: Path):
    case = make_case(tmp_path, **{"spacing": 3.0} | SOURCES[name])
    dataset = segmentations(case)["seg_vertebrae"]
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        item = groups.DerivationImageSequence[0].SourceImageSequence[0]
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        index = np.linalg.solve(case.volume.affine[:3, :3], position - case.volume.affine[:3, 3])[0]
        source = case.volume.sources[round(index)]
        number = item.get("ReferencedFrameNumber")
        assert item.ReferencedSOPInstanceUID == source.sop_instance_uid
        assert (None if number is None else int(number)) == source.frame_number
        assert item.ReferencedSOPClassUID == case.headers[0].SOPClassUID
    instances = {h.SOPInstanceUID for h in case.headers}
    series = dataset.ReferencedSeriesSequence
    assert [s.SeriesInstanceUID for s in series] == [case.headers[0].SeriesInstanceUID]
    assert {i.ReferencedSOPInstanceUID for i in series[0].ReferencedInstanceSequence} <= instances


def test_the_first_sacral_vertebra_lies_in_the_sacrum(case: Case):
    regions = {s.SegmentLabel: s.AnatomicRegionSequence[0].CodeValue
               for s in segmentations(case)["seg_vertebrae"].SegmentSequence}
    assert regions.pop("S1") == "54735007" and set(regions.values()) == {"1217256009"}


def test_segments(case: Case):
    dataset = segmentations(case)["seg_fractures"]
    [segment] = dataset.SegmentSequence
    assert (segment.SegmentLabel, segment.TrackingID) == ("L1 fracture", "L1 fracture")
    assert segment.TrackingUID == make_context().identity.tracking_uid("L1 fracture")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "42942008"
    assert segment.AnatomicRegionSequence[0].CodeMeaning == "L1 vertebra"
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "ovcf-reference"
    assert list(segment.RecommendedDisplayCIELabValue) == [34886, 53484, 50172]
    assert dataset.SegmentsOverlap == "NO"


def test_missing_levels_leave_no_gap_in_the_segment_numbers(case: Case):
    vertebrae = np.where(case.masks.vertebrae == mask_value("L2"), 0, case.masks.vertebrae).astype(np.uint8)
    dataset = segmentations(case, masks=replace(case.masks, vertebrae=vertebrae))["seg_vertebrae"]
    assert [s.SegmentNumber for s in dataset.SegmentSequence] == [1, 2, 3, 4, 5, 6]
    assert [s.TrackingID for s in dataset.SegmentSequence] == [level for level in REPORTED if level != "L2"]


@pytest.mark.parametrize("fracture", [False, None])
def test_voxels_without_a_found_fracture_are_not_shown(case: Case, fracture: bool | None):
    vertebrae = tuple(make_vertebra(level, fracture=fracture, denis=None) for level in REPORTED)
    assert set(segmentations(case, findings=make_findings(vertebrae=vertebrae))) == {"seg_vertebrae"}


def test_fracture_of_undetermined_type_is_not_called_compression(case: Case):
    vertebrae = tuple(make_vertebra(level, denis=None) for level in REPORTED)
    dataset = segmentations(case, findings=make_findings(vertebrae=vertebrae))["seg_fractures"]
    assert dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "FRACTURE"


def test_no_empty_frames(case: Case):
    dataset = segmentations(case)["seg_vertebrae"]
    frames = dataset.pixel_array.reshape(-1, dataset.Rows * dataset.Columns)
    assert frames.any(axis=1).all()
    planes = sum(int((case.masks.vertebrae == value).any(axis=(1, 2)).sum()) for value in range(1, 8))
    assert len(frames) == planes
