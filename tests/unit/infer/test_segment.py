"""The finer map around the spine: whose voxels they are, how far it reaches, and what the masks take from it."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_spine import LABEL_STAGE, KnowingBundle, axial_volume, paint, spine

from ovcf_node.domain.volume import FrameSource, Volume
from ovcf_node.infer import field_for, locate, read, segment
from ovcf_node.infer.instances import Instance, Voxels, described, found_again
from ovcf_node.infer.label import Labels, Placed
from ovcf_node.infer.masks import masks_on_grid
from ovcf_node.infer.resample import Crop, Field, crop_grid
from ovcf_node.infer.segment import mapped
from ovcf_node.infer.stages import SegmentStage
from ovcf_node.infer.vertebra import VertebraReading

SEGMENT_STAGE = SegmentStage(3.0, LABEL_STAGE.window_hu, -1.0, 8, LABEL_STAGE.labels, 30.0)
_LEVELS = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")


def _mapped(monkeypatch, levels=_LEVELS, coarse=None, blocks=None, **stage):
    blocks = blocks or spine(levels)
    volume = axial_volume(blocks)
    segment = replace(SEGMENT_STAGE, **stage)
    bundle = KnowingBundle(blocks, segment=segment, coarse=coarse and coarse(blocks)).watch(monkeypatch)
    whole = field_for(volume, bundle)
    bundle.fields.append(whole)
    labels = locate(whole, bundle)
    return blocks, labels, mapped(labels, volume, bundle)


def _agreement(blocks, labels, level: str) -> float:
    """Dice of a level's voxels in the map against the block itself."""
    index = next(k for k, b in enumerate(blocks) if b.level == level)
    true = paint(blocks, labels.field.affine, labels.field.hu.shape) == index + 1
    ours = labels.numbers == next(v.instance.number for v in labels.vertebrae if v.label == level)
    return 2 * (true & ours).sum() / (true.sum() + ours.sum())


def test_every_voxel_joins_a_vertebra_that_both_stages_name(monkeypatch):
    blocks, coarse, fine = _mapped(monkeypatch)
    assert fine.field.spacing == 3.0 and [v.label for v in fine.vertebrae] == [v.label for v in coarse.vertebrae]
    for level in _LEVELS[2:]:
        assert _agreement(blocks, fine, level) > 0.97


def test_it_reaches_as_far_around_the_reported_vertebrae_as_the_bundle_says(monkeypatch):
    _, coarse, fine = _mapped(monkeypatch, margin_mm=12.0)
    named = [v.instance.number for v in coarse.vertebrae if v.label in _LEVELS[2:]]
    points = coarse.field.point_of(np.argwhere(np.isin(coarse.numbers, named)))
    first, last = (fine.field.point_of(i) for i in (np.zeros(3), np.array(fine.field.hu.shape) - 1))
    assert np.allclose(first, points.min(axis=0) - 12.0, atol=4.0) and np.allclose(last, points.max(axis=0) + 12.0, atol=4.0)


def test_the_names_rest_on_both_stages():
    """The mean decides between two names; a look that shows less than half of a vertebra is not asked."""
    shape = (6, 6, 12)
    field = Field(np.zeros(shape, np.float32), np.ones(shape, bool), np.zeros(3), 3.0)
    whole, part = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    whole[..., :6], whole[..., 6:] = 1, 2
    part[..., :6], part[:1, :1, 6:] = 1, 2

    def says(first: float, second: float) -> Voxels:
        classes = np.zeros((4, *shape), np.float32)
        classes[0], classes[2], classes[3] = 0.1, first, second
        return Voxels(classes, np.ones(shape, np.float32), np.zeros((3, *shape), np.float32))

    found = [Instance(np.zeros(3), np.zeros(4), 5.8, number, 4.0, 1.0) for number in (1, 2)]
    both, one = described(found, [(says(0.45, 0.45), whole, field), (says(0.72, 0.18), part, field)])
    assert np.allclose(both.classes, [0.0, 0.0, 0.65, 0.35])
    assert np.allclose(one.classes, [0.0, 0.0, 0.5, 0.5])


