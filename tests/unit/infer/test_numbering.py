"""What ribs and the lumbosacral junction say of the count, on painted bone: rods for ribs and processes, plates for S1."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_spine import LABELS, Block, spine

from ovcf_node.domain.volume import OUTSIDE_HU, FrameSource, Volume
from ovcf_node.infer import numbering
from ovcf_node.infer.instances import Instance, Voxels
from ovcf_node.infer.label import Labels, Placed, name_sequence, placed
from ovcf_node.infer.resample import AIR_HU, Field, part_of
from ovcf_node.infer.sacrum import disc_below

_LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")
_PROCESS = {"T11": 0, "T12": 0, "L1": 8, "L2": 14, "L3": 18, "L4": 16, "L5": 18}  # mm beyond the first 26
_USUAL = {"T9": 130, "T10": 130, "T11": 115, "T12": 80}


def _rod(volume: Volume, start, end, radius: float, hu: int) -> None:
    """Paint a rod between two LPS points."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    part = part_of(volume, np.minimum(start, end) - radius, np.maximum(start, end) + radius)
    points = np.moveaxis(np.indices(part.hu.shape), 0, -1) @ part.affine[:3, :3].T + part.affine[:3, 3]
    along = np.clip((points - start) @ (end - start) / max(1.0, float((end - start) @ (end - start))), 0, 1)
    part.hu[np.linalg.norm(points - start - along[..., None] * (end - start), axis=-1) < radius] = hu


def _outwards(volume: Volume, block: Block, side: int, length: float, *, rib: bool, radius: float = 5.0) -> None:
    """A rod from the arch to 26 mm beside the body, and `length` mm farther: level, or sinking to the front as ribs do."""
    leave = block.centre + side * 26 * block.frame[0] + 24 * block.frame[1]
    _rod(volume, block.centre + side * 10 * block.frame[0] + 24 * block.frame[1], leave, radius, 450)
    way = np.array([side * 0.85, -0.15, -0.5]) if rib else np.array([float(side), 0.0, 0.0])
    if length > 0:
        _rod(volume, leave, leave + length * way / np.linalg.norm(way), radius, 450)


