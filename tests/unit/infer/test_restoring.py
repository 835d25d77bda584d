"""The restoring stage: what is blanked and compared; it explains, and decides only where its bundle lets it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from synthetic_spine import VERTEBRA_STAGE, KnowingBundle, axial_volume, spine

from ovcf_node.domain.findings import Heights
from ovcf_node.domain.levels import GRADED
from ovcf_node.infer import read
from ovcf_node.infer.resample import Crop, crop_grid
from ovcf_node.infer.restore import MARGIN_MM, compared, context_grid, region_of
from ovcf_node.infer.stages import HeightWeight, RestoredWeight, RestoreStage

WINDOW = (-300.0, 1300.0)
GRID = crop_grid(
    np.array([10.0, -20.0, 300.0]), np.eye(3), VERTEBRA_STAGE.spacing_mm, VERTEBRA_STAGE.shape, VERTEBRA_STAGE.origin_index
)


def box(low: float, high: float) -> np.ndarray:
    """A body between two heights (mm from the middle of the crop), 30 mm deep and 42 mm wide."""
    w = np.arange(56) - 27.5
    body = np.zeros((56, 72, 32))
    body[(w > low) & (w < high), 12:36, 9:23] = 1.0
    return body


def test_the_blanked_region_knows_the_expected_height_and_not_the_seen_one():
    expected = Heights(26.0, 25.0, 26.0)
    whole, crushed = (region_of(box(-h / 2, h / 2), expected, GRID.spacing) for h in (26.0, 14.0))
    assert np.array_equal(whole, crushed)
    rows = np.flatnonzero(whole.any(axis=(1, 2)))
    assert len(rows) == pytest.approx(26.0 + 2 * MARGIN_MM[0], abs=1.1)
    assert (whole & (box(-13, 13) > 0)).sum() == (box(-13, 13) > 0).sum()
    across = np.flatnonzero(whole.any(axis=(0, 1)))
    assert (across[0], across[-1]) == (8, 23)  # one voxel of 3 mm aside


def test_a_wedge_that_is_expected_gets_a_wedge_and_the_centre_follows_the_body():
    sloped = region_of(box(-8, 6), Heights(20.0, 24.0, 30.0), GRID.spacing)
    front, back = sloped[:, 12, 16].sum(), sloped[:, 35, 16].sum()
    assert back - front == pytest.approx(10, abs=2.1)
    level = np.flatnonzero(sloped[:, 24, 16]).mean() - 27.5
    assert level == pytest.approx(-1.0, abs=0.6)
    moved = region_of(box(-8, 6), Heights(20.0, 24.0, 30.0), GRID.spacing, off_centre_mm=2.0)
    assert np.flatnonzero(moved[:, 24, 16]).mean() - 27.5 == pytest.approx(level + 2.0, abs=0.6)


def test_the_context_is_the_same_place_at_twice_the_spacing():
    wide = context_grid(GRID)
    assert wide.shape == (56, 36, 16) and np.allclose(wide.spacing, 2 * GRID.spacing)
    # The crop's first eight voxels share the middle of one voxel of the context, 14 rows up.
    assert np.allclose(wide.point_of(np.array([14, 0, 0])), GRID.point_of(np.array([0.5, 0.5, 0.5])))
    assert np.allclose(wide.point_of(np.array([27.5, 17.5, 7.5])), GRID.point_of(np.array([27.5, 35.5, 15.5])))


def test_loss_and_damage_of_a_crushed_body():
    whole, seen = box(-13, 13), box(-13, 5)
    hu = np.where(seen > 0, 200.0, 40.0).astype(np.float32)
    rng = np.random.default_rng(0)
    noisy = Crop(GRID, hu + rng.normal(0, 40, hu.shape).astype(np.float32), np.ones(hu.shape, bool))
    painted = (np.where(whole > 0, 200.0, 40.0) - WINDOW[0]) * (2 / (WINDOW[1] - WINDOW[0])) - 1
    logits = ndimage.gaussian_filter(np.where(whole > 0, 8.0, -8.0), [0.7, 0, 0])
    made = compared(noisy, Heights(18.0, 18.0, 18.0), painted, logits, WINDOW)
    assert made.heights.middle == pytest.approx(26.0, abs=0.3)
    assert made.loss == pytest.approx(8 / 26, abs=0.02)
    assert np.allclose(made.hu, np.where(whole > 0, 200.0, 40.0), atol=0.01)
    missing, kept = (whole > 0) & (box(-13, 8) == 0), box(-10, 2) > 0
    assert made.damage[missing].mean() > 120 > 30 > made.damage[kept].mean()
    assert not made.damage[whole == 0].any()
    same = compared(noisy, Heights(26.0, 26.0, 26.0), painted, logits, WINDOW)
    assert same.loss == pytest.approx(0.0, abs=0.01)
    nothing = compared(noisy, Heights(18.0, 18.0, 18.0), painted, np.full_like(logits, -9.0), WINDOW)
    assert nothing.loss is None and nothing.score is None


class RestoringBundle(KnowingBundle):
    """Paints as body what the region holds without its margin: what the neighbours let expect."""

    calls = 0

    def run(self, stage: str, tensors: dict) -> dict:
        if stage != "restore":
            return super().run(stage, tensors)
        type(self).calls += 1
        region, = tensors["region"]
        inner = ndimage.binary_erosion(region > 0, structure=np.ones((1, 11, 1, 1)))
        inner = ndimage.binary_erosion(inner, structure=np.ones((1, 1, 5, 3)))
        return {"restored": tensors["crop"], "body": np.where(inner, 9.0, -9.0)[None].astype(np.float32)}


@pytest.fixture(scope="module")
def readings():
    """The same volume, a wedge at L1, read without and with the stage."""
    blocks = spine(("T10", "T11", *GRADED, "S1", "S2"), losses={"L1": 0.35})
    blocks = [replace(b, evidence="S", type="B") if b.level == "L1" else b for b in blocks]
    volume = axial_volume(blocks)
    with pytest.MonkeyPatch.context() as patch:
        plain = read(volume, KnowingBundle(blocks).watch(patch))
    with pytest.MonkeyPatch.context() as patch:
        restored = read(volume, RestoringBundle(blocks, restore=RestoreStage(WINDOW)).watch(patch))
    return plain, restored


def test_the_stage_explains_every_graded_vertebra(readings):
    _, reading = readings
    found = {v.level: v for v in reading.vertebrae}
    for level in GRADED:
        assert found[level].restored_loss == pytest.approx(found[level].height_loss, abs=0.09), level
    assert found["L1"].restored_loss > 0.2
    assert found["S1"].restored_loss is None and found["S1"].damage_hu is None
    assert all(found[level].damage_hu is not None for level in GRADED)
    assert "restore" in reading.timings_s and RestoringBundle.calls == len(GRADED)


def test_it_moves_the_probability_only_where_the_bundle_gives_it_weight(monkeypatch):
    blocks = spine(("T10", "T11", *GRADED, "S1", "S2"), losses={"L1": 0.35})
    volume, said = axial_volume(blocks), []
    for weight in (None, RestoredWeight(1.0, 0.0, 8.0, 0.0, 0.0)):
        stage = replace(VERTEBRA_STAGE, height=HeightWeight(1.0, 0.0, 0.0, 1.0, 0.0), restored=weight)
        bundle = RestoringBundle(blocks, vertebra=stage, restore=RestoreStage(WINDOW)).watch(monkeypatch)
        said.append({v.level: v.probability for v in read(volume, bundle).vertebrae})
    assert said[1]["L1"] > said[0]["L1"] + 0.1
    assert said[1]["L3"] == pytest.approx(said[0]["L3"], abs=0.02), "nothing is lost there"


def test_it_decides_nothing_and_a_bundle_without_it_reads_as_ever(readings):
    plain, reading = readings
    assert "restore" not in plain.timings_s
    for without, with_it in zip(plain.vertebrae, reading.vertebrae, strict=True):
        assert without.restored_loss is None and without.damage_hu is None
        assert replace(with_it, restored_loss=None, damage_hu=None) == without
    assert np.array_equal(plain.masks.vertebrae, reading.masks.vertebrae)
    assert np.array_equal(plain.masks.fractures, reading.masks.fractures)
