"""The networks of the reference bundle that read: where the vertebrae are, what they are called, what each one shows.

``LabelNet`` reads the whole field at 6 mm and names every voxel; ``SegmentNet`` is the same network on the spine alone, at
3 mm; ``VertebraNet`` reads one crop per vertebra in the vertebra's own frame. All use GroupNorm (batches of one or two) and
convolutions that ONNX opset 17 knows, so that the exported files run with dynamic sizes. Tensor names, shapes and meanings
are the bundle contract (``models/README.md``).

``python models/training/networks.py`` prints parameters and multiply-accumulates.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blocks import GuidedAttention, Residual, conv, resize

LABELS = ("background", "above", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "below")
EVIDENCE = ("superior", "inferior", "anterior", "posterior")
TYPES = ("none", "A", "B", "C", "D")
CROP_SHAPE = (56, 72, 32)  # w, v, u
CROP_SPACING = (1.0, 1.25, 3.0)  # mm along w, v, u
BACKGROUND_WEIGHT = 0.4  # class weight of background against 1.0 for every vertebral class, in `losses.class_loss`
MASK_SHIFT = math.log(2.0)  # what a mask loss that weighs positive voxels twice (`losses.mask_loss`) adds to the log-odds
CROP_ORIGIN = (27.5, 24.0, 15.5)  # index of the vertebral body centre


class LabelNet(nn.Module):
    """Whole field at 6 mm: ``image [N,1,Z,Y,X]`` -> ``classes [N,11,...], body [N,1,...], offset [N,3,...]``.

    Naming is counting: the attended map, whose deepest level (48 mm voxels) sees the whole spine, regresses a smooth
    *level* (index in ``LABELS``: T11 = 2 ... S1 = 9), and each class logit loses the squared distance from its index.
    In training mode a fourth output carries coarse logits (deep supervision), the guide loss and the level.
    """

    def __init__(self, channels=(12, 24, 48, 64), width: int = 24):
        super().__init__()
        a, b, c, d = channels
        self.enc1 = nn.Sequential(conv(1, a), conv(a, a))
        self.enc2 = nn.Sequential(conv(a, b, 3, 2), Residual(b))
        self.enc3 = nn.Sequential(conv(b, c, 3, 2), Residual(c))
        self.enc4 = nn.Sequential(conv(c, d, 3, 2), Residual(d), Residual(d))
        self.up3 = nn.Conv3d(d, c, 1)
        self.dec3 = Residual(c)
        self.up2 = nn.Conv3d(c, b, 1)
        self.dec2 = Residual(b)
        self.attend = GuidedAttention((d, c, b), width)
        self.join = conv(b + width, b, 1)
        self.up1 = nn.Conv3d(b, a, 1)
        self.dec1 = conv(a, 2 * a)
        self.head = nn.Conv3d(2 * a, len(LABELS) + 4, 1)
        self.deep = nn.ModuleList(nn.Conv3d(n, len(LABELS) + 1, 1) for n in (b, width))
        self.level = nn.Sequential(conv(width, width, 3), nn.Conv3d(width, 1, 1))
        self.level_fine = nn.Conv3d(2 * a, 1, 1)
        self.firm = nn.Parameter(torch.tensor(1.0))
        index = torch.arange(1.0, len(LABELS)).reshape(1, -1, 1, 1, 1)
        self.register_buffer("index", index, persistent=False)
        with torch.no_grad():
            self.level[1].bias.fill_(5.0)
            self.head.bias[0] = 2.0
            self.head.bias[len(LABELS)] = -2.0

    def forward(self, image: Tensor):
        e1 = self.enc1(image)
        e2 = self.enc2(e1)
        e3 = self.enc3(e2)
        e4 = self.enc4(e3)
        d3 = self.dec3(e3 + resize(self.up3(e4), e3))
        d2 = self.dec2(e2 + resize(self.up2(d3), e2))
        attended, guide = self.attend([e4, d3, d2])
        d2 = self.join(torch.cat([d2, resize(attended, d2)], 1))
        fine = self.dec1(e1 + resize(self.up1(d2), e1))
        out = self.head(fine)
        level = resize(self.level(attended).float(), e1) + self.level_fine(fine)
        n = len(LABELS)
        body, offset = out[:, n : n + 1], out[:, n + 1 :]
        classes = torch.cat([out[:, :1], out[:, 1:n] - self.distance(level)], 1)
        if self.training:
            return classes, body, offset, ([self.deep[0](d2), self.deep[1](attended)], guide, level)
        return classes, body, offset

    def distance(self, level: Tensor) -> Tensor:
        """Cost ``[N,10,...]`` of each vertebral class at a level; ``above`` and ``below`` are open-ended."""
        gap = level - self.index
        gap = torch.cat([gap[:, :1].clamp(min=0), gap[:, 1:-1], gap[:, -1:].clamp(max=0)], 1)
        return F.softplus(self.firm) * gap.clamp(-4, 4) ** 2


class SegmentNet(LabelNet):
    """The spine at 3 mm, input and outputs as ``LabelNet``'s.

    Masks are cut from its classes: outside training the background's logit is what it would be had the loss not weighed
    background down.
    """

    def forward(self, image: Tensor):
        out = super().forward(image)
        if self.training:
            return out
        classes, body, offset = out
        return torch.cat([classes[:, :1] - math.log(BACKGROUND_WEIGHT), classes[:, 1:]], 1), body, offset


class EvidenceHead(nn.Module):
    """Reads evidence, type and age from the crop's features and from its own body and fracture maps, in float32.

    Three views are added up: (1) maps of each sign over the half-resolution features, pooled by log-sum-exp (a sign is
    there when it is seen somewhere); (2) what the fracture map holds in the upper, lower, front and back parts of the
    predicted body, and the body's front, middle and back heights; (3) learned attention points with coordinates.
    Inputs: deep ``[N,d,7,9,8]``, fine ``[N,c,14,18,16]``, half ``[N,b,28,36,32]``, body and fracture logits
    ``[N,1,56,72,32]``; out ``[N,10]`` (evidence 4, type 5, old 1).
    """

    points = 8
    sharp = 3.0  # of the log-sum-exp

    def __init__(self, deep: int, fine: int, half: int, hidden: int = 64):
        super().__init__()
        outputs = len(EVIDENCE) + len(TYPES) + 1
        axes = [torch.linspace(-1, 1, n) for n in (14, 18, 16)]
        w, v, u = torch.meshgrid(*axes, indexing="ij")
        self.register_buffer("place", torch.stack([w, v, u.abs()])[None], persistent=False)
        self.mix = conv(fine + 3, fine, 1)
        self.look = nn.Conv3d(fine, self.points, 1)
        self.spot = nn.Sequential(nn.Conv3d(half + 5, 24, 1), nn.LeakyReLU(0.02), nn.Conv3d(24, outputs, 1))
        size = self.points * fine + 2 * deep + 16 + 5 + outputs
        self.dense = nn.Sequential(nn.Linear(size, hidden), nn.LeakyReLU(0.02), nn.Dropout(0.2))
        self.out = nn.Linear(hidden, outputs)

    @staticmethod
    def regions(body: Tensor, fracture: Tensor) -> tuple[Tensor, Tensor]:
        """Soft place in the body ``[N,5,28,36,32]`` (fracture, body, from below, from front, outside) and 21 numbers.

        ``body`` and ``fracture`` are probabilities at half resolution (2.0, 2.5, 3.0 mm).
        """
        column, row = body.sum(2, keepdim=True), body.sum(3, keepdim=True)
        up = torch.cumsum(body, 2) / (column + 0.5)  # 0 at the lower, 1 at the upper endplate
        back = torch.cumsum(body, 3) / (row + 0.5)  # 0 at the front, 1 at the back
        near = F.max_pool3d(body, 3, 1, 1)
        hit = fracture * near
        top, low = torch.sigmoid(14 * (up - 0.6)), torch.sigmoid(14 * (0.4 - up))
        front, rear = torch.sigmoid(14 * (0.3 - back)), torch.sigmoid(14 * (back - 0.8))
        parts = (top, low, front, rear, top * (1 - front), low * (1 - front), front * (1 - top) * (1 - low), 1 - front)
        numbers = []
        for part in parts:
            inside = hit * part
            numbers += [inside.amax((2, 3, 4)), torch.log1p(inside.sum((2, 3, 4)) / 4) / 3]
        middle = column / (column + 3.0)  # columns that belong to the body
        place = torch.cumsum(column, 3) / (column.sum(3, keepdim=True) + 0.5)
        heights = []
        for centre in (0.15, 0.5, 0.85):
            weight = middle * torch.exp(-(((place - centre) / 0.12) ** 2)) * (column.sum(3, keepdim=True) / 120)
            heights.append((weight * column).sum((2, 3, 4)) / (weight.sum((2, 3, 4)) + 0.1) / 13)
        a, m, p = heights
        numbers += [*heights, 4 * (a - p), 4 * (m - (a + p) / 2)]
        return torch.cat([fracture, body, up, back, 1 - near], 1), torch.cat(numbers, 1)

    def forward(self, deep: Tensor, fine: Tensor, half: Tensor, body: Tensor, fracture: Tensor) -> Tensor:
        with torch.autocast(deep.device.type, enabled=False):
            deep, fine, half = deep.float(), fine.float(), half.float()
            solid = F.avg_pool3d(torch.sigmoid(body.float()), (2, 2, 1))
            broken = F.max_pool3d(torch.sigmoid(fracture.float()), (2, 2, 1))
            where, numbers = self.regions(solid.detach(), broken)
            maps = self.spot(torch.cat([half, where], 1)).flatten(2)
            seen = torch.logsumexp(self.sharp * maps, 2) / self.sharp - 3.0
            place = self.place.repeat(deep.shape[0], 1, 1, 1, 1)
            fine = self.mix(torch.cat([fine, place], 1))
            weight = torch.softmax(self.look(fine).flatten(2), dim=-1)
            points = torch.matmul(weight, fine.flatten(2).transpose(1, 2)).flatten(1)
            ends = torch.cat([deep.mean((2, 3, 4)), deep.amax((2, 3, 4)) / 3], 1)
            return seen + self.out(self.dense(torch.cat([points, ends, 2 * numbers, seen], 1)))


class VertebraNet(nn.Module):
    """One crop per vertebra: ``crop [N,1,56,72,32]`` -> masks ``[N,1,56,72,32]`` x3, evidence, type and age logits.

    Axes (w, v, u) at 1.0 x 1.25 x 3.0 mm: the two finest levels do not pool u, and the finest uses flat (3,3,1)
    kernels and few channels, which is where the cost would be. Each sign has a map of its own at half resolution in w and
    v, where its part of the body is broken; signs and types add the maps' log-sum-exp to what the head says. Outside
    training the vertebra's and body's logits are what they would be had the loss not favoured positive voxels. In training
    mode a seventh output carries the coarse logits (deep supervision of the three masks, then those maps).
    """

    def __init__(self, channels=(16, 32, 64, 128)):
        super().__init__()
        a, b, c, d = channels
        flat = (3, 3, 1)
        self.enc1 = nn.Sequential(conv(1, a, flat), conv(a, a, flat))
        self.enc2 = nn.Sequential(conv(a, b, flat, (2, 2, 1)), conv(b, b))
        self.enc3 = nn.Sequential(conv(b, c, 3, 2), Residual(c))
        self.enc4 = nn.Sequential(conv(c, d, 3, 2), Residual(d))
        self.up3 = nn.Conv3d(d, c, 1)
        self.dec3 = conv(c, c)
        self.up2 = nn.Conv3d(c, b, 1)
        self.dec2 = conv(b, b)
        self.up1 = nn.Conv3d(b, a, 1)
        self.dec1 = conv(a, 2 * a, flat)
        self.masks = nn.Conv3d(2 * a, 3, 1)
        self.deep = nn.Conv3d(b, 3, 1)
        self.wall = nn.Sequential(conv(2 * b, b), nn.Conv3d(b, 1, 1))
        self.wall_gain = nn.Parameter(torch.zeros(2))
        self.plates = nn.Sequential(conv(2 * b, b), nn.Conv3d(b, 3, 1))
        self.plates_gain = nn.Parameter(torch.zeros(3))
        self.kinds = nn.Linear(len(EVIDENCE), len(TYPES))
        self.read = EvidenceHead(d, c, b)
        with torch.no_grad():
            for maps in (self.wall, self.plates):
                maps[1].bias.fill_(-4.0)
            for start in (self.kinds.weight, self.kinds.bias):  # what is trained on says what it said before
                start.zero_()

    def forward(self, crop: Tensor):
        e1 = self.enc1(crop)
        e2 = self.enc2(e1)
        e3 = self.enc3(e2)
        e4 = self.enc4(e3)
        d3 = self.dec3(e3 + resize(self.up3(e4), e3))
        d2 = self.dec2(e2 + resize(self.up2(d3), e2))
        masks = self.masks(self.dec1(e1 + resize(self.up1(d2), e1)))
        vertebra, body, fracture = masks[:, :1], masks[:, 1:2], masks[:, 2:]
        read = self.read(e4, d3, d2, body, fracture)
        half = torch.cat([e2, d2], 1)
        maps = torch.cat([self.plates(half), self.wall(half)], 1).float()
        seen = torch.logsumexp(maps.flatten(2), 2) - 3.0  # about 20 voxels of a broken part weigh 1
        plates = read[:, :3] + self.plates_gain * seen[:, :3]
        posterior = read[:, 3:4] + self.wall_gain[:1] * seen[:, 3:] + self.wall_gain[1:]
        with torch.autocast(crop.device.type, enabled=False):
            types = read[:, 4:9] + self.kinds(seen)
        out = vertebra, body, fracture, torch.cat([plates, posterior], 1), types, read[:, 9:]
        if self.training:
            return (*out, torch.cat([self.deep(d2).float(), maps], 1))
        return vertebra - MASK_SHIFT, body - MASK_SHIFT, *out[2:]


NETWORKS = {"label": LabelNet, "segment": SegmentNet, "vertebra": VertebraNet}


def parameters(net: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in net.parameters())


def gmac(net: nn.Module, shape: tuple[int, ...]) -> float:
    """Multiply-accumulates (10^9) of the convolutions and linear layers for one input of ``shape``."""
    total, hooks = 0, []

    def count(module, _, out):
        nonlocal total
        per = module.weight[0].numel()
        total += per * out.numel()

    for module in net.modules():
        if isinstance(module, (nn.Conv3d, nn.Linear)):
            hooks.append(module.register_forward_hook(count))
    was = net.training
    net.eval()
    with torch.no_grad():
        net(torch.zeros(shape))
    net.train(was)
    for hook in hooks:
        hook.remove()
    return total / 1e9


if __name__ == "__main__":
    for name, net, shape in (
        ("label", LabelNet(), (1, 1, 64, 48, 48)),
        ("segment", SegmentNet(), (1, 1, 120, 48, 48)),
        ("vertebra", VertebraNet(), (1, 1, *CROP_SHAPE)),
    ):
        print(f"{name}: {parameters(net) / 1e6:.2f} M parameters, {gmac(net, shape):.2f} GMAC for {shape}")
