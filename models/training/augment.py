"""Augmentation of cached samples: intensity, geometry and field of view. Deterministic by the generator given.

Intensities are HU in batches ``[N,z,y,x]``, on any device: every sample draws its own numbers, and those that take a step
take it together, which is what keeps a GPU busy. Windowing is the last step, as at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

AIR = -1024.0  # HU outside the field: below every window


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def each(rng: np.random.Generator, like: Tensor, low: float, high: float) -> Tensor:
    """One number per sample of the batch ``like``: ``[N,1,1,1]``."""
    return torch.from_numpy(rng.uniform(low, high, (len(like), 1, 1, 1)).astype(np.float32)).to(like.device)


def replace(x: Tensor, chosen: np.ndarray, step: Callable[..., Tensor], *others: Tensor) -> None:
    """Replace the ``chosen [N]`` samples of ``x`` by ``step`` of them (and of the same samples of the others)."""
    rows = torch.from_numpy(np.flatnonzero(chosen)).to(x.device)
    if len(rows):
        x[rows] = step(x[rows], *(other[rows] for other in others))


def normal(rng: np.random.Generator, like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Standard normal numbers on the device of ``like``, in its shape unless another is given."""
    generator = torch.Generator(like.device).manual_seed(int(rng.integers(2**62)))
    return torch.randn(like.shape if shape is None else shape, generator=generator, device=like.device)


def smooth_field(rng: np.random.Generator, like: Tensor, knots: int) -> Tensor:
    """Smooth random fields like the batch ``like``, about normal, from coarse lattices of ``knots`` per axis."""
    coarse = normal(rng, like, (len(like), 1, knots, knots, knots))
    return F.interpolate(coarse, size=like.shape[1:], mode="trilinear", align_corners=True)[:, 0]


def blur(x: Tensor, weights) -> Tensor:
    """Separable three-tap filter ``[a, 1-2a, a]`` along z, y, x with the given ``a``, a number or one per sample
    ``[N,1,1,1]``; negative ``a`` sharpens.
    """
    for axis, a in enumerate(weights, 1):
        if isinstance(a, float) and a == 0:
            continue
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (3 - axis)] = pad[2 * (3 - axis) + 1] = 1
        wide, n = F.pad(x[:, None], pad, mode="replicate")[:, 0], x.shape[axis]
        x = x + a * (wide.narrow(axis, 0, n) + wide.narrow(axis, 2, n) - 2 * x)
    return x


def intensity(hu: Tensor, bone: Tensor, rng: np.random.Generator, noise: float = 45.0) -> Tensor:
    """Random appearance of volumes ``[N,z,y,x]`` in HU; ``bone`` in [0,1] marks vertebrae.

    Soft tissue and bone are scaled apart (age, contrast medium, kVp), then gamma, bias field, blur or sharpening and
    white or correlated noise of up to ``noise`` HU. One sample in four keeps the appearance the phantom gave it.
    """

    def apart(x: Tensor, amount: Tensor) -> Tensor:  # bone from its surroundings
        return x + amount * (each(rng, x, -70, 90) + each(rng, x, 0, 25) * smooth_field(rng, x, 5))

    def soft(x: Tensor, amount: Tensor) -> Tensor:  # contrast of soft tissues
        tissue = torch.exp(-(((x - 40) / 90) ** 2)) * (1 - amount)
        return x + tissue * (each(rng, x, -30, 60) + each(rng, x, 0, 40) * smooth_field(rng, x, 6))

    def gamma(x: Tensor) -> Tensor:  # about a random window
        low, high = each(rng, x, -500, -150), each(rng, x, 800, 2200)
        curve = ((x - low) / (high - low)).clamp(0, 1) ** torch.exp(each(rng, x, -0.35, 0.35))
        return torch.where((x > low) & (x < high), curve * (high - low) + low, x)

    def scaled(x: Tensor) -> Tensor:
        return x * each(rng, x, 0.8, 1.25) + each(rng, x, -40, 40)

    def biased(x: Tensor) -> Tensor:
        return x + each(rng, x, 5, 35) * smooth_field(rng, x, 3)

    def thick(x: Tensor) -> Tensor:  # slices, mostly across the first axis: [1/3, 1/3, 1/3] is a slab of three voxels
        a, first = each(rng, x, 0.1, 0.33), each(rng, x, 0, 1) < 0.7
        return blur(x, (a * first, a * ~first, 0.0))

    def sharpness(x: Tensor) -> Tensor:
        a = each(rng, x, -0.1, 0.22)
        return blur(x, [a * each(rng, x, 0.3, 1.0) for _ in range(3)])

    def grain(x: Tensor) -> Tensor:
        white = normal(rng, x)
        replace(white, rng.random(len(x)) < 0.5, lambda w: blur(w, (0.25, 0.25, 0.25)) * 3.0)
        return x + white * each(rng, x, 0, noise)

    def toned(x: Tensor) -> Tensor:
        return tone(x, rng)

    steps = (
        (0.6, apart, True), (0.4, soft, True), (0.7, gamma, False), (0.2, toned, False), (0.7, scaled, False),
        (0.3, biased, False), (0.2, thick, False), (0.5, sharpness, False), (0.6, grain, False),
    )

    def appearance(x: Tensor, amount: Tensor) -> Tensor:
        field = x > AIR + 1
        for share, step, of_bone in steps:
            replace(x, rng.random(len(x)) < share, step, *([amount] if of_bone else []))
        return torch.where(field, x, AIR)

    hu = hu.clone()
    replace(hu, rng.random(len(hu)) < 0.75, appearance, bone.float())
    return hu


