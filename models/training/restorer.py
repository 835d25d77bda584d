"""The multi-scale vertebral-damage GAN: a generator that paints a vertebra whole, and critics at three scales.

``RestoreNet`` never sees the vertebra it restores: the region that the node blanks (``ovcf_node.infer.restore``) is emptied
inside the network, in the crop and in the neighbours' picture. Heights need 1 mm along the spine, a hypothesis of the
rest no more than 2.5 x 6 mm across it: the network works on that grid (`PLANES`), which is a quarter of the crop. It is a
U-Net whose second level also reads the neighbours: at each height what lies 28 mm below and above it. ``Critics`` judge
patches of about 16, 32 and 64 mm. Tensors: the bundle contract (``models/README.md``).

``python models/training/restorer.py`` prints the parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blocks import Residual, conv, resize
from losses import dice
from networks import CROP_SHAPE, parameters

CONTEXT_SHAPE = (56, 36, 16)  # w, v, u at twice the crop's spacing
PLANES = (1, 2, 2)  # voxels of the crop that one of the working grid holds
ABSENT = 12.0  # taken from the body's logit where no body can be


class RestoreNet(nn.Module):
    """``crop [N,1,56,72,32], context [N,1,56,36,16]`` (windowed), ``region [N,1,56,72,32]`` (0, 1) -> ``restored`` (windowed
    values, the crop's own outside the region) and ``body`` (logits of the undamaged body), both ``[N,1,56,72,32]``.

    ``paint`` does the work on the working grid, ``[N,1,56,36,16]`` all.
    """

    def __init__(self, channels=(12, 28, 48, 48)):
        super().__init__()
        a, b, c, d = channels
        self.enc1 = conv(2, a)
        self.down = conv(a, 24, 3, 2)
        self.enc2 = conv(24 + 4, b)
        self.enc3 = nn.Sequential(conv(b, c, 3, (2, 2, 1)), Residual(c))
        self.enc4 = nn.Sequential(conv(c, d, 3, 2), Residual(d))
        self.up3 = nn.Conv3d(d, c, 1)
        self.dec3 = conv(c, c)
        self.up2 = nn.Conv3d(c, b, 1)
        self.dec2 = conv(b, b)
        self.up1 = nn.Conv3d(b, a, 1)
        self.dec1 = conv(a, 16)
        self.out = nn.Conv3d(16, 2, 1)

    def paint(self, crop: Tensor, context: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
        """Picture (windowed) and body logits everywhere; what the region holds in ``crop`` is not looked at."""
        rest = 1 - region
        e1 = self.enc1(torch.cat([crop * rest, region], 1))
        half = context.shape[2] // 2
        hidden = F.pad(F.max_pool3d(region, (2, 1, 1)), (0, 0, 0, 0, half // 2, half // 2))
        around = F.avg_pool3d(torch.cat([context * (1 - hidden), hidden], 1), PLANES)
        e2 = self.enc2(torch.cat([self.down(e1), around[:, :, :half], around[:, :, half:]], 1))
        e3 = self.enc3(e2)
        e4 = self.enc4(e3)
        d3 = self.dec3(e3 + resize(self.up3(e4), e3))
        d2 = self.dec2(e2 + resize(self.up2(d3), e2))
        out = self.out(self.dec1(e1 + resize(self.up1(d2), e1)))
        return out[:, :1], out[:, 1:] - ABSENT * rest

    def forward(self, crop: Tensor, context: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
        picture, body = self.paint(F.avg_pool3d(crop, PLANES), context, F.max_pool3d(region, PLANES))
        return crop * (1 - region) + resize(picture, crop) * region, resize(body, crop)


class Critic(nn.Module):
    """Says of each patch of about 16 voxels whether it is real (high) or painted: ``[N,2,w,v,u]`` -> ``[N,1,...]``."""

    def __init__(self, width: int = 12):
        super().__init__()
        layers, before = [], 2
        for k in range(3):
            after = width * 2**k
            layers += [nn.utils.spectral_norm(nn.Conv3d(before, after, 3, 2, 1)), nn.LeakyReLU(0.2)]
            before = after
        self.net = nn.Sequential(*layers, nn.utils.spectral_norm(nn.Conv3d(before, 1, 3, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Critics(nn.Module):
    """One critic per scale (the working grid, half and quarter of it), each told which region was blanked.

    Pictures come slightly blurred: a critic that judged noise would make the generator paint noise, and painted noise
    is false damage.
    """

    scales = 3

    def __init__(self):
        super().__init__()
        self.critics = nn.ModuleList(Critic() for _ in range(self.scales))

    def forward(self, image: Tensor, region: Tensor) -> list[Tensor]:
        x = F.avg_pool3d(torch.cat([image, region], 1), (3, 1, 1), 1, (1, 0, 0))
        out = []
        for k, critic in enumerate(self.critics):
            out.append(critic(x))
            if k + 1 < self.scales:
                x = F.avg_pool3d(x, 2)
        return out


def restore_loss(
    out, healthy: Tensor, body: Tensor, region: Tensor, verdicts: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """Loss of the generator: L1 and edges of the picture in the region, mask, thickness of its columns, and the critics.

    ``out`` of ``paint``; ``healthy`` windowed, ``body`` (fraction) and ``region`` on the working grid; ``verdicts`` on the
    restored picture.
    """
    restored, logits = (x.float() for x in out)
    weight = region.sum()
    edges = restored.new_zeros(())
    for axis in (2, 3, 4):
        a, b = (x.diff(dim=axis) for x in (restored, healthy))
        edges = edges + ((a - b).abs() * region.narrow(axis, 1, region.shape[axis] - 1)).sum() / weight
    prob = torch.sigmoid(logits)
    tall, wanted = prob.sum(2), body.sum(2)  # voxels of 1 mm
    column = (wanted > 0.5).float()
    parts = {
        "l1": ((restored - healthy).abs() * region).sum() / weight,
        "edge": edges / 3,
        "mask": F.binary_cross_entropy_with_logits(logits, body) * 4 + dice(prob, body),
        "column": ((tall - wanted).abs() * column).sum() / column.sum().clamp(min=1),
        "critics": sum((v.float() - 1).square().mean() for v in verdicts) / max(1, len(verdicts)) + restored.new_zeros(()),
    }
    total = 6 * parts["l1"] + 6 * parts["edge"] + parts["mask"] + 0.15 * parts["column"] + 0.15 * parts["critics"]
    return total, {k: float(v.detach()) for k, v in parts.items()}


def critic_loss(real: list[Tensor], painted: list[Tensor]) -> Tensor:
    """Least squares: 1 for real, 0 for painted patches, mean over scales."""
    each = [(r.float() - 1).square().mean() + p.float().square().mean() for r, p in zip(real, painted, strict=True)]
    return sum(each) / len(each)


def example(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random inputs of the right shapes, the region a box."""
    generator = torch.Generator().manual_seed(count)
    crop, context = (torch.rand((count, 1, *s), generator=generator) * 2 - 1 for s in (CROP_SHAPE, CONTEXT_SHAPE))
    region = torch.zeros((count, 1, *CROP_SHAPE))
    region[:, :, 10:46, 8:42, 6:26] = 1
    return crop, context, region


if __name__ == "__main__":
    net = RestoreNet()
    print(f"restore: {parameters(net) / 1e6:.2f} M parameters; critics {parameters(Critics()) / 1e6:.2f} M")
