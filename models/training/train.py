"""Trains the networks of the reference bundle on cached phantom samples.

``python models/training/train.py label|vertebra|restore --work DIR --minutes M [--resume | --warm FILE]``
``python models/training/train.py all --work DIR --minutes 100 [--out models/reference]``

One schedule: AdamW, short warm-up, cosine to zero over the given minutes (the clock, not the step count, drives it, so
a busy machine still ends on time), EMA of the weights, bfloat16 autocast. ``DIR/<stage>.ckpt`` is written every two
minutes for ``--resume``; ``DIR/<stage>.pt`` (EMA weights) too. ``--warm`` starts a new schedule from such weights or from
an exported ONNX file. ``all`` goes on from the committed bundle (``--fresh``: from nothing): the producers beside the
trainings, then export, calibration and evaluation on both generators.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import train_restore
from losses import label_loss, vertebra_loss
from networks import LabelNet, VertebraNet, parameters
from pool import CropSampler, Pool, field_tensors
from warm import warm_weights

STAGES = ("label", "vertebra", "restore")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"  # the committed bundle
RATE = {"label": 3e-3, "vertebra": 3e-3}
BATCH = {"label": 2, "vertebra": 4}
FEWEST = {"label": 24, "vertebra": 24}  # files to wait for before the first step
CAPACITY = {"label": 2500, "vertebra": 1600}  # files kept in memory (fields about 1 MB, crop files about 4 MB)


class Ema:
    """Exponential moving average of weights; ``decay`` ramps up with the steps."""

    def __init__(self, net: torch.nn.Module):
        self.net = copy.deepcopy(net).eval()
        self.steps = 0

    @torch.no_grad()
    def update(self, net: torch.nn.Module) -> None:
        self.steps += 1
        decay = min(0.995, (1 + self.steps) / (20 + self.steps))
        for mean, now in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def rate(progress: float) -> float:
    """Share of the peak rate at ``progress`` in [0, 1]: 3 % warm-up, then cosine to zero."""
    if progress < 0.03:
        return 0.05 + 0.95 * progress / 0.03
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.03) / 0.97)))


def step(stage: str, net, source, rng) -> tuple[float, dict[str, float]]:
    """Forward and backward of one batch; gradients are left on the network."""
    if stage == "vertebra":
        crop, masks, evidence, kind, old = source.batch(BATCH[stage], rng)
        with torch.autocast("cpu", torch.bfloat16):
            out = net(crop)
        loss, parts = vertebra_loss(out, masks, evidence, kind, old)
        loss.backward()
        return float(loss.detach()), parts
    total, sums = 0.0, {}
    for _ in range(BATCH[stage]):  # fields differ in size: accumulate
        image, *truth = field_tensors(source.pick(rng), rng)
        with torch.autocast("cpu", torch.bfloat16):
            out = net(image)
        loss, parts = label_loss(out, *truth)
        (loss / BATCH[stage]).backward()
        total += float(loss.detach()) / BATCH[stage]
        for k, v in parts.items():
            sums[k] = sums.get(k, 0.0) + v / BATCH[stage]
    return total, sums


def save(path: Path, value: dict) -> None:
    temporary = path.with_suffix(path.suffix + ".part")
    torch.save(value, temporary)
    temporary.rename(path)


def train(stage: str, work: Path, minutes: float, resume: bool, warm: Path | None, seed: int, peak: float | None) -> None:
    """Run one schedule of ``minutes`` (training time only: waiting for samples and time before a resume do not count)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, os.getpid()])
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    net = LabelNet() if stage == "label" else VertebraNet()
    if warm is not None:
        fitting = warm_weights(warm, net.state_dict())
        net.load_state_dict(fitting, strict=False)
        print(f"warm start from {warm.name}: {len(fitting)} of {len(net.state_dict())} tensors", flush=True)
    ema = Ema(net)
    decay = [p for p in net.parameters() if p.dim() > 1]
    other = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": other, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98))
    peak = peak or RATE[stage]
    spent, steps = 0.0, 0
    checkpoint = work / f"{stage}.ckpt"
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        net.load_state_dict(state["net"])
        ema.net.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        spent, steps, ema.steps = state["spent"], state["steps"], state["steps"]
    pool = Pool(work / ("fields" if stage == "label" else "crops"), CAPACITY[stage])
    while len(pool.names) < FEWEST[stage]:
        time.sleep(5)
        pool.refresh()
    source = pool if stage == "label" else CropSampler(pool)
    print(f"{stage}: {parameters(net) / 1e6:.2f} M parameters, {minutes:.0f} min, {len(pool.names)} files", flush=True)
    last, saved, refreshed, report = time.time(), time.time(), time.time(), []
    net.train()

    def write() -> None:
        about = f"{steps} steps of {BATCH[stage]} in {spent / 60:.0f} CPU-bound minutes over {len(pool.names)} cached files"
        save(work / f"{stage}.pt", {"ema": ema.net.state_dict(), "about": about})
        save(
            checkpoint,
            {
                "net": net.state_dict(),
                "ema": ema.net.state_dict(),
                "optimiser": optimiser.state_dict(),
                "spent": spent,
                "steps": steps,
            },
        )

    while spent < 60 * minutes:
        for group in optimiser.param_groups:
            group["lr"] = peak * rate(spent / (60 * minutes))
        optimiser.zero_grad(set_to_none=True)
        loss, parts = step(stage, net, source, rng)
        size = float(torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0))
        if math.isfinite(loss) and math.isfinite(size):
            optimiser.step()
            ema.update(net)
        else:
            print(f"step {steps}: loss {loss}, gradient {size}: skipped", flush=True)
        steps += 1
        report.append((loss, parts))
        now = time.time()
        spent, last = spent + now - last, now
        if steps % 25 == 0:
            mean = {k: round(sum(p[k] for _, p in report) / len(report), 3) for k in parts}
            print(
                f"{steps} {spent / 60:.1f} min loss {sum(x for x, _ in report) / len(report):.3f} "
                f"lr {optimiser.param_groups[0]['lr']:.1e} files {len(pool.names)} {json.dumps(mean)}",
                flush=True,
            )
            report = []
        if now - saved > 120:
            write()
            saved = now
        if now - refreshed > 60:
            pool.refresh()
            if stage == "vertebra":
                source.update()
            refreshed = last = time.time()
    write()
    print(f"{stage}: done, {steps} steps", flush=True)


