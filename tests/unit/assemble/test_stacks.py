"""How a series falls apart into stacks."""

from pathlib import Path

import numpy as np
import pytest

from ct_series import grid, linear_hu, turned, uid, write_ct, write_enhanced_ct
from ovcf_node.assemble import inspect
from ovcf_node.assemble.headers import read_headers
from ovcf_node.assemble.stacks import Stack, split
from ovcf_node.config import Assemble

SHAPE = (12, 24, 24)
SPACING = (3.0, 2.0, 2.0)


def stacks_of(paths: list[Path]) -> list[Stack]:
    return split(read_headers(paths)[0])


def sizes(paths: list[Path]) -> list[int]:
    return sorted(len(stack.frames) for stack in stacks_of(paths))


def series(folder: Path, prefix: str = "A", *, shape: tuple = SHAPE, moved: float = 0.0, **options) -> list[Path]:
    affine = grid(shape, spacing=SPACING, rotation=options.pop("rotation", None))
    affine[2, 3] += moved
    options.setdefault("SOPInstanceUID", lambda i: uid(prefix, i))
    return write_ct(folder, linear_hu(shape, affine), affine, prefix=prefix, **options)


@pytest.mark.parametrize("second", [
    pytest.param({"rotation": turned("L", 10)}, id="orientation"),
    pytest.param({"shape": (12, 24, 26)}, id="matrix"),
    pytest.param({"PixelSpacing": ["1.5", "1.5"]}, id="pixel spacing"),
    pytest.param({"FrameOfReferenceUID": uid("other frame")}, id="frame of reference"),
    pytest.param({"series": "other"}, id="series"),
])
def test_different_grids_are_different_stacks(tmp_path: Path, second: dict) -> None:
    assert sizes(series(tmp_path) + series(tmp_path, "B", moved=36, **second)) == [12, 12]


@pytest.mark.parametrize("second", [
    pytest.param({"AcquisitionNumber": 2}, id="acquisition number"),
    pytest.param({"TemporalPositionIdentifier": 2}, id="temporal position"),
    pytest.param({"ContrastBolusAgent": "IOHEXOL"}, id="contrast"),
    pytest.param({"ConvolutionKernel": "B30s"}, id="kernel"),
    pytest.param({"KVP": "80"}, id="tube voltage"),
    pytest.param({"AcquisitionTime": "101700"}, id="acquisition time"),
])
def test_repeated_positions_are_split_by_what_tells_them_apart(tmp_path: Path, second: dict) -> None:
    paths = series(tmp_path) + series(tmp_path, "B", **second)
    assert sizes(paths) == [12, 12]
    assert inspect(paths, Assemble()).verdict.kind == "eligible"


def test_acquisitions_that_continue_each_other_stay_together(tmp_path: Path) -> None:
    assert sizes(series(tmp_path) + series(tmp_path, "B", moved=36, AcquisitionNumber=2)) == [24]


def test_acquisitions_that_overlap_at_the_seam_are_split(tmp_path: Path) -> None:
    assert sizes(series(tmp_path) + series(tmp_path, "B", moved=30, AcquisitionNumber=2)) == [12, 12]


def test_phases_that_lie_between_each_other_are_split(tmp_path: Path) -> None:
    assert sizes(series(tmp_path) + series(tmp_path, "B", moved=0.75, AcquisitionNumber=2)) == [12, 12]


def test_one_acquisition_number_per_rotation_does_not_shatter_a_stack(tmp_path: Path) -> None:
    paths = series(tmp_path, AcquisitionNumber=lambda i: i // 2)
    assert sizes(paths) == [12]
    again = series(tmp_path / "again", "B", AcquisitionNumber=99, omit=[i for i in range(12) if i != 4])
    assert sizes(paths + again) == [13]  # one more slice at a position: for the judge to decide


def test_the_same_instance_twice_counts_once(tmp_path: Path) -> None:
    assert sizes(series(tmp_path) + series(tmp_path / "copy")) == [12]


def test_frames_without_geometry_are_a_stack_of_their_own(tmp_path: Path) -> None:
    skew = ["1", "0", "0", "1", "0", "0"]
    paths = series(tmp_path) + series(tmp_path, "B", shape=(1, 24, 24), ImageOrientationPatient=skew)
    assert [stack.has_geometry for stack in stacks_of(paths)] == [True, False]


def test_multi_frame_stack_ids_and_temporal_positions(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    paths = write_enhanced_ct(tmp_path, linear_hu(SHAPE, affine), affine, times=3, parts=4, shuffle=True)
    assert sizes(paths) == [12] * 3


def test_missing_parts_of_a_concatenation_are_counted(tmp_path: Path) -> None:
    affine = grid(SHAPE, spacing=SPACING)
    paths = write_enhanced_ct(tmp_path, linear_hu(SHAPE, affine), affine, parts=3)
    assert [stack.missing_parts for stack in stacks_of(paths)] == [0]
    stack, = stacks_of(paths[:2])
    assert stack.missing_parts == 1
    verdict = inspect(paths[:2], Assemble(limited_mm=9)).verdict
    assert (verdict.kind, verdict.reason.code) == ("excluded", "too_short")  # 24 mm
    affine = grid((30, 24, 24), spacing=SPACING)
    paths = write_enhanced_ct(tmp_path / "long", np.zeros((30, 24, 24), np.int16), affine, parts=3)
    verdict = inspect(paths[:2], Assemble()).verdict
    assert (verdict.kind, verdict.reason.code) == ("incomplete", "missing_slices")
