"""Real scanners' data: verdict and reason of every folder and file, and every transfer syntax decoded."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from ovcf_node.assemble import Inspection, build, inspect
from ovcf_node.config import Assemble
from ovcf_node.domain.volume import OUTSIDE_HU

FOLDERS = [
    # folder, verdict, reason or limits
    ("ct/acrin_flt_001_abdomen_pelvis", "eligible", ["grading_withheld"]),
    ("ct/crlm_1004", "eligible", ["grading_withheld"]),
    ("ct/totalsegmentator_slab_jpeg2000", "eligible", ["thick_slices"]),
    ("odd/ge_tilt_variable_gap_head", "not_assessed", "uneven_spacing"),
    ("odd/philips_S21570_S1000", "excluded", "scout"),
    ("odd/philips_S21570_S4010", "excluded", "not_original_image"),
    ("odd/d2n_gantrytilting_001", "excluded", "too_short"),
    ("odd/d2n_notavolume_001", "excluded", "too_short"),
    ("odd/d2n_sliceincrement_001", "excluded", "too_short"),
    ("odd/d2n_sliceincrement_002", "excluded", "too_short"),
    ("odd/cs3d_transfer_syntaxes", "excluded", "too_short"),
    ("odd/fodicom", "excluded", "not_original_image"),
    ("odd/dcmqi_segmentations", "excluded", "not_ct"),
    ("odd/dcmqi_segmentations/ct-3slice", "excluded", "too_short"),
    ("odd/dcmqi_segmentations/24x38x3/image", "excluded", "too_short"),
    ("odd/dcmqi_segmentations/24x38x3/multiframe", "excluded", "too_short"),
    ("odd/dcmqi_segmentations/24x38x3/seg", "excluded", "not_ct"),
]
FILES = [
    ("odd/enhanced_ct_2frame_perfusion.dcm", "derived_map"),
    ("odd/dcmqi_segmentations/liver.dcm", "not_ct"),
    ("odd/dcmqi_segmentations/sparse-labelmap-ppv5.dcm", "not_ct"),
    ("odd/fodicom/FreezePattern.dcm", "not_original_image"),  # dose sheet
    ("odd/fodicom/GH178.dcm", "not_original_image"),  # screen save
    ("odd/fodicom/GH1728.dcm", "not_original_image"),  # a reformat as secondary capture
    ("odd/fodicom/GH342.dcm", "scout"),
    ("odd/fodicom/GH1308.dcm", "too_short"),
    ("odd/fodicom/IM-0001-0001-0001.dcm", "too_short"),
    ("odd/fodicom/CT1_J2KI", "too_short"),
    ("odd/fodicom/D_CLUNIE_CT1_RLE_FRAGS.dcm", "too_short"),
    ("odd/cs3d_transfer_syntaxes/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm", "derived_map"),
]
LOSSLESS = [
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1", "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5", "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80", "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
]
LOSSY = [  # largest mean difference, HU
    ("JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91", 1.0), ("JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81", 1.0),
    ("JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50", 20.0),  # 8 bits: steps of 32 HU
    ("JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51", 5.0),
    ("JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53", 5.0),
    ("JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55", 5.0),
]


def look(path: Path) -> Inspection:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom on values of old anonymisers
        return inspect(files, Assemble())


@pytest.mark.parametrize(("folder", "kind", "why"), FOLDERS, ids=[row[0] for row in FOLDERS])
def test_folder(shared_data: Path, folder: str, kind: str, why: str | list[str]) -> None:
    verdict = look(shared_data / folder).verdict
    assert verdict.kind == kind
    if kind == "eligible":
        assert [limit.code for limit in verdict.limits] == why
        assert verdict.withhold_grading == ("grading_withheld" in why)
    else:
        assert verdict.reason.code == why


@pytest.mark.parametrize(("file", "why"), FILES, ids=[row[0] for row in FILES])
def test_file(shared_data: Path, file: str, why: str) -> None:
    verdict = look(shared_data / file).verdict
    assert (verdict.kind, verdict.reason.code) == ("excluded", why)


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> np.ndarray:
    return build(look(shared_data / "odd/cs3d_transfer_syntaxes/CTImage.dcm").verdict).hu


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_transfer_syntax(shared_data: Path, reference: np.ndarray, name: str) -> None:
    hu = build(look(shared_data / f"odd/cs3d_transfer_syntaxes/CTImage.dcm_{name}.dcm").verdict).hu
    np.testing.assert_array_equal(hu, reference)


@pytest.mark.parametrize(("name", "tolerance"), LOSSY)
def test_lossy_transfer_syntax(shared_data: Path, reference: np.ndarray, name: str, tolerance: float) -> None:
    hu = build(look(shared_data / f"odd/cs3d_transfer_syntaxes/CTImage.dcm_{name}.dcm").verdict).hu
    inside = (reference > OUTSIDE_HU) & (hu > OUTSIDE_HU)
    assert inside.mean() > 0.7
    assert np.abs(hu[inside].astype(int) - reference[inside]).mean() < tolerance


@pytest.mark.parametrize("name", ["CT1_J2KR", "CT2_J2KR"])
def test_other_slices_decode(shared_data: Path, name: str) -> None:
    hu = build(look(shared_data / f"odd/cs3d_transfer_syntaxes/{name}").verdict).hu
    assert hu.min() == OUTSIDE_HU and 1200 < hu.max() < 1500


@pytest.mark.parametrize(("folder", "shape", "spacing"), [
    ("ct/acrin_flt_001_abdomen_pelvis", (99, 512, 512), 4.25),
    ("ct/crlm_1004", (41, 512, 512), 5.0),
    ("ct/totalsegmentator_slab_jpeg2000", (20, 512, 512), 2.0),
])
def test_volumes(shared_data: Path, folder: str, shape: tuple, spacing: float) -> None:
    inspection = look(shared_data / folder)
    volume = build(inspection.verdict)
    assert volume.hu.shape == shape
    assert volume.slice_spacing_mm == pytest.approx(spacing, abs=1e-3)
    assert volume.affine[2, 0] > 0
    assert -1100 < np.median(volume.hu[volume.hu > OUTSIDE_HU]) < 100
    headers = inspection.headers_in_order(volume)
    assert [h.SOPInstanceUID for h in headers] == [s.sop_instance_uid for s in volume.sources]


def test_uneven_head_can_still_be_looked_at(shared_data: Path) -> None:
    verdict = look(shared_data / "odd/ge_tilt_variable_gap_head").verdict
    volume = build(verdict, regularise=True)
    assert volume.hu.shape[0] == 37 and volume.hu.max() > 1000
    tilt = np.degrees(np.arccos(volume.slice_spacing_mm / volume.step_mm[0]))
    assert tilt == pytest.approx(18.5, abs=0.1)
