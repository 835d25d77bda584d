"""Ablations: each arm differs from the plain one in what it says, and in nothing else."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import arms  # noqa: E402
import evaluate  # noqa: E402
import fields  # noqa: E402
import pool  # noqa: E402
from tiny_samples import ball_field, crop_file  # noqa: E402


@pytest.fixture
def work(tmp_path):
    for kind, sample in (("fields", ball_field()), ("spines", ball_field()), ("crops", crop_file())):
        folder = tmp_path / kind
        folder.mkdir()
        count = len(sample["type"]) if kind == "crops" else ()
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


@pytest.mark.parametrize("stage", ["label", "segment"])
def test_bypassed_attention_keeps_the_fused_scales_and_learns_nothing_else_of_the_block(stage):
    net = arms.network(arms.ARMS[f"{stage}-bypassed"])
    classes, _, _, (_, guide, _) = net(torch.zeros(1, 1, 16, 16, 16))
    classes.square().mean().backward()
    assert float(guide) == 0
    assert net.attend.fuse[0].weight.grad is not None and net.attend.bring[0][0].weight.grad is not None
    assert net.attend.query[0].weight.grad is None and net.attend.out[0].weight.grad is None
    assert torch.equal(net.attend.fuse[0].weight, arms.network(arms.ARMS[stage]).attend.fuse[0].weight)


def test_without_randomised_appearance_nothing_random_is_drawn(work):
    physical = arms.samples(arms.ARMS["vertebra-physical"], work)
    assert {id(sample) for group in physical.groups.values() for sample, _ in group} == {id(physical.pool.samples["1.npz"])}
    for stage in ("label", "segment"):
        assert arms.samples(arms.ARMS[f"{stage}-physical"], work).names == ["1.npz"]
        pool = arms.samples(arms.ARMS[stage], work)
        assert len(pool.names) == 2 and pool.folder.name == arms.SAMPLES[stage]


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


def test_the_pairs_that_the_card_wants_are_there():
    """With and without attention, with and without randomised appearance: one thing apart, for both stages that name."""
    for stage in ("label", "segment"):
        plain, bypassed, physical = (arms.ARMS[f"{stage}{arm}"] for arm in ("", "-bypassed", "-physical"))
        assert replace(bypassed, attention=True, about=plain.about) == plain
        assert replace(physical, varied=True, about=plain.about) == plain


@pytest.fixture
def scored(work, monkeypatch):
    """``scored(*names)``: what `arms.py` writes of these arms, run for real on made-up samples, a moment each."""
    given = {"fields": ball_field(), "spines": ball_field(),
             "crops": crop_file() | {"level": np.full(6, 12, np.uint8), "loss": np.zeros(6, np.float32)}}
    for kind in ("fields", "crops"):  # as second/samples.py writes
        arms.cases.save(work / "second" / kind, "7000000", given[kind])
    monkeypatch.setattr(arms.cases, "rendered", lambda cache, profile, seed, kind: given[kind])
    monkeypatch.setattr(arms, "second_spine", lambda seed: given["spines"] | {"seed": seed})

    def run(*names):
        more = ("--cache", str(work), "--cases", "1", "--second", str(work / "second"), "--minutes", "0.002")
        monkeypatch.setattr(sys, "argv", ["arms.py", "--work", str(work), *more, "--only", *names])
        arms.main()
        return json.loads((work / "arms.json").read_text())

    return run


def test_arms_train_score_and_are_told(work, scored, capsys):
    names = ("label-bypassed", "segment-bypassed", "segment-physical", "vertebra-physical")
    result = scored(*names)
    assert set(result["arms"]) == set(names) and all(arm["steps"] >= 1 for arm in result["arms"].values())
    text = result["markdown"]
    assert text in capsys.readouterr().out and "for 0.002 minutes" in text and f"from seed {arms.cases.EVALUATION}" in text
    for stage, heads in arms.HEADS.items():
        for where in arms.GENERATORS:
            assert f"| {stage} stage, {where} | steps | {' | '.join(heads)} |" in text
    assert text.count("| attention bypassed |") == 4 and text.count("| without randomised appearance |") == 4
    assert np.load(work / "second" / "spines" / "7000000.npz")["seed"] == 7_000_000


def test_arms_of_other_weights_are_left_out_and_trained_again(work, scored, monkeypatch):
    assert set(scored("label-committed")["arms"]) == {"label-committed"}
    before = arms.origin
    monkeypatch.setattr(arms, "origin", lambda stage: "others" if stage == "label" else before(stage))
    assert not arms.recorded(work / "arms")
    assert scored("label-committed")["arms"]["label-committed"]["weights"] == "others"


def test_a_spine_of_the_second_generator_at_3_mm_is_scored_in_mm(monkeypatch):
    """A network that says the truth names every level, its centre and its body right."""
    sample = fields.second_spine(7_000_000)
    _, labels, body, offset, _ = pool.field_tensors(sample, None, spacing=3.0)
    names = torch.nn.functional.one_hot(labels, 11).movedim(-1, 1)
    said = {"classes": names.numpy(), "body": body.numpy() - 0.5, "offset": offset.numpy()}
    monkeypatch.setattr(evaluate.bundle, "run", lambda session, stage, image: said)
    found = evaluate.label_case(None, sample, 3.0)
    there = [level for level in found["levels"] if level["present"]]
    assert found["body"] == 1 and len(there) >= 5 and all(level["dice"] == 1 for level in there)
    assert max(level["distance"] for level in there) < 0.1
    wrong = evaluate.label_case(None, {**sample, "centres": sample["centres"] + 1}, 3.0)["levels"]
    assert all(level["distance"] == pytest.approx(27**0.5, abs=0.1) for level in wrong if level["present"])
