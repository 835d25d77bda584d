"""Every variant of a series gives the same volume: HU are linear in the LPS position, so misplacement shows."""

import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

from ct_series import expected_hu, grid, linear_hu, turned, write_ct, write_enhanced_ct
from ovcf_node.assemble import build, inspect
from ovcf_node.assemble.inspection import Inspection
from ovcf_node.config import Assemble
from ovcf_node.domain.volume import OUTSIDE_HU, Volume
from ovcf_node.errors import Permanent, Transient

SHAPE, SPACING = (10, 36, 40), (4.0, 1.5, 1.25)
SIDEWAYS = (40, 36, 32)  # for sagittal and coronal stacks
PRONE = turned("S", 180)


def read(paths: list[Path]) -> tuple[Inspection, Volume]:
    inspection = inspect(paths, Assemble())
    assert inspection.verdict.kind == "eligible", inspection.verdict.reason
    return inspection, build(inspection.verdict)


def assert_in_place(volume: Volume, *, tolerance: int = 1) -> None:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.hu.shape), indexing="ij"), axis=-1)
    position = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    difference = np.abs(volume.hu.astype(int) - expected_hu(position).astype(int))
    assert difference.max() <= tolerance
    assert volume.hu.dtype == np.int16
    assert volume.hu.max() - volume.hu.min() > 20  # the ramp is really there


@pytest.mark.parametrize("options", [
    pytest.param({}, id="plain"),
    pytest.param({"rotation": PRONE}, id="prone"),
    pytest.param({"rotation": turned("P", 180)}, id="feet first"),
    pytest.param({"rotation": turned("L", 20) @ turned("S", -15)}, id="oblique"),
    pytest.param({"tilt_degrees": 18.5}, id="gantry tilt"),
    pytest.param({"tilt_degrees": -29.0, "rotation": PRONE}, id="gantry tilt, prone"),
    pytest.param({"orientation": "sagittal", "shape": SIDEWAYS, "spacing": (0.8, 1.1, 1.0)}, id="sagittal"),
    pytest.param({"orientation": "coronal", "shape": SIDEWAYS, "spacing": (0.8, 1.1, 1.0)}, id="coronal"),
    pytest.param({"orientation": "sagittal", "shape": SIDEWAYS, "rotation": turned("L", 25)}, id="sagittal, oblique"),
])
def test_every_voxel_lies_where_the_affine_says(tmp_path: Path, options: dict) -> None:
    shape = options.setdefault("shape", SHAPE)
    affine = grid(**{"spacing": SPACING, **options})
    _, volume = read(write_ct(tmp_path, linear_hu(shape, affine), affine))
    assert_in_place(volume)
    assert volume.orientation == options.get("orientation", "axial")
    along = {"axial": 2, "sagittal": 0, "coronal": 1}[volume.orientation]
    assert volume.affine[along, 0] > 0  # slices run along +S, +L, +P


def test_gantry_tilt_stays_a_sheared_grid(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING, tilt_degrees=20)
    _, volume = read(write_ct(tmp_path, linear_hu(SHAPE, affine), affine))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    assert volume.slice_spacing_mm == pytest.approx(4.0, abs=1e-4)
    assert volume.step_mm[0] == pytest.approx(4.0 / np.cos(np.deg2rad(20)), abs=1e-4)


@pytest.mark.parametrize("options", [
    pytest.param({"signed": True}, id="signed"),
    pytest.param({"signed": True, "intercept": 0.0}, id="signed HU"),
    pytest.param({"bits_stored": 12}, id="12 bits"),
    pytest.param({"bits_stored": 12, "signed": True, "intercept": 0.0}, id="12 bits signed"),
    pytest.param({"intercept": -8192.0}, id="extended scale"),
    pytest.param({"slope": 0.5}, id="slope 0.5"),
    pytest.param({"slope": 1.0, "intercept": -1000.5}, id="intercept with a fraction"),
    pytest.param({"slope": [1.0 + 0.1 * i for i in range(10)]}, id="slope per slice"),
    pytest.param({"intercept": [-1024.0 - 7 * i for i in range(10)]}, id="intercept per slice"),
    pytest.param({"reverse_numbers": True}, id="instance numbers reversed"),
    pytest.param({"transfer_syntax": ImplicitVRLittleEndian}, id="implicit"),
    pytest.param({"transfer_syntax": ExplicitVRBigEndian}, id="big endian"),
    pytest.param({"transfer_syntax": ExplicitVRBigEndian, "signed": True}, id="big endian signed"),
    pytest.param({"transfer_syntax": DeflatedExplicitVRLittleEndian}, id="deflated"),
    pytest.param({"transfer_syntax": RLELossless}, id="RLE"),
    pytest.param({"transfer_syntax": JPEG2000Lossless}, id="JPEG 2000"),
    pytest.param({"transfer_syntax": JPEG2000Lossless, "signed": True}, id="JPEG 2000 signed"),
    pytest.param({"transfer_syntax": JPEGLSLossless}, id="JPEG-LS"),
    pytest.param({"transfer_syntax": JPEGLossless}, id="JPEG Lossless"),
    pytest.param({"transfer_syntax": JPEGLosslessSV1, "signed": True}, id="JPEG Lossless SV1 signed"),
])
def test_every_way_of_storing_gives_the_same_numbers(tmp_path: Path, options: dict) -> None:
    affine = grid(SHAPE, spacing=SPACING, centre=(3.0, -17.0, 11.0))
    hu = linear_hu(SHAPE, affine)
    assert hu.min() < 0 < hu.max()
    _, volume = read(write_ct(tmp_path, hu, affine, **options))
    lossless = options.get("slope", 1.0) == 1.0 and options.get("intercept") != -1000.5
    assert np.abs(volume.hu.astype(int) - hu).max() <= (0 if lossless else 1)


