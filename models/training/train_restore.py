"""Trains the restoring GAN on pairs from ``pairs.py``; ``python models/training/train.py restore`` runs it.

In go the crop, its neighbours' picture and the region to paint; out comes the picture without the damage (`adversarial.py`).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import bundle
from adversarial import Gan, Painted
from augment import intensity, uniform
from devices import Device
from networks import CROP_SPACING
from ovcf_node.domain.findings import Heights
from ovcf_node.infer.restore import region_of
from pool import PairFolder, windowed
from restorer import PLANES, RestoreNet, restore_loss

DAMAGED = 0.6  # share of fractured or deformed vertebrae in a batch
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


def paint(net: RestoreNet, batch: list[Tensor], device: Device) -> Painted:
    """A batch of `PairPool` through the generator."""
    crop, context, region, healthy, body = batch
    with device.autocast():
        out = net.paint(crop, context, region)
        shown = crop * (1 - region) + out[0] * region
    real = crop * (1 - region) + healthy * region
    return Painted(shown.float(), real, region, lambda said: restore_loss(out, healthy, body, region, said))


GAN = Gan("restore", RestoreNet, PairPool, paint, critics_from=0.1, every=50)