def test_a_second_look_that_names_otherwise_renames(monkeypatch):
    """A first look that is a level off for one vertebra counts as much as the second."""
    def off(blocks):
        return [replace(b, level="L2") if b.level == "L3" else b for b in blocks]

    _, coarse, fine = _mapped(monkeypatch, coarse=off)
    assert [v.label for v in fine.vertebrae] == ["S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "above"]
    first, mean = (labels.vertebrae[3].instance.classes for labels in (coarse, fine))
    third, second = (LABEL_STAGE.labels.index(level) for level in ("L3", "L2"))
    assert first[second] > 5 * first[third] and np.isclose(mean[second], mean[third], atol=0.01)


def test_two_broken_neighbours_taken_for_one_are_found_apart(monkeypatch):
    """At 6 mm what is left of two bodies runs into one; at 3 mm they are two, and the names above them are right again."""
    levels = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "S2")
    blocks = [replace(b, anterior=9.0, posterior=14.0) if b.level in ("T12", "L1") else b for b in spine(levels)]
    nearer = 16.0 * blocks[3].frame[2]  # what stands above comes down with them
    blocks = [replace(b, centre=b.centre - nearer) if k < 4 else b for k, b in enumerate(blocks)]

    def merged(blocks):
        t12, l1 = blocks[3:5]
        one = replace(l1, centre=(t12.centre + l1.centre) / 2, anterior=24.0, posterior=30.0)
        return [*blocks[:3], one, *blocks[5:]]

    _, coarse, fine = _mapped(monkeypatch, coarse=merged, blocks=blocks)
    named = {v.label: v.centre for v in fine.vertebrae}
    assert len(coarse.vertebrae) == len(levels) - 1
    for block in blocks[2:-1]:
        assert np.linalg.norm(named[block.level] - block.centre) < 3.0


def _column(*heights: float) -> list[Instance]:
    return [Instance(np.array([0.0, 0.0, z]), np.zeros(4), 30.0, k, 20.0, 1.0) for k, z in enumerate(heights, 1)]


@pytest.mark.parametrize(("finer", "coarse", "kept"), [
    ((30, 60, 90, 106, 135), (30, 60, 98, 135), (30, 60, 90, 106, 135)),  # the coarser one took two for one
    ((30, 60, 98, 135), (30, 60, 90, 106, 135), (30, 60, 90, 106, 135)),  # the finer one did
    ((30, 60, 98, 135), (30, 60, 135), (30, 60, 98, 135)),
    ((30, 60, 90), (31, 61, 91, 170), (30, 60, 90, 170)),  # beyond its field the coarser one's
    ((4, 30, 60, 90, 143), (30, 60, 90, 148), (4, 30, 60, 90, 148)),  # it is cut above, and below where the whole is too
    ((30, 60, 90, 120), (30, 60, 90, 122, 139), (30, 60, 90, 120, 139)),
    ((), (30, 60, 90), (30, 60, 90)),
])
def test_the_finer_look_gives_the_places_where_it_sees_no_fewer(finer, coarse, kept):
    field = Field(np.zeros((51, 2, 2), np.float32), np.ones((51, 2, 2), bool), np.zeros(3), 3.0)  # 0 to 150 mm
    whole = Field(np.zeros((36, 2, 2), np.float32), np.ones((36, 2, 2), bool), np.zeros(3), 6.0)  # 0 to 210 mm
    found = found_again(_column(*finer), field, _column(*coarse), whole)
    assert [i.centre[2] for i in found] == list(kept) and [i.number for i in found] == list(range(1, len(kept) + 1))


def test_a_spine_that_the_second_look_doubts_is_not_taken_back(monkeypatch):
    blocks = spine(_LEVELS)
    with monkeypatch.context() as context:
        bundle = KnowingBundle(blocks, segment=SEGMENT_STAGE).watch(context)
        context.setattr(segment, "mapped", lambda labels, *_: replace(labels, vertebrae=()))
        reading = read(axial_volume(blocks, spacing=(2.0, 1.5, 1.5)), bundle)
    assert reading.status == "assessed" and len(reading.vertebrae) == 7


