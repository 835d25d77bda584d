"""Augmentation of cached samples: intensity, geometry and field of view. Deterministic by the generator given.

All functions take HU tensors; windowing is the last step, as at run time.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

AIR = -1024.0  # HU outside the field: below every window


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], knots: int) -> Tensor:
    """A smooth random field of ``shape``, about normal, from a coarse lattice of ``knots`` per axis."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, knots, knots, knots)).astype(np.float32))
    return F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0]


def blur(x: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Separable three-tap filter ``[a, 1-2a, a]`` per axis with the given ``a``; negative ``a`` sharpens."""
    y = x[None, None]
    for axis, a in enumerate(weights):
        if abs(a) < 1e-3:
            continue
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 3
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = 1
        kernel = torch.tensor([a, 1 - 2 * a, a], dtype=x.dtype).reshape(shape)
        y = F.conv3d(F.pad(y, pad, mode="replicate"), kernel)
    return y[0, 0]


def intensity(hu: Tensor, bone: Tensor, rng: np.random.Generator, noise: float = 45.0) -> Tensor:
    """Random appearance of one volume ``[z,y,x]`` in HU; ``bone`` in [0,1] marks vertebrae.

    Soft tissue and bone are scaled apart (age, contrast medium, kVp), then gamma, bias field, blur or sharpening and
    white or correlated noise of up to ``noise`` HU. One sample in four keeps the appearance the phantom gave it.
    """
    if rng.random() < 0.25:
        return hu
    shape = tuple(hu.shape)
    field = hu > AIR + 1
    if rng.random() < 0.6:  # bone apart from its surroundings
        amount = bone.float()
        hu = hu + amount * (uniform(rng, -70, 90) + uniform(rng, 0, 25) * smooth_field(rng, shape, 5))
    if rng.random() < 0.4:  # contrast of soft tissues
        soft = torch.exp(-(((hu - 40) / 90) ** 2)) * (1 - bone.float())
        hu = hu + soft * (uniform(rng, -30, 60) + uniform(rng, 0, 40) * smooth_field(rng, shape, 6))
    if rng.random() < 0.7:  # gamma about a random window
        low, high = uniform(rng, -500, -150), uniform(rng, 800, 2200)
        x = ((hu - low) / (high - low)).clamp(0, 1)
        curve = x ** math.exp(uniform(rng, -0.35, 0.35))
        hu = torch.where((hu > low) & (hu < high), curve * (high - low) + low, hu)
    if rng.random() < 0.2:
        hu = tone(hu, rng)
    if rng.random() < 0.7:
        hu = hu * uniform(rng, 0.8, 1.25) + uniform(rng, -40, 40)
    if rng.random() < 0.3:
        hu = hu + uniform(rng, 5, 35) * smooth_field(rng, shape, 3)
    if rng.random() < 0.2:  # thick slices, mostly across the first axis: [1/3, 1/3, 1/3] is a slab of three voxels
        weights = [0.0, 0.0, 0.0]
        weights[0 if rng.random() < 0.7 else 1] = uniform(rng, 0.1, 0.33)
        hu = blur(hu, tuple(weights))
    if rng.random() < 0.5:
        a = uniform(rng, -0.1, 0.22)
        hu = blur(hu, tuple(a * uniform(rng, 0.3, 1.0) for _ in range(3)))
    if rng.random() < 0.6:
        white = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        if rng.random() < 0.5:
            white = blur(white, (0.25, 0.25, 0.25)) * 3.0
        hu = hu + white * uniform(rng, 0, noise)
    return torch.where(field, hu, torch.full_like(hu, AIR))


def resliced(hu: Tensor, spacing, rng: np.random.Generator) -> Tensor:
    """What is left when the scanner averages over slices and the crop is interpolated between them.

    A crop of a real series is linear between slices up to 3 mm apart that cross it at any tilt; blur alone is smoother.
    ``spacing`` is the crop's, in mm along (w, v, u); the padding outside the field stays.
    """
    thick = uniform(rng, 1.2, 3.3)
    tilt = [math.radians(uniform(rng, -35, 35)), math.radians(uniform(rng, -15, 15))]  # v and u against the slices
    normal = torch.tensor([math.cos(tilt[0]) * math.cos(tilt[1]), math.sin(tilt[0]), math.sin(tilt[1])])
    if rng.random() < 0.12:  # sagittal series
        normal = torch.tensor([0.0, 0.0, 1.0])
    normal = normal / normal.norm()
    step = torch.tensor(spacing, dtype=torch.float32)
    size = torch.tensor(hu.shape, dtype=torch.float32)
    axes = [(torch.arange(int(n), dtype=torch.float32) - (n - 1) / 2) * s for n, s in zip(size, step, strict=True)]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    along = (place @ normal) / thick + uniform(rng, 0, 1)
    below = along.floor()
    out = torch.zeros_like(hu)
    for slice_at, weight in ((below, 1 - (along - below)), (below + 1, along - below)):
        for part in (-0.3, 0.3):  # two points across the slice stand for its average
            moved = place + ((slice_at - along + part) * thick)[..., None] * normal
            grid = (moved / (step * (size - 1) / 2)).flip(-1)[None]
            read = F.grid_sample(hu[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
            out = out + 0.5 * weight * read
    return torch.where(hu > AIR + 1, out.clamp(min=AIR + 2), hu)


def tone(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """A random rising curve through five knots between -200 and 1400 HU: tissues nearer or farther apart."""
    knots = np.linspace(-200, 1400, 5)
    rise = rng.uniform(0.25, 1.75, 4)
    values = knots[0] + np.concatenate([[0], np.cumsum(rise / rise.sum())]) * (knots[-1] - knots[0])
    out = hu.clone()
    for a, b, x, y in zip(knots, knots[1:], values, values[1:], strict=False):
        out = torch.where((hu >= a) & (hu < b), x + (hu - a) * ((y - x) / (b - a)), out)
    return out


def rotation(rng: np.random.Generator, degrees: tuple[float, float, float]) -> Tensor:
    """A random rotation (3x3) of up to ``degrees`` about the axes (z, y, x)."""
    out = torch.eye(3)
    for axis in range(3):
        a = math.radians(uniform(rng, -degrees[axis], degrees[axis]))
        i, j = [k for k in range(3) if k != axis]
        r = torch.eye(3)
        r[i, i] = r[j, j] = math.cos(a)
        r[i, j], r[j, i] = -math.sin(a), math.sin(a)
        out = r @ out
    return out


def warp(volumes: list[tuple[Tensor, str, float]], matrix: Tensor) -> list[Tensor]:
    """Resample volumes ``[z,y,x]`` so that output index p reads input at ``matrix @ (p - c) + c``, c the array centre.

    Each volume comes with its mode (``bilinear`` or ``nearest``) and its value outside.
    """
    shape = torch.tensor(volumes[0][0].shape, dtype=torch.float32)
    half = (shape - 1) / 2
    axes = [torch.arange(int(n), dtype=torch.float32) - h for n, h in zip(shape, half, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    where = torch.stack([z, y, x], -1) @ matrix.T  # index offsets from the centre
    grid = (where / half.clamp(min=0.5)).flip(-1)[None]
    out = []
    for volume, mode, outside in volumes:
        shifted = volume.float()[None, None] - outside
        out.append(F.grid_sample(shifted, grid, mode=mode, padding_mode="zeros", align_corners=True)[0, 0] + outside)
    return out


def crop_box(shape, focus, rng: np.random.Generator, limit: int, spacing: float) -> tuple[slice, slice, slice]:
    """A random sub-field ``(z, y, x)`` of at most ``limit`` voxels of ``spacing`` mm around ``focus``, the bounds of the
    spine ``[3][2]``.

    On top of what the phantoms' own fields cut, a third become narrow (80-220 mm) per axis and some lose an end.
    """
    low, high = [0, 0, 0], list(shape)
    for axis in (1, 2):
        if rng.random() < 0.35:
            width = round(uniform(rng, 80, 220) / spacing)
            middle = 0.5 * (focus[axis][0] + focus[axis][1]) + uniform(rng, -0.3, 0.3) * width
            start = int(np.clip(middle - width / 2, 0, max(0, shape[axis] - width)))
            low[axis], high[axis] = start, min(shape[axis], start + width)
    if rng.random() < 0.15:
        height = round(uniform(rng, 90, 320) / spacing)
        if height < shape[0]:
            low[0] = int(rng.integers(0, shape[0] - height + 1))
            high[0] = low[0] + height
    middle = [uniform(rng, *ends) for ends in focus]  # not always the same part, or nobody would see the ends of a spine
    while np.prod([b - a for a, b in zip(low, high, strict=True)]) > limit:
        axis = int(np.argmax([(high[k] - low[k]) * (0.6 if k == 0 else 1.0) for k in range(3)]))
        if high[axis] - middle[axis] > middle[axis] - low[axis]:
            high[axis] -= 2
        else:
            low[axis] += 2
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def shift(x: Tensor, steps: tuple[int, int, int], outside: float) -> Tensor:
    """Whole-voxel translation of ``[..., z, y, x]`` with ``outside`` entering at the edges."""
    for axis, n in zip((-3, -2, -1), steps, strict=True):
        if n == 0:
            continue
        x = torch.roll(x, n, axis)
        edge = [slice(None)] * x.dim()
        edge[x.dim() + axis] = slice(0, n) if n > 0 else slice(n, None)
        x[tuple(edge)] = outside
    return x


def cut(shape: tuple[int, int, int], spacing, rng: np.random.Generator) -> Tensor:
    """True where the field ends: beyond a slightly tilted plane that spares the vertebral body (mm from the centre)."""
    axis = int(rng.choice([0, 0, 1, 2, 2]))
    sign = 1 if axis == 1 or rng.random() < 0.5 else -1  # never in front of the body's front
    reach = {0: (19, 27), 1: (22, 55), 2: (24, 46)}[axis]
    axes = [
        (torch.arange(n, dtype=torch.float32) - o) * s for n, o, s in zip(shape, (27.5, 24.0, 15.5), spacing, strict=True)
    ]
    grids = torch.meshgrid(*axes, indexing="ij")
    tilt = [uniform(rng, -0.2, 0.2) for _ in range(3)]
    tilt[axis] = 1.0 * sign
    distance = sum(g * t for g, t in zip(grids, tilt, strict=True))
    return distance > uniform(rng, *reach)
