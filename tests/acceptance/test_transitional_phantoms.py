"""Spines of the second generator whose count is off: the shipped bundle and the CT's ribs and sacrum must say so."""

from pathlib import Path

import numpy as np
import pytest

import second
from ovcf_node.domain.volume import FrameSource, Volume
from ovcf_node.infer import load
from ovcf_node.infer.label import field_for, locate
from ovcf_node.infer.numbering import checked

pytestmark = pytest.mark.slow
_REFERENCE = Path(__file__).resolve().parents[2] / "models" / "reference"
_SPACING = (2.0, 1.8, 1.8)


def _ct(variant: str, seed: int, lowest: str = "S1") -> Volume:
    """The CT of a patient of average scan; a field whose `lowest` is lumbar ends below that vertebra."""
    patient = second.sample_patient(seed, variant=variant, kind="none", plain=True)
    how = second.choose_scan(patient, seed, field=230.0)
    size = np.array(how.shape) * how.spacing
    how = type(how)(**{**vars(how), "shape": tuple(round(a / b) for a, b in zip(size, _SPACING, strict=True)),
                       "spacing": _SPACING, "thickness": 2.0, "contrast": "none"})
    picture = second.scan(patient, how, seed)
    affine = np.zeros((4, 4))
    for axis, step in enumerate(_SPACING):
        affine[2 - axis, axis] = step
    affine[:3, 3], affine[3, 3] = picture.low, 1.0
    hu = picture.hu.astype(np.int16)
    if lowest != "S1":
        start = int((patient.find(lowest).centre[2] - 18.0 - picture.low[2]) / _SPACING[0])
        hu, affine[2, 3] = hu[start:], affine[2, 3] + start * _SPACING[0]
    return Volume(hu, affine, tuple(FrameSource(f"1.{k}") for k in range(len(hu))), "axial", "1.2")


@pytest.mark.parametrize(("variant", "words"), [
    ("none", None), ("four_lumbar", "as when sacralised"), ("thirteenth_rib", "last ribs are rudimentary"),
    ("lumbarised", "as when lumbarised"),
])
def test_numbering_is_called_uncertain_where_the_count_is_off(variant, words):
    bundle = load(_REFERENCE, threads=1)
    volume = _ct(variant, 7_980_001)
    labels = locate(field_for(volume, bundle), bundle)
    after = checked(labels, volume, bundle.label.labels)
    assert [v.label for v in after.vertebrae] == [v.label for v in labels.vertebrae]
    assert after.numbering_uncertain is (words is not None), after.numbering_basis
    assert words is None or words in after.numbering_basis


@pytest.mark.parametrize(("seed", "lowest", "uncertain"), [
    (7_980_001, "L2", False), (7_980_002, "L4", False),
    (7_980_001, "L4", True),  # the network wavers, and T12 has a rib on one side only: an organ beside L1 looks the same
])
def test_ribs_anchor_the_names_of_a_field_without_a_sacrum(seed, lowest, uncertain):
    bundle = load(_REFERENCE, threads=1)
    volume = _ct("none", seed, lowest)
    after = checked(locate(field_for(volume, bundle), bundle), volume, bundle.label.labels)
    named = [v.label for v in reversed(after.reported)]
    assert [n for n in named if n in ("T12", "L1", "L2")] == ["T12", "L1", "L2"] and "S1" not in named
    assert after.numbering_uncertain is uncertain, after.numbering_basis
    assert "last ribs seen at the vertebra called T12" in after.numbering_basis
