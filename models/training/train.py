"""Trains the networks of the reference bundle on cached phantom samples.

``python models/training/train.py label|segment|vertebra|restore|damage --work DIR --minutes M [--resume | --warm FILE]``
``python models/training/train.py all --work DIR [--device auto|cpu|cuda] [--out DIR/bundle]``

One schedule (``schedule.py``): AdamW, short warm-up, cosine to zero over the given minutes (the clock, not the step count,
drives it, so a busy machine still ends on time), EMA of the weights; on a CPU or a GPU (``devices.py``).
``DIR/<stage>.ckpt`` is written every two minutes for ``--resume``; ``DIR/<stage>.pt`` (EMA weights) too. ``--warm`` starts a
new schedule from such weights or from an exported ONNX file. ``all`` goes on from the committed bundle (``--fresh``: from
nothing): the producers beside the trainings, the inverse GAN and what it paints among them, then export, calibration and
evaluation on both generators.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import adversarial
import bundle
import devices
import train_damage
import train_restore
from bundle import REFERENCE
from devices import Device
from losses import label_loss, vertebra_loss
from networks import NETWORKS, parameters
from pool import CropSampler, Pool, field_tensors
from schedule import Ema, Schedule, rate, save
from warm import warm_weights

STAGES = ("label", "segment", "vertebra", "restore")  # of the bundle
SAMPLES = {"label": "fields", "segment": "spines", "vertebra": "crops"}  # folder of each stage's training samples
SPACING = {"label": bundle.LABEL_SPACING, "segment": bundle.SEGMENT_SPACING}
RATE = {"label": 3e-3, "segment": 3e-3, "vertebra": 3e-3}
WARM = 1 / 3  # of that rate, from weights that have learned (the GANs have their own: their critics start anew)
FEWEST = 24  # files to wait for before the first step
GANS = {gan.name: gan for gan in (train_restore.GAN, train_damage.GAN)}
INVERSE = 1 / 3  # of a schedule: the inverse GAN learns for so long, then paints for so long, beside the stages
PRODUCER_SEEDS = 500_000  # training seeds of one producer; all of them stay below the held-out ones
CAPACITY = {"label": 2500, "segment": 1500}  # files in memory (1 and 2 MB); crops: the device's


def step(stage: str, net, batch: list, device: Device) -> tuple[float, dict[str, float]]:
    """Forward and backward of one batch; gradients are left on the network."""
    if stage == "vertebra":
        crop, masks, evidence, kind, old = device.place(batch)
        with device.autocast():
            out = net(crop)
        loss, parts = vertebra_loss(out, masks, evidence, kind, old)
        loss.backward()
        return float(loss.detach()), parts
    total, sums = 0.0, {}
    for field in batch:  # fields differ in size: accumulate
        image, *truth = device.place(field)
        with device.autocast():
            out = net(image)
        loss, parts = label_loss(out, *truth)
        (loss / len(batch)).backward()
        total += float(loss.detach()) / len(batch)
        for k, v in parts.items():
            sums[k] = sums.get(k, 0.0) + v / len(batch)
    return total, sums


def batch_of(stage: str, source, device: Device, vary: bool = True) -> Callable[[np.random.Generator], list]:
    """What makes one batch of a stage from its pool; ``vary=False`` leaves every appearance as it was rendered."""
    size = device.batch[stage]
    if stage == "vertebra":
        return lambda rng: source.batch(size, rng, vary, device.name)
    return lambda rng: [field_tensors(source.pick(rng), rng, vary, SPACING[stage], device.name) for _ in range(size)]


def optimiser_of(net: torch.nn.Module) -> torch.optim.Optimizer:
    decay = [p for p in net.parameters() if p.dim() > 1]
    other = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": other, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), fused=True)


def stepper(stage: str, net, ema: Ema, optimiser, source: Iterator[list], device: Device, peak: float):
    """The function of `Schedule.run`: one update of ``net`` and of its mean."""

    def one(progress: float) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = peak * rate(progress)
        optimiser.zero_grad(set_to_none=True)
        loss, parts = step(stage, net, next(source), device)
        size = float(torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0))
        if math.isfinite(loss) and math.isfinite(size):
            optimiser.step()
            ema.update(net)
            return {"loss": loss, **parts}
        return {**parts, "loss": math.nan}

    return one


def train(
    stage: str, work: Path, minutes: float, resume: bool, warm: Path | None, seed: int, peak: float | None, device: Device
) -> None:
    """Run one schedule of ``minutes`` (training time only: waiting for samples and time before a resume do not count)."""
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    net = NETWORKS[stage]()
    if warm is not None:
        fitting = warm_weights(warm, net.state_dict())
        net.load_state_dict(fitting, strict=False)
        print(f"warm start from {warm.name}: {len(fitting)} of {len(net.state_dict())} tensors", flush=True)
    net = net.to(device.name).train()
    torch.backends.cudnn.benchmark = stage == "vertebra"  # whose inputs have one size
    ema, optimiser = Ema(net), optimiser_of(net)
    peak = peak or RATE[stage] * (WARM if warm else 1)
    schedule, checkpoint = Schedule(stage, minutes), work / f"{stage}.ckpt"
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device.name, weights_only=True)
        net.load_state_dict(state["net"])
        ema.net.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.spent, schedule.steps, peak = state["spent"], state["steps"], state["peak"]
        ema.steps = schedule.steps
    pool = Pool(work / SAMPLES[stage], CAPACITY.get(stage, device.crop_files))
    schedule.wait(pool.refresh, FEWEST)
    source = pool
    if stage == "vertebra":
        source = CropSampler(pool, painted=Pool(work / "painted", device.crop_files))
    print(f"{stage}: {parameters(net) / 1e6:.2f} M parameters on {device.name}", flush=True)
    batches = device.batches(batch_of(stage, source, device), seed, schedule.steps)

    def write() -> None:
        spent, files = schedule.spent, len(pool.names)
        about = f"{schedule.steps} steps of {device.batch[stage]} in {spent / 60:.0f} minutes over {files} cached files"
        save(work / f"{stage}.pt", {"ema": ema.net.state_dict(), "about": about})
        state = {"net": net, "ema": ema.net, "optimiser": optimiser}
        where = {"spent": spent, "steps": schedule.steps, "peak": peak}
        save(checkpoint, {**{k: v.state_dict() for k, v in state.items()}, **where})

    def refresh() -> int:
        files = pool.refresh()
        if stage == "vertebra":
            source.update()
        return files

    one = stepper(stage, net, ema, optimiser, batches, device, peak)
    schedule.run(one, write, refresh)


def train_all(
    work: Path, minutes: float, out: Path, profile: str, cases: int, fresh: bool, device: Device
) -> None:
    """Producers beside the trainings, then export, calibration on whole patients, export again, evaluation."""
    here = Path(__file__).resolve().parent
    call = lambda script, *args: [sys.executable, str(here / script), *map(str, args)]  # noqa: E731
    samples = ("--out", str(work / "second"), "--start", "1000000", "--count", "24")  # the second generator never trains
    subprocess.run([sys.executable, "-m", "second.samples", *samples], check=True, cwd=here)
    for kind in ("held", "test", "second"):
        subprocess.run(call("pairs.py", "--work", work, f"--{kind}", "--count", 24), check=True)
    known = [] if fresh else [stage for stage in STAGES if (REFERENCE / f"{stage}.onnx").exists()]
    rendering = ("--minutes", minutes + 30, "--device", device.name)
    placing = ("--bundle", REFERENCE) if {"label", "vertebra"} <= set(known) else ()
    producers = [
        subprocess.Popen(call(script, "--work", work, *rendering, "--start", k * PRODUCER_SEEDS, *more))
        for k in range(device.producers)
        for script, more in (("cases.py", placing), ("pairs.py", ()))
    ]
    stages = []
    try:
        for stage in STAGES:
            warm = ("--warm", REFERENCE / f"{stage}.onnx") if stage in known else ()
            schedule = ("--work", work, "--minutes", minutes, "--device", device.name)
            stages.append(subprocess.Popen(call("train.py", stage, *schedule, *warm)))
        some = ("--work", work, "--minutes", INVERSE * minutes)  # ends before the stages: what it paints is theirs
        subprocess.run(call("train.py", "damage", *some, "--device", device.name), check=True)
        subprocess.run(call("cases.py", "--kind", "damaged", *some), check=True)
        if any([p.wait() for p in stages]):
            raise SystemExit("a training ended with an error; continue with --resume")
    finally:
        for process in (*producers, *stages):
            process.terminate()
            process.wait()
    subprocess.run(call("export.py", "--work", work, "--out", work / "bundle"), check=True)
    cohort = ("--cohort", work / "calibration", "--out", work)
    for _ in range(2):  # which vertebrae are references for heights follows from the points
        subprocess.run(call("calibrate.py", "--bundle", work / "bundle", *cohort), check=True)
        subprocess.run(call("export.py", "--work", work, "--out", work / "bundle"), check=True)
    evaluation = ("--cases", cases, "--profile", profile, "--out", work)
    subprocess.run(call("evaluate.py", "--bundle", work / "bundle", *evaluation), check=True)
    evaluation = ("--samples", work / "second", "--name", "second", "--out", work)
    subprocess.run(call("evaluate.py", "--bundle", work / "bundle", *evaluation), check=True)
    subprocess.run(call("ablate.py", "--bundle", work / "bundle", "--work", work), check=True)
    subprocess.run(call("export.py", "--work", work, "--out", out), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=(*STAGES, "damage", "all"))
    parser.add_argument("--work", type=Path, required=True, help="cache and checkpoints; keep it out of git")
    parser.add_argument("--minutes", type=float, help="of training (the device's: 100 on a CPU, 30 on a GPU)")
    parser.add_argument("--device", choices=devices.NAMES, default="auto")
    parser.add_argument("--resume", action="store_true", help="continue the schedule of DIR/<stage>.ckpt")
    parser.add_argument("--warm", type=Path, help="start from the weights of this .pt or .onnx file")
    parser.add_argument("--fresh", action="store_true", help="start from random weights (all)")
    parser.add_argument("--rate", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="bundle (all; DIR/bundle when left out)")
    parser.add_argument("--profile", default="study", help="case mix of the final evaluation (all)")
    parser.add_argument("--cases", type=int, default=40, help="patients of the final evaluation (all)")
    a = parser.parse_args()
    device = devices.chosen(a.device)
    minutes = device.minutes if a.minutes is None else a.minutes
    torch.set_num_threads(1)
    if a.stage == "all":
        train_all(a.work, minutes, a.out or a.work / "bundle", a.profile, a.cases, a.fresh, device)
        return
    given = (a.work, minutes, a.resume, a.warm, a.seed, a.rate, device)
    if a.stage in GANS:
        adversarial.train(GANS[a.stage], *given)
    else:
        train(a.stage, *given)


if __name__ == "__main__":
    main()
