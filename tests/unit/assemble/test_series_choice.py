"""Which series of a study is read."""

from dataclasses import replace

import pytest

from ovcf_node.assemble import Candidate, choose, rank
from ovcf_node.assemble.choice import kernel_kind

PLAIN = Candidate("1.2.3", "axial", 1.0, 1.0, "B60s", None, 300.0)


@pytest.mark.parametrize(("name", "kind"), [
    ("BONE", "bone"), ("BONEPLUS", "bone"), ("STANDARD", "standard"), ("STD+", "standard"), ("SOFT", "standard"),
    ("LUNG", "lung"), ("HD BONEPLUS", "bone"),
    ("B30f", "standard"), ("B60s", "bone"), ("B70f", "bone"), ("Br38f", "standard"), ("Br59d", "bone"),
    ("Bl57d", "lung"), ("Hr60", "bone"), ("I70f", "bone"), ("Qr40d", "standard"),
    ("FC08", "standard"), ("FC18", "standard"), ("FC30", "bone"), ("FC35", "bone"), ("FC51", "lung"), ("FC81", "bone"),
    ("B", "standard"), ("C", "standard"), ("D", "bone"), ("YC", "bone"), ("L", "lung"), ("UB", "standard"),
    ("", "unknown"), (None, "unknown"), ("somebody's filter", "unknown"),
])
def test_kernels_by_their_makers_names(name: str | None, kind: str) -> None:
    assert kernel_kind(name) == kind


@pytest.mark.parametrize("worse", [
    pytest.param({"spacing_mm": 2.0}, id="thinner spacing wins"),
    pytest.param({"thickness_mm": 3.0}, id="thinner slices win"),
    pytest.param({"kernel": "B30f"}, id="bone before standard"),
    pytest.param({"kernel": "Bl57"}, id="bone before lung"),
    pytest.param({"contrast": True}, id="unknown before with contrast"),
    pytest.param({"orientation": "sagittal"}, id="axial before sagittal"),
    pytest.param({"coverage_mm": 150.0}, id="more coverage"),
    pytest.param({"series_instance_uid": "1.2.4"}, id="ties by UID"),
])
def test_one_difference_decides(worse: dict) -> None:
    other = replace(PLAIN, **worse)
    assert choose([other, PLAIN]) is PLAIN
    assert choose([PLAIN, other]) is PLAIN


def test_reformats_of_thick_slices_are_not_thin() -> None:
    coarse = replace(PLAIN, spacing_mm=0.7, thickness_mm=0.7, orientation="sagittal", pixel_mm=5.0)
    assert choose([coarse, PLAIN]) is PLAIN
    assert choose([replace(coarse, pixel_mm=0.7), PLAIN]) is not PLAIN
    assert choose([replace(PLAIN, spacing_mm=0.7, thickness_mm=0.7, pixel_mm=0.9), PLAIN]) is not PLAIN


def test_order_of_the_criteria() -> None:
    thin_contrast = replace(PLAIN, spacing_mm=0.6, thickness_mm=0.6, kernel="B30f", contrast=True)
    bone_contrast = replace(PLAIN, contrast=True)
    standard = replace(PLAIN, kernel="B30f", contrast=False)
    sagittal = replace(PLAIN, orientation="sagittal", coverage_mm=900)
    assert rank([sagittal, standard, bone_contrast, PLAIN, thin_contrast]) == (4, 3, 0, 2, 1)


def test_standard_kernel_preferred_on_request() -> None:
    standard = replace(PLAIN, kernel="B30f")
    assert choose([PLAIN, standard], "standard") is standard


def test_rounding_does_not_decide() -> None:
    assert choose([replace(PLAIN, spacing_mm=0.999999, kernel="B30f"), PLAIN]) is PLAIN


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError):
        choose([])
