"""The inverse of the vertebral-damage GAN: a generator that breaks a whole vertebra as a plan says, and what it learns by.

A region painted anew would be smoother than its surroundings, and a network that trains on it would learn smoothness. So
``DamageNet`` *moves* the picture where it can: a flow (mm along w and v) carries bone, its texture and its masks to where
the damage puts them, which keeps picture and truth together, and only a residual (bands, clefts, gaps) is painted. It
learns from the restoring stage's pairs, with the restoring stage's critics (``restorer.py``).

``python models/training/damager.py`` prints the parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blocks import Residual, conv, resize
from losses import dice, mask_loss
from networks import CROP_SPACING, parameters
from restorer import PLANES

PLAN = (
    "superior", "inferior", "anterior", "posterior", "anterior_loss", "middle_loss", "posterior_loss", "density", "cleft",
)
"""What is to be broken (bits), what each height loses (share), and by how much the body's mean and its darkest fiftieth
change: the signs that come and go independently, read off the pair in training."""
SIGNS_SCALE = (20.0, 10.0)  # of the last two, from windowed values: about 1 apart
FRONT = 48  # of the crop's 72 voxels front to back: damage reaches no further than the canal, and the rest costs time
REACH = (25, 13, 3)  # voxels (w, v, u) of the box that grows the body into what damage may change: discs, cuff, canal
FURTHEST_MM = 16.0
STRETCH = 0.9  # most by which neighbouring voxels may be drawn together along the spine: at 1 a plate would show twice
DARK = 0.02  # quantile that stands for the darkest bone


class Damaged(NamedTuple):
    """Everything ``[N,1,56,48,32]``: picture (windowed), body and whole vertebra in [0, 1], fracture region (logits);
    ``flow [N,2,...]`` in voxels along w and v.
    """

    picture: Tensor
    body: Tensor
    whole: Tensor
    fracture: Tensor
    flow: Tensor


def reach(body: Tensor) -> Tensor:
    """1 around the body, softly 0 beyond what its damage may change; ``[N,1,w,v,u]``."""
    grown = F.max_pool3d(body, REACH, 1, tuple(n // 2 for n in REACH))
    return F.avg_pool3d(grown, (7, 5, 3), 1, (3, 2, 1), count_include_pad=False)


def carried(volumes: Tensor, flow: Tensor) -> Tensor:
    """``volumes [N,C,w,v,u]`` read at each voxel plus ``flow [N,2,w,v,u]`` (voxels along w, v); edges are repeated."""
    axes = [torch.linspace(-1, 1, n, device=flow.device) for n in volumes.shape[2:]]
    w, v, u = torch.meshgrid(*axes, indexing="ij")
    w = w + flow[:, 0] * (2 / (volumes.shape[2] - 1))
    v = v + flow[:, 1] * (2 / (volumes.shape[3] - 1))
    return F.grid_sample(volumes, torch.stack([u.expand_as(w), v, w], -1), padding_mode="border", align_corners=True)


class DamageNet(nn.Module):
    """``crop, body, whole [N,1,56,48,32]``, the front of a whole vertebra's crop (windowed; 0, 1), and ``plan [N,9]`` ->
    `Damaged`.
    """

    def __init__(self, channels=(8, 16, 32, 48)):
        super().__init__()
        a, b, c, d = channels
        flat, more = (3, 3, 1), len(PLAN)
        self.enc1 = conv(5, a, flat)
        self.enc2 = nn.Sequential(conv(a + more, b, 3, 2), conv(b, b))
        self.enc3 = nn.Sequential(conv(b + more, c, 3, 2), Residual(c))
        self.enc4 = nn.Sequential(conv(c + more, d, 3, 2), Residual(d))
        self.up3 = nn.Conv3d(d, c, 1)
        self.dec3 = conv(c, c)
        self.up2 = nn.Conv3d(c, b, 1)
        self.dec2 = conv(b, b)
        self.flow = nn.Conv3d(b, 2, 3, padding=1)
        self.up1 = nn.Conv3d(b, a, 1)
        self.dec1 = conv(a, 12, flat)
        self.out = nn.Conv3d(12, 2, 1)
        with torch.no_grad():  # begins as the vertebra it is given
            for part in (self.flow, self.out):
                part.weight.mul_(0.1)
                part.bias.zero_()
            self.out.bias[1] = -3.0

    def forward(self, crop: Tensor, body: Tensor, whole: Tensor, plan: Tensor) -> Damaged:
        up = torch.cumsum(body, 2) / (body.sum(2, keepdim=True) + 0.5)  # 0 at the lower, 1 at the upper plate
        back = torch.cumsum(body, 3) / (body.sum(3, keepdim=True) + 0.5)  # 0 at the front, 1 at the back
        told = lambda x: torch.cat([x, plan[:, :, None, None, None].expand(-1, -1, *x.shape[2:])], 1)  # noqa: E731
        e1 = self.enc1(torch.cat([crop, body, whole, up, back], 1))
        e2 = self.enc2(told(e1))
        e3 = self.enc3(told(e2))
        e4 = self.enc4(told(e3))
        d3 = self.dec3(e3 + resize(self.up3(e4), e3))
        d2 = self.dec2(e2 + resize(self.up2(d3), e2))
        out = self.out(self.dec1(e1 + resize(self.up1(d2), e1))).float()
        near = reach(body)
        furthest = crop.new_tensor([FURTHEST_MM / s for s in CROP_SPACING[:2]])[None, :, None, None, None]
        flow = resize(torch.tanh(self.flow(d2).float()), crop) * furthest * near
        picture, moved_body, moved_whole = carried(torch.cat([crop, body, whole], 1).float(), flow).split(1, 1)
        return Damaged(picture + out[:, :1] * near, moved_body, moved_whole, out[:, 1:], flow)


def shown(picture: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Picture and region as the critics judge them, on the restoring stage's working grid."""
    return F.avg_pool3d(picture, PLANES), F.max_pool3d(near, PLANES)


