"""Rendering of a case on any grid, with truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .acquisition import Acquisition, degrade, outside_circle
from .backdrop import paint_bones, paint_joints, paint_organs, paint_torso, textures
from .canvas import Canvas
from .grids import Grid, crop_grid
from .metal import paint_last
from .norms import label_index
from .patient import Case
from .vertebra import ARCH_CORTEX_MM, arch_distance, body_field, discontinuities, fracture_region, marrow_hu

Tensor = torch.Tensor
#: Largest number of fine voxels painted at once; bigger grids are painted in slabs of slices.
SLAB_VOXELS = 6_000_000


@dataclass
class Rendered:
    """Volumes on the grid, index (z, y, x).  Truth is None where it was not asked for."""

    grid: Grid
    hu: Tensor
    labels: Tensor | None
    body: Tensor | None
    instance: Tensor | None
    fracture: Tensor | None


def _factors(grid: Grid) -> tuple[int, int, int]:
    """Supersampling per axis: voxels coarser than 3 mm, or much longer than wide, are averaged from finer ones."""
    target = min(3.01, max(1.0, float(grid.spacing.min()) * 2.0))
    return tuple(int(max(1, np.ceil(s / target - 1e-6))) for s in grid.spacing)


def render(
    case: Case,
    grid: Grid,
    acq: Acquisition,
    *,
    device: str = "cpu",
    truth: bool = True,
    seed: int = 0,
    background: Callable[[Grid], Tensor] | None = None,
) -> Rendered:
    """CT numbers (float32 HU) and truth of a case on a grid as `acq` saw it; `seed` picks another noise realisation.

    `background` gives the HU of everything but the spine on a grid (CPU); without it the case's own torso, organs, ribs and
    pelvis are painted.
    """
    hu = torch.empty(grid.shape, dtype=torch.float32, device=device)
    maps = [torch.zeros(grid.shape, dtype=torch.uint8, device=device) for _ in range(4)] if truth else None
    factors = _factors(grid)
    per_slice = grid.shape[1] * grid.shape[2] * int(np.prod(factors))
    step = max(1, SLAB_VOXELS // per_slice)
    noise_textures = textures(case.seed, acq, device)
    for start in range(0, grid.shape[0], step):
        slab = grid.rows(start, min(start + step, grid.shape[0]))
        canvas = _paint(case, slab.refined(factors), acq, device, noise_textures, background)
        hu[start : start + slab.shape[0]] = (
            torch.nn.functional.avg_pool3d(canvas.hu[None, None], factors)[0, 0] if max(factors) > 1 else canvas.hu
        )
        if truth:
            for target, part in zip(maps, _truth(case, slab, device), strict=False):
                target[start : start + slab.shape[0]] = part
    generator = torch.Generator().manual_seed((case.seed * 1_000_003 + acq.seed * 7919 + seed) % 2**62)
    hu = degrade(hu, grid, acq, generator=generator, antialias_mm=float(np.prod(grid.spacing) ** (1 / 3)))
    outside = outside_circle(grid, acq, device)
    if outside is not None:
        hu = torch.where(outside, acq.padding_hu, hu)
        maps = [x * ~outside for x in maps] if truth else None  # nobody can see what is there
    if not truth:
        return Rendered(grid, hu, None, None, None, None)
    labels, body, instance, fracture = maps
    return Rendered(grid, hu, labels, body.bool(), instance, fracture.bool())


def render_crop(
    case: Case,
    vertebra,
    acq: Acquisition,
    *,
    centre=None,
    frame=None,
    device: str = "cpu",
    truth: bool = True,
    seed: int = 0,
) -> Rendered:
    """The contract's crop of a vertebra (or of any centre and frame): rendered at 1.5 mm along u, averaged to 3 mm."""
    grid = crop_grid(vertebra, centre, frame)
    fine = render(case, grid.refined((1, 1, 2)), acq, device=device, truth=False, seed=seed)
    hu = torch.nn.functional.avg_pool3d(fine.hu[None, None], (1, 1, 2))[0, 0]
    if not truth:
        return Rendered(grid, hu, None, None, None, None)
    labels, body, instance, fracture = _truth(case, grid, device)
    return Rendered(grid, hu, labels, body.bool(), instance, fracture.bool())


def _paint(case: Case, grid: Grid, acq: Acquisition, device: str, noise_textures, background=None) -> Canvas:
    canvas = Canvas(grid, device, acq.hu("air"))
    grains = noise_textures.sample(canvas)
    if background is None:
        paint_torso(canvas, case, acq, grains)
        paint_organs(canvas, case, acq)
    else:
        canvas.hu = background(grid).to(device)
    paint_joints(canvas, case, acq)
    for index, vertebra in enumerate(case.shown):
        _paint_vertebra(canvas, case, vertebra, acq, grains, index)
    if background is None:
        paint_bones(canvas, case, acq, grains)
    paint_last(canvas, case, acq)
    return canvas