def _ct(blocks: list[Block], ribs: dict, *, beside: float = 115.0, broad: tuple[int, ...] = ()) -> Volume:
    """CT at 2 mm, `beside` mm to either side; `ribs` mm beyond the first 26 by level; `broad` sides of L5."""
    centres = np.array([b.centre for b in blocks])
    low, high = centres.min(axis=0) - [beside, 110, 45], centres.max(axis=0) + [beside, 75, 40]
    shape = tuple(int(n) for n in ((high - low) // 2)[[2, 1, 0]])
    affine = np.array([[0, 0, 2.0, low[0]], [0, 2.0, 0, low[1]], [2.0, 0, 0, low[2]], [0, 0, 0, 1.0]])
    hu = np.full(shape, 40, np.int16)
    volume = Volume(hu, affine, tuple(FrameSource(f"1.{k}") for k in range(shape[0])), "axial", "1.2")
    for block in blocks:
        _rod(volume, block.centre - 4 * block.frame[2], block.centre + 4 * block.frame[2], 17.0, 160)
        for side in (-1, 1):
            if block.level in ribs:
                _outwards(volume, block, side, ribs[block.level], rib=True)
            elif block.level in _PROCESS:
                wide = block.level == "L5" and side in broad
                _outwards(volume, block, side, _PROCESS[block.level], rib=False, radius=11.0 if wide else 4.5)
    return volume


def _labels(blocks: list[Block]) -> Labels:
    """Labels that know the truth and are certain."""
    def placed(number, block):
        name = block.level if block.level in LABELS else "above"
        classes = np.eye(len(LABELS))[LABELS.index(name)]
        return Placed(name, Instance(block.centre, classes, 19.4, number, 25.0, 0.99), block.frame)

    found = tuple(placed(k, b) for k, b in enumerate(reversed(blocks), start=1))
    field = Field(np.full((2, 2, 2), AIR_HU, np.float32), np.ones((2, 2, 2), bool), np.zeros(3), 6.0)
    nothing = np.zeros((2, 2, 2), np.float32)
    return Labels(found, False, "counted", field, nothing.astype(np.uint8), Voxels(nothing[None], nothing, nothing))


def checked(labels: Labels, volume: Volume) -> Labels:
    return numbering.checked(labels, volume, LABELS)


@pytest.mark.parametrize(("ribs", "doubt"), [
    ({}, None),
    ({"T12": 45}, None),  # a short last rib under a long one is common
    ({"T12": 0}, None),  # a hypoplastic one too
    ({"L1": 60}, "a rib at the vertebra called L1"),
    ({"T11": 60, "T12": None}, "no rib at the vertebra called T12"),
    ({"T9": None, "T10": None, "T11": None, "T12": None}, "no rib at the vertebra called T12"),
    ({"T11": 70, "T12": 42}, "the last ribs are rudimentary"),
])
def test_ribs_against_the_count(ribs, doubt):
    blocks = spine(_LEVELS)
    ribs = {level: mm for level, mm in (_USUAL | ribs).items() if mm is not None}
    before = _labels(blocks)
    after = checked(before, _ct(blocks, ribs))
    assert [v.label for v in after.vertebrae] == [v.label for v in before.vertebrae]
    assert after.numbering_uncertain is (doubt is not None)
    assert (doubt or "last ribs seen at the vertebra called T1") in after.numbering_basis


def test_a_field_too_narrow_for_ribs_leaves_the_count_from_the_sacrum_alone():
    blocks = spine(_LEVELS)
    ct = _ct(blocks, {**_USUAL, "T11": 70, "T12": 42}, beside=36.0)
    after = checked(_labels(blocks), ct)
    assert not after.numbering_uncertain and "ribs not seen far enough" in after.numbering_basis
    upper = [b for b in blocks if b.level in ("T11", "T12", "L1", "L2", "L3")]
    assert checked(_labels(upper), ct).numbering_uncertain  # neither sacrum nor ribs
    wide = checked(_labels(upper), _ct(blocks, _USUAL))
    assert not wide.numbering_uncertain and "T12" in wide.numbering_basis


def _said(blocks: list[Block], by: int, share: float) -> Labels:
    """Labels of a network that gives `share` to the name `by` levels lower than the true one, the rest to the true one."""
    def instance(number, block):
        true = LABELS.index(block.level) if block.level in LABELS else 1
        classes = (1 - share) * np.eye(len(LABELS))[true] + share * np.eye(len(LABELS))[max(1, true + by)]
        return Instance(block.centre, classes, 19.4, number, 25.0, 0.99)

    vertebrae, uncertain, basis = placed([instance(k, b) for k, b in enumerate(reversed(blocks), start=1)], LABELS)
    return replace(_labels(blocks), vertebrae=vertebrae, numbering_uncertain=uncertain, numbering_basis=basis)


def _names(labels: Labels) -> list[str]:
    return [v.label for v in reversed(labels.vertebrae)]


_ABOVE_L4 = ("T9", "T10", "T11", "T12", "L1", "L2", "L3")
_TRUE = ["above", "above", *_ABOVE_L4[2:]]


@pytest.mark.parametrize(("by", "share"), [(-1, 0.7), (1, 0.55)])
def test_without_a_sacrum_the_last_ribs_decide_what_the_network_wavers_about(by, share):
    blocks = spine(_ABOVE_L4)
    before, ct = _said(blocks, by, share), _ct(blocks, _USUAL)
    after = checked(before, ct)
    assert _names(before) != _TRUE and _names(after) == _TRUE
    assert after.numbering_uncertain and after.numbering_basis.startswith("counted from the lowest ribs as those of T12")
    for one, other in zip(before.vertebrae, after.vertebrae, strict=True):
        assert one.instance is other.instance and one.frame == pytest.approx(other.frame)
    narrow = checked(before, _ct(blocks, _USUAL, beside=36.0))
    assert _names(narrow) == _names(before) and narrow.numbering_uncertain


def test_last_ribs_where_the_names_put_them_are_no_doubt_although_the_network_wavers():
    blocks = spine(_ABOVE_L4)
    before = _said(blocks, -1, 0.4)
    after = checked(before, _ct(blocks, _USUAL))
    assert _names(before) == _names(after) == _TRUE
    assert before.numbering_uncertain and "shifted by one level" in before.numbering_basis
    assert not after.numbering_uncertain and "shifted" not in after.numbering_basis
    without = checked(before, _ct(blocks, {**_USUAL, "T12": 0}))  # a hypoplastic T12: moved, and said to be uncertain
    assert _names(without)[2:5] == ["T12", "L1", "L2"] and without.numbering_uncertain


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8])
def test_bone_on_one_side_does_not_make_wrong_names_certain(share):
    blocks = spine(_ABOVE_L4)
    ct = _ct(blocks, _USUAL)
    _outwards(ct, blocks[4], 1, 45.0, rib=True)  # an organ at L1's process, or a lumbar rib; T12 is what L1 is called
    after = checked(_said(blocks, -1, share), ct)
    assert _names(after) != _TRUE and after.numbering_uncertain


