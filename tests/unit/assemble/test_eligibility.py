"""What a header says about an instance: every exclusion has its code, and legitimate reformats pass."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import BasicTextSRStorage, EnhancedCTImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from ct_series import grid, write_ct, write_enhanced_ct
from ovcf_node.assemble.eligibility import OwnResult, exclude, exclude_unseen
from ovcf_node.assemble.headers import read_headers


@pytest.fixture(scope="module")
def slice_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct(tmp_path_factory.mktemp("slice"), np.zeros((1, 8, 8), np.int16), grid((1, 8, 8)))[0]


@pytest.fixture
def header(slice_file: Path) -> Dataset:
    return dcmread(slice_file, stop_before_pixels=True)


def code(dataset: Dataset) -> str | None:
    found = exclude(dataset, OwnResult())
    return found and found.code


@pytest.mark.parametrize("changes", [
    {},
    {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]},
    {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CSA MPR"]},
    {"ImageType": ["DERIVED", "PRIMARY"]},
    {"BodyPartExamined": "BREAST"},
    {"BodyPartExamined": ""},
    {"RescaleType": "US"},
    {"RescaleType": None},
    {"ScanOptions": "HELICAL MODE"},
    {"ImagePositionPatient": None},  # an original plane without position is 'no_geometry', which is never silent
])
def test_eligible(header: Dataset, changes: dict) -> None:
    assert code(_changed(header, changes)) is None


@pytest.mark.parametrize(("changes", "expected"), [
    ({"SOPClassUID": MRImageStorage, "Modality": "MR"}, "not_ct"),
    ({"SOPClassUID": BasicTextSRStorage, "Modality": "SR"}, "not_ct"),
    ({"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"}, "not_ct"),
    ({"SOPClassUID": SecondaryCaptureImageStorage}, "not_original_image"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "scout"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 TOP", "TOPOGRAM"]}, "scout"),
    ({"ScanOptions": "SCOUT MODE"}, "scout"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "not_original_image"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "not_original_image"),
    ({"RescaleSlope": None}, "not_original_image"),
    ({"RescaleSlope": "0"}, "not_original_image"),
    ({"RescaleIntercept": None}, "not_original_image"),
    ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "not_original_image"),
    ({"ImageType": ["DERIVED", "SECONDARY"], "ImagePositionPatient": None}, "not_original_image"),
    ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CBF"]}, "derived_map"),
    ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CSA MIP"]}, "derived_map"),
    ({"RescaleType": "Z_EFF"}, "derived_map"),
    ({"ManufacturerModelName": "ovcf-node"}, "own_result"),
    ({"SOPClassUID": BasicTextSRStorage, "ManufacturerModelName": "ovcf-node"}, "own_result"),
])
def test_excluded(header: Dataset, changes: dict, expected: str) -> None:
    assert code(_changed(header, changes)) == expected


def test_own_result_by_contributing_equipment(header: Dataset) -> None:
    equipment = Dataset()
    equipment.ManufacturerModelName = "ovcf-node"
    header.ContributingEquipmentSequence = [equipment]
    assert code(header) == "own_result"


def test_enhanced_ct_by_its_functional_groups(tmp_path: Path) -> None:
    shape = (4, 8, 8)
    path, = write_enhanced_ct(tmp_path, np.zeros(shape, np.int16), grid(shape))
    assert code(dcmread(path)) is None
    for value, expected in (("PERFUSION", "derived_map"), ("LOCALIZER", "scout")):
        dataset = dcmread(path)
        frame_type = dataset.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0]
        frame_type.FrameType = ["DERIVED", "PRIMARY", value, "NONE"]
        assert code(dataset) == expected
    dataset = dcmread(path)
    assert dataset.SOPClassUID == EnhancedCTImageStorage
    unit, mapping = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "ml/100ml/s", "UCUM", "ml/100ml/s"
    mapping.MeasurementUnitsCodeSequence = [unit]
    dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [mapping]
    assert code(dataset) == "derived_map"


def test_enhanced_ct_without_a_rescale_is_not_taken_for_ct_numbers(tmp_path: Path) -> None:
    shape = (4, 8, 8)
    path, = write_enhanced_ct(tmp_path, np.zeros(shape, np.int16), grid(shape))
    dataset = dcmread(path)
    shared, frames = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence
    rescale = frames[0].PixelValueTransformationSequence
    for frame in frames:
        del frame.PixelValueTransformationSequence
    assert code(dataset) == "not_original_image"
    for frame in frames:
        frame.PixelValueTransformationSequence = rescale
    assert code(dataset) is None
    del frames[-1].PixelValueTransformationSequence
    assert code(dataset) == "not_original_image"
    shared.PixelValueTransformationSequence = rescale
    rescale[0].RescaleSlope = 0
    assert code(dataset) == "not_original_image"


def test_files_that_are_no_instances_are_reported(tmp_path: Path, slice_file: Path) -> None:
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    (tmp_path / "cut").write_bytes(slice_file.read_bytes()[:140])
    paths = [tmp_path / "notes.txt", tmp_path / "empty", slice_file, tmp_path / "gone"]
    headers, unreadable = read_headers(paths)
    assert [h.path for h in headers] == [slice_file]
    codes = {"notes.txt": "not_dicom", "empty": "not_dicom", "gone": "io_error"}
    assert {u.path.name: u.code for u in unreadable} == codes
    read_headers([tmp_path / "cut"])  # whatever it is called: it must not raise


def test_identity_blanked_in_the_dataset_is_taken_from_the_file_meta_information(tmp_path: Path) -> None:
    path, = write_ct(tmp_path, np.zeros((1, 8, 8), np.int16), grid((1, 8, 8)))
    dataset = dcmread(path)
    expected = dataset.SOPInstanceUID
    dataset.SOPInstanceUID = dataset.SOPClassUID = ""
    dataset.save_as(path)
    (read,), _ = read_headers([path])
    assert read.sop_instance_uid == read.dataset.SOPInstanceUID == expected
    assert code(read.dataset) is None


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("size", [200, 400, 600, 900, 1100])
def test_truncated_headers_never_raise(tmp_path: Path, slice_file: Path, size: int) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(slice_file.read_bytes()[:size])
    headers, unreadable = read_headers([path])
    assert len(headers) + len(unreadable) == 1


def _changed(dataset: Dataset, changes: dict) -> Dataset:
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(("known", "expected"), [
    ({}, None),
    ({"SOPClassUID": "", "ImageType": ""}, None),
    ({"SOPClassUID": EnhancedCTImageStorage}, None),
    ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]}, None),
    ({"SOPClassUID": SecondaryCaptureImageStorage}, "not_original_image"),
    ({"SOPClassUID": BasicTextSRStorage}, "not_ct"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "scout"),
    ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "not_original_image"),
    ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "derived_map"),
])
def test_what_a_query_tells(known: dict, expected: str | None) -> None:
    match = Dataset()
    for keyword, value in known.items():
        setattr(match, keyword, value)
    found = exclude_unseen(match)
    assert (found and found.code) == expected
