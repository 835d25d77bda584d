"""Cached samples -> training batches. Files come from ``cases.py`` and may keep arriving while training runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bundle
from augment import AIR, beyond, blur, crop_box, intensity, replace, resliced, rotation, shift, uniform, warp
from networks import CROP_SPACING

LIMIT = {6.0: 130_000, 3.0: 180_000}  # voxels of a training sample, by its spacing in mm: a field, a part of a spine
PAINTED = 0.1  # of the crops, at most: those with painted damage and their whole twins


def windowed(hu: Tensor, limits) -> Tensor:
    low, high = limits
    return (hu.clamp(low, high) - low) * (2.0 / (high - low)) - 1.0


def padded(x: Tensor, outside: float, multiple: int = bundle.MULTIPLE_OF) -> Tensor:
    """Pad the ends of the last three axes to a multiple."""
    pads = []
    for n in reversed(x.shape[-3:]):
        pads += [0, -n % multiple]
    return torch.nn.functional.pad(x, pads, value=outside)


class Pool:
    """The samples of one folder, kept in memory, oldest dropped beyond ``capacity`` files; ``refresh`` finds new files."""

    def __init__(self, folder: Path, capacity: int):
        self.folder, self.capacity = folder, capacity
        self.samples: dict[str, dict[str, np.ndarray]] = {}
        self.names: list[str] = []
        self.refresh()

    def refresh(self) -> int:
        for path in sorted(self.folder.glob("*.npz"), key=lambda p: p.stat().st_mtime):
            if path.name not in self.samples:
                with np.load(path) as data:
                    self.samples[path.name] = {k: data[k] for k in data.files}
                self.names.append(path.name)
        while len(self.names) > self.capacity:
            self.samples[self.names.pop(0)] = {}
        return len(self.names)

    def pick(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self.samples[self.names[int(rng.integers(len(self.names)))]]


class PairFolder(ABC):
    """Pairs of a folder, `damaged` and `whole` vertebrae in memory; ``refresh`` takes new files, up to ``capacity``."""

    capacity: int

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: set[str] = set()
        self.damaged: list[dict] = []
        self.whole: list[dict] = []
        self.refresh()

    def refresh(self) -> int:
        for path in sorted(self.folder.glob("*.npz"), key=lambda p: p.stat().st_mtime):
            if path.name not in self.names and len(self.names) < self.capacity:
                self.names.add(path.name)
                with np.load(path) as data:
                    self.take({k: data[k] for k in data.files})
        return len(self.names)

    @abstractmethod
    def take(self, sample: dict[str, np.ndarray]) -> None:
        """Sort what a file holds into ``damaged`` and ``whole``."""


def field_tensors(
    sample: dict, rng: np.random.Generator | None, vary: bool = True, spacing: float = bundle.LABEL_SPACING,
    device: str = "cpu",
) -> tuple[Tensor, ...]:
    """One field as ``image [1,1,z,y,x], labels [1,z,y,x], body [1,1,...], offset [1,3,...], level [1,1,...]``.

    ``spacing`` is the sample's, mm. Augmented when ``rng`` is given, in its appearance too unless ``vary`` says no. Rows
    of ``centres`` are levels from T1 (instance 1): T11 has level 2, S1 level 9.
    """
    hu, labels, body, instance = (
        torch.from_numpy(sample[k]).to(device).float() for k in ("hu", "labels", "body", "instance")
    )
    body = body / 255
    centres = torch.from_numpy(sample["centres"].astype(np.float32))  # K x (z, y, x) in voxels
    if rng is not None:
        found = np.argwhere(sample["labels"] > 0)
        if len(found):
            focus = [(int(a), int(b)) for a, b in zip(found.min(0), found.max(0), strict=True)]
        else:
            focus = [(0, n - 1) for n in hu.shape]
        box = crop_box(hu.shape, focus, rng, LIMIT[spacing], spacing)
        hu, labels, body, instance = hu[box], labels[box], body[box], instance[box]
        centres = centres - torch.tensor([s.start for s in box], dtype=torch.float32)
        if rng.random() < 0.6:
            matrix = rotation(rng, (6.0, 8.0, 18.0)) * uniform(rng, 0.88, 1.14)
            middle = (torch.tensor(hu.shape, dtype=torch.float32) - 1) / 2
            hu, labels, body, instance = warp(
                [(hu, "bilinear", AIR), (labels, "nearest", 0), (body, "bilinear", 0), (instance, "nearest", 0)], matrix
            )
            centres = (centres - middle) @ torch.linalg.inv(matrix).T + middle
        if rng.random() < 0.5:  # left-right
            hu, labels, body, instance = (v.flip(2) for v in (hu, labels, body, instance))
            centres = centres.clone()
            centres[:, 2] = hu.shape[2] - 1 - centres[:, 2]
        hu = intensity(hu[None], (labels > 0)[None], rng, 60.0)[0] if vary else hu
        if rng.random() < 0.2:  # thick slices
            hu = torch.where(hu > AIR + 1, blur(hu[None], (0.25, 0.08, 0.08))[0], hu)
    image = windowed(hu, bundle.LABEL_WINDOW)
    axes = (torch.arange(n, dtype=torch.float32, device=device) for n in hu.shape)
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    rows = torch.cat([torch.full((1, 3), float("nan")), centres]).to(device)
    target = rows[instance.long()].permute(3, 0, 1, 2)  # NaN outside vertebrae
    offset = ((target - place) * (spacing / 10.0)).flip(0)  # to x, y, z in 10 mm
    regular = np.arange(len(centres), dtype=np.float32) - 8  # rows run from T1 where nothing else is said
    count = torch.cat([torch.zeros(1), torch.from_numpy(sample.get("level", regular))]).to(device)
    level = padded(count[instance.long()].clamp(-1, 11), 0)
    image, labels = padded(image, -1.0), padded(labels, 0)
    offset = padded(offset, float("nan"))
    return image[None, None], labels[None].long(), padded(body, 0)[None, None], offset[None], level[None, None]


def crop_tensors(
    picks: list[tuple[dict, int]], rng: np.random.Generator | None, vary: bool = True, device: str = "cpu"
) -> list[Tensor]:
    """Crops ``(file, k)`` as ``crop [N,1,56,72,32], masks [N,7,56,72,32], evidence [N,4], type [N], old [N,1]``.

    Augmented when ``rng`` is given, in their appearance too unless ``vary`` says no.
    """
    layers = [[torch.from_numpy(sample[name][k]) for sample, k in picks] for name in ("hu", "masks")]
    if rng is not None:
        for k in range(len(picks)):
            steps = tuple(int(rng.integers(-n, n + 1)) for n in (2, 2, 1)) if rng.random() < 0.5 else (0, 0, 0)
            flip = (2,) if rng.random() < 0.5 else ()
            for layer, outside in zip(layers, (AIR, 0), strict=True):
                layer[k] = shift(layer[k], steps, outside).flip(flip)
    hu, packed = (torch.stack(layer).to(device) for layer in layers)
    hu, masks = hu.float(), torch.stack([(packed & bit > 0).float() for bit in (1, 2, 4)], 1)
    evidence = torch.from_numpy(np.stack([sample["evidence"][k] for sample, k in picks])).to(device).float()
    masks = torch.cat([masks, sign_maps(masks, evidence)], 1)
    if rng is not None:
        slices = lambda x: resliced(x, CROP_SPACING, rng)  # noqa: E731
        when = rng.random(len(hu))  # noise comes before the slices are interpolated, what tones do to them after
        replace(hu, when < 0.2, slices)
        hu = intensity(hu, masks[:, 0], rng) if vary else hu
        replace(hu, when > 0.8, slices)
        cut = torch.from_numpy(np.flatnonzero(rng.random(len(hu)) < 0.15)).to(device)
        gone = beyond(hu[cut], CROP_SPACING, rng)
        hu[cut] = hu[cut].masked_fill(gone, AIR)
        masks[cut] = masks[cut].masked_fill(gone[:, None], 0)
    kind, old = (torch.tensor([int(sample[name][k]) for sample, k in picks], device=device) for name in ("type", "old"))
    return [windowed(hu, bundle.VERTEBRA_WINDOW)[:, None], masks, evidence, kind, old.float()[:, None]]


def sign_maps(masks: Tensor, evidence: Tensor) -> Tensor:
    """Where each sign of ``evidence [N,4]`` is ``[N,4,w,v,u]``; empty without the sign. Masks: vertebra, body, fracture.

    The fracture region in the upper and in the lower half of the body and what lies beyond each, in its front third and what
    lies before it, and from 6 mm before its back.
    """
    body, fracture = masks[:, 1], masks[:, 2]
    up, back = (torch.cumsum(body, axis) / body.sum(axis, keepdim=True).clamp(min=1) for axis in (1, 2))
    columns, rows = (body.amax(axis, keepdim=True) > 0 for axis in (1, 2))
    place = torch.arange(body.shape[2], dtype=torch.float32, device=body.device)[:, None]
    last = (body * place).amax(2, keepdim=True)
    behind = rows & (place > last - 6.0 / CROP_SPACING[1])
    parts = torch.stack([columns & (up > 0.5), columns & (up <= 0.5), rows & (back < 0.34), behind], 1)
    return (parts & (fracture > 0)[:, None]) * evidence[:, :, None, None, None]


class CropSampler:
    """Class-balanced choice of crops: half positives spread over evidence patterns, half negatives spread over kinds.

    ``physical`` leaves out what was rendered with the random appearance family. ``painted`` (``painted.py``): crops of
    which each fracture has its whole twin, so that they are drawn evenly, one crop in ten at most and no oftener than
    their number says.
    """

    def __init__(self, pool: Pool, physical: bool = False, painted: Pool | None = None):
        self.pool, self.physical, self.painted = pool, physical, painted
        self.groups: dict[str, list[tuple[dict, int]]] = {}
        self.twins: list[tuple[dict, int]] = []
        self.share = 0.0
        self.update()

    def usable(self, pool: Pool) -> Iterator[tuple[dict, int]]:
        for name in pool.names:
            sample = pool.samples[name]
            for k in range(len(sample["type"])):
                if not (self.physical and sample["random"][k]):
                    yield sample, k

    def update(self) -> None:
        """Sort the pool's crops anew; threads that pick meanwhile see the old groups or the new ones, whole."""
        groups: dict[str, list[tuple[dict, int]]] = {}
        for sample, k in self.usable(self.pool):
            e = sample["evidence"][k]
            if e.any():
                group = "burst" if e[3] else "ABCD"[int(sample["type"][k]) - 1]
            elif sample["old"][k]:
                group = "old"
            else:
                group = "mimic" if sample["mimic"][k] else "plain"
            groups.setdefault(group, []).append((sample, k))
        self.groups = groups
        if self.painted is not None and self.painted.refresh():
            self.twins = list(self.usable(self.painted))
            self.share = min(PAINTED, len(self.twins) / max(1, len(self.twins) + sum(map(len, groups.values()))))

    def pick(self, rng: np.random.Generator) -> tuple[dict, int]:
        twins = self.twins
        if twins and rng.random() < self.share:
            return twins[int(rng.integers(len(twins)))]
        # A twice as often as B or C: where one plate broke far more than the other, the lesser is what is overlooked.
        share = {"A": 2.2, "B": 1.1, "C": 1, "D": 1.3, "burst": 1.8, "old": 1.6, "mimic": 2.2, "plain": 2.6}
        groups = self.groups
        names = [g for g in share if g in groups]
        weight = np.array([share[g] for g in names])
        group = groups[names[int(rng.choice(len(names), p=weight / weight.sum()))]]
        return group[int(rng.integers(len(group)))]

    def batch(self, size: int, rng: np.random.Generator, vary: bool = True, device: str = "cpu") -> list[Tensor]:
        return crop_tensors([self.pick(rng) for _ in range(size)], rng, vary, device)