@pytest.mark.parametrize("hidden", ["T12", "T11"])
def test_without_a_sacrum_what_may_be_one_level_off_is_uncertain(hidden):
    blocks = spine(_ABOVE_L4)
    ct = _ct(blocks, {**_USUAL, "T12": 0}) if hidden == "T12" else _ct(blocks, _USUAL, beside=38.0)
    after = checked(_said(blocks, 0, 1.0), ct)
    assert _names(after) == _TRUE and after.numbering_uncertain


def test_a_vertebra_named_s1_is_counted_from_although_the_network_is_not_sure_of_it():
    blocks = spine(_LEVELS)
    labels, l5 = _said(blocks, 1, 0.45), np.eye(len(LABELS))[LABELS.index("L5")]
    doubtful = tuple(
        replace(v, instance=replace(v.instance, classes=0.45 * v.instance.classes + 0.55 * l5))
        if v.label in ("S1", "below") else v for v in labels.vertebrae
    )
    after = checked(replace(labels, vertebrae=doubtful), _ct(blocks, {**_USUAL, "L1": 70}))
    assert _names(after) == _names(labels)


def test_a_network_that_does_not_waver_keeps_its_names_and_ribs_elsewhere_are_a_doubt():
    blocks = spine(_ABOVE_L4)
    for ribs in ({**_USUAL, "T12": 0}, {**_USUAL, "L1": 60}):
        after = checked(_said(blocks, 0, 1.0), _ct(blocks, ribs))
        assert _names(after) == _TRUE and after.numbering_uncertain


def test_ribs_never_overrule_a_sacrum():
    blocks = spine(_LEVELS[2:])
    before = _said(blocks, -1, 0.4)
    after = checked(before, _ct(blocks, {**_USUAL, "T12": 0}))
    assert _names(before) == _names(after) == list(_LEVELS[2:])


def test_ribs_of_the_lowest_vertebra_in_the_field_are_not_known_to_be_the_last():
    blocks = spine(("T9", "T10", "T11", "T12"))
    ct = _ct(blocks, _USUAL)
    sure = checked(_said(blocks, 0, 1.0), ct)
    assert _names(sure) == _TRUE[:4] and sure.numbering_uncertain and "not seen far enough" in sure.numbering_basis
    lumbar = _said(blocks, 1, 0.6)
    assert _names(lumbar)[-1] == "L1"
    assert _names(checked(lumbar, ct)) == _TRUE[:4]  # with ribs on both sides it is none


def test_ribs_do_not_anchor_across_a_missed_vertebra():
    blocks = spine(_ABOVE_L4)
    seen = [b for b in blocks if b.level != "T12"]
    after = checked(_said(seen, 0, 0.0), _ct(blocks, _USUAL))
    assert _names(after) == ["above", "above", "T11", "L1", "L2", "L3"] and after.numbering_uncertain


def test_ribs_that_the_side_of_the_field_cuts_do_not_end_early():
    blocks = spine(_LEVELS)
    assert not checked(_labels(blocks), _ct(blocks, {**_USUAL, "T12": 42}, beside=88.0)).numbering_uncertain
    assert checked(_labels(blocks), _ct(blocks, {**_USUAL, "T12": 42, "T11": 55}, beside=88.0)).numbering_uncertain


def test_what_the_scanner_left_out_is_not_taken_for_the_end_of_a_rib():
    blocks = spine(_LEVELS)
    ct = _ct(blocks, {**_USUAL, "T11": 110, "T12": 80})
    x = ct.affine[0, 3] + 2.0 * np.arange(ct.hu.shape[2])
    ct.hu[:, :, np.abs(x - blocks[3].centre[0]) > 55] = OUTSIDE_HU
    assert not checked(_labels(blocks), ct).numbering_uncertain


def test_an_enhanced_kidney_at_a_transverse_process_is_no_rib():
    blocks = spine(_LEVELS)
    ct = _ct(blocks, _USUAL)
    for side in (-1, 1):
        middle = blocks[4].centre + np.array([side * 62.0, 0.0, -10.0])
        _rod(ct, middle + [0, 0, 30], middle - [0, 0, 30], 26.0, 220)
    assert not checked(_labels(blocks), ct).numbering_uncertain


