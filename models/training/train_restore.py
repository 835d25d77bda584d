"""Trains the restoring GAN on pairs from ``pairs.py``; ``python models/training/train.py restore`` runs it.

The schedule is ``train.py``'s (clock-driven cosine, EMA, bfloat16, checkpoints ``DIR/restore.ckpt`` and ``restore.pt``).
Generator and critics take turns; the critics join after a tenth of the time, when there is something to criticise.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import bundle
from augment import intensity, uniform
from devices import CPU, Device
from networks import CROP_SPACING, parameters
from ovcf_node.domain.findings import Heights
from ovcf_node.infer.restore import region_of
from pool import PairFolder, windowed
from restorer import PLANES, Critics, RestoreNet, critic_loss, restore_loss
from schedule import Ema, Schedule, rate, save
from warm import warm_weights

RATE = 2e-3  # peak, generator; the critics learn at a fifth of it
FEWEST = 12  # files to wait for before the first step
DAMAGED = 0.6  # share of fractured or deformed vertebrae in a batch
CRITICS_FROM = 0.1  # of the schedule
CUT = 0.02  # a pair whose undamaged body leaves the region by more than this share is left out


def coarse(volume: np.ndarray) -> np.ndarray:
    """``[K,56,72,32]`` -> means on the working grid, ``[K,56,36,16]``."""
    k, w, v, u = volume.shape
    return volume.astype(np.float32).reshape(k, w, v // 2, 2, u // 2, 2).mean((3, 5))


def blanked(body: np.ndarray, expected: np.ndarray, off_centre_mm: float = 0.0) -> np.ndarray:
    """The node's region of one crop, bool ``[56,72,32]``."""
    return region_of(body, Heights(*map(float, expected)), np.array(CROP_SPACING), off_centre_mm)


class PairPool(PairFolder):
    """Pairs of ``DIR/pairs`` on the working grid."""

    capacity = 1200  # about 2 MB each

    def take(self, sample: dict[str, np.ndarray]) -> None:
        seen, healthy = (np.round(coarse(sample[k])).astype(np.int16) for k in ("seen", "healthy"))
        undamaged = (sample["masks"] & 8) > 0
        target = np.round(coarse(undamaged) * 255).astype(np.uint8)
        for k in range(len(seen)):
            body = (sample["masks"][k] & 2) > 0
            region = blanked(body, sample["expected"][k])
            if (undamaged[k] & ~region).sum() > CUT * undamaged[k].sum():
                continue
            hurt = bool(sample["evidence"][k].any() or sample["old"][k])
            row = {"seen": seen[k], "healthy": healthy[k], "context": sample["context"][k], "body": body,
                   "target": target[k], "expected": sample["expected"][k]}
            (self.damaged if hurt else self.whole).append(row)

    def batch(self, size: int, rng: np.random.Generator) -> list[Tensor]:
        """Crop, context, region, undamaged picture and body (fraction), each ``[N,1,56,36,16]``."""
        picks = []
        for _ in range(size):
            group = self.damaged if rng.random() < DAMAGED else self.whole
            picks.append(prepared(group[int(rng.integers(len(group)))], rng))
        return [torch.stack(x)[:, None] for x in zip(*picks, strict=True)]


def prepared(row: dict, rng: np.random.Generator | None) -> list[Tensor]:
    """One pair as network input and target; varied alike in all its pictures when ``rng`` is given."""
    expected, off = row["expected"], 0.0
    if rng is not None:
        expected, off = expected * np.exp(rng.normal(0, 0.01)), rng.normal(0, 0.8)
    region = torch.from_numpy(blanked(row["body"], expected, off).astype(np.float32))
    region = F.max_pool3d(region[None, None], PLANES)[0, 0]
    pictures = [torch.from_numpy(row[k].astype(np.float32)) for k in ("seen", "context", "healthy")]
    target = torch.from_numpy(row["target"].astype(np.float32) / 255)
    if rng is not None:
        draw = int(rng.integers(2**31))
        nothing = torch.zeros_like(target)[None]  # no tissue of its own tone: it would differ between the pictures
        pictures = [intensity(p[None], nothing, np.random.default_rng(draw), 25.0)[0] for p in pictures]
        if rng.random() < 0.1:  # the field ends near the vertebra
            rows = int(uniform(rng, 4, 16))
            part = slice(0, rows) if rng.random() < 0.5 else slice(56 - rows, 56)
            pictures[1] = pictures[1].clone()
            pictures[1][part] = -1024.0
        if rng.random() < 0.5:
            pictures, target, region = [p.flip(2) for p in pictures], target.flip(2), region.flip(2)
    seen, context, healthy = (windowed(p, bundle.VERTEBRA_WINDOW) for p in pictures)
    return [seen, context, region, healthy, target]