@pytest.mark.parametrize("options", [
    pytest.param({"padding": -2000, "signed": True}, id="GE -2000 declared"),
    pytest.param({"padding": -2000, "signed": True, "declare_padding": False}, id="GE -3024 HU undeclared"),
    pytest.param({"padding": -2000, "signed": True, "intercept": 0.0, "declare_padding": False}, id="GE -2000 HU"),
    pytest.param({"padding": -32768, "signed": True}, id="lowest value: no wrap-around"),
    pytest.param({"padding": 0}, id="zero"),
    pytest.param({"padding": 65535}, id="highest value"),
    pytest.param({"padding": 63536, "bits_stored": 12}, id="beyond the bits stored"),
    pytest.param({"padding": -2000, "signed": True, "transfer_syntax": RLELossless}, id="compressed"),
])
def test_padding_becomes_outside(tmp_path: Path, options: dict) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    hu = linear_hu(SHAPE, affine)
    outside = np.zeros(SHAPE, bool)
    outside[:, :4, :6] = True
    _, volume = read(write_ct(tmp_path, hu, affine, outside=outside, **options))
    assert (volume.hu[outside] == OUTSIDE_HU).all()
    np.testing.assert_array_equal(volume.hu[~outside], hu[~outside])


def test_padding_range_and_padding_that_claims_tissue(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    hu = np.full(SHAPE, 40, np.int16)
    hu[:, :3], hu[:, 3:6] = -1020, -1022
    written = write_ct(tmp_path / "range", hu, affine, PixelPaddingValue=2, PixelPaddingRangeLimit=4)
    _, volume = read(written)
    assert (volume.hu[:, :6] == OUTSIDE_HU).all() and (volume.hu[:, 6:] == 40).all()
    _, volume = read(write_ct(tmp_path / "tissue", hu, affine, PixelPaddingValue=1064))
    assert (volume.hu[:, 6:] == 40).all()


def test_values_beyond_int16_are_clipped_not_wrapped(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    hu = np.zeros(SHAPE, np.int32)
    hu[:, 0, 0] = 40000
    _, volume = read(write_ct(tmp_path, hu, affine))
    assert (volume.hu[:, 0, 0] == 32767).all() and (volume.hu[:, 1:] == 0).all()


def test_spare_bits_are_ignored(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    hu = linear_hu(SHAPE, affine)
    paths = write_ct(tmp_path, hu, affine, bits_stored=12)
    for path in paths:  # an old overlay in bit 13
        dataset = dcmread(path)
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x2000).tobytes()
        dataset.save_as(path)
    np.testing.assert_array_equal(read(paths)[1].hu, hu)


@pytest.mark.parametrize("options", [
    pytest.param({}, id="one instance"),
    pytest.param({"shuffle": True}, id="frames out of order"),
    pytest.param({"parts": 3}, id="concatenation"),
    pytest.param({"parts": 3, "shuffle": True, "slope": [1.0 + 0.1 * i for i in range(10)]}, id="slope per frame"),
    pytest.param({"transfer_syntax": JPEG2000Lossless, "shuffle": True}, id="JPEG 2000"),
    pytest.param({"transfer_syntax": ExplicitVRBigEndian}, id="big endian"),
    pytest.param({"sop_class": LegacyConvertedEnhancedCTImageStorage}, id="legacy converted"),
])
def test_enhanced_multi_frame(tmp_path: Path, options: dict) -> None:
    affine = grid(SHAPE, spacing=SPACING, tilt_degrees=12)
    inspection, volume = read(write_enhanced_ct(tmp_path, linear_hu(SHAPE, affine), affine, **options))
    assert_in_place(volume)
    assert all(source.frame_number for source in volume.sources)
    assert len(inspection.headers_in_order(volume)) == options.get("parts", 1)


def test_temporal_positions_become_volumes_of_their_own(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    paths = write_enhanced_ct(tmp_path, linear_hu(SHAPE, affine), affine, times=2, shuffle=True)
    inspection, volume = read(paths)
    other, = inspection.others
    first, second = volume.hu.astype(int), build(other).hu.astype(int)
    assert np.abs(first - second).min() == np.abs(first - second).max() == 500


def test_sources_and_headers_follow_the_slices(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING, rotation=PRONE)
    paths = write_ct(tmp_path, linear_hu(SHAPE, affine), affine, reverse_numbers=True)
    inspection, volume = read(list(reversed(paths)))
    datasets = inspection.headers_in_order(volume)
    assert [d.SOPInstanceUID for d in datasets] == [s.sop_instance_uid for s in volume.sources]
    np.testing.assert_allclose(
        [d.ImagePositionPatient for d in datasets],
        [volume.affine[:3, 3] + k * volume.affine[:3, 0] for k in range(SHAPE[0])], atol=1e-4)
    assert "PixelData" not in datasets[0]


@pytest.mark.parametrize(("header", "contrast"), [
    ({}, None), ({"ContrastBolusAgent": "OMNIPAQUE 300"}, True), ({"ContrastBolusAgent": "none"}, False),
    ({"ContrastBolusAgent": ""}, None),
])
def test_acquisition_facts(tmp_path: Path, header: dict, contrast: bool | None) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    facts = read(write_ct(tmp_path, linear_hu(SHAPE, affine), affine, **header))[1].acquisition
    assert (facts.contrast, facts.kvp, facts.kernel, facts.slice_thickness_mm) == (contrast, 120.0, "B60s", 4.0)


def test_short_pixel_data_is_unreadable(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    paths = write_ct(tmp_path, linear_hu(SHAPE, affine), affine)
    paths[4].write_bytes(paths[4].read_bytes()[:-100])
    verdict = inspect(paths, Assemble()).verdict
    with pytest.raises(Permanent) as caught:
        build(verdict)
    assert caught.value.code == "unreadable_pixels"


def test_broken_code_stream_is_unreadable(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    paths = write_ct(tmp_path, linear_hu(SHAPE, affine), affine, transfer_syntax=JPEG2000Lossless)
    content = bytearray(paths[4].read_bytes())
    start = content.index(b"\xff\x4f\xff\x51")  # SOC, SIZ: the code stream begins
    content[start:start + 60] = bytes(60)
    paths[4].write_bytes(content)
    verdict = inspect(paths, Assemble()).verdict
    with pytest.raises(Permanent) as caught:
        build(verdict)
    assert caught.value.code == "unreadable_pixels"


def test_a_file_that_vanished_may_come_back(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    paths = write_ct(tmp_path, linear_hu(SHAPE, affine), affine)
    verdict = inspect(paths, Assemble()).verdict
    paths[0].unlink()
    with pytest.raises(Transient):
        build(verdict)


def test_gaps_are_refused_and_interpolated_on_request(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING, tilt_degrees=10)
    inspection = inspect(write_ct(tmp_path, linear_hu(SHAPE, affine), affine, omit=(3, 6, 7)), Assemble())
    with pytest.raises(Permanent) as caught:
        build(inspection.verdict)
    assert caught.value.code == "missing_slices"
    volume = build(inspection.verdict, regularise=True)
    assert volume.hu.shape == SHAPE
    assert_in_place(volume, tolerance=2)


def test_uneven_positions_are_interpolated_on_request(tmp_path: Path) -> None:
    affine = grid((12, 36, 40), spacing=(1.0, 1.5, 1.25))
    depth = np.cumsum([0, 4, 4, 4, 1, 6.5, 6.5, 3, 6.5, 6.5, 4, 4])
    hu = np.concatenate([linear_hu((1, 36, 40), _moved(affine, d)) for d in depth])
    place = {"ImagePositionPatient": lambda i: [f"{v:.6f}" for v in _moved(affine, depth[i])[:3, 3]]}
    verdict = inspect(write_ct(tmp_path, hu, affine, **place), Assemble()).verdict
    assert (verdict.kind, verdict.reason.code) == ("not_assessed", "uneven_spacing")
    assert_in_place(build(verdict, regularise=True), tolerance=2)


def _moved(affine: np.ndarray, depth: float) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] += depth * affine[:3, 0]
    return moved


def test_time_of_a_large_series_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """60 slices of 512 x 512, printed and not asserted: machines differ."""
    shape = (60, 512, 512)
    affine = grid(shape, spacing=(0.625, 0.7, 0.7))
    paths = write_ct(tmp_path, np.zeros(shape, np.int16), affine)
    started = time.perf_counter()
    for path in paths:
        path.read_bytes()
    read_s, started = time.perf_counter() - started, time.perf_counter()
    verdict = inspect(paths, Assemble()).verdict
    inspect_s, started = time.perf_counter() - started, time.perf_counter()
    volume = build(verdict)
    build_s = time.perf_counter() - started
    with capsys.disabled():
        print(f"\n{shape}: bytes {read_s:.2f} s, inspect {inspect_s:.2f} s, build {build_s:.2f} s")
    assert volume.hu.shape == shape
