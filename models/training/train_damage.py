"""Trains the damaging GAN on pairs from ``pairs.py``; ``python models/training/train.py damage`` runs it.

The restoring stage's pairs the other way round: in goes the undamaged picture with its masks and a plan of the damage
(`damager.PLAN`, read off the pair), out comes the fractured one. One sample in ten is a whole vertebra with an empty plan.
Weights and the plans to draw from go to ``DIR/damage.pt``; ``cases.py --kind damaged`` paints with them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import bundle
from adversarial import Gan, Painted
from augment import AIR, intensity, shift
from damager import DARK, FRONT, SIGNS_SCALE, DamageNet, damage_loss, reach, shown
from devices import Device
from pool import PairFolder, windowed

WHOLE = 0.1  # share of whole vertebrae with an empty plan
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


def paint(net: DamageNet, batch: list[Tensor], device: Device) -> Painted:
    """A batch of `BrokenPool` through the generator; the critics judge it on the restoring stage's grid."""
    crop, body, whole, plan, seen, broken, fracture = batch
    near = reach(body)
    with device.autocast():
        out = net(crop, body, whole, plan)
    picture, region = shown(out.picture, near)
    return Painted(picture, shown(seen, near)[0], region, lambda said: damage_loss(out, seen, broken, fracture, near, said))


GAN = Gan("damage", DamageNet, BrokenPool, paint, critics_from=0.15, kept=lambda pool: {"plans": pool.plans()})
