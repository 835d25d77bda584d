"""What a training runs on, and what follows from it: batch sizes, autocast, and who prepares the batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

NAMES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Device:
    """``minutes``: of a schedule; ``batch``: samples a step, by stage; ``producers``: processes that render samples, of each
    kind; ``loaders``: threads that prepare batches beside the device (0: nobody, the training prepares its own, which leaves
    the second core of a small machine to the producers).
    """

    name: str
    minutes: float
    batch: Mapping[str, int]
    producers: int
    loaders: int

    def autocast(self) -> torch.autocast:
        """bfloat16, whose range is float32's: no loss scaling on either device."""
        return torch.autocast(self.name, torch.bfloat16)

    def place(self, tensors: list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
        return [t.to(self.name, non_blocking=True) for t in tensors]

    def batches(self, make: Callable[[np.random.Generator], list], seed: int, first: int) -> Iterator[list]:
        """Endless ``make(rng)``; batch ``k`` (from ``first``, where a resume goes on) has its own generator, so that
        the same seed gives the same batches however many threads make them.
        """
        seeds = iter(range(first, 2**62))
        if not self.loaders:
            for k in seeds:
                yield make(np.random.default_rng([seed, k]))
        with ThreadPoolExecutor(self.loaders) as threads:
            waiting = deque()
            for k in seeds:
                waiting.append(threads.submit(make, np.random.default_rng([seed, k])))
                if len(waiting) > 2 * self.loaders:
                    yield waiting.popleft().result()


CPU = Device("cpu", 100, MappingProxyType({"label": 2, "segment": 2, "vertebra": 4, "restore": 4, "damage": 4}), 1, 0)
CUDA = Device("cuda", 30, MappingProxyType({"label": 8, "segment": 8, "vertebra": 32, "restore": 32, "damage": 32}), 4, 4)


def chosen(name: str) -> Device:
    """``auto`` takes the GPU where PyTorch sees one; ``cuda`` without one is refused rather than run elsewhere."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise SystemExit("--device cuda: PyTorch sees no GPU here")
    return CUDA if there and name != "cpu" else CPU
