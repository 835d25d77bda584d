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
    kind; ``loaders``: threads that prepare batches, on the device, beside the training (0: nobody, the training prepares
    its own, which leaves the second core of a small machine to the producers); ``crop_files``: kept in memory, 3 MB each.
    """

    name: str
    minutes: float
    batch: Mapping[str, int]
    producers: int
    loaders: int
    crop_files: int

    def autocast(self) -> torch.autocast:
        """bfloat16, whose range is float32's: no loss scaling. A CPU without tiles for it stays in float32, which is faster
        there (a step of four crops on one core: 2.4 s, in bfloat16 3.1).
        """
        fast = self.name == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False)
        return torch.autocast(self.name, torch.bfloat16, enabled=fast)

    def place(self, tensors: list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
        """The tensors on this device; a loader's memory is not used again before the asking stream has read it."""
        for t in tensors:
            if t.is_cuda:
                t.record_stream(torch.cuda.current_stream())
        return [t.to(self.name, non_blocking=True) for t in tensors]

    def _own_stream(self) -> None:
        """For a loader on a GPU: in the training's stream each of its copies would wait for the training's steps."""
        if self.name == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream())

    def _finished(self, make: Callable[[np.random.Generator], list], rng: np.random.Generator) -> list:
        batch = make(rng)
        if self.name == "cuda":
            torch.cuda.current_stream().synchronize()
        return batch

    def batches(self, make: Callable[[np.random.Generator], list], seed: int, first: int) -> Iterator[list]:
        """Endless ``make(rng)``; batch ``k`` (from ``first``, where a resume goes on) has its own generator, so that
        the same seed gives the same batches however many threads make them.
        """
        seeds = iter(range(first, 2**62))
        if not self.loaders:
            for k in seeds:
                yield make(np.random.default_rng([seed, k]))
        with ThreadPoolExecutor(self.loaders, initializer=self._own_stream) as threads:
            waiting = deque()
            for k in seeds:
                waiting.append(threads.submit(self._finished, make, np.random.default_rng([seed, k])))
                if len(waiting) > 2 * self.loaders:
                    yield waiting.popleft().result()


_SMALL = {"label": 2, "segment": 2, "vertebra": 4, "restore": 4, "damage": 4}
_LARGE = {"label": 8, "segment": 8, "vertebra": 64, "restore": 32, "damage": 32}
CPU = Device("cpu", 100, MappingProxyType(_SMALL), producers=1, loaders=0, crop_files=2500)
CUDA = Device("cuda", 30, MappingProxyType(_LARGE), producers=4, loaders=2, crop_files=12_000)


def chosen(name: str) -> Device:
    """``auto`` takes the GPU where PyTorch sees one; ``cuda`` without one is refused rather than run elsewhere."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise SystemExit("--device cuda: PyTorch sees no GPU here")
    return CUDA if there and name != "cpu" else CPU
