"""The verdict on a stack: kind, coded reason, limits."""

from pathlib import Path

import numpy as np
import pytest

from ct_series import grid, linear_hu, turned, uid, write_ct
from ovcf_node.assemble import build, inspect
from ovcf_node.assemble.completeness import Verdict
from ovcf_node.assemble.eligibility import OwnResult
from ovcf_node.config import Assemble
from ovcf_node.errors import Permanent

RULES = Assemble()
SHAPE = (40, 24, 24)


def judged(
    folder: Path, *, shape: tuple = SHAPE, spacing: tuple = (1.0, 1.0, 1.0), orientation: str = "axial",
    rotation: np.ndarray | None = None, tilt_degrees: float = 0.0, rules: Assemble = RULES, **options,
) -> Verdict:
    affine = grid(shape, spacing=spacing, orientation=orientation, rotation=rotation, tilt_degrees=tilt_degrees)
    return inspect(write_ct(folder, np.zeros(shape, np.int16), affine, **options), rules).verdict


def facts(verdict: Verdict) -> tuple[str, str | None]:
    return verdict.kind, verdict.reason and verdict.reason.code


def along(offsets: list[float]) -> dict:
    """Positions along S, mm, in place of the regular ones."""
    return {"ImagePositionPatient": lambda i: ["-23", "-23", f"{offsets[i]:.4f}"]}


@pytest.mark.parametrize(("spacing", "thickness", "limits", "withheld"), [
    (1.0, 1.0, [], False),
    (1.25, 1.25, [], False),
    (0.8, 1.5, ["thick_slices"], False),
    (2.0, 2.0, ["thick_slices"], False),
    (3.0, 3.0, ["thick_slices"], False),
    (3.0, 5.0, ["grading_withheld"], True),
    (5.0, 1.0, ["grading_withheld"], True),
    (1.0, None, ["thickness_unknown"], False),
    (1.0, "0", ["thickness_unknown"], False),
    (2.0, None, ["thickness_unknown", "thick_slices"], False),
    (5.0, None, ["thickness_unknown", "grading_withheld"], True),
    (1.0, lambda i: None if i == 7 else 1.0, ["thickness_unknown"], False),
])
def test_slice_spacing_and_thickness_limit_the_reading(tmp_path, spacing, thickness, limits, withheld) -> None:
    verdict = judged(tmp_path, spacing=(spacing, 1.0, 1.0), SliceThickness=thickness)
    assert facts(verdict) == ("eligible", None)
    assert ([limit.code for limit in verdict.limits], verdict.withhold_grading) == (limits, withheld)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal"])
@pytest.mark.parametrize(("pixels", "limits", "withheld"), [
    ((1.25, 0.9), [], False),
    ((2.5, 0.9), ["thick_slices"], False),
    ((0.9, 2.5), ["thick_slices"], False),
    ((5.0, 0.9), ["grading_withheld"], True),
])
def test_pixels_limit_the_reading_like_slices(tmp_path, orientation, pixels, limits, withheld) -> None:
    verdict = judged(tmp_path, shape=(40, 40, 40), spacing=(1.0, *pixels), orientation=orientation)
    assert ([limit.code for limit in verdict.limits], verdict.withhold_grading) == (limits, withheld)
    assert not limits or f"pixels {max(pixels):.2f} mm" in verdict.limits[0].text


def test_the_rules_are_configured(tmp_path) -> None:
    verdict = judged(tmp_path, spacing=(2.0, 2.0, 2.0), rules=Assemble(full_mm=2.0))
    assert verdict.limits == ()


def test_no_frame_of_reference_is_a_limit(tmp_path) -> None:
    assert [limit.code for limit in judged(tmp_path, FrameOfReferenceUID=None).limits] == ["no_frame_of_reference"]


@pytest.mark.parametrize(("options", "expected"), [
    ({"rotation": turned("L", 28)}, ("eligible", None)),
    ({"rotation": turned("L", 42)}, ("excluded", "orientation")),
    ({"tilt_degrees": 28}, ("eligible", None)),
    ({"orientation": "sagittal"}, ("eligible", None)),
    ({"orientation": "coronal", "rotation": turned("S", 20)}, ("eligible", None)),
    ({"orientation": "coronal", "rotation": turned("S", 45)}, ("excluded", "orientation")),
    ({"shape": (25, 24, 24)}, ("excluded", "too_short")),
    ({"shape": (8, 24, 24), "spacing": (5.0, 2.0, 2.0)}, ("eligible", None)),
    ({"shape": (40, 24, 9)}, ("excluded", "too_short")),
    ({"shape": (1, 40, 40), "orientation": "sagittal"}, ("excluded", "too_short")),
])
def test_orientation_and_extent(tmp_path, options, expected) -> None:
    assert facts(judged(tmp_path, **{"spacing": (1.0, 2.0, 2.0), **options})) == expected


