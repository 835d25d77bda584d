"""The front door on analytic spines: masks on the source grid, statuses, what stays unknown, same answer twice."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from synthetic_spine import VERTEBRA_STAGE, KnowingBundle, axial_volume, paint, spine, volume_on

from ovcf_node.domain.levels import GRADED, REPORTED, mask_value
from ovcf_node.domain.volume import Masks, Volume
from ovcf_node.infer import looks_like_spine, read
from ovcf_node.infer.stages import STATISTICS, HeightWeight, Usual

_FULL = ("T10", "T11", *REPORTED, "S2")


def _fractured(level="L1", loss=0.35):
    blocks = spine(_FULL, losses={level: loss})
    return [type(b)(**{**vars(b), "evidence": "S", "type": "B"}) if b.level == level else b for b in blocks]


def _full_masks(masks: Masks) -> tuple[np.ndarray, np.ndarray]:
    box = tuple(slice(a, a + n) for a, n in zip(masks.origin, masks.vertebrae.shape, strict=True))
    out = np.zeros((2, *masks.shape), np.uint8)
    out[0][box], out[1][box] = masks.vertebrae, masks.fractures
    return out[0], out[1]


def _check_dice(masks, volume, blocks, levels):
    vertebrae, _ = _full_masks(masks)
    painted = paint(blocks, volume.affine, volume.hu.shape)
    for number, block in enumerate(blocks, start=1):
        if block.level in levels:
            truth, mask = painted == number, vertebrae == mask_value(block.level)
            assert 2 * (truth & mask).sum() / (truth.sum() + mask.sum()) > 0.95, block.level


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_one_wedge_among_seven(monkeypatch, shear):
    blocks = _fractured()
    volume = axial_volume(blocks, shear=shear)
    steps = []
    reading = read(volume, KnowingBundle(blocks).watch(monkeypatch), progress=lambda *step: steps.append(step))
    assert reading.status == "assessed" and reading.reasons == () and reading.spine == 7
    assert [v.level for v in reading.vertebrae] == list(REPORTED)
    assert all(v.complete for v in reading.vertebrae)
    found = {v.level: v for v in reading.vertebrae}
    assert [v.level for v in reading.vertebrae if v.fracture] == ["L1"]
    fracture = found["L1"]
    assert (fracture.denis, fracture.age, fracture.abstain) == ("B", "recent_features", None)
    assert fracture.genant.grade == 2 and fracture.height_loss == pytest.approx(0.35 * 0.9, abs=0.04)
    assert "L1" not in fracture.expected_from and "L2" in fracture.expected_from
    assert reading.ovcf is True and reading.probability == fracture.probability
    assert not any(v.notes for v in reading.vertebrae)
    assert found["S1"].fracture is None and found["S1"].genant is None and found["S1"].heights_mm.middle is None
    assert all(v.genant.grade == 0 for v in reading.vertebrae if v.level not in ("L1", "S1"))
    for block in blocks[2:-1]:
        assert np.linalg.norm(np.array(found[block.level].centroid_mm) - block.centre) < 1.5
    _check_dice(reading.masks, volume, blocks, REPORTED)
    assert set(np.unique(reading.masks.fractures)) == {0, mask_value("L1")}
    assert steps[-1] == ("masks", 1.0) and [f for _, f in steps] == sorted(f for _, f in steps)
    assert set(reading.timings_s) == {"resample", "label", "numbering", "vertebra", "measure", "masks"}


def test_masks_on_a_sagittal_oblique_grid_keep_their_shape(monkeypatch):
    blocks = _fractured()
    c, s = np.cos(0.2), np.sin(0.2)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[2.0, 0, 0], [0, 0, 0.9], [0, -0.9, 0]])
    shape = (56, 360, 180)
    middle = np.mean([b.centre for b in blocks], axis=0) + [0, 15, 0]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    volume = volume_on(blocks, affine, shape, "sagittal")
    reading = read(volume, KnowingBundle(blocks).watch(monkeypatch))
    assert reading.status == "assessed"
    _check_dice(reading.masks, volume, blocks, REPORTED)


def test_withheld_grading_leaves_everything_about_fractures_unknown(monkeypatch):
    blocks = _fractured()
    reading = read(axial_volume(blocks, spacing=(4.0, 1.2, 1.2)), KnowingBundle(blocks).watch(monkeypatch),
                   withhold_grading=True)
    assert reading.status == "limited" and reading.ovcf is None and reading.probability is None
    assert len(reading.vertebrae) == 7 and reading.masks is not None and not reading.masks.fractures.any()
    for v in reading.vertebrae:
        unknown = (v.fracture, v.probability, v.denis, v.age, v.old_deformity, v.genant, v.height_loss, v.heights_mm.middle,
                   v.evidence.superior, v.expected_from, v.height_lines_mm.middle)
        assert unknown == (None,) * len(unknown)
        assert v.centroid_mm is not None and v.mean_hu is not None


def test_a_cut_field_grades_what_is_complete(monkeypatch):
    blocks = _fractured()
    whole = axial_volume(blocks)
    l4 = blocks[6].centre[2]
    first = int((l4 - whole.affine[2, 3]) / 1.2)
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, 0] * first
    volume = Volume(whole.hu[first:], affine, whole.sources[first:], "axial", "1.2")
    reading = read(volume, KnowingBundle(blocks).watch(monkeypatch))
    assert reading.status == "limited" and [r.code for r in reading.reasons] == ["incomplete_coverage"]
    found = {v.level: v for v in reading.vertebrae}
    assert found["L1"].fracture is True and found["L3"].complete
    assert found["L4"].complete is False and found["L4"].fracture is None and found["L4"].heights_mm.middle is None
    assert [n.code for n in found["L4"].notes] == ["incomplete_body"] and found["L3"].notes == ()


def test_no_fracture_in_the_patient_needs_all_six_levels(monkeypatch):
    def said(levels):
        blocks = spine(levels)
        with monkeypatch.context() as context:
            return read(axial_volume(blocks, spacing=(2.0, 1.5, 1.5)), KnowingBundle(blocks).watch(context))

    whole = said(_FULL)
    assert whole.ovcf is False and [v.fracture for v in whole.vertebrae] == [False] * 6 + [None]
    part = said(_FULL[4:])  # L2 and what is below
    assert all(v.fracture is False for v in part.vertebrae if v.level in ("L2", "L3", "L4", "L5"))
    assert part.ovcf is None and part.probability is not None and part.status == "limited"


def test_a_grade_against_norms_alone_knows_their_spread(monkeypatch):
    blocks = [type(b)(**{**vars(b), "old": True}) for b in spine(_FULL, losses=dict.fromkeys(REPORTED, 0.23))]
    reading = read(axial_volume(blocks, spacing=(2.0, 1.5, 1.5)), KnowingBundle(blocks).watch(monkeypatch))
    graded = [v for v in reading.vertebrae if v.genant]
    assert {v.expected_from for v in graded} == {"level norms"}
    away = {v.level: min(abs(v.height_loss - t) for t in (0.2, 0.25, 0.4)) for v in graded}
    assert any(0.03 <= away[v.level] < 0.07 for v in graded), away
    assert all(v.genant.near_boundary == (away[v.level] < 0.07) for v in graded)


def _blind_to(bundle, levels):
    """Let the crops of `levels` show no body, as metal or a collapse may."""
    answer = bundle._crop

    def crop(grid):
        origin = grid.point_of(np.array(bundle.vertebra.origin_index))
        block = min(bundle.blocks, key=lambda b: np.linalg.norm(b.centre - origin))
        found = answer(grid)
        return found | {"body": np.full_like(found["body"], -5.0)} if block.level in levels else found

    bundle._crop = crop
    return bundle


def test_a_named_vertebra_without_a_measurable_body_stays_in_the_findings(monkeypatch):
    blocks = spine(_FULL)
    bundle = _blind_to(KnowingBundle(blocks).watch(monkeypatch), ("L2",))
    reading = read(axial_volume(blocks, spacing=(2.0, 1.5, 1.5)), bundle)
    assert [v.level for v in reading.vertebrae] == list(REPORTED) and reading.spine == 7
    lost = reading.vertebrae[2]
    assert (lost.complete, lost.fracture, lost.probability, lost.mean_hu) == (None, None, None, None)
    assert [n.code for n in lost.notes] == ["not_measurable"]
    assert np.linalg.norm(np.array(lost.centroid_mm) - blocks[4].centre) < 3.0
    assert reading.status == "limited" and "L2" in reading.reasons[0].text and reading.ovcf is None


def test_a_spine_no_crop_confirms_is_not_assessed_rather_than_excluded(monkeypatch):
    blocks = spine(_FULL)
    bundle = _blind_to(KnowingBundle(blocks).watch(monkeypatch), _FULL)
    reading = read(axial_volume(blocks, spacing=(3.0, 2.0, 2.0)), bundle)
    assert reading.status == "not_assessed" and [r.code for r in reading.reasons] == ["too_little_spine"]
    assert "0 of at least 3" in reading.reasons[0].text and reading.ovcf is None and reading.masks is None


def test_scraps_that_only_resemble_vertebrae_stay_no_spine(monkeypatch):
    scraps = [type(b)(b.level, b.centre, b.frame, 12.0, 12.0, 9.0, 9.0) for b in spine(("L1", "L2", "L3", "L4"))]
    bundle = KnowingBundle(scraps).watch(monkeypatch)
    reading = read(axial_volume(scraps, spacing=(3.0, 2.0, 2.0)), bundle)
    assert reading.status == "excluded" and [r.code for r in reading.reasons] == ["no_spine"]


def test_too_little_spine_is_not_assessed_and_no_spine_is_excluded(monkeypatch):
    blocks = spine(("T11", "T12", "L1"))
    volume = axial_volume(blocks)
    reading = read(volume, KnowingBundle(blocks).watch(monkeypatch))
    assert reading.status == "not_assessed" and [r.code for r in reading.reasons] == ["too_little_spine"]
    assert reading.masks is None and reading.ovcf is None and reading.spine == 2
    assert all(v.fracture is None for v in reading.vertebrae)
    with monkeypatch.context() as context:
        nothing = read(volume, KnowingBundle([]).watch(context))
    assert (nothing.status, nothing.spine, nothing.reasons[0].code) == ("excluded", 0, "no_spine")


def test_metal_takes_a_vertebra_out_and_much_of_it_the_series(monkeypatch):
    blocks = _fractured()
    volume = axial_volume(blocks)

    def with_screws(levels):
        hu = volume.hu.copy()
        for block in blocks:
            if block.level in levels:
                at = np.linalg.inv(volume.affine) @ [*block.centre, 1]
                z, y, x = (round(n) for n in at[:3])
                hu[z - 3 : z + 4, y - 10 : y + 11, x + 8 : x + 14] = 3071
        return Volume(hu, volume.affine, volume.sources, "axial", "1.2")

    bundle = KnowingBundle(blocks).watch(monkeypatch)
    reading = read(with_screws(("L1", "L3")), bundle)
    assert reading.status == "limited" and [r.code for r in reading.reasons] == ["metal_present"]
    found = {v.level: v for v in reading.vertebrae}
    for level in ("L1", "L3"):
        assert found[level].fracture is None and found[level].abstain.code == "metal"
        assert found[level].mean_hu is None and found[level].notes == ()
    assert found["L2"].fracture is False and found["L2"].mean_hu is not None
    assert reading.ovcf is None, "two levels were not graded"
    hidden = read(with_screws(("T12", "L1", "L2", "L3")), bundle)
    assert hidden.status == "not_assessed" and [r.code for r in hidden.reasons] == ["metal"]


def _with_cement(volume, blocks, level, half=(6.0, 6.0, 6.0)):
    """The volume with cement (1900 HU) in the middle of a body: half sizes along u, v, w in mm."""
    block = next(b for b in blocks if b.level == level)
    points = np.moveaxis(np.indices(volume.hu.shape), 0, -1) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    inside = (np.abs((points - block.centre) @ block.frame.T) < half).all(axis=-1)
    return replace(volume, hu=np.where(inside, 1900, volume.hu).astype(np.int16))


def _shows_cement(crop):
    return bool(crop[:, :, 22:34, 18:30, 12:20].max() > 0.9)  # in the middle: not the neighbours'


def test_a_whole_vertebra_with_cement_is_cleared_with_a_note_and_shown_without_the_cement(monkeypatch):
    blocks = spine(_FULL)
    bundle, shown = KnowingBundle(blocks).watch(monkeypatch), []
    answer = bundle.run
    bundle.run = lambda stage, tensors: shown.append(tensors.get("crop")) or answer(stage, tensors)
    reading = read(_with_cement(axial_volume(blocks), blocks, "L2"), bundle)
    assert reading.status == "limited" and [r.code for r in reading.reasons] == ["metal_present"]
    assert reading.ovcf is False and "L2" in reading.reasons[0].text
    found = {v.level: v for v in reading.vertebrae}
    assert found["L2"].fracture is False and [n.code for n in found["L2"].notes] == ["cement"]
    assert found["L2"].mean_hu is None and found["L2"].heights_mm.middle is not None
    assert found["L2"].old_deformity is None, "what was treated was broken once"
    assert "L2" not in found["L1"].expected_from and "L3" in found["L1"].expected_from
    assert all(v.notes == () for v in reading.vertebrae if v.level != "L2")
    looks = [crop for crop in shown if crop is not None]
    first, = (k for k, crop in enumerate(looks) if _shows_cement(crop))  # no look after the first shows the cement
    assert (looks[first] == looks[first + 1]).mean() > 0.9, "the next one is the same crop, but for the cement"


@pytest.mark.parametrize(("level", "half", "code"), [
    ("L1", (6.0, 6.0, 6.0), "cement"),  # it is broken
    ("L3", (20.0, 16.0, 13.0), "metal"),  # it is whole, and hidden
])
def test_beside_cement_no_fracture_is_called_and_what_it_hides_is_not_cleared(monkeypatch, level, half, code):
    blocks = _fractured()
    reading = read(_with_cement(axial_volume(blocks), blocks, level, half), KnowingBundle(blocks).watch(monkeypatch))
    found = {v.level: v for v in reading.vertebrae}
    assert found[level].fracture is None and found[level].abstain.code == code and found[level].probability is None
    assert found[level].evidence == type(found[level].evidence)() and found[level].restored_loss is None
    assert (found[level].heights_mm.middle is None) is (code == "metal"), "no height of a mask nobody can check"
    assert level in reading.reasons[0].text and reading.ovcf is (None if level == "L1" else True)


def test_cement_of_levels_that_are_not_graded_is_seen_too(monkeypatch):
    blocks = spine(_FULL)
    volume = _with_cement(_with_cement(axial_volume(blocks), blocks, "S1"), blocks, "T11")
    reading = read(volume, KnowingBundle(blocks).watch(monkeypatch))
    found = {v.level: v for v in reading.vertebrae}
    assert [r.code for r in reading.reasons] == ["metal_present"] and "S1" in reading.reasons[0].text
    assert found["S1"].mean_hu is None and found["T12"].mean_hu is not None
    assert "T11" not in found["T12"].expected_from and reading.ovcf is False


def test_a_body_that_vanishes_with_its_cement_is_not_graded(monkeypatch):
    blocks = spine(_FULL)
    bundle = KnowingBundle(blocks).watch(monkeypatch)
    answer, bright = bundle.run, []

    def run(stage, tensors):
        out = answer(stage, tensors)
        if stage == "vertebra":
            if bright[-1:] == [True]:  # after the one look with the cement comes the one without it
                out["body"] = np.full_like(out["body"], -5.0)
            bright.append(_shows_cement(tensors["crop"]))
        return out

    bundle.run = run
    reading = read(_with_cement(axial_volume(blocks), blocks, "L2"), bundle)
    found = {v.level: v for v in reading.vertebrae}
    assert found["L2"].abstain.code == "metal" and found["L2"].complete and "L2" in reading.reasons[0].text


@pytest.mark.parametrize(("limit", "graded"), [(1e-3, False), (1e3, True)])
def test_what_is_unlike_the_calibration_is_not_graded(monkeypatch, limit, graded):
    blocks = _fractured()
    count = len(STATISTICS)
    usual = Usual((0.0,) * count, tuple(np.eye(count).ravel()), limit)
    bundle = KnowingBundle(blocks, vertebra=replace(VERTEBRA_STAGE, usual=usual)).watch(monkeypatch)
    reading = read(axial_volume(blocks, spacing=(2.0, 1.5, 1.5)), bundle)
    said = {v.level: v.abstain.code if v.abstain else v.fracture for v in reading.vertebrae if v.level in GRADED}
    assert (True in said.values()) == graded and (set(said.values()) == {"unusual"}) == (not graded)
    assert reading.ovcf is (True if graded else None)
    assert all(v.heights_mm.middle for v in reading.vertebrae if v.level in GRADED), "what was measured stays"


def test_a_bundle_without_vertebra_stage_names_levels_only(monkeypatch):
    blocks = _fractured()
    bundle = KnowingBundle(blocks, vertebra=None).watch(monkeypatch)
    reading = read(axial_volume(blocks, spacing=(2.0, 2.0, 2.0)), bundle)
    assert reading.status == "limited" and reading.reasons[0].code == "grading_absent"
    assert [v.level for v in reading.vertebrae] == list(REPORTED) and reading.ovcf is None
    assert all(v.fracture is None and v.volume_cm3 is None and v.centroid_mm for v in reading.vertebrae)
    assert all(v.complete is None for v in reading.vertebrae)


def test_the_same_volume_gives_the_same_reading(monkeypatch):
    blocks = _fractured()
    volume = axial_volume(blocks, spacing=(2.0, 1.5, 1.5))
    bundle = KnowingBundle(blocks).watch(monkeypatch)
    first, second = read(volume, bundle), read(volume, bundle)
    assert first.vertebrae == second.vertebrae
    assert np.array_equal(first.masks.vertebrae, second.masks.vertebrae)
    assert np.array_equal(first.masks.fractures, second.masks.fractures)


def test_looks_like_spine_counts_reported_levels(monkeypatch):
    blocks = spine(("T10", "T11", "T12", "L1"))
    bundle = KnowingBundle(blocks).watch(monkeypatch)
    assert looks_like_spine(axial_volume(blocks, spacing=(3.0, 2.0, 2.0)), bundle) == 2


def test_wings_beyond_the_crop_follow_the_coarse_map(monkeypatch):
    blocks = [replace(b, half_width=58.0) if b.level == "S1" else b for b in spine(_FULL)]
    narrow = axial_volume(blocks)
    wide = narrow.affine.copy()
    wide[:3, 3] -= 30 * wide[:3, 2]
    volume = volume_on(blocks, wide, (*narrow.hu.shape[:2], narrow.hu.shape[2] + 60))
    reading = read(volume, KnowingBundle(blocks).watch(monkeypatch))
    vertebrae, _ = _full_masks(reading.masks)
    truth = paint(blocks, volume.affine, volume.hu.shape) == 1 + [b.level for b in blocks].index("S1")
    mine = vertebrae == mask_value("S1")
    columns = np.argwhere(mine)[:, 2]
    across = (columns.max() - columns.min()) * np.linalg.norm(volume.affine[:3, 2])
    assert across > 2 * 48.0, "a crop alone ends 48 mm to each side"
    assert 2 * (truth & mine).sum() / (truth.sum() + mine.sum()) > 0.9
    assert ndimage.label(mine)[1] == 1, "no slit between a crop and what goes on beyond it"
    _check_dice(reading.masks, volume, blocks, GRADED)


def test_height_loss_against_the_neighbours_moves_the_probability_where_the_bundle_says_so(monkeypatch):
    blocks = spine(_FULL, losses={"L1": 0.3})
    volume = axial_volume(blocks)
    alone = read(volume, KnowingBundle(blocks).watch(monkeypatch))
    weight = HeightWeight(1.0, 4.0, 4.0, 1.0, 0.0)
    both = read(volume, KnowingBundle(blocks, vertebra=replace(VERTEBRA_STAGE, height=weight)).watch(monkeypatch))
    before = {v.level: v.probability for v in alone.vertebrae}
    after = {v.level: v.probability for v in both.vertebrae}
    assert before["L1"] < 0.2 and after["L1"] > 0.6
    assert all(after[level] < 0.3 for level in GRADED if level != "L1")