def resliced(hu: Tensor, spacing, rng: np.random.Generator) -> Tensor:
    """What is left when the scanner averages over slices and the crops ``[N,w,v,u]`` are interpolated between them.

    A crop of a real series is cubic between slices up to 3 mm apart that cross it at any tilt; blur alone is smoother.
    ``spacing`` is the crops', in mm along (w, v, u); the padding outside the field stays. The four slices around a point
    weigh as in cubic convolution (Keys 1981), softer or sharper than the node's spline (`sample_crop`).
    """
    thick = each(rng, hu, 1.2, 3.3)
    tilt = [np.radians(rng.uniform(-most, most, len(hu))) for most in (35, 15)]  # v and u against the slices
    across = np.stack([np.cos(tilt[0]) * np.cos(tilt[1]), np.sin(tilt[0]), np.sin(tilt[1])], 1)
    across[rng.random(len(hu)) < 0.12] = (0, 0, 1)  # sagittal series
    across = torch.from_numpy((across / np.linalg.norm(across, axis=1, keepdims=True)).astype(np.float32)).to(hu.device)
    half = [(n - 1) / 2 * s for n, s in zip(hu.shape[1:], spacing, strict=True)]
    axes = [torch.linspace(-h, h, n, device=hu.device) for h, n in zip(half, hu.shape[1:], strict=True)]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    ends = torch.tensor(half, device=hu.device)
    along = torch.einsum("wvuk,nk->nwvu", place, across) / thick + each(rng, hu, 0, 1)
    sharp = each(rng, hu, -0.85, -0.3)
    out = torch.zeros_like(hu)
    for step in range(-1, 3):
        slice_at = along.floor() + step
        weight = keys(along - slice_at, sharp)
        for part in (-0.3, 0.3):  # two points across the slice stand for its average
            moved = place + ((slice_at - along + part) * thick)[..., None] * across[:, None, None, None]
            grid = (moved / ends).flip(-1)
            read = F.grid_sample(hu[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
            out = out + 0.5 * weight * read
    return torch.where(hu > AIR + 1, out.clamp(min=AIR + 2), hu)


def keys(distance: Tensor, sharp: Tensor) -> Tensor:
    """Weight of a sample so many steps away in cubic convolution; ``sharp`` is Keys' a."""
    d = distance.abs()
    near = (sharp + 2) * d**3 - (sharp + 3) * d**2 + 1
    far = sharp * (d**3 - 5 * d**2 + 8 * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def tone(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """A random rising curve through five knots between -200 and 1400 HU: tissues nearer or farther apart."""
    knots = np.linspace(-200, 1400, 5)
    rise = rng.uniform(0.25, 1.75, (len(hu), 4))
    values = knots[0] + np.cumsum(rise / rise.sum(1, keepdims=True), 1) * (knots[-1] - knots[0])
    values = np.concatenate([np.full((len(hu), 1), knots[0]), values], 1)
    values = torch.from_numpy(values.astype(np.float32)).to(hu.device)[:, :, None, None, None]
    out = hu
    for k, (a, b) in enumerate(pairwise(knots)):
        x, y = values[:, k], values[:, k + 1]
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
    device = volumes[0][0].device
    half = (torch.tensor(volumes[0][0].shape, dtype=torch.float32, device=device) - 1) / 2
    axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in volumes[0][0].shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    where = torch.stack([z, y, x], -1) @ matrix.to(device).T  # index offsets from the centre
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


def beyond(like: Tensor, spacing, rng: np.random.Generator) -> Tensor:
    """True where the fields of crops ``[N,w,v,u]`` end: beyond slightly tilted planes that spare the vertebral bodies."""
    axes = [
        (torch.arange(n, dtype=torch.float32, device=like.device) - o) * s
        for n, o, s in zip(like.shape[1:], (27.5, 24.0, 15.5), spacing, strict=True)
    ]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # mm from the centre
    planes, ends = rng.uniform(-0.2, 0.2, (len(like), 3)), np.zeros(len(like))
    for k in range(len(like)):
        axis = int(rng.choice([0, 0, 1, 2, 2]))
        planes[k, axis] = 1 if axis == 1 or rng.random() < 0.5 else -1  # never in front of the body's front
        ends[k] = uniform(rng, *{0: (19, 27), 1: (22, 55), 2: (24, 46)}[axis])
    planes, ends = (torch.from_numpy(x.astype(np.float32)).to(like.device) for x in (planes, ends))
    return torch.einsum("wvuk,nk->nwvu", place, planes) > ends[:, None, None, None]
