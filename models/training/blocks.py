"""Building blocks of the networks: normed convolution, residual pair, self-guided attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with four channels a group (statistics over space, so batch size does not matter)."""
    return nn.GroupNorm(max(1, channels // 4), channels)


def conv(cin: int, cout: int, kernel=3, stride=1) -> nn.Sequential:
    """Convolution with 'same' padding, norm, activation."""
    kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
    padding = tuple((k - 1) // 2 for k in kernel)
    return nn.Sequential(
        nn.Conv3d(cin, cout, kernel, stride, padding, bias=False), norm(cout), nn.LeakyReLU(0.02, inplace=True)
    )


class Residual(nn.Module):
    """Two convolutions with an identity path; keeps shape and channels."""

    def __init__(self, channels: int, kernel=3):
        super().__init__()
        self.first = conv(channels, channels, kernel)
        self.second = conv(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Trilinear interpolation of ``x`` to the spatial size of ``like``."""
    return F.interpolate(x, size=like.shape[2:], mode="trilinear", align_corners=False)


class GuidedAttention(nn.Module):
    """Multi-scale self-guided attention after Sinha & Dolz (arXiv 1906.02849), with a bounded number of tokens.

    Every decoder scale is brought to one common scale and fused; each scale is then refined, guided by the fused map,
    through position attention (where else does it look like this) and channel attention (which features go together).
    Position attention compares each voxel with at most ``tokens`` pooled positions, so cost grows linearly with the
    field. ``guide_loss`` is the paper's guided reconstruction: the refined and the plain maps must code alike.

    Scales in and out: lists of ``[N, Ci, z, y, x]``, the second of them setting the common scale; out: ``[N, C, z, y, x]``.
    """

    tokens = (10, 8, 8)  # z, y, x: 640 positions

    def __init__(self, channels: tuple[int, ...], width: int = 24, key: int = 12):
        super().__init__()
        self.width, self.key = width, key
        self.bring = nn.ModuleList(conv(c, width, 1) for c in channels)
        self.fuse = conv(width * len(channels), width, 1)
        self.enter = nn.ModuleList(conv(2 * width, width, 1) for _ in channels)
        self.query = nn.ModuleList(nn.Conv3d(width, key, 1) for _ in channels)
        self.keys = nn.ModuleList(nn.Conv3d(width, key, 1) for _ in channels)
        self.value = nn.ModuleList(nn.Conv3d(width, width, 1) for _ in channels)
        self.position_gain = nn.Parameter(torch.full((len(channels),), 0.1))
        self.channel_gain = nn.Parameter(torch.full((len(channels),), 0.1))
        self.refine = nn.ModuleList(conv(width, width, 3) for _ in channels)
        self.code = nn.Conv3d(width, key, 1)
        self.decode = nn.Conv3d(key, width, 1)
        self.out = conv(width * len(channels), width, 1)

    def position(self, x: Tensor, i: int) -> Tensor:
        pooled = F.interpolate(x, size=self.tokens, mode="trilinear", align_corners=False)
        query = self.query[i](x).flatten(2).transpose(1, 2)  # N, voxels, key
        keys = self.keys[i](pooled).flatten(2)  # N, key, tokens
        value = self.value[i](pooled).flatten(2).transpose(1, 2)  # N, tokens, width
        weight = torch.softmax(torch.matmul(query, keys) * self.key**-0.5, dim=-1)
        return torch.matmul(weight, value).transpose(1, 2).reshape(x.shape)

    def channel(self, x: Tensor) -> Tensor:
        flat = F.normalize(x.flatten(2), dim=2)  # N, width, voxels
        weight = torch.softmax(4.0 * torch.matmul(flat, flat.transpose(1, 2)), dim=-1)
        return torch.matmul(weight, x.flatten(2)).reshape(x.shape)

    def forward(self, scales: list[Tensor]) -> tuple[Tensor, Tensor]:
        like = scales[1]
        maps = [resize(b(s), like) for b, s in zip(self.bring, scales, strict=True)]
        fused = self.fuse(torch.cat(maps, 1))
        refined, guide = [], fused.new_zeros(())
        for i, scale in enumerate(maps):
            x = self.enter[i](torch.cat([scale, fused], 1))
            y = x + self.position_gain[i] * self.position(x, i) + self.channel_gain[i] * self.channel(x)
            y = self.refine[i](y)
            if self.training:
                plain, seen = self.code(x), self.code(y)
                guide = guide + F.mse_loss(seen, plain.detach()) + F.mse_loss(self.decode(plain), x.detach())
            refined.append(y)
        return self.out(torch.cat(refined, 1)), guide / len(maps)
