"""How a schedule runs: its rate over its time, the mean of the weights, when it reports, saves and looks for samples."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

SAVE_SECONDS, REFRESH_SECONDS = 120, 60


class Ema:
    """Exponential moving average of weights; ``decay`` ramps up with the steps."""

    def __init__(self, net: torch.nn.Module):
        self.net = copy.deepcopy(net).eval()
        self.steps = 0

    @torch.no_grad()
    def update(self, net: torch.nn.Module) -> None:
        self.steps += 1
        decay = min(0.995, (1 + self.steps) / (20 + self.steps))
        get_ema_multi_avg_fn(decay)(list(self.net.parameters()), list(net.parameters()), self.steps)


def rate(progress: float) -> float:
    """Share of the peak rate at ``progress`` in [0, 1]: 3 % warm-up, then cosine to zero."""
    if progress < 0.03:
        return 0.05 + 0.95 * progress / 0.03
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.03) / 0.97)))


def save(path: Path, value: dict) -> None:
    temporary = path.with_suffix(path.suffix + ".part")
    torch.save(value, temporary)
    temporary.rename(path)


@dataclass
class Schedule:
    """``minutes`` of training by ``clock`` (seconds): waiting for samples and the time before a resume do not count.

    ``time.time`` ends on time on a busy machine; ``time.process_time`` gives rivals the same work on one.
    """

    name: str
    minutes: float
    clock: Callable[[], float] = time.time
    spent: float = 0.0
    steps: int = 0

    @staticmethod
    def wait(refresh: Callable[[], int], fewest: int) -> None:
        """Until ``refresh`` has found ``fewest`` files: the producer starts beside the training."""
        while refresh() < fewest:
            time.sleep(5)

    def run(
        self,
        step: Callable[[float], dict[str, float]],
        write: Callable[[], None],
        refresh: Callable[[], int],
        every: int = 25,
    ) -> None:
        """Call ``step(progress)`` until the time is up; it returns its losses by name, ``loss`` among them (NaN: skipped).

        ``write`` saves, every two minutes and at the end; ``refresh`` finds new samples and returns how many files there
        are.
        """
        files, report = refresh(), []
        print(f"{self.name}: {self.minutes:.0f} min from {self.spent / 60:.1f}, {files} files", flush=True)
        last, saved, refreshed = self.clock(), time.time(), time.time()
        while self.spent < 60 * self.minutes:
            parts = step(self.spent / (60 * self.minutes))
            if math.isfinite(parts["loss"]):
                report.append(parts)
            else:
                print(f"step {self.steps}: {parts}: skipped", flush=True)
            self.steps += 1
            now = self.clock()
            self.spent, last = self.spent + now - last, now
            if self.steps % every == 0 and report:
                mean = {k: round(sum(p[k] for p in report) / len(report), 3) for k in parts}
                print(f"{self.steps} {self.spent / 60:.1f} min files {files} {json.dumps(mean)}", flush=True)
                report = []
            if time.time() - saved > SAVE_SECONDS:
                write()
                saved = time.time()
            if time.time() - refreshed > REFRESH_SECONDS:
                files, refreshed = refresh(), time.time()
                last = self.clock()
        write()
        print(f"{self.name}: done, {self.steps} steps", flush=True)
