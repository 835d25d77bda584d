"""`train.py all`: every stage, the inverse GAN and its painting, with arguments that the scripts take, in their order."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import adversarial  # noqa: E402
import cases  # noqa: E402
import damager  # noqa: E402
import devices  # noqa: E402
import painted  # noqa: E402
import train  # noqa: E402
import train_damage  # noqa: E402
from tiny_samples import crop_file  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


class Parsed(Exception):
    """What a script's own parser made of its arguments."""


@pytest.fixture
def parsed(monkeypatch):
    """``parsed(command)``: the script's name and its arguments, by its real parser; its work is not done."""
    real = argparse.ArgumentParser.parse_args

    def parse(parser, *args, **kwargs):
        raise Parsed(real(parser, *args, **kwargs))

    def of(command):
        name = command[2] if command[1] == "-m" else Path(command[1]).stem
        rest = command[3:] if command[1] == "-m" else command[2:]
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse)
            patch.setattr(sys, "argv", [name, *rest])
            with pytest.raises(Parsed) as found:
                importlib.import_module(name).main()
        return name, found.value.args[0]

    return of


class Process:
    """A program that was started: observed, never run."""

    def __init__(self, command, rc):
        self.command, self.rc, self.waited, self.ended = command, rc, False, False

    def wait(self):
        self.waited = True
        return self.rc

    def terminate(self):
        self.ended = True


@pytest.fixture
def observed(monkeypatch):
    """Programs in the order of their start, ``(command, process or None)``; ``fail`` names words of those that fail."""
    log = SimpleNamespace(started=[], fail=())

    def failing(command):
        return int(bool(log.fail) and set(log.fail) <= set(command))

    def run(command, check, cwd=None):
        assert check and all(type(word) is str for word in command)
        log.started.append((command, None))
        if failing(command):
            raise subprocess.CalledProcessError(1, command)

    def popen(command):
        assert all(type(word) is str for word in command)
        log.started.append((command, Process(command, failing(command))))
        return log.started[-1][1]

    monkeypatch.setattr(train, "subprocess", SimpleNamespace(run=run, Popen=popen))
    return log


def asked(work, device, monkeypatch, *more):
    monkeypatch.setattr(devices, "chosen", lambda name: device)
    monkeypatch.setattr(sys, "argv", ["train.py", "all", "--work", str(work), "--out", str(work / "out"), *more])
    train.main()


@pytest.mark.parametrize("device", [devices.CPU, devices.CUDA], ids=lambda d: d.name)
def test_all_of_it_is_started_with_arguments_that_its_scripts_take(tmp_path, observed, parsed, monkeypatch, device):
    asked(tmp_path, device, monkeypatch)
    read = [(*parsed(command), process) for command, process in observed.started]
    beside = [(name, a) for name, a, process in read if process]
    alone = [(name, a) for name, a, process in read if not process]
    trained = {a.stage: a for name, a in beside if name == "train"}
    assert list(trained) == list(train.STAGES)
    for stage, a in trained.items():
        assert a.minutes == device.minutes and a.device == device.name and not a.resume and not a.fresh
        assert a.warm == train.REFERENCE / f"{stage}.onnx" and a.warm.exists()

    producers = [(name, a) for name, a in beside if name != "train"]
    starts = sorted((name, a.start) for name, a in producers)
    assert starts == [(s, k * train.PRODUCER_SEEDS) for s in ("cases", "pairs") for k in range(device.producers)]
    assert max(a.start for _, a in producers) + train.PRODUCER_SEEDS <= cases.HELD
    assert all(a.minutes > device.minutes and a.device == device.name for _, a in producers)
    assert all(a.kind == "all" and a.bundle == train.REFERENCE for name, a in producers if name == "cases")
    assert all(a.kind == "train" and a.count == 0 for name, a in producers if name == "pairs")

    inverse = [(name, a) for name, a in alone if getattr(a, "stage", "") == "damage" or getattr(a, "kind", "") == "damaged"]
    (_, learning), (_, painting) = inverse
    assert learning.stage == "damage" and learning.device == device.name and learning.warm is None and not learning.resume
    assert painting.kind == "damaged" and painting.count == 0
    assert 0 < learning.minutes + painting.minutes < device.minutes  # the vertebra stage trains on what it paints

    order = [name for name, _ in alone]
    assert order == ["second.samples", *["pairs"] * 3, "train", "cases", "export", *["calibrate", "export"] * 2,
                     "evaluate", "evaluate", "ablate", "export"]
    places = [(a.stage if name == "train" else a.kind) for name, a, _ in read if name in ("train", "cases")]
    assert places.index("damage") > max(places.index(stage) for stage in train.STAGES)  # beside them, not before
    assert {a.kind for name, a in alone if name == "pairs"} == {"held", "test", "second"}
    assert all(a.work == tmp_path for _, a, _ in read if hasattr(a, "work"))
    exported = [a.out for name, a in alone if name == "export"]
    assert exported == [*[tmp_path / "bundle"] * 3, tmp_path / "out"]
    assert all(a.bundle == tmp_path / "bundle" for name, a in alone if name in ("calibrate", "evaluate", "ablate"))
    assert all(a.out == tmp_path for name, a in alone if name in ("calibrate", "evaluate"))
    own, second = (a for name, a in alone if name == "evaluate")
    assert (own.samples, own.cases, own.profile) == (None, 40, "study")
    assert second.samples == alone[0][1].out and second.name == "second"  # by which export.py knows it
    assert all(p.ended and p.waited for _, p in observed.started if p)


