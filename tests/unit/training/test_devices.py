"""What a training runs on: the same batches however they are made, nothing left on the CPU, a missing GPU refused."""

import itertools
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import augment  # noqa: E402
import damager  # noqa: E402
import devices  # noqa: E402
import losses  # noqa: E402
import pool  # noqa: E402
import restorer  # noqa: E402
import train  # noqa: E402
from networks import CROP_SHAPE, LabelNet, VertebraNet  # noqa: E402
from pool import CropSampler, Pool  # noqa: E402
from schedule import Ema, Schedule  # noqa: E402
from tiny_samples import ball_field, crop_file  # noqa: E402


def test_without_a_gpu_auto_takes_the_cpu_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.chosen("auto") is devices.CPU
    with pytest.raises(SystemExit, match="no GPU"):
        devices.chosen("cuda")


def test_the_gpu_profile_is_shorter_and_wider():
    assert devices.CUDA.minutes == 30 and devices.CUDA.loaders > 0
    assert all(devices.CUDA.batch[stage] > size for stage, size in devices.CPU.batch.items())


def test_a_seed_gives_the_same_batches_however_many_threads_make_them_and_wherever_it_goes_on():
    make = lambda rng: list(rng.integers(1000, size=3))  # noqa: E731
    taken = lambda device, first, n: list(itertools.islice(device.batches(make, 5, first), n))  # noqa: E731
    alone = taken(devices.CPU, 0, 9)
    assert len({tuple(b) for b in alone}) == 9
    assert taken(replace(devices.CPU, loaders=3), 0, 9) == alone
    assert taken(devices.CPU, 4, 5) == alone[4:]


def test_loaders_hand_on_what_goes_wrong():
    def broken(rng):
        raise ValueError("half a file")

    with pytest.raises(ValueError, match="half a file"):
        next(replace(devices.CPU, loaders=2).batches(broken, 1, 0))


def test_the_wide_profile_trains_by_the_same_path_to_the_same_weights(tmp_path):
    np.savez(tmp_path / "1.npz", **crop_file(), random=np.zeros(6, np.uint8))
    weights = []
    for device in (devices.CPU, replace(devices.CPU, loaders=2)):
        torch.manual_seed(1)
        net = VertebraNet().train()
        sampler = CropSampler(Pool(tmp_path, 10))
        batches = device.batches(train.batch_of("vertebra", sampler, replace(device, batch={"vertebra": 2})), 3, 0)
        one = train.stepper("vertebra", net, Ema(net), train.optimiser_of(net), batches, device, 1e-3)
        assert [np.isfinite(one(0.5)["loss"]) for _ in range(2)] == [True, True]
        weights.append(net.masks.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize("stage", ["label", "vertebra", "damage"])
def test_networks_and_losses_leave_nothing_on_the_cpu(stage, monkeypatch):
    """On PyTorch's `meta` device, which refuses to mix with another: there is no GPU in CI."""
    for module in (losses, restorer, damager):
        monkeypatch.setattr(module, "float", lambda x: x, raising=False)  # no numbers there to print
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())
    monkeypatch.setattr(losses, "class_loss", lambda logits, labels: logits.mean() + labels.float().mean())  # its classes
    empty = lambda *shape: torch.empty(shape, device="meta")  # noqa: E731
    whole = lambda *shape: torch.empty(shape, dtype=torch.long, device="meta")  # noqa: E731
    if stage == "label":
        size = (32, 24, 24)
        out = LabelNet().to("meta").train()(empty(1, 1, *size))
        loss, _ = losses.label_loss(out, whole(1, *size), *(empty(1, n, *size) for n in (1, 3, 1)))
    elif stage == "vertebra":
        out = VertebraNet().to("meta").train()(empty(2, 1, *CROP_SHAPE))
        loss, _ = losses.vertebra_loss(out, empty(2, 7, *CROP_SHAPE), empty(2, 4), whole(2), empty(2, 1))
    else:
        crop, *others = (empty(2, 1, 56, damager.FRONT, 32) for _ in range(6))
        out = damager.DamageNet().to("meta")(crop, *others[:2], empty(2, len(damager.PLAN)))
        painted, region = damager.shown(out.picture, damager.reach(others[0]))
        verdicts = restorer.Critics().to("meta")(painted, region)
        loss, _ = damager.damage_loss(out, crop, *others[:2], damager.reach(others[0]), verdicts)
    assert loss.device.type == "meta"


@pytest.mark.parametrize("seed", range(8))
def test_samples_are_varied_where_they_will_be_trained_on(seed, monkeypatch):
    """On `meta` again; between them the seeds take every branch."""
    monkeypatch.setattr(augment, "normal", lambda rng, like, shape=None: like.new_empty(shape or like.shape))
    crop, masks, *_ = pool.crop_tensors([(crop_file(), k) for k in range(6)], np.random.default_rng(seed), device="meta")
    assert crop.device.type == masks.device.type == "meta" and masks.shape == (6, 7, *CROP_SHAPE)
    tensors = pool.field_tensors(ball_field(), np.random.default_rng(seed), device="meta")
    assert {x.device.type for x in tensors} == {"meta"} and tensors[0].shape == tensors[2].shape


def test_class_weights_follow_the_logits():
    logits = torch.zeros(1, 11, 4, 4, 4, dtype=torch.float64)
    assert losses.class_loss(logits, torch.zeros(1, 4, 4, 4, dtype=torch.long)).isfinite()


def test_a_schedule_counts_its_clock_not_its_waiting(capsys):
    ticks = iter(range(0, 1000, 10))
    schedule = Schedule("made up", 0.5, clock=lambda: float(next(ticks)))
    seen, written = [], []
    schedule.run(lambda p: seen.append(p) or {"loss": 1.0}, lambda: written.append(schedule.steps), lambda: 7)
    assert seen == pytest.approx([0, 1 / 3, 2 / 3]) and written == [3] and schedule.spent == 30
    assert "7 files" in capsys.readouterr().out