def damage_loss(
    out: Damaged, seen: Tensor, seen_body: Tensor, fracture: Tensor, near: Tensor, verdicts: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """Loss of the generator against the damaged half of a pair: picture and its edges, body, fracture region, a flow that is
    smooth and does not fold, and the critics' verdicts on the picture.
    """
    weight = near.sum()
    edges = seen.new_zeros(())
    for axis in (2, 3):
        a, b = (x.diff(dim=axis) for x in (out.picture, seen))
        edges = edges + ((a - b).abs() * near.narrow(axis, 1, near.shape[axis] - 1)).sum() / weight
    tall, wanted = out.body.sum(2), seen_body.sum(2)  # voxels of 1 mm
    column = ((tall > 0.5) | (wanted > 0.5)).float()
    parts = {
        "l1": ((out.picture - seen).abs() * near).sum() / weight,
        "edge": edges / 2,
        "body": (out.body - seen_body).abs().mean() * 20 + dice(out.body, seen_body),
        "column": ((tall - wanted).abs() * column).sum() / column.sum().clamp(min=1),
        "fracture": mask_loss(out.fracture, fracture, 2.0),
        "fold": F.relu(-STRETCH - out.flow[:, :1].diff(dim=2)).square().sum() / weight,
        "flow": sum(out.flow.diff(dim=axis).square().mean() for axis in (2, 3, 4)),
        "critics": sum((v.float() - 1).square().mean() for v in verdicts) / max(1, len(verdicts)) + seen.new_zeros(()),
    }
    total = 6 * parts["l1"] + 6 * parts["edge"] + parts["body"] + 0.15 * parts["column"] + 0.7 * parts["fracture"]
    total = total + 0.3 * parts["flow"] + 10 * parts["fold"] + 0.15 * parts["critics"]
    return total, {k: float(v.detach()) for k, v in parts.items()}


if __name__ == "__main__":
    print(f"damage: {parameters(DamageNet()) / 1e6:.2f} M parameters")