@pytest.mark.parametrize(("omit", "expected"), [
    ([], ("eligible", None)),
    ([7], ("incomplete", "missing_slices")),
    ([7, 8, 9, 20], ("incomplete", "missing_slices")),
    ([0, 39], ("eligible", None)),  # nothing tells that the ends are missing
    (list(range(1, 40, 2)), ("eligible", None)),  # every other slice is an even grid
])
def test_missing_slices(tmp_path, omit, expected) -> None:
    assert facts(judged(tmp_path, omit=omit)) == expected


def test_missing_slices_are_counted_in_words(tmp_path) -> None:
    assert "(3 of 40)" in judged(tmp_path, omit=[5, 6, 30]).reason.text


@pytest.mark.parametrize(("offsets", "expected", "limits"), [
    (np.arange(40) + np.tile([0.0, 0.01], 20), ("eligible", None), []),
    (np.arange(40) + np.tile([-0.02, 0.04], 20), ("eligible", None), ["irregular_positions"]),
    (np.arange(40) + np.where(np.arange(40) == 17, 0.3, 0.0), ("not_assessed", "uneven_spacing"), []),
    (np.concatenate([np.arange(20), 20 + 1.75 * np.arange(20)]), ("not_assessed", "uneven_spacing"), []),
    (np.concatenate([np.arange(20), 19.0 + 4 * np.arange(1, 21)]), ("not_assessed", "uneven_spacing"), []),
    (np.round(np.arange(40) * 1.3333, 1), ("eligible", None), ["irregular_positions", "thick_slices"]),
])
def test_uneven_spacing(tmp_path, offsets, expected, limits) -> None:
    verdict = judged(tmp_path, SliceThickness="1", **along(list(offsets)))
    assert facts(verdict) == expected
    assert sorted(limit.code for limit in verdict.limits) == limits


def test_origins_that_wander_within_the_plane_are_mixed_geometry(tmp_path) -> None:
    wander = {"ImagePositionPatient": lambda i: ["-23" if i < 20 else "-11", "-23", str(i)]}
    assert facts(judged(tmp_path, **wander)) == ("not_assessed", "mixed_geometry")


def test_original_planes_without_position_are_not_silent(tmp_path) -> None:
    verdict = judged(tmp_path, ImagePositionPatient=None)
    assert facts(verdict) == ("not_assessed", "no_geometry")
    with pytest.raises(Permanent) as caught:
        build(verdict, regularise=True)
    assert caught.value.code == "no_geometry"


def test_the_same_content_at_the_same_position_counts_once(tmp_path) -> None:
    affine = grid(SHAPE, spacing=(1.0, 2.0, 2.0))
    hu = linear_hu(SHAPE, affine)
    paths = write_ct(tmp_path / "a", hu, affine)
    again = write_ct(tmp_path / "b", hu, affine, SOPInstanceUID=lambda i: uid("again", i), omit=range(10, 40))
    inspection = inspect(paths + again, RULES)
    assert facts(inspection.verdict) == ("eligible", None)
    assert build(inspection.verdict).hu.shape == SHAPE
    other = write_ct(tmp_path / "c", hu + 1, affine, SOPInstanceUID=lambda i: uid("other", i), omit=range(10, 40))
    assert facts(inspect(paths + other, RULES).verdict) == ("not_assessed", "duplicate_positions")


def test_blocks_of_slices_per_disc_are_mixed_geometry(tmp_path) -> None:
    paths = []
    for disc, angle in enumerate((-12, -4, 5, 14)):
        shape = (5, 24, 24)
        affine = grid(shape, spacing=(4.0, 2.0, 2.0), rotation=turned("L", angle), centre=(0, 0, 35.0 * disc))
        paths += write_ct(tmp_path, np.zeros(shape, np.int16), affine, prefix=f"D{disc}",
                          SOPInstanceUID=lambda i, disc=disc: uid("disc", disc, i))
    assert facts(inspect(paths, RULES).verdict) == ("not_assessed", "mixed_geometry")


def test_a_scout_in_the_series_does_not_stop_the_stack(tmp_path) -> None:
    affine = grid(SHAPE, spacing=(1.0, 2.0, 2.0))
    kind = {"ImageType": lambda i: ["ORIGINAL", "PRIMARY", "LOCALIZER" if i == 39 else "AXIAL"]}
    inspection = inspect(write_ct(tmp_path, np.zeros(SHAPE, np.int16), affine, **kind), RULES, OwnResult())
    assert facts(inspection.verdict) == ("eligible", None)
    assert [reason.code for _, reason in inspection.excluded] == ["scout"]
    assert [facts(other) for other in inspection.others] == [("excluded", "scout")]


def test_a_series_of_excluded_instances_has_their_reason(tmp_path) -> None:
    assert facts(judged(tmp_path, ManufacturerModelName="ovcf-node")) == ("excluded", "own_result")


def test_no_instance_at_all_is_unusable_input(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(Permanent) as caught:
        inspect([tmp_path / "a.txt"], RULES)
    assert caught.value.code == "no_instances"