def test_the_bundle_lies_in_the_work_folder_where_nothing_else_is_asked(tmp_path, observed, parsed, monkeypatch):
    monkeypatch.setattr(devices, "chosen", lambda name: devices.CPU)
    monkeypatch.setattr(sys, "argv", ["train.py", "all", "--work", str(tmp_path)])
    train.main()
    exported = [a.out for name, a in map(parsed, (command for command, _ in observed.started)) if name == "export"]
    assert len(exported) == 4 and set(exported) == {tmp_path / "bundle"}


def test_a_warm_start_is_slower_and_a_resumed_one_goes_on_as_it_was(tmp_path, monkeypatch):
    """Zero minutes: what the schedule would have run at."""
    monkeypatch.setattr(train, "FEWEST", 0)
    peaks = []
    monkeypatch.setattr(train, "stepper", lambda *given: peaks.append(given[-1]) or (lambda progress: {"loss": 0.0}))
    warm = train.REFERENCE / "label.onnx"
    for start in ({"warm": None}, {"warm": warm}, {"warm": None, "resume": True}, {"warm": warm, "peak": 7e-4}):
        given = {"resume": False, "peak": None, "seed": 1, "device": devices.CPU, **start}
        train.train("label", tmp_path, 0.0, **given)
    full = train.RATE["label"]
    assert peaks == pytest.approx([full, full / 3, full / 3, 7e-4])


def test_minutes_and_a_fresh_start_reach_every_stage(tmp_path, observed, parsed, monkeypatch):
    asked(tmp_path, devices.CPU, monkeypatch, "--minutes", "3", "--fresh", "--cases", "2")
    read = [parsed(command) for command, _ in observed.started]
    assert [a.minutes for name, a in read if name == "train"] == [3] * len(train.STAGES) + [1]
    assert not any(a.warm for name, a in read if name == "train")
    assert not any(a.bundle for name, a in read if name == "cases")  # nothing that could place a crop
    assert next(a.cases for name, a in read if name == "evaluate") == 2


@pytest.mark.parametrize("fail", [("vertebra",), ("damage",), ("damaged",)], ids=lambda f: f[0])
def test_whatever_fails_ends_it_and_everything_beside_it(tmp_path, observed, monkeypatch, fail):
    observed.fail = fail
    with pytest.raises((SystemExit, subprocess.CalledProcessError)):
        asked(tmp_path, devices.CPU, monkeypatch)
    assert not any("export.py" in word for command, _ in observed.started for word in command)
    assert all(p.ended and p.waited for _, p in observed.started if p)


def test_the_inverse_trains_paints_and_feeds_the_vertebra_stage_for_real(tmp_path, monkeypatch, capsys):
    """From pairs to steps of the vertebra stage on painted crops, with schedules of seconds and none of it filtered."""
    body = (slice(14, 42), slice(10, 38), slice(6, 26))
    crops = {**crop_file(4), "level": np.full(4, painted.LEVELS[0], np.uint8), "loss": np.zeros(4, np.float32),
             "random": np.zeros(4, np.uint8)}
    crops["masks"][...] = 0
    crops["masks"][:, *body] = 3
    cases.save(tmp_path / "crops", "1", crops)
    after = crops["masks"] | (crops["masks"] & 2) * 4
    after[::2, 36:42] &= 8
    pair = {**{k: crops[k] for k in ("evidence", "type", "old")}, "seen": crops["hu"], "healthy": crops["hu"],
            "masks": after, "heights": np.full((4, 3), 22), "healthy_heights": np.full((4, 3), 28)}
    cases.save(tmp_path / "pairs", "1", pair)
    monkeypatch.setattr(adversarial, "FEWEST", 1)
    monkeypatch.setattr(train, "FEWEST", 1)
    adversarial.train(train_damage.GAN, tmp_path, 0.001, False, None, 1, None, devices.CPU)
    net, plans = painted.load(tmp_path / "damage.pt")
    assert isinstance(net, damager.DamageNet) and plans.shape == (2, len(damager.PLAN))
    limits = {"STRAY": 99, "STILL": 99, "PRESSED": -99, "LEAST": -9, "FEWEST_VOXELS": 0}  # nothing was learned in one step
    for name, value in limits.items():
        monkeypatch.setattr(painted, name, value)
    cases.damaged(tmp_path, minutes=1, count=0)
    assert len(list((tmp_path / "painted").iterdir())) == 1
    drawn = []
    pick = train.CropSampler.pick
    monkeypatch.setattr(train.CropSampler, "pick", lambda self, rng: drawn.append((self, pick(self, rng))) or drawn[-1][1])
    train.train("vertebra", tmp_path, 0.001, False, None, 1, None, devices.CPU)
    sampler = drawn[0][0]
    assert len(sampler.twins) == 4 and sampler.share == pytest.approx(0.1)
    assert (tmp_path / "vertebra.pt").exists() and "vertebra: done" in capsys.readouterr().out
