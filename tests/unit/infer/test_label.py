"""Names by sequence over instances: cut fields, missing sacrum, six lumbar vertebrae, and noise."""

import numpy as np
import pytest
from synthetic_spine import LABELS, label_answer, spine

from ovcf_node.infer.instances import Instance, Voxels, find_instances
from ovcf_node.infer.label import decode, frame_from, frames_along, name_sequence
from ovcf_node.infer.resample import AIR_HU, Field

_FULL = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "S2")


def _field(blocks, cut_below=None, cut_above=None):
    centres = np.array([b.centre for b in blocks])
    low, high = centres.min(axis=0) - [50, 45, 25], centres.max(axis=0) + [50, 60, 25]
    low[2] = low[2] if cut_below is None else cut_below
    high[2] = high[2] if cut_above is None else cut_above
    shape = tuple(int(n) for n in ((high - low) // 6)[[2, 1, 0]])
    return Field(np.full(shape, AIR_HU, np.float32), np.ones(shape, bool), low, 6.0)


def _voxels(blocks, grid, noise=3.0, **more):
    answer = label_answer(blocks, grid, tuple(n + -n % 8 for n in grid.hu.shape), **more)
    rng = np.random.default_rng(5)
    answer["offset"] = answer["offset"] + rng.normal(0, noise / 10, answer["offset"].shape)
    return Voxels.from_logits(answer["classes"], answer["body"], answer["offset"], grid.hu.shape)


def _names(labels):
    return [v.label for v in reversed(labels.vertebrae)]


def test_a_whole_spine_is_named_from_the_sacrum():
    blocks = spine(_FULL)
    grid = _field(blocks)
    labels = decode(_voxels(blocks, grid), grid, LABELS)
    assert _names(labels) == ["above", "above", *_FULL[2:-1], "below"]
    assert not labels.numbering_uncertain
    assert labels.numbering_basis == "counted up from the sacrum, assuming five lumbar vertebrae"
    for block, placed in zip(blocks, reversed(labels.vertebrae), strict=True):
        assert np.linalg.norm(block.centre - placed.centre) < 2.0
        assert np.degrees(np.arccos(block.frame[2] @ placed.frame[2])) < 9.0


def test_single_wrong_voices_do_not_break_the_sequence():
    blocks = spine(_FULL)
    grid = _field(blocks)
    said = [b.level for b in blocks]
    said[5], said[7] = "L3", "L2"  # L2 called L3, L4 called L2
    wrong = [type(b)(name, b.centre, b.frame, b.anterior, b.posterior) for b, name in zip(blocks, said, strict=True)]
    labels = decode(_voxels(wrong, grid), grid, LABELS)
    assert _names(labels) == ["above", "above", *_FULL[2:-1], "below"]


@pytest.mark.parametrize(("levels", "uncertain", "words"), [
    (("T10", "T11", "T12", "L1", "L2", "L3"), False, "T11/T12"),
    (("L1", "L2", "L3", "L4"), True, "appearance"),
    (("L3", "L4", "L5", "S1", "S2"), False, "sacrum"),
])
def test_the_basis_says_what_the_names_rest_on(levels, uncertain, words):
    blocks = spine(levels)
    grid = _field(blocks)
    labels = decode(_voxels(blocks, grid), grid, LABELS)
    assert [n for n in _names(labels) if n not in ("above", "below")] == [x for x in levels if x in LABELS]
    assert labels.numbering_uncertain is uncertain and words in labels.numbering_basis


def test_a_field_that_cuts_vertebrae_keeps_the_names():
    blocks = spine(_FULL)
    grid = _field(blocks, cut_below=blocks[8].centre[2] + 2, cut_above=blocks[3].centre[2] - 2)
    labels = decode(_voxels(blocks, grid), grid, LABELS)
    assert _names(labels) == ["T12", "L1", "L2", "L3", "L4", "L5"]


def test_six_lumbar_vertebrae_stay_consecutive_and_are_marked():
    levels = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "L5", "S1", "S2")
    blocks = spine(levels)
    grid = _field(blocks)
    labels = decode(_voxels(blocks, grid, blur=0.05), grid, LABELS)
    names = [n for n in _names(labels) if n not in ("above", "below")]
    assert names[-4:] == ["L3", "L4", "L5", "S1"] and len(set(names)) == len(names)
    assert labels.numbering_uncertain and "transitional" in labels.numbering_basis


@pytest.mark.parametrize("lumbar", [("L1", "L2", "L3", "L4"), ("L1", "L2", "L3", "L4", "L5", "L5")])
def test_the_sacrum_is_s1_whatever_is_above_it(lumbar):
    """Each vertebra above it says a name that counts from the ribs; together they must not call L6 S1, or the sacrum L5."""
    blocks = spine(("T9", "T10", "T11", "T12", *lumbar, "S1", "S2"))
    grid = _field(blocks)
    labels = decode(_voxels(blocks, grid, blur=0.1), grid, LABELS)
    assert _names(labels)[-4:] == ["L4", "L5", "S1", "below"]
    assert labels.numbering_uncertain and "counted up from the sacrum" in labels.numbering_basis


def test_a_sacrum_without_s1_keeps_the_name_free_where_there_is_room():
    blocks = spine(_FULL)
    grid = _field(blocks)
    labels = decode(_voxels([b for b in blocks if b.level != "S1"], grid), grid, LABELS)
    assert _names(labels)[-3:] == ["L4", "L5", "below"]


def test_names_that_count_from_the_ribs_otherwise_are_a_doubt():
    """Four lumbar vertebrae whose own names are vague under a clear sacrum: it decides, what contradicts it is said."""
    def seen(level: str, own: float) -> np.ndarray:
        at, classes = LABELS.index(level), np.zeros(len(LABELS))
        classes[at - 1 : at + 2] = (1 - own) / 2
        classes[at] = own
        return classes

    said = [("S1", 0.9), *((level, 0.45) for level in ("L4", "L3", "L2", "L1", "T12", "T11"))]
    places = [b.centre for b in reversed(spine(("T11", "T12", "L1", "L2", "L3", "L4", "L5")))]
    instances = [
        Instance(centre, seen(*name), 30.0, k, 20.0, 1.0) for k, (name, centre) in enumerate(zip(said, places, strict=True))
    ]
    names, uncertain, _ = name_sequence(instances, LABELS)
    assert names == ["S1", "L5", "L4", "L3", "L2", "L1", "T12"] and uncertain


def test_a_vertebra_the_network_missed_leaves_its_name_free():
    blocks = spine(_FULL)
    grid = _field(blocks)
    seen = [b for b in blocks if b.level != "L2"]
    labels = decode(_voxels(seen, grid), grid, LABELS)
    assert [n for n in _names(labels) if n not in ("above", "below")] == [
        "T11", "T12", "L1", "L3", "L4", "L5", "S1"]


def test_a_crushed_vertebra_is_still_an_instance_of_its_own():
    blocks = spine(_FULL)
    middle = blocks[5]
    crushed = type(middle)("L2", middle.centre, middle.frame, 9.0, 12.0)
    blocks[5] = crushed
    for k in range(6, len(blocks)):
        b = blocks[k]
        blocks[k] = type(b)(b.level, b.centre + 14 * middle.frame[2], b.frame, b.anterior, b.posterior)
    grid = _field(blocks)
    labels = decode(_voxels(blocks, grid), grid, LABELS)
    assert [v.label for v in labels.reported] == ["S1", "L5", "L4", "L3", "L2", "L1", "T12"]


def test_nothing_and_stray_bone_give_no_vertebra():
    grid = _field(spine(("L1", "L2", "L3")))
    empty = decode(_voxels([], grid), grid, LABELS)
    assert empty.vertebrae == () and empty.numbering_uncertain
    blocks = spine(("T12", "L1", "L2", "L3"))
    stray = type(blocks[0])("L5", blocks[2].centre + [90.0, 0, 5.0], blocks[0].frame, 20.0, 20.0)
    wide = _field([*blocks, stray])
    instances, numbers = find_instances(_voxels([*blocks, stray], wide), wide)
    assert len(instances) == 4
    assert set(np.unique(numbers)) == {0, *(i.number for i in instances)}


def test_scraps_of_bone_are_no_spine():
    grid = _field(spine(("L1", "L2", "L3")))
    whole = spine(("L1", "L2"))
    scraps = [type(b)(b.level, b.centre, b.frame, 12.0, 12.0, 9.0, 9.0) for b in whole]
    assert len(decode(_voxels(whole, grid), grid, LABELS).reported) == 2
    found = decode(_voxels(scraps, grid), grid, LABELS)
    assert len(found.vertebrae) == 2 and found.reported == ()


@pytest.mark.parametrize(("levels", "count"), [(("S1",), 0), (("S1", "S2"), 0), (("L5",), 1), (("L5", "S1"), 2)])
def test_a_sacrum_alone_is_no_spine(levels, count):
    blocks = spine(levels)
    grid = _field(blocks)
    labels = decode(_voxels(blocks, grid), grid, LABELS)
    assert any(v.instance.convincing for v in labels.vertebrae) and len(labels.reported) == count


def test_frames_are_right_handed_and_follow_a_scoliotic_curve():
    heights = np.linspace(0, 240, 8)
    centres = [np.array([15 * np.sin(z / 80), 10 * np.cos(z / 60), z]) for z in heights]
    for frame in frames_along(centres):
        assert frame @ frame.T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.cross(frame[0], frame[1]) == pytest.approx(frame[2])
        assert frame[0][0] > 0.9 and frame[1][1] > 0.9 and frame[2][2] > 0.9
    assert frame_from(np.array([0, 0, 2.0])) == pytest.approx(np.eye(3))
    assert frames_along([np.zeros(3)])[0] == pytest.approx(np.eye(3))
    assert frames_along([]) == []
