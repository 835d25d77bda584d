"""Painted damage: bone and truth move together, a crop that does not show its plan is dropped, the format is the pool's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import adversarial  # noqa: E402
import cases  # noqa: E402
import damager  # noqa: E402
import painted  # noqa: E402
import pool  # noqa: E402
import train_damage  # noqa: E402
from networks import CROP_SHAPE  # noqa: E402
from tiny_samples import crop_file  # noqa: E402

SUPERIOR = torch.tensor([1, 0, 0, 0, 0.3, 0.3, 0.3, 0, 0])
BOTH = torch.tensor([1, 1, 0, 0, 0.3, 0.3, 0.3, 0, 0])
BODY = (slice(14, 42), slice(10, 38), slice(6, 26))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def whole_vertebra():
    """HU and mask bits of a block of bone with an arch behind it."""
    hu, masks = np.full(CROP_SHAPE, 40, np.int16), np.zeros(CROP_SHAPE, np.uint8)
    masks[BODY] = 3
    masks[20:34, 44:60, 12:20] = 1
    hu[masks > 0] = 300
    return hu, masks


class Pressed(torch.nn.Module):
    """Presses the upper plate down by ``share`` of the height that is 28 mm, by ``stray`` without a plan: a known answer."""

    def __init__(self, share: float, stray: float = 0.0):
        super().__init__()
        self.share, self.stray = share, stray

    def forward(self, crop, body, whole, plan):
        flow = torch.zeros(1, 2, *crop.shape[2:])
        flow[:, 0, 28:46] = 28 * (self.share if plan.any() else self.stray)
        picture, moved, all_ = damager.carried(torch.cat([crop, body, whole], 1), flow).split(1, 1)
        fracture = torch.where((moved > 0.5) & (torch.arange(56)[:, None, None] > 28), 4.0, -4.0)
        return damager.Damaged(picture + 0.1 * (moved > 0.5), moved, all_, fracture, flow)


def test_a_body_at_the_end_of_field_or_crop_is_not_painted():
    hu, masks = whole_vertebra()
    assert not painted.cut(hu, masks)
    ends = hu.copy()
    ends[42:] = -1024  # the field ends with the upper plate
    assert painted.cut(ends, masks)
    assert painted.cut(np.roll(hu, 14, 0), np.roll(masks, 14, 0))


def test_nothing_flows_where_nothing_is_said():
    volume = torch.rand(2, 3, 10, 12, 8)
    assert torch.allclose(damager.carried(volume, torch.zeros(2, 2, 10, 12, 8)), volume, atol=1e-5)
    down = torch.zeros(2, 2, 10, 12, 8)
    down[:, 0] = 1
    assert torch.allclose(damager.carried(volume, down)[:, :, :-1], volume[:, :, 1:], atol=1e-4)


def test_damage_stays_near_the_body():
    body = torch.zeros(1, 1, 56, damager.FRONT, 32)
    body[0, 0][BODY] = 1
    near = damager.reach(body)
    assert float(near[body > 0].min()) == 1 and float(near[..., :2].max()) == 0 and float(near[:, :, -1].max()) < 1
    net = damager.DamageNet()
    crop = torch.rand_like(body)
    with torch.no_grad():
        out = net(crop, body, body, SUPERIOR[None])
    beyond = near == 0
    assert torch.allclose(out.picture[beyond], crop[beyond], atol=1e-5)
    assert out.body.shape == out.fracture.shape == crop.shape and float(out.flow.abs().max()) < damager.FURTHEST_MM


def test_a_pressed_plate_loses_what_it_was_pressed_by_and_takes_its_masks_along():
    hu, masks = whole_vertebra()
    row = painted.painted(Pressed(0.3), hu, masks, SUPERIOR)
    assert row["loss"] == pytest.approx(0.3, abs=0.05) and row["type"] == 2 and list(row["evidence"]) == [1, 0, 0, 0]
    body = (row["masks"] & 2) > 0
    assert body.sum() == pytest.approx(0.7 * ((masks & 2) > 0).sum(), rel=0.06)
    assert row["hu"][body].mean() > 330 and (row["masks"][body] & 1).all() and ((row["masks"] & 4) > 0)[~body].sum() == 0
    back = (slice(None), slice(damager.FRONT, None))
    assert np.array_equal(row["masks"][back], masks[back]) and np.array_equal(row["hu"][back], hu[back])


@pytest.mark.parametrize(("share", "plan"), [(0.0, SUPERIOR), (0.15, SUPERIOR), (0.3, BOTH)])
def test_what_does_not_show_its_plan_is_dropped(share, plan):
    assert painted.painted(Pressed(share), *whole_vertebra(), plan) is None


def test_plans_drawn_are_of_plates_and_severe_enough_without_a_sign_of_a_break():
    walls = torch.tensor([[1, 0, 1, 0, 0.4, 0.1, 0, 0, 0], [0, 0, 1, 0, 0.4, 0.1, 0, 0, 0], [1, 0, 0, 1, 0.4, 0.1, 0, 0, 0]])
    mild = SUPERIOR * torch.tensor([1, 1, 1, 1, 0.4, 0.4, 0.2, 1, 1])
    for k in range(8):
        plan = painted.drawn(torch.cat([walls, mild[None]]), np.random.default_rng(k))
        assert plan[:4].tolist() == [1, 0, 0, 0] and 0.3 <= float(plan[4:7].max()) <= 0.5
        assert float(plan[6]) == pytest.approx(float(plan[4]) / 2, rel=1e-4)


def test_metal_and_air_beyond_the_window_stay():
    hu, masks = whole_vertebra()
    hu[:, :3], hu[2:6, 16:18, 28:30] = -1024, 3000
    row = painted.painted(Pressed(0.3), hu, masks, SUPERIOR)
    assert (row["hu"][:, :3] == -1024).all() and row["hu"].max() > 2500


def test_an_empty_plan_leaves_the_truth_but_not_the_picture():
    hu, masks = whole_vertebra()
    row = painted.untouched(Pressed(0.3), hu, masks, 0.02, np.random.default_rng(0))
    assert np.array_equal(row["masks"], masks) and row["loss"] == 0.02 and row["type"] == 0 and not row["evidence"].any()
    body = (masks & 2) > 0
    assert row["hu"][body].mean() > 330 and np.array_equal(row["hu"][~body], hu[~body])  # what the generator adds to bone


@pytest.mark.parametrize(("stray", "kept"), [(0.01, True), (0.05, False), (-0.05, False)])
def test_a_plate_moved_without_a_plan_is_dropped(stray, kept):
    twin = painted.untouched(Pressed(0.3, stray), *whole_vertebra(), 0.0, np.random.default_rng(0))
    assert (twin is not None) == kept


@pytest.mark.parametrize("seed", range(6))
def test_a_twin_keeps_its_body_and_its_discs_are_drawn_out(seed):
    _, masks = whole_vertebra()
    hu = np.random.default_rng(1).normal(100, 30, CROP_SHAPE).astype(np.int16)
    made, bits = painted.drawn_out(hu, masks, np.random.default_rng(seed))
    near = (slice(11, 45), *BODY[1:])  # the body and 3 mm beyond its plates
    assert np.array_equal(bits, masks) and np.abs(made[near] - hu[near]).max() <= 1
    rough = [np.abs(np.diff(x.astype(float), axis=0)) for x in (hu, made)]
    discs = [tuple(float(x[(part, *BODY[1:])].mean()) for x in rough) for part in (slice(46, 51), slice(4, 9))]
    drawn = [after < 0.9 * before for before, after in discs]
    assert any(drawn)
    assert all(after == pytest.approx(before, rel=0.03) for d, (before, after) in zip(drawn, discs, strict=True) if not d)


def crops_of(tmp_path):
    """A crop file with one whole vertebra among others that are not to be painted; what it holds."""
    hu, masks = whole_vertebra()
    level = painted.LEVELS[2]
    sound = {"hu": hu, "masks": masks, "evidence": np.zeros(4), "type": 0, "old": 0, "mimic": 0, "level": level, "loss": 0,
             "random": 1}
    broken = {"evidence": np.eye(4)[0], "type": 2}
    others = [{**sound, **other} for other in ({"old": 1}, {"mimic": 1}, broken, {"level": 0})]
    sample = cases.stacked({k: [row[k] for row in (sound, *others)] for k in cases.COLUMNS})
    cases.save(tmp_path / "crops", "5", sample)
    return sample


def test_painted_files_are_crop_files_of_fractures_and_their_whole_twins(tmp_path, monkeypatch):
    sample = crops_of(tmp_path)
    monkeypatch.setattr(painted, "load", lambda path: (Pressed(0.3), SUPERIOR[None]))
    for _ in range(2):  # the second time all is there
        cases.damaged(tmp_path, minutes=1, count=0)
    assert [path.name for path in (tmp_path / "painted").iterdir()] == ["5p.npz"]
    stored = pool.Pool(tmp_path / "painted", 5).samples["5p.npz"]
    assert set(stored) == set(sample) and all(stored[k].dtype == sample[k].dtype for k in stored)
    assert stored["type"].tolist() == [2, 0] and stored["evidence"].tolist() == [[1, 0, 0, 0], [0] * 4]
    assert stored["random"].tolist() == [1, 1] and len(set(stored["level"])) == 1


def test_a_fracture_whose_twin_does_not_stay_whole_is_dropped(tmp_path):
    sample = crops_of(tmp_path)
    assert not painted.of_file(Pressed(0.3, stray=0.1), SUPERIOR[None], sample, np.random.default_rng(1))


def test_one_turn_teaches_both(tmp_path):
    hu, masks = whole_vertebra()
    seen, after = hu.copy(), masks | np.where(masks & 2, 8, 0).astype(np.uint8)
    seen[36:42], after[36:42] = 40, after[36:42] & 8
    after[30:36, 10:38, 6:26] |= 4
    rows = {"seen": [seen, hu], "healthy": [hu, hu], "masks": [after, masks | (masks & 2) * 4],
            "heights": [[22] * 3, [28] * 3], "healthy_heights": [[28] * 3] * 2,
            "evidence": [[1, 0, 0, 0], [0] * 4], "type": [2, 0], "old": [0, 0]}
    np.savez(tmp_path / "1.npz", **{k: np.array(v) for k, v in rows.items()})
    pairs = train_damage.BrokenPool(tmp_path)
    assert len(pairs.damaged) == len(pairs.whole) == 1
    plan = pairs.plans()[0]
    assert plan[:4].tolist() == [1, 0, 0, 0] and plan[4:7].tolist() == pytest.approx([6 / 28] * 3)
    rivals = adversarial.Rivals(train_damage.GAN)
    rivals.pace(1e-3)
    net, critics = rivals.net, rivals.critics
    before = net.flow.weight.detach().clone(), critics.critics[0].net[0].weight_orig.detach().clone()
    batch = pairs.batch(2, np.random.default_rng(0))
    parts = rivals.turn(batch, True)
    assert all(np.isfinite(v) for v in parts.values()) and parts["critic"] > 0
    assert not torch.equal(before[0], net.flow.weight) and not torch.equal(before[1], critics.critics[0].net[0].weight_orig)


def test_painted_crops_are_one_in_ten_at_most_and_half_of_them_whole(tmp_path):
    rendered, made = crop_file(40), crop_file(4)
    for folder, sample in (("crops", rendered), ("painted", made)):
        cases.save(tmp_path / folder, "1", {**sample, "random": np.arange(len(sample["type"])) % 4 // 2})
    pools = [pool.Pool(tmp_path / folder, 5) for folder in ("crops", "painted")]
    sampler = pool.CropSampler(pools[0], painted=pools[1])
    rng = np.random.default_rng(0)
    drawn = [(k, bool(sample["evidence"][k].any())) for sample, k in (sampler.pick(rng) for _ in range(2000))
             if sample is pools[1].samples["1.npz"]]
    assert len(drawn) == pytest.approx(2000 * 4 / 44, rel=0.15)  # no oftener than the others
    assert {k for k, _ in drawn} == {0, 1, 2, 3} and np.mean([broken for _, broken in drawn]) == pytest.approx(0.5, abs=0.1)
    for name in "2345":
        cases.save(tmp_path / "painted", name, {**made, "random": np.zeros(4)})
    assert sampler.share == pytest.approx(4 / 44)
    sampler.update()  # finds what was painted meanwhile
    assert sampler.share == 0.1 and len(sampler.twins) == 20
    assert len(pool.CropSampler(pools[0], physical=True, painted=pools[1]).twins) == 18