def test_beyond_the_finer_field_the_first_look_stands(monkeypatch):
    """Whole vertebrae only: T10 and T9 lie outside the finer field, T11 half in it; their places are the first look's."""
    levels = ("T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")
    _, coarse, fine = _mapped(monkeypatch, levels, margin_mm=18.0)
    assert [v.label for v in fine.vertebrae] == [v.label for v in coarse.vertebrae]
    assert fine.field.origin[2] + 3.0 * len(fine.field.hu) < coarse.vertebrae[-2].centre[2]
    assert all((a.centre == b.centre).all() for a, b in zip(fine.vertebrae[7:], coarse.vertebrae[7:], strict=True))
    assert len({v.instance.number for v in fine.vertebrae}) == len(levels)


def test_a_reading_says_how_long_it_took_and_keeps_its_names(monkeypatch):
    blocks = spine(_LEVELS)
    volume = axial_volume(blocks, spacing=(2.0, 1.5, 1.5))
    with monkeypatch.context() as context:
        plain = read(volume, KnowingBundle(blocks).watch(context))
    reading = read(volume, KnowingBundle(blocks, segment=SEGMENT_STAGE).watch(monkeypatch))
    assert "segment" in reading.timings_s and "segment" not in plain.timings_s
    assert [v.level for v in reading.vertebrae] == [v.level for v in plain.vertebrae]
    assert reading.masks is not None


def _masks(crop_says: float, map_says: float, *, mapped_at_all: bool = True, tip: bool = False) -> int:
    """Voxels of the mask of one vertebra that crop and map see with these probabilities, everywhere within 15 mm.

    `tip`: the map sees 0.5 cm3 of it 66 mm behind its middle too, where no crop reaches.
    """
    shape, origin = (20, 50, 20), np.full(3, -30.0)
    field = Field(np.zeros(shape, np.float32), np.ones(shape, bool), origin, 3.0)
    inside = np.linalg.norm(field.point_of(np.moveaxis(np.indices(shape), 0, -1)), axis=-1) < 15.0
    if tip:
        inside[9:12, 32:34, 9:12] = True
    instance = Instance(np.zeros(3), np.zeros(11), 21.6, 1, 30.0, 1.0)
    labels = Labels(
        (Placed("L3", instance, np.eye(3)),), False, "", field, (inside & mapped_at_all).astype(np.uint8),
        Voxels(1.0 - np.where(inside, map_says, 0.0).astype(np.float32)[None], field.hu, field.hu), segmented=True,
    )
    grid = crop_grid(np.zeros(3), np.eye(3), (1.0, 1.25, 3.0), (56, 72, 32), (27.5, 24.0, 15.5))
    points = grid.point_of(np.moveaxis(np.indices(grid.shape), 0, -1))
    seen = np.where(np.linalg.norm(points, axis=-1) < 15.0, crop_says, 0.0).astype(np.float32)
    crop = Crop(grid, np.zeros(grid.shape, np.float32), np.ones(grid.shape, bool))
    reading = VertebraReading("L3", np.zeros(3), np.eye(3), crop, seen, seen, seen * 0, np.zeros((1, 10)))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]
    affine[:3, 3] = -30.0
    sources = tuple(FrameSource(f"1.2.{k}") for k in range(30))
    volume = Volume(np.zeros((30, 75, 30), np.int16), affine, sources, "axial", "1.2")
    masks = masks_on_grid(volume, labels, [reading], frozenset())
    return 0 if masks is None else int((masks.vertebrae > 0).sum())


def test_a_mask_takes_what_crop_and_map_together_say():
    assert _masks(0.9, 0.9) > 1000
    assert _masks(0.45, 0.9) > 1000 and _masks(0.6, 0.1) == 0  # either may outvote the other
    assert _masks(0.6, 0.0, mapped_at_all=False) > 1000  # a vertebra that the map does not know is the crop's alone


def test_the_tip_of_a_process_beyond_the_crop_is_the_maps():
    assert 40 <= _masks(0.9, 0.9, tip=True) - _masks(0.9, 0.9) <= 90  # 0.49 cm3 are 61 of its 2 mm voxels
