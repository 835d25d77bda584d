"""A generator against its critics: how the restoring GAN (`train_restore.py`) and its inverse (`train_damage.py`) learn.

The schedule is ``train.py``'s (clock-driven cosine, EMA, bfloat16, checkpoints ``DIR/<name>.ckpt`` and ``<name>.pt``).
Generator and critics take turns; the critics join later, when there is something to criticise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from devices import CPU, Device
from networks import parameters
from pool import PairFolder
from restorer import Critics, critic_loss
from schedule import Ema, Schedule, rate, save
from warm import warm_weights

RATE = 2e-3  # peak, generator; the critics learn at a fifth of it
FEWEST = 12  # files to wait for before the first step


@dataclass(frozen=True)
class Painted:
    """One pass of a generator: its picture and the true one as the critics judge them, and the region they look at.

    ``loss`` is the generator's, with its parts by name, given the critics' verdicts (none as long as they wait).
    """

    picture: Tensor
    real: Tensor
    region: Tensor
    loss: Callable[[list[Tensor]], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Gan:
    """What one GAN is: its name, generator and pairs, and what the generator makes of a batch.

    ``kept`` is what its checkpoint holds of the pairs beside the weights.
    """

    name: str
    network: Callable[[], nn.Module]
    pool: Callable[[Path], PairFolder]
    paint: Callable[[nn.Module, list[Tensor], Device], Painted]
    critics_from: float  # of the schedule
    every: int = 25  # steps between reports
    kept: Callable[[Any], dict[str, Tensor]] = lambda pool: {}


class Rivals:
    """Generator and critics, each with its optimiser."""

    def __init__(self, gan: Gan, warm: Path | None = None, device: Device = CPU):
        self.gan, self.device = gan, device
        self.net, self.critics = gan.network(), Critics()
        if warm is not None:
            fitting = warm_weights(warm, self.net.state_dict())
            self.net.load_state_dict(fitting, strict=False)
            print(f"warm start from {warm.name}: {len(fitting)} of {len(self.net.state_dict())} tensors", flush=True)
        self.net.to(device.name)
        self.critics.to(device.name)
        self.painter = torch.optim.AdamW(self.net.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
        self.judges = torch.optim.AdamW(self.critics.parameters(), lr=1e-4, betas=(0.5, 0.99), weight_decay=0.0)

    def pace(self, rate: float) -> None:
        """Set the generator's learning rate, and with it the critics'."""
        self.painter.param_groups[0]["lr"], self.judges.param_groups[0]["lr"] = rate, 0.2 * rate

    def turn(self, batch: list[Tensor], criticised: bool) -> dict[str, float]:
        """One update of the generator and, where ``criticised``, of the critics; none on a loss that is not finite."""
        made = self.gan.paint(self.net, batch, self.device)
        self.critics.requires_grad_(False)
        verdicts = self.critics(made.picture, made.region) if criticised else []  # bfloat16 ruins their spectral norm
        loss, parts = made.loss(verdicts)
        parts |= {"loss": float(loss.detach()), "critic": 0.0}
        self.painter.zero_grad(set_to_none=True)
        loss.backward()
        size = float(torch.nn.utils.clip_grad_norm_(self.net.parameters(), 2.0))
        if not (math.isfinite(parts["loss"]) and math.isfinite(size)):
            return {**parts, "loss": math.nan}
        self.painter.step()
        if criticised:
            self.critics.requires_grad_(True)
            wrong = critic_loss(*(self.critics(x, made.region) for x in (made.real, made.picture.detach())))
            parts["critic"] = float(wrong.detach())
            self.judges.zero_grad(set_to_none=True)
            if math.isfinite(parts["critic"]):
                wrong.backward()
                self.judges.step()
        return parts


def train(
    gan: Gan, work: Path, minutes: float, resume: bool, warm: Path | None, seed: int, peak: float | None, device: Device
) -> None:
    """Run one schedule of ``minutes`` of training time on the pairs of ``DIR/pairs``."""
    torch.manual_seed(seed)
    rivals, peak = Rivals(gan, warm, device), peak or RATE
    ema = Ema(rivals.net)
    parts = {name: getattr(rivals, name) for name in ("net", "critics", "painter", "judges")} | {"ema": ema.net}
    schedule, checkpoint = Schedule(gan.name, minutes), work / f"{gan.name}.ckpt"
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device.name, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        schedule.spent, schedule.steps = state["spent"], state["steps"]
        ema.steps = schedule.steps
    pool, size = gan.pool(work / "pairs"), device.batch[gan.name]
    schedule.wait(pool.refresh, FEWEST)
    print(f"{gan.name}: {parameters(rivals.net) / 1e6:.2f} M parameters on {device.name}", flush=True)
    batches = device.batches(lambda rng: pool.batch(size, rng), seed, schedule.steps)

    def step(progress: float) -> dict[str, float]:
        rivals.pace(peak * rate(progress))
        found = rivals.turn(device.place(next(batches)), progress >= gan.critics_from)
        if math.isfinite(found["loss"]):
            ema.update(rivals.net)
        return found

    def write() -> None:
        seen = f"{len(pool.damaged)} damaged and {len(pool.whole)} whole vertebrae"
        about = f"{schedule.steps} steps of {size} in {schedule.spent / 60:.0f} minutes over {seen}"
        save(work / f"{gan.name}.pt", {"ema": ema.net.state_dict(), "about": about, **gan.kept(pool)})
        state = {name: part.state_dict() for name, part in parts.items()}
        save(checkpoint, {**state, "spent": schedule.spent, "steps": schedule.steps})

    schedule.run(step, write, pool.refresh, gan.every)
