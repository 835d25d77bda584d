"""Ablations: each arm differs from the plain one in what it says, and in nothing else."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import arms  # noqa: E402
import pool  # noqa: E402
from tiny_samples import ball_field, crop_file  # noqa: E402


@pytest.fixture
def work(tmp_path):
    for kind, sample in (("fields", ball_field()), ("crops", crop_file())):
        folder = tmp_path / kind
        folder.mkdir()
        count = () if kind == "fields" else len(sample["type"])
        for name, random in (("1", 0), ("2", 1)):
            np.savez(folder / f"{name}.npz", **sample, random=np.full(count, random, np.uint8))
    return tmp_path


def test_arms_start_from_the_committed_weights():
    plain, fresh = (arms.network(arms.ARMS[name]).state_dict() for name in ("label", "label-fresh"))
    again = arms.network(arms.ARMS["label"]).state_dict()
    kernels = [k for k in plain if k.endswith("weight") and plain[k].dim() > 1 and not k.startswith("deep")]
    used = [k for k in kernels if ".code." not in k and ".decode." not in k]
    assert all(torch.equal(plain[k], again[k]) for k in used)
    assert all(torch.equal(plain[k], fresh[k]) != k.startswith("attend") for k in used)


def test_bypassed_attention_keeps_the_fused_scales_and_learns_nothing_else_of_the_block():
    net = arms.network(arms.ARMS["label-bypassed"])
    classes, _, _, (_, guide, _) = net(torch.zeros(1, 1, 16, 16, 16))
    classes.square().mean().backward()
    assert float(guide) == 0
    assert net.attend.fuse[0].weight.grad is not None and net.attend.bring[0][0].weight.grad is not None
    assert net.attend.query[0].weight.grad is None and net.attend.out[0].weight.grad is None
    assert torch.equal(net.attend.fuse[0].weight, arms.network(arms.ARMS["label"]).attend.fuse[0].weight)


def test_without_randomised_appearance_nothing_random_is_drawn(work):
    physical = arms.samples(arms.ARMS["vertebra-physical"], work)
    assert {id(sample) for group in physical.groups.values() for sample, _ in group} == {id(physical.pool.samples["1.npz"])}
    assert arms.samples(arms.ARMS["label-physical"], work).names == ["1.npz"]
    assert len(arms.samples(arms.ARMS["label"], work).names) == 2


def test_without_randomised_appearance_a_crop_keeps_its_tones():
    sample = {k: v[:1] for k, v in crop_file().items()}
    sample["hu"] = np.full_like(sample["hu"], 100)
    tone = float(pool.windowed(torch.tensor(100.0), pool.bundle.VERTEBRA_WINDOW))
    seen = lambda vary: {  # noqa: E731
        round(float(pool.crop_tensors([(sample, 0)], np.random.default_rng(k), vary)[0][0, 0, 28, 20, 16]), 3)
        for k in range(12)}
    assert seen(False) == {round(tone, 3)} and len(seen(True)) > 3


def test_painted_crops_join_where_the_arm_says_so(work):
    shutil.copytree(work / "crops", work / "painted")
    assert not arms.samples(arms.ARMS["vertebra"], work).twins
    assert len(arms.samples(arms.ARMS["vertebra-painted"], work).twins) == 12


@pytest.mark.parametrize("name", ["label-bypassed", "vertebra-physical"])
def test_an_arm_trains_scores_and_prints(work, name):
    ema = arms.trained(arms.ARMS[name], work, 0.002, seed=1)
    assert ema.steps >= 1
    arm = arms.ARMS[name]
    path = work / f"{name}.onnx"
    arms.export.to_onnx(ema.net, arm.stage, path)
    sample = ball_field() if arm.stage == "label" else crop_file() | {
        "level": np.full(6, 12, np.uint8), "loss": np.zeros(6, np.float32)}
    found = {"own generator": arms.figures(arm.stage, path, [sample])}
    (work / f"{name}.json").write_text(json.dumps({"about": arm.about, "steps": ema.steps, "figures": found}))
    text = arms.table(work)
    assert arm.about in text and f"| {arm.stage} stage, own generator | steps |" in text
