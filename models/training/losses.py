"""Losses of the two networks. All take logits; masks are in [0, 1]; everything is computed in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from networks import BACKGROUND_WEIGHT


def dice(prob: Tensor, target: Tensor, smooth: float = 20.0) -> Tensor:
    """Mean soft-dice loss over channels that occur; ``[N,C,...]`` both; a channel without target costs its false mass."""
    axes = (0, *range(2, prob.dim()))
    overlap = (prob * target).sum(axes)
    size = prob.sum(axes) + target.sum(axes)
    return (1 - (2 * overlap + smooth) / (size + smooth)).mean()


def mask_loss(logits: Tensor, target: Tensor, weight: float = 2.0) -> Tensor:
    """Weighted binary cross-entropy plus dice; ``weight`` multiplies the positive voxels."""
    logits = logits.float()
    scale = torch.as_tensor(weight, device=logits.device)
    bce = F.binary_cross_entropy_with_logits(logits, target, pos_weight=scale)
    return bce + dice(torch.sigmoid(logits), target)


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Weighted cross-entropy plus dice of the classes present; logits ``[N,C,z,y,x]``, labels ``[N,z,y,x]`` int64."""
    logits = logits.float()
    count = logits.shape[1]
    weight = torch.ones(count, device=logits.device)
    weight[0] = BACKGROUND_WEIGHT
    ce = F.cross_entropy(logits, labels, weight=weight)
    present = torch.unique(labels)
    present = present[present > 0]
    if len(present) == 0:
        return ce
    prob = torch.softmax(logits, 1)[:, present]
    target = torch.stack([(labels == k).float() for k in present], 1)
    return ce + dice(prob, target)


def label_loss(out, labels: Tensor, body: Tensor, offset: Tensor, level: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Loss of ``LabelNet`` in training mode.

    ``labels [N,z,y,x]`` int64, ``body [N,1,z,y,x]`` fraction inside a body, ``offset [N,3,z,y,x]`` (x, y, z; 10 mm) with
    NaN where no vertebra is; ``level [N,1,z,y,x]`` index of the vertebra in LABELS, continued beyond both ends.
    """
    classes, body_logits, offsets, (deep, guide, count) = out
    inside = torch.isfinite(offset)
    wanted = torch.where(inside, offset, torch.zeros_like(offset))
    miss = F.smooth_l1_loss(offsets.float(), wanted, reduction="none", beta=0.2)
    bone = inside[:, :1]
    astray = F.smooth_l1_loss(count.float(), level, reduction="none", beta=0.5) * bone
    parts = {
        "level": astray.sum() / bone.sum().clamp(min=1),
        "classes": class_loss(classes, labels),
        "body": mask_loss(body_logits, body, 4.0),
        "offset": (miss * inside).sum() / inside.sum().clamp(min=1),
        "guide": guide.float(),
    }
    coarse = 0.0
    for logits in deep:
        size = logits.shape[2:]
        small = F.interpolate(labels[:, None].float(), size=size, mode="nearest")[:, 0].long()
        small_body = F.adaptive_avg_pool3d(body, size)
        coarse = coarse + class_loss(logits[:, :-1], small) + mask_loss(logits[:, -1:], small_body, 4.0)
    parts["deep"] = coarse / len(deep)
    total = parts["classes"] + parts["level"] + parts["body"] + parts["offset"]
    total = total + 0.3 * parts["deep"] + 0.05 * parts["guide"]
    return total, {k: float(v.detach()) for k, v in parts.items()}


def vertebra_loss(out, masks: Tensor, evidence: Tensor, kind: Tensor, old: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Loss of ``VertebraNet`` in training mode.

    ``masks [N,7,56,72,32]`` (vertebra, body, fracture, where each sign is), ``evidence [N,4]`` and ``old [N,1]`` in {0,1},
    ``kind [N]`` int64 (0 none, 1..4 Denis A..D). Label smoothing 0.03.
    """
    vertebra, body, fracture, e, t, o, deep = out
    smooth = 0.03
    soft = lambda y: y * (1 - smooth) + 0.5 * smooth  # noqa: E731
    small = F.avg_pool3d(masks[:, :3], (2, 2, 1))
    signs = F.max_pool3d(masks[:, 3:], (2, 2, 1))  # thin maps: halves would fade them
    parts = {
        "vertebra": mask_loss(vertebra, masks[:, :1]),
        "body": mask_loss(body, masks[:, 1:2]),
        "fracture": mask_loss(fracture, masks[:, 2:3], 4.0),
        "evidence": F.binary_cross_entropy_with_logits(e.float(), soft(evidence)),
        "type": F.cross_entropy(t.float(), kind, label_smoothing=smooth),
        "old": F.binary_cross_entropy_with_logits(o.float(), soft(old)),
        "deep": mask_loss(deep[:, :2], small[:, :2]) + mask_loss(deep[:, 2:3], small[:, 2:], 4.0),
        "plates": mask_loss(deep[:, 3:6], signs[:, :3], 8.0),
        "wall": mask_loss(deep[:, 6:], signs[:, 3:], 8.0),
    }
    total = (
        0.5 * parts["vertebra"]
        + parts["body"]
        + parts["fracture"]
        + 2.0 * parts["evidence"]
        + parts["type"]
        + 0.5 * parts["old"]
        + 0.3 * parts["deep"]
        + 0.5 * parts["plates"]
        + 0.5 * parts["wall"]
    )
    return total, {k: float(v.detach()) for k, v in parts.items()}