def train_all(work: Path, minutes: float, out: Path, profile: str, cases: int, fresh: bool) -> None:
    """Producers beside the trainings, then export, calibration on whole patients, export again, evaluation."""
    here = Path(__file__).resolve().parent
    call = lambda script, *args: [sys.executable, str(here / script), *map(str, args)]  # noqa: E731
    samples = ("--out", str(work / "second"), "--start", "1000000", "--count", "24")  # the second generator never trains
    subprocess.run([sys.executable, "-m", "second.samples", *samples], check=True, cwd=here)
    for kind in ("held", "test", "second"):
        subprocess.run(call("pairs.py", "--work", work, f"--{kind}", "--count", 24), check=True)
    known = [] if fresh else [stage for stage in STAGES if (REFERENCE / f"{stage}.onnx").exists()]
    producers = [
        subprocess.Popen(call(script, "--work", work, "--minutes", minutes + 30)) for script in ("cases.py", "pairs.py")
    ]
    try:
        stages = [
            subprocess.Popen(
                call("train.py", stage, "--work", work, "--minutes", minutes)
                + (["--warm", str(REFERENCE / f"{stage}.onnx")] if stage in known else [])
            )
            for stage in STAGES
        ]
        if any([p.wait() for p in stages]):
            raise SystemExit("a training ended with an error; continue with --resume")
    finally:
        for producer in producers:
            producer.terminate()
            producer.wait()
    subprocess.run(call("export.py", "--work", work, "--out", work / "bundle"), check=True)
    cohort = ("--cohort", work / "calibration", "--out", work)
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
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--work", type=Path, required=True, help="cache and checkpoints; keep it out of git")
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--resume", action="store_true", help="continue the schedule of DIR/<stage>.ckpt")
    parser.add_argument("--warm", type=Path, help="start from the weights of this .pt or .onnx file")
    parser.add_argument("--fresh", action="store_true", help="start from random weights (all)")
    parser.add_argument("--rate", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=REFERENCE, help="bundle (all)")
    parser.add_argument("--profile", default="study", help="case mix of the final evaluation (all)")
    parser.add_argument("--cases", type=int, default=40, help="patients of the final evaluation (all)")
    a = parser.parse_args()
    if a.stage == "all":
        train_all(a.work, a.minutes, a.out, a.profile, a.cases, a.fresh)
    elif a.stage == "restore":
        train_restore.train(a.work, a.minutes, a.resume, a.warm, a.seed, a.rate)
    else:
        train(a.stage, a.work, a.minutes, a.resume, a.warm, a.seed, a.rate)


if __name__ == "__main__":
    main()