def _boxes(canvas: Canvas, vertebra):
    """Windows of the body and of the arch, either of which may be None."""
    body, arch = vertebra.body, vertebra.arch
    frame, origin = np.asarray(vertebra.frame), np.asarray(vertebra.origin_mm)
    lip = max(body.details.lip, body.details.lip_inferior) * 1.3 + 3
    tall = body.r0 + abs(body.r1) + body.details.wave + 2
    body_win = canvas.window(origin, np.array([body.half_width * 1.16 + lip, body.half_depth * 1.16 + lip + 4, tall]), frame)
    depth = body.half_depth + arch.canal_d + arch.sp_len + 4
    low, high = -0.6 * arch.height - arch.sp_slope * arch.sp_len - 8, 0.9 * arch.height
    front = (
        -0.55 * arch.height if arch.ala else body.half_depth * 0.6 - 10 - arch.wing if arch.wing else body.half_depth - 10
    )
    centre = origin + frame[1] * (front + depth) / 2 + frame[2] * (low + high) / 2
    arch_win = canvas.window(centre, np.array([arch.tp_span / 2 * 1.1 + 6, (depth - front) / 2, (high - low) / 2]), frame)
    return frame, origin, body_win, arch_win


def _paint_vertebra(canvas: Canvas, case: Case, vertebra, acq: Acquisition, grains, index: int) -> None:
    frame, origin, body_win, arch_win = _boxes(canvas, vertebra)
    spongy = case.trabecular_hu * acq.trabecular_gain + acq.trabecular_shift
    thoracic = vertebra.level.startswith("T")
    if arch_win is not None:
        u, v, w = canvas.local(arch_win, origin, frame)
        d = arch_distance(vertebra.arch, vertebra.body, u, v, w, thoracic)
        shell = ARCH_CORTEX_MM * max(acq.shell, 0.2)
        inner = spongy * 0.9 + 40 + grains.fine(arch_win) * acq.texture_sd
        hard = acq.hu("arch")
        canvas.paint(arch_win, canvas.cover(d), hard + (inner - hard) * canvas.cover(d + shell))
    if body_win is not None:
        u, v, w = canvas.local(body_win, origin, frame)
        coarse = grains.coarse(body_win)
        shell = acq.shell * (1 - acq.porosity * (coarse + 0.3).clamp(0, 1)) if acq.porosity > 0 else acq.shell
        field = body_field(vertebra.body, u, v, w, shell)
        base = spongy + grains.fine(body_win) * acq.texture_sd + coarse * (0.3 * acq.texture_sd)
        if acq.gradient_hu != 0:
            base = base + acq.gradient_hu * (
                torch.exp(-field.below_top.clamp(min=0) / 4) + torch.exp(-field.above_bottom.clamp(min=0) / 4)
            )
        inner = marrow_hu(vertebra.body, field, u, v, w, base, (1 + 0.5 * coarse).clamp(0.2, 2))
        hard = acq.hu("cortex")
        value = hard + (inner - hard) * canvas.cover(field.marrow)
        holes = discontinuities(vertebra.body, field, u, v, w)
        if holes is not None:
            value = value + (acq.hu("gap") - value) * holes
        canvas.paint(body_win, canvas.cover(field.solid), value)


def _truth(case: Case, grid: Grid, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """labels, body, instance, fracture (uint8) at voxel centres; where vertebrae touch, the nearer surface wins."""
    canvas = Canvas(grid, device, 0.0)
    best = canvas.hu  # lowest signed distance so far; 0 is the surface
    labels, body, instance, fracture = (torch.zeros(grid.shape, dtype=torch.uint8, device=device) for _ in range(4))
    for index, vertebra in enumerate(case.shown):
        frame, origin, body_win, arch_win = _boxes(canvas, vertebra)
        if body_win is not None:
            u, v, w = canvas.local(body_win, origin, frame)
            field = body_field(vertebra.body, u, v, w, 1.0)
            _claim(best, labels, instance, body_win, field.solid, label_index(vertebra.level), index)
            body[body_win] |= (field.solid < 0).to(torch.uint8)
            if vertebra.fracture:
                region = fracture_region(vertebra.body, field, w)
                if region is not None:
                    fracture[body_win] |= region.to(torch.uint8)
        if arch_win is not None:
            u, v, w = canvas.local(arch_win, origin, frame)
            d = arch_distance(vertebra.arch, vertebra.body, u, v, w, vertebra.level.startswith("T"))
            _claim(best, labels, instance, arch_win, d, label_index(vertebra.level), index)
    return labels, body, instance, fracture


def _claim(best: Tensor, labels: Tensor, instance: Tensor, win, distance: Tensor, label: int, index: int) -> None:
    nearer = distance < best[win]
    best[win] = torch.where(nearer, distance, best[win])
    labels[win] = torch.where(nearer, torch.tensor(label, dtype=torch.uint8, device=labels.device), labels[win])
    instance[win] = torch.where(nearer, torch.tensor(index + 1, dtype=torch.uint8, device=labels.device), instance[win])
