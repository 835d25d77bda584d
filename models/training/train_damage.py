"""Trains the damaging GAN on pairs from ``pairs.py``; ``python models/training/train.py damage`` runs it.

The restoring stage's pairs the other way round: in goes the undamaged picture with its masks and a plan of the damage
(`damager.PLAN`, read off the pair), out comes the fractured one. One sample in ten is a whole vertebra with an empty plan.
Weights and the plans to draw from go to ``DIR/damage.pt``; ``cases.py --kind damaged`` paints with them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bundle
from augment import AIR, intensity, shift
from damager import DARK, FRONT, SIGNS_SCALE, DamageNet, damage_loss, reach, shown
from devices import Device
from networks import parameters
from pool import PairFolder, windowed
from restorer import Critics, critic_loss
from schedule import Ema, Schedule, rate, save
from warm import warm_weights

RATE = 2e-3  # peak, generator; the critics learn at a fifth of it
FEWEST = 12  # files to wait for before the first step
WHOLE = 0.1  # share of whole vertebrae with an empty plan
CRITICS_FROM = 0.15  # of the schedule
BITS = {"whole": 1, "body": 2, "fracture": 4, "undamaged": 8}


class BrokenPool(PairFolder):
    """Recent fractures (`damaged`) and some whole vertebrae of ``DIR/pairs``."""

    capacity = 800  # about 2 MB each

    def take(self, sample: dict[str, np.ndarray]) -> None:
        for k in range(len(sample["type"])):
            broken = bool(sample["evidence"][k].any())
            if sample["old"][k] or (not broken and len(self.whole) > len(self.damaged)):
                continue
            loss = 1 - sample["heights"][k] / sample["healthy_heights"][k]
            row = {"seen": sample["seen"][k], "healthy": sample["healthy"][k], "masks": sample["masks"][k],
                   "told": np.concatenate([sample["evidence"][k], loss * broken]).astype(np.float32)}
            (self.damaged if broken else self.whole).append(row)

    def batch(self, size: int, rng: np.random.Generator) -> list[Tensor]:
        """Undamaged crop, body and whole, plan, damaged crop, body, fracture: ``[N,1,56,48,32]``, the plan ``[N,9]``."""
        picks = []
        for _ in range(size):
            group = self.whole if self.whole and rng.random() < WHOLE else self.damaged
            picks.append(prepared(group[int(rng.integers(len(group)))], rng))
        return [torch.stack(x) for x in zip(*picks, strict=True)]

    def plans(self) -> Tensor:
        """The plans of all broken vertebrae ``[N,9]``: what `painted.py` draws from."""
        return torch.stack([prepared(row, None)[3] for row in self.damaged])


def prepared(row: dict, rng: np.random.Generator | None) -> list[Tensor]:
    """One pair as input and target, varied alike on both sides when ``rng`` is given."""
    seen, healthy = (torch.from_numpy(row[k].astype(np.float32)) for k in ("seen", "healthy"))
    packed = torch.from_numpy(row["masks"])
    masks = {name: (packed & bit > 0).float() for name, bit in BITS.items()}
    whole = torch.maximum(masks["whole"] * (1 - masks["body"]), masks["undamaged"])
    volumes = [healthy, masks["undamaged"], whole, seen, masks["body"], masks["fracture"]]
    if rng is not None:
        draw = int(rng.integers(2**31))
        nothing = torch.zeros_like(seen)[None]  # bone of its own tone would differ between them
        for k in (0, 3):
            volumes[k] = intensity(volumes[k][None], nothing, np.random.default_rng(draw), 20.0)[0]
        steps = tuple(int(rng.integers(-n, n + 1)) for n in (3, 2, 1))
        flip = rng.random() < 0.5
        volumes = [shift(v.clone(), steps, AIR if k in (0, 3) else 0) for k, v in enumerate(volumes)]
        volumes = [v.flip(2) if flip else v for v in volumes]
    volumes[0], volumes[3] = (windowed(volumes[k], bundle.VERTEBRA_WINDOW) for k in (0, 3))
    told = torch.cat([torch.from_numpy(row["told"]), signs(volumes[0], volumes[1], volumes[3], volumes[4])])
    crop, body, whole, seen, broken, fracture = (v[None, :, :FRONT] for v in volumes)
    return [crop, body, whole, told, seen, broken, fracture]


def signs(healthy: Tensor, undamaged: Tensor, seen: Tensor, body: Tensor) -> Tensor:
    """How much denser the broken body is, and how much darker its darkest part: the last two numbers of a plan."""
    before, after = healthy[undamaged > 0.5], seen[body > 0.5]
    if not len(before) or not len(after):
        return torch.zeros(2)
    change = torch.stack([after.mean() - before.mean(), after.quantile(DARK) - before.quantile(DARK)])
    return change * torch.tensor(SIGNS_SCALE)


def train(
    work: Path, minutes: float, resume: bool, warm: Path | None, seed: int, peak: float | None, device: Device
) -> None:
    """Run one schedule of ``minutes`` of training time."""
    torch.manual_seed(seed)
    net, critics = DamageNet(), Critics()
    if warm is not None:
        net.load_state_dict(warm_weights(warm, net.state_dict()), strict=False)
    net, critics = net.to(device.name), critics.to(device.name)
    ema, peak = Ema(net), peak or RATE
    painter = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
    judges = torch.optim.AdamW(critics.parameters(), lr=1e-4, betas=(0.5, 0.99), weight_decay=0.0)
    schedule, checkpoint = Schedule("damage", minutes), work / "damage.ckpt"
    parts = {"net": net, "critics": critics, "ema": ema.net, "painter": painter, "judges": judges}
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device.name, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        schedule.spent, schedule.steps = state["spent"], state["steps"]
        ema.steps = schedule.steps
    pool = BrokenPool(work / "pairs")
    schedule.wait(pool.refresh, FEWEST)
    print(f"damage: {parameters(net) / 1e6:.2f} M parameters, {len(pool.damaged)} fractures", flush=True)
    source = device.batches(lambda rng: pool.batch(device.batch["damage"], rng), seed, schedule.steps)

    def step(progress: float) -> dict[str, float]:
        painter.param_groups[0]["lr"], judges.param_groups[0]["lr"] = peak * rate(progress), 0.2 * peak * rate(progress)
        found = turn(net, critics, painter, judges, device.place(next(source)), device, progress >= CRITICS_FROM)
        if math.isfinite(found["loss"]):
            ema.update(net)
        return found

    def write() -> None:
        steps, minutes = schedule.steps, schedule.spent / 60
        about = f"{steps} steps of {device.batch['damage']} in {minutes:.0f} minutes over {len(pool.damaged)} fractures"
        save(work / "damage.pt", {"ema": ema.net.state_dict(), "plans": pool.plans(), "about": about})
        state = {k: v.state_dict() for k, v in parts.items()}
        save(checkpoint, {**state, "spent": schedule.spent, "steps": schedule.steps})

    schedule.run(step, write, pool.refresh)


def turn(net, critics, painter, judges, batch: list[Tensor], device: Device, criticised: bool) -> dict[str, float]:
    """One update of the generator and, where ``criticised``, of the critics; none on a loss that is not finite."""
    crop, body, whole, plan, seen, broken, fracture = batch
    near = reach(body)
    with device.autocast():
        out = net(crop, body, whole, plan)
    critics.requires_grad_(False)
    painted, region = shown(out.picture, near)
    verdicts = critics(painted, region) if criticised else []  # small, and bfloat16 ruins their spectral norm
    loss, parts = damage_loss(out, seen, broken, fracture, near, verdicts)
    parts["loss"], parts["critic"] = float(loss.detach()), 0.0
    painter.zero_grad(set_to_none=True)
    loss.backward()
    size = float(torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0))
    if not (math.isfinite(parts["loss"]) and math.isfinite(size)):
        return {**parts, "loss": math.nan}
    painter.step()
    if criticised:
        critics.requires_grad_(True)
        wrong = critic_loss(critics(shown(seen, near)[0], region), critics(painted.detach(), region))
        parts["critic"] = float(wrong.detach())
        judges.zero_grad(set_to_none=True)
        if math.isfinite(parts["critic"]):
            wrong.backward()
            judges.step()
    return parts