@pytest.mark.parametrize(("broad", "doubt"), [((), False), ((1,), False), ((-1, 1), True)])
def test_broad_transverse_processes_of_l5_on_both_sides_are_a_doubt(broad, doubt):
    blocks = spine(_LEVELS)
    after = checked(_labels(blocks), _ct(blocks, _USUAL, broad=broad))
    assert after.numbering_uncertain is doubt and ("as when sacralised" in after.numbering_basis) is doubt


def _joint(front: float, back: float, line: float | None = None) -> Volume:
    """A joint 15 mm below S1 at z = 60: plates that are `front` and `back` mm apart; a bright line so far below it in S2."""
    shape = (90, 60, 60)
    z, y, _ = np.indices(shape).astype(float)
    gap = front + (back - front) * np.clip((y - 20) / 20, 0, 1)
    away = np.abs(z - 45) - gap / 2
    hu = np.where(away < 0, 80, np.where(away < 1.0, 450, 130))
    if line is not None:
        hu[np.abs(45 - line - z) < 1.0] = 450
    hu[(np.abs(y - 30) > 12)] = 30
    return Volume(hu.astype(np.int16), np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]]),
                  tuple(FrameSource(f"1.{k}") for k in range(shape[0])), "axial", "1.2")


_S1 = np.array([30.0, 30.0, 60.0])


@pytest.mark.parametrize(
    ("front", "back", "disc"), [(6.0, 6.0, True), (1.0, 1.0, False), (0.0, 3.0, False), (0.0, 6.0, False)]
)
def test_only_a_disc_of_full_depth_below_s1_is_a_doubt(front, back, disc):
    volume = _joint(front, back)
    assert (disc_below(volume, _S1, np.eye(3)) > 24) is disc
    assert disc_below(volume, _S1 + [0, 0, 200.0], np.eye(3)) == 0.0


@pytest.mark.parametrize(("disc_mm", "doubt"), [(6.0, True), (1.0, False)])
def test_a_disc_below_s1_makes_the_numbering_uncertain(disc_mm, doubt):
    blocks = spine((*_LEVELS, "S2"))
    ct = _ct(blocks, _USUAL)
    s1, s2 = blocks[-2:]
    joint, w = s1.centre + 0.53 * (s2.centre - s1.centre), s1.frame[2]
    points = np.moveaxis(np.indices(ct.hu.shape), 0, -1) @ ct.affine[:3, :3].T + ct.affine[:3, 3]
    away, near = np.abs((points - joint) @ w), np.linalg.norm(points - joint, axis=-1) < 20
    ct.hu[near] = 200
    ct.hu[near & (away < disc_mm / 2 + 2)] = 600
    ct.hu[near & (away < disc_mm / 2)] = 60
    after = checked(_labels(blocks), ct)
    assert after.numbering_uncertain is doubt and ("a disc below S1" in after.numbering_basis) is doubt


def test_a_line_across_s2_is_no_disc():
    """Its plate and the line look like two endplates; they lie beyond the middle between S1 and S2."""
    volume, s2 = _joint(1.0, 1.0, line=8.0), _S1 - [0, 0, 27.0]
    assert disc_below(volume, _S1, np.eye(3)) > 24
    assert disc_below(volume, _S1, np.eye(3), s2) < 24
    assert disc_below(_joint(6.0, 6.0), _S1, np.eye(3), _S1 - [0, 0, 55.0]) > 24  # that is S3: S2 was not seen
    assert disc_below(_joint(6.0, 6.0, line=11.0), _S1, np.eye(3), s2) > 24


def test_spacing_that_contradicts_the_names_is_a_doubt():
    blocks = [b for b in spine(_LEVELS) if b.level not in ("T9", "T10")]
    instances = [v.instance for v in _labels(blocks).vertebrae]
    assert name_sequence(instances, LABELS)[1:] == (False, "counted up from the sacrum, assuming five lumbar vertebrae")
    up = np.array([0.0, 0.0, 20.0])
    missed = [i if k < 5 else replace(i, centre=i.centre + up) for k, i in enumerate(instances)]
    names, uncertain, basis = name_sequence(missed, LABELS)
    assert names == name_sequence(instances, LABELS)[0] and uncertain and "spacing contradicts" in basis
    whole = [i for k, i in enumerate(instances) if k != 3]
    squeezed = [i if k < 3 else replace(i, centre=i.centre - 1.6 * up) for k, i in enumerate(whole)]
    assert name_sequence(squeezed, LABELS)[1]
