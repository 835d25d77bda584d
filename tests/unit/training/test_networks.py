"""Networks, losses and augmentation of the reference bundle (models/training), on tiny made-up samples."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import augment  # noqa: E402
import blocks  # noqa: E402
import networks  # noqa: E402
import pool  # noqa: E402
from losses import label_loss, vertebra_loss  # noqa: E402
from schedule import Ema, rate  # noqa: E402
from tiny_samples import ball_field, crop_file  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_label_network_keeps_any_field_size_that_is_a_multiple_of_eight():
    net = networks.LabelNet().eval()
    assert networks.parameters(net) <= 1_000_000
    for size in ((16, 16, 16), (40, 24, 32)):
        with torch.no_grad():
            classes, body, offset = net(torch.zeros(1, 1, *size))
        assert classes.shape == (1, 11, *size)
        assert body.shape == (1, 1, *size)
        assert offset.shape == (1, 3, *size)


def test_vertebra_network_gives_the_contract_tensors():
    net = networks.VertebraNet().eval()
    assert networks.parameters(net) <= 2_000_000
    with torch.no_grad():
        out = net(torch.zeros(2, 1, *networks.CROP_SHAPE))
    assert [tuple(x.shape) for x in out] == [(2, 1, *networks.CROP_SHAPE)] * 3 + [(2, 4), (2, 5), (2, 1)]


def test_attention_cost_is_bounded_in_tokens():
    block = blocks.GuidedAttention((8, 8, 8), 12).eval()
    with torch.no_grad():
        out, _ = block([torch.zeros(1, 8, n, n, n) for n in (6, 12, 24)])
    assert out.shape == (1, 12, 12, 12, 12)
    assert np.prod(block.tokens) <= 800


def test_crops_of_a_batch_do_not_influence_each_other():
    net = networks.VertebraNet().eval()
    x = torch.randn(3, 1, *networks.CROP_SHAPE)
    with torch.no_grad():
        together, alone = net(x), net(x[1:2])
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a[1:2], b, atol=1e-4)


def test_offsets_point_at_the_own_centre_after_every_augmentation():
    sample, seen = ball_field(), 0
    for seed in range(12):
        _, labels, _, offset, _level = pool.field_tensors(sample, np.random.default_rng(seed))
        for label in (6, 7):
            where = (labels[0] == label).nonzero().float()
            if len(where) < 20:
                continue
            extent = where.max(0).values - where.min(0).values
            whole = bool(extent.max() - extent.min() <= 1)  # else cut by the field
            seen += whole
            middle = where.mean(0)
            vectors = offset[0][:, labels[0] == label].T.flip(1) * 10 / 6  # z, y, x in voxels
            assert torch.isfinite(vectors).all()
            assert not whole or torch.allclose((where + vectors).mean(0), middle, atol=0.6)
            assert (where + vectors).std(0).max() < 0.6
        assert torch.isnan(offset[0][:, labels[0] == 0]).all()
    assert seen > 8


def test_unaugmented_field_is_windowed_and_padded():
    image, labels, body, offset, level = pool.field_tensors(ball_field(), None)
    assert image.shape == (1, 1, 40, 32, 32) and labels.shape == (1, 40, 32, 32)
    assert image[0, 0, :, 30:, :].eq(-1).all()
    assert image[0, 0, 12, 14, 12] == pytest.approx((400 + 300) / 1200 * 2 - 1)
    assert offset[0, :, 12, 14, 12].abs().max() == 0
    assert body.max() == 1
    assert level[0, 0, 12, 14, 12] == labels[0, 12, 14, 12] == 7


def test_shift_and_cut_leave_no_wrapped_content():
    x = torch.ones(2, 6, 6, 6)
    y = augment.shift(x.clone(), (2, -1, 0), 0.0)
    assert y[:, :2].eq(0).all() and y[:, :, 5].eq(0).all() and y[:, 2:, :5].eq(1).all()
    for seed in range(10):
        gone = augment.beyond(torch.zeros(3, *networks.CROP_SHAPE), networks.CROP_SPACING, np.random.default_rng(seed))
        assert not gone[:, 20:36, 15:34, 12:20].any() and gone.any((1, 2, 3)).all()


def test_steps_change_the_chosen_samples_with_their_own_others():
    x = torch.arange(20.0) + 1
    chosen = np.random.default_rng(0).random(20) < 0.5
    augment.replace(x, chosen, lambda a, b: a - b, x.clone())
    assert x[torch.from_numpy(chosen)].eq(0).all() and x[torch.from_numpy(~chosen)].gt(0).all()
    assert len(set(augment.each(np.random.default_rng(0), torch.zeros(8, 1, 1, 1), 0, 1).flatten().tolist())) == 8


def test_bone_changes_apart_from_its_surroundings():
    hu, bone = torch.full((40, 12, 12, 12), 100.0), torch.zeros(40, 12, 12, 12)
    bone[:, 4:8, 4:8, 4:8] = 1
    seen = augment.intensity(hu, bone, np.random.default_rng(1), 0.0)
    assert ((seen[:, 6, 6, 6] - seen[:, 1, 1, 1]).abs() > 20).float().mean() > 0.3


def test_masks_follow_their_crops_and_the_cache_stays_as_it_was():
    body = np.zeros(networks.CROP_SHAPE, np.uint8)
    body[12:40, 8:30, 6:22] = 3  # nothing about it is symmetric
    body[28:40, 20:30, 6:12] = 0
    hu, nothing = np.where(body > 0, 500, 0).astype(np.int16), np.zeros(1, np.uint8)
    sample = {"hu": hu[None], "masks": body[None], "evidence": np.zeros((1, 4), np.uint8), "type": nothing, "old": nothing}
    before = {name: value.copy() for name, value in sample.items()}
    places, cut = set(), 0
    for seed in range(4):
        crop, masks, *_ = pool.crop_tensors([(sample, 0)] * 12, np.random.default_rng(seed), vary=False)
        air = float(pool.windowed(torch.tensor(augment.AIR), pool.bundle.VERTEBRA_WINDOW))
        half = float(pool.windowed(torch.tensor(250.0), pool.bundle.VERTEBRA_WINDOW))
        for picture, mask in zip(crop[:, 0], masks[:, 1], strict=True):
            bright = picture > half
            overlap = 2 * (bright & (mask > 0)).sum() / (bright.sum() + mask.sum())
            assert overlap > 0.85  # slices blur the corners
            assert not (mask[picture <= air + 1e-3] > 0).any()
            cut += bool((picture <= air + 1e-3).any(0).any(0)[8:24].all())
            places.add(tuple(torch.nonzero(mask).float().mean(0).mul(2).round().tolist()))
    assert len(places) > 20 and cut > 0
    assert all(np.array_equal(sample[name], value) for name, value in before.items())


def test_air_stays_air_under_intensity_augmentation():
    hu = torch.full((9, 12, 12, 12), 40.0)
    hu[:, :, :4] = augment.AIR
    changed = 0
    for seed in range(10):
        out = augment.intensity(hu, torch.zeros_like(hu), np.random.default_rng(seed))
        assert out[:, :, :4].eq(augment.AIR).all() and torch.isfinite(out).all()
        changed += int((out[:, :, 4:] != 40).any(3).any(2).any(1).sum())
    assert hu[:, :, 4:].eq(40).all() and 50 < changed < 85  # about three in four


def test_label_network_learns_two_balls():
    sample = ball_field(shape=(40, 24, 24))
    net = networks.LabelNet((8, 8, 16, 16), 8)
    optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
    first = last = None
    for _ in range(12):
        out = net(pool.field_tensors(sample, None)[0])
        loss, parts = label_loss(out, *pool.field_tensors(sample, None)[1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = first or float(loss.detach()), float(loss.detach())
    assert last < 0.75 * first
    assert set(parts) == {"level", "classes", "body", "offset", "guide", "deep"}


def test_vertebra_loss_falls_and_prefers_the_truth(tmp_path):
    np.savez(tmp_path / "0.npz", **crop_file())
    sampler = pool.CropSampler(pool.Pool(tmp_path, 10))
    assert set(sampler.groups) == {"B", "plain"}
    batch = sampler.batch(2, np.random.default_rng(0))
    assert [tuple(x.shape) for x in batch] == [
        (2, 1, *networks.CROP_SHAPE),
        (2, 7, *networks.CROP_SHAPE),
        (2, 4),
        (2,),
        (2, 1),
    ]
    _, masks, evidence, kind, old = batch
    sure = lambda y: (y * 2 - 1) * 5  # noqa: E731
    small = torch.nn.functional.avg_pool3d(masks, (2, 2, 1))
    types = sure(torch.nn.functional.one_hot(kind, 5).float())
    right = (*(sure(masks[:, i : i + 1]) for i in range(3)), sure(evidence), types, sure(old), sure(small))
    wrong = tuple(-x for x in right)
    assert vertebra_loss(right, masks, evidence, kind, old)[0] < 0.2 * vertebra_loss(wrong, masks, evidence, kind, old)[0]


def test_pool_forgets_the_oldest_files(tmp_path):
    for k in range(4):
        np.savez(tmp_path / f"{k}.npz", hu=np.zeros(1))
    assert len(pool.Pool(tmp_path, 2).names) == 2


def test_schedule_ends_at_zero_and_ema_follows():
    assert rate(0.03) == pytest.approx(1.0) and rate(1.0) == pytest.approx(0.0, abs=1e-9)
    net = torch.nn.Linear(2, 2)
    ema = Ema(net)
    with torch.no_grad():
        net.weight.fill_(3.0)
    for _ in range(200):
        ema.update(net)
    assert torch.allclose(ema.net.weight, net.weight, atol=0.05)


def test_rendered_field_and_crops_agree_with_the_case():
    import cases
    import phantoms

    sample = cases.field(11)
    assert sample["hu"].shape == sample["labels"].shape == sample["instance"].shape == sample["body"].shape
    case = phantoms.sample_case(11)
    for k, vertebra in enumerate(case.vertebrae):
        own = (sample["instance"] == k + 1) & (sample["body"] > 127)
        if own.sum() > 60 and vertebra.level in cases.CROP_LEVELS:
            middle = np.argwhere(own).mean(0)
            inside = np.all((np.argwhere(own).min(0) > 0) & (np.argwhere(own).max(0) < np.array(own.shape) - 1))
            assert not inside or np.linalg.norm(middle - sample["centres"][k]) < 0.8
            assert set(np.unique(sample["labels"][own])) == {networks.LABELS.index(vertebra.level)}
    crops = cases.crops(11, every=True, jitter=False)
    assert crops["hu"].shape[1:] == networks.CROP_SHAPE
    assert len(crops["hu"]) == sum(v.level in cases.CROP_LEVELS for v in case.vertebrae)
    for masks in crops["masks"]:
        body = np.argwhere(masks & 2) * networks.CROP_SPACING
        centre = np.array(networks.CROP_ORIGIN) * networks.CROP_SPACING
        assert np.linalg.norm(body.mean(0) - centre) < 5
        assert not ((masks & 2 > 0) & (masks & 1 == 0)).any()


def test_a_spine_is_the_field_around_its_vertebrae():
    import cases

    rendered, vertebrae, random = cases.rendered_field(11)
    whole = cases.coarse(rendered, vertebrae, random)
    part = cases.spine(rendered, vertebrae, random, np.random.default_rng(0))
    assert part["hu"].shape == part["labels"].shape == part["instance"].shape == part["body"].shape
    assert abs((part["labels"] > 0).sum() / 8 / (whole["labels"] > 0).sum() - 1) < 0.15  # ties of halves go to bone
    for a, b in zip(whole["centres"], part["centres"], strict=True):  # indices (z, y, x), origins LPS
        there = whole["origin"] + 6.0 * a[::-1]
        assert np.allclose(there, part["origin"] + 3.0 * b[::-1], atol=0.01)
    tensors = pool.field_tensors(part, np.random.default_rng(1), spacing=3.0)
    image, labels, body, offset, level = tensors
    assert image.numel() <= pool.LIMIT[3.0] * 1.3 and image.shape[2:] == labels.shape[1:] == level.shape[2:]
    inside = (body[0, 0] > 0.5) & torch.isfinite(offset[0, 0])
    assert offset[0][:, inside].abs().max() < 6.0  # 60 mm: nothing of a body is farther from its centre


def test_masks_are_cut_from_classes_that_do_not_favour_vertebrae():
    torch.manual_seed(0)
    label, segment = networks.LabelNet().eval(), networks.SegmentNet().eval()
    segment.load_state_dict(label.state_dict())
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        a, b = label(image)[0], segment(image)[0]
    assert torch.allclose(b[:, 0] - a[:, 0], torch.full_like(a[:, 0], -np.log(networks.BACKGROUND_WEIGHT)), atol=1e-5)
    assert torch.equal(a[:, 1:], b[:, 1:])


def test_jittered_frames_stay_right_handed():
    import cases
    import phantoms

    vertebra = phantoms.sample_case(3).find("L2")
    for seed in range(20):
        centre, frame, factor = cases.jittered(vertebra, np.random.default_rng(seed))
        assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-9) and np.linalg.det(frame) == pytest.approx(1)
        assert np.linalg.norm(centre - np.array(vertebra.centre_mm)) < 14 and 0.95 <= factor <= 1.05


def test_maps_show_where_each_sign_is_and_nothing_without_it():
    masks = torch.zeros(3, *networks.CROP_SHAPE)
    masks[:2, 14:42, 10:40, 8:24] = 1
    masks[2, 36:40, 10:40, 8:24] = 1  # a band below the upper plate, from front to back
    maps = lambda masks, *evidence: pool.sign_maps(masks[None], torch.tensor([evidence]))[0]  # noqa: E731
    superior, inferior, anterior, posterior = maps(masks, 1, 1, 1, 1)
    assert torch.equal(superior, masks[2]) and inferior.sum() == 0
    assert anterior[38, 10:19, 12].all() and anterior[:, 22:].sum() == 0
    assert posterior[38, 36:40, 12].all() and posterior[:, :34].sum() == 0 and posterior[:34].sum() == 0
    assert maps(masks, 1, 0, 0, 0)[1:].sum() == 0 and maps(0 * masks, 1, 1, 1, 1).sum() == 0
    beside = masks.clone()
    beside[2, :, 10:40, 24:28] = 1  # where no body is there is no sign of it
    assert maps(beside, 1, 1, 1, 1)[..., 24:].sum() == 0
    lower = torch.flip(masks, [1])
    assert torch.equal(maps(lower, 0, 1, 0, 0)[1], lower[2])


def test_slices_leave_a_flat_picture_alone_and_blur_a_thin_plate():
    flat, plate = torch.full((1, *networks.CROP_SHAPE), 40.0), torch.full((1, *networks.CROP_SHAPE), 0.0)
    plate[:, 28], flat[:, :6] = 1000.0, augment.AIR
    peaks = []
    for seed in range(6):
        out = augment.resliced(flat, networks.CROP_SPACING, np.random.default_rng(seed))
        assert out[:, :6].eq(augment.AIR).all() and (out[:, 12:] - 40).abs().max() < 0.1
        out = augment.resliced(plate, networks.CROP_SPACING, np.random.default_rng(seed))
        peaks.append(float(out.max()))
        assert float(out[:, 20:36].sum()) == pytest.approx(float(plate.sum()), rel=0.35)
    assert max(peaks) <= 1000.1 and sorted(peaks)[2] < 900  # only sagittal slices keep a plate across them whole


@pytest.mark.parametrize("sharp", [-0.85, -0.3])
def test_between_slices_the_four_around_weigh_as_in_cubic_convolution(sharp):
    """Keys 1981: the slices themselves stay, the weights sum to 1, a ramp stays one at a = -0.5 alone."""
    along, steps = torch.linspace(0, 1, 21), range(-1, 3)
    weights = torch.stack([augment.keys(along - k, torch.tensor(sharp)) for k in steps])
    assert torch.allclose(weights.sum(0), torch.ones(21), atol=1e-5)
    assert torch.allclose(weights[:, 0], torch.tensor([0.0, 1, 0, 0]), atol=1e-6)
    ramp = lambda a: sum(k * augment.keys(along - k, torch.tensor(a)) for k in steps)  # noqa: E731
    assert torch.allclose(ramp(-0.5), along, atol=1e-5) and (ramp(sharp) - along).abs().max() > 0.01
