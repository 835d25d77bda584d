"""Cached samples -> training batches. Files come from ``cases.py`` and may keep arriving while training runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bundle
from augment import AIR, blur, crop_box, cut, intensity, resliced, rotation, shift, uniform, warp
from networks import CROP_SPACING

LIMIT = {6.0: 130_000, 3.0: 180_000}  # voxels of a training sample, by its spacing in mm: a field, a part of a spine
FRESH = 3.0  # newer crops are drawn more often: with 3 the newest fifth makes half of the batches


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
    sample: dict, rng: np.random.Generator | None, vary: bool = True, spacing: float = bundle.LABEL_SPACING
) -> tuple[Tensor, ...]:
    """One field as ``image [1,1,z,y,x], labels [1,z,y,x], body [1,1,...], offset [1,3,...], level [1,1,...]``.

    ``spacing`` is the sample's, mm. Augmented when ``rng`` is given, in its appearance too unless ``vary`` says no. Rows
    of ``centres`` are levels from T1 (instance 1): T11 has level 2, S1 level 9.
    """
    hu = torch.from_numpy(sample["hu"].astype(np.float32))
    labels = torch.from_numpy(sample["labels"].astype(np.float32))
    body = torch.from_numpy(sample["body"].astype(np.float32) / 255)
    instance = torch.from_numpy(sample["instance"].astype(np.float32))
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
        hu = intensity(hu, (labels > 0).float(), rng, 60.0) if vary else hu
        if rng.random() < 0.2:  # thick slices
            hu = torch.where(hu > AIR + 1, blur(hu, (0.25, 0.08, 0.08)), hu)
    image = windowed(hu, bundle.LABEL_WINDOW)
    place = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in hu.shape), indexing="ij"))
    rows = torch.cat([torch.full((1, 3), float("nan")), centres])
    target = rows[instance.long()].permute(3, 0, 1, 2)  # NaN outside vertebrae
    offset = ((target - place) * (spacing / 10.0)).flip(0)  # to x, y, z in 10 mm
    regular = np.arange(len(centres), dtype=np.float32) - 8  # rows run from T1 where nothing else is said
    count = torch.cat([torch.zeros(1), torch.from_numpy(sample.get("level", regular))])
    level = padded(count[instance.long()].clamp(-1, 11), 0)
    image, labels = padded(image, -1.0), padded(labels, 0)
    offset = padded(offset, float("nan"))
    return image[None, None], labels[None].long(), padded(body, 0)[None, None], offset[None], level[None, None]


def crop_tensors(sample: dict, k: int, rng: np.random.Generator | None, vary: bool = True) -> tuple[Tensor, ...]:
    """Crop ``k`` of a file: ``crop [1,56,72,32], masks [4,56,72,32], evidence [4], type (int), old [1]``."""
    hu = torch.from_numpy(sample["hu"][k].astype(np.float32))
    packed = torch.from_numpy(sample["masks"][k])
    masks = torch.stack([(packed & bit > 0).float() for bit in (1, 2, 4)])
    masks = torch.cat([masks, back_wall(masks, bool(sample["evidence"][k][3]))])
    if rng is not None:
        steps = tuple(int(rng.integers(-n, n + 1)) for n in (2, 2, 1))
        if rng.random() < 0.5:
            hu, masks = shift(hu.clone(), steps, AIR), shift(masks, steps, 0)
        if rng.random() < 0.5:
            hu, masks = hu.flip(2), masks.flip(3)
        draw = rng.random()  # noise comes before the slices are interpolated, what tones do to them after
        if draw < 0.2:
            hu = resliced(hu, CROP_SPACING, rng)
        hu = intensity(hu, masks[0], rng) if vary else hu
        if draw > 0.8:
            hu = resliced(hu, CROP_SPACING, rng)
        if rng.random() < 0.15:
            gone = cut(tuple(hu.shape), CROP_SPACING, rng)
            hu, masks = hu.masked_fill(gone, AIR), masks.masked_fill(gone[None], 0)
    evidence = torch.from_numpy(sample["evidence"][k].astype(np.float32))
    kind = torch.tensor(int(sample["type"][k]))
    return windowed(hu, bundle.VERTEBRA_WINDOW)[None], masks, evidence, kind, torch.tensor([float(sample["old"][k])])


def back_wall(masks: Tensor, broken: bool) -> Tensor:
    """Where the back wall is broken ``[1,w,v,u]``: the fracture region within 6 mm of the back of the body."""
    _, body, fracture = masks
    if not broken or not body.any():
        return torch.zeros_like(masks[:1])
    rows = torch.arange(body.shape[1], dtype=torch.float32)[None, :, None]
    last = (body * rows).amax(1, keepdim=True)
    return ((fracture > 0) & (rows > last - 6.0 / CROP_SPACING[1])).float()[None]


class CropSampler:
    """Class-balanced choice of crops: half positives spread over evidence patterns, half negatives spread over kinds.

    ``physical`` leaves out what was rendered with the random appearance family.
    """

    def __init__(self, pool: Pool, physical: bool = False):
        self.pool, self.physical = pool, physical
        self.groups: dict[str, list[tuple[dict, int]]] = {}
        self.update()

    def update(self) -> None:
        """Sort the pool's crops anew; threads that pick meanwhile see the old groups or the new ones, whole."""
        groups: dict[str, list[tuple[dict, int]]] = {}
        for name in self.pool.names:
            sample = self.pool.samples[name]
            for k in range(len(sample["type"])):
                if self.physical and sample["random"][k]:
                    continue
                e = sample["evidence"][k]
                if e.any():
                    group = "burst" if e[3] else "ABCD"[int(sample["type"][k]) - 1]
                elif sample["old"][k]:
                    group = "old"
                else:
                    group = "mimic" if sample["mimic"][k] else "plain"
                groups.setdefault(group, []).append((sample, k))
        self.groups = groups

    def pick(self, rng: np.random.Generator, vary: bool = True):
        share = {"A": 1, "B": 1.1, "C": 1, "D": 1.3, "burst": 1.8, "old": 1.6, "mimic": 2.2, "plain": 2.6}
        groups = self.groups
        names = [g for g in share if g in groups]
        weight = np.array([share[g] for g in names])
        group = groups[names[int(rng.choice(len(names), p=weight / weight.sum()))]]
        sample, k = group[int(len(group) * rng.random() ** (1 / FRESH))]  # in the order of their files
        return crop_tensors(sample, k, rng, vary)

    def batch(self, size: int, rng: np.random.Generator, vary: bool = True):
        return [torch.stack(x) for x in zip(*(self.pick(rng, vary) for _ in range(size)), strict=True)]