def train(
    work: Path, minutes: float, resume: bool, warm: Path | None, seed: int, peak: float | None, device: Device
) -> None:
    """Run one schedule of ``minutes`` of training time."""
    torch.manual_seed(seed)
    net, critics = RestoreNet(), Critics()
    if warm is not None:
        fitting = warm_weights(warm, net.state_dict())
        net.load_state_dict(fitting, strict=False)
        print(f"warm start from {warm.name}: {len(fitting)} of {len(net.state_dict())} tensors", flush=True)
    net, critics = net.to(device.name), critics.to(device.name)
    ema, peak = Ema(net), peak or RATE
    painter = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
    judges = torch.optim.AdamW(critics.parameters(), lr=1e-4, betas=(0.5, 0.99), weight_decay=0.0)
    schedule, checkpoint = Schedule("restore", minutes), work / "restore.ckpt"
    parts = {"net": net, "critics": critics, "ema": ema.net, "painter": painter, "judges": judges}
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device.name, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        schedule.spent, schedule.steps = state["spent"], state["steps"]
        ema.steps = schedule.steps
    pool = PairPool(work / "pairs")
    schedule.wait(pool.refresh, FEWEST)
    print(f"restore: {parameters(net) / 1e6:.2f} M parameters on {device.name}", flush=True)
    size = device.batch["restore"]
    batches = device.batches(lambda rng: pool.batch(size, rng), seed, schedule.steps)

    def one(progress: float) -> dict[str, float]:
        painter.param_groups[0]["lr"], judges.param_groups[0]["lr"] = peak * rate(progress), 0.2 * peak * rate(progress)
        batch = device.place(next(batches))
        found = step(net, critics, painter, judges, batch, progress >= CRITICS_FROM, device)
        if math.isfinite(found["loss"]):
            ema.update(net)
        return found

    def write() -> None:
        count = len(pool.damaged) + len(pool.whole)
        about = f"{schedule.steps} steps of {size} in {schedule.spent / 60:.0f} minutes over {count} cached pairs"
        save(work / "restore.pt", {"ema": ema.net.state_dict(), "about": about})
        state = {k: v.state_dict() for k, v in parts.items()}
        save(checkpoint, {**state, "spent": schedule.spent, "steps": schedule.steps})

    schedule.run(one, write, pool.refresh, every=50)


def step(
    net, critics, painter, judges, batch: list[Tensor], criticised: bool, device: Device = CPU
) -> dict[str, float]:
    """One update of the generator and, where ``criticised``, of the critics; nothing is updated on a loss that is not
    finite.
    """
    crop, context, region, healthy, body = batch
    with device.autocast():
        picture, logits = net.paint(crop, context, region)
        shown = crop * (1 - region) + picture * region
    critics.requires_grad_(False)
    verdicts = critics(shown.float(), region) if criticised else []  # small, and bfloat16 ruins their spectral norm
    loss, parts = restore_loss((picture, logits), healthy, body, region, verdicts)
    parts["loss"] = float(loss.detach())
    painter.zero_grad(set_to_none=True)
    loss.backward()
    size = float(torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0))
    if not (math.isfinite(parts["loss"]) and math.isfinite(size)):
        return {**parts, "loss": math.nan}
    painter.step()
    if criticised:
        critics.requires_grad_(True)
        real, painted = critics(crop * (1 - region) + healthy * region, region), critics(shown.detach().float(), region)
        wrong = critic_loss(real, painted)
        parts["critic"] = float(wrong.detach())
        judges.zero_grad(set_to_none=True)
        if math.isfinite(parts["critic"]):
            wrong.backward()
            judges.step()
    else:
        parts["critic"] = 0.0
    return parts
