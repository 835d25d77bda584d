"""Vertebra crops from real shapes: warped, damaged in the vertebra's own frame, and seen with random appearance.

An image point goes back to the real shape in three steps: scale and smooth warp (one vertebra gives many), walls (buckle,
retropulsion, osteophytes), endplates (every depression of `shape.endplates`, as displacement between the plate's
unhurt neighbourhood and the middle of the body). The truth is the same displacement of the label map, so it never
disagrees with the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from . import damage as dmg
from .acquisition import Acquisition, degrade
from .atlas import TISSUE_NAMES
from .grids import Grid
from .shape import BodyShape, Damage, Details, endplates, heights, middle_offset, wall_profile
from .solids import CORNER, POINTS, STEP, Solid
from .vertebra import BodyField, discontinuities, fracture_region, marrow_hu

Tensor = torch.Tensor
#: What can be added to a real shape without hardware.
MIMICS = ("schmorl", "limbus", "scheuermann", "osteophytes", "sclerosis", "lines", "haemangioma", "cupid", "lesion")
_SOFT = tuple(TISSUE_NAMES.index(n) for n in ("fat", "muscle", "artery", "vein", "organ", "water", "stool", "gas", "liver"))


@dataclass(frozen=True)
class Pose:
    """How the shape sits in the crop: `scale` per axis (u, v, w), mirrored or not, warp displacements on a lattice (mm).

    `wedge` and `concave` are what people differ by: relative height of front against back, and of rim against middle.
    """

    scale: tuple[float, float, float]
    mirrored: bool
    warp: Tensor  # [1, 3 (u, v, w), w, v, u]
    wedge: float = 0.0
    concave: float = 0.0


def sample_pose(rng: np.random.Generator, solid: Solid) -> Pose:
    """A lumbar or lower thoracic size whatever the level was, 12 % anisotropy, and a warp of up to a few mm."""
    size = rng.uniform(33, 54) / (2 * solid.shape.half_width)
    if solid.level in ("L1", "L2", "L3", "L4", "L5", "S1"):
        size = rng.uniform(0.84, 1.2)
    scale = size * rng.uniform(0.9, 1.1, 3)
    coarse = rng.standard_normal((1, 3, 4, 5, 5)) * rng.uniform(0, 2.2)
    fine = rng.standard_normal((1, 3, 7, 9, 9)) * rng.uniform(0, 0.7)
    size = (14, 18, 18)
    both = [
        torch.nn.functional.interpolate(torch.from_numpy(x.astype(np.float32)), size=size, mode="trilinear")
        for x in (coarse, fine)
    ]
    shape = float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.05, 0.08))
    return Pose(tuple(float(x) for x in scale), bool(rng.random() < 0.5), both[0] + both[1], *shape)


@dataclass(frozen=True)
class Scanned:
    """One vertebra from a real shape and its truth, in the terms of `VertebraTruth`; the frame is the patient's."""

    solid: Solid
    body: BodyShape
    pose: Pose
    evidence: dict[str, bool]
    denis: str | None
    old_deformity: bool
    mimic: str | None
    height_loss: float
    centre_mm: tuple[float, float, float]
    frame: tuple[tuple[float, float, float], ...] = ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))


def sample_scanned(rng: np.random.Generator, solid: Solid, kind: str, mimic: str | None = None) -> Scanned:
    """Damage a real shape: `kind` is a Denis type A-D, `old`, `mimic` (a random one, or the given) or `plain`."""
    evidence = {"superior": False, "inferior": False, "anterior": False, "posterior": False}
    pose, body = sample_pose(rng, solid), solid.shape
    if kind == "mimic" or rng.random() < 0.12:
        mimic = mimic or str(rng.choice(MIMICS))
        body = dmg.mimic_details(rng, body, mimic)
    denis = kind if kind in "ABCD" else None
    if denis:
        body, evidence = dmg.fracture(rng, body, denis, dmg.sample_loss(rng), varied=True)
    elif kind == "old":
        body = dmg.old_deformity(rng, body, varied=True)
    else:
        body = dmg.decoys(rng, body)
    before, after = heights(solid.shape), heights(body)
    loss = max(0.0, *(1 - a / b for a, b in zip(after, before, strict=True))) if body.damage != Damage() else 0.0
    shift = (middle_offset(body) - middle_offset(solid.shape)) * pose.scale[2]
    return Scanned(solid, body, pose, evidence, denis, kind == "old", mimic, loss, (0.0, 0.0, shift))


def _read(volume: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """The channels ``[C, ...]`` of a volume that spans the lattice, at points in mm."""
    place = [(x - low) / (STEP * (n - 1)) * 2 - 1 for x, low, n in zip((u, v, w), CORNER[::-1], POINTS[::-1], strict=True)]
    grid = torch.stack(place, -1)[None]
    return torch.nn.functional.grid_sample(volume, grid, padding_mode="border", align_corners=True)[0]


def _map(plane: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """A map of the lattice at points in mm."""
    place = [(x - low) / (STEP * (n - 1)) * 2 - 1 for x, low, n in zip((u, v), CORNER[:0:-1], POINTS[:0:-1], strict=True)]
    grid = torch.stack(place, -1).flatten(0, 1)[None]
    out = torch.nn.functional.grid_sample(plane, grid, padding_mode="border", align_corners=True)
    return out.reshape(u.shape)


def random_field(rng: np.random.Generator, shape: tuple[int, ...], knots: int) -> Tensor:
    """A smooth random field of SD about 0.6 from a lattice of `knots` per axis."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, knots, knots, knots)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0]


@dataclass
class Place:
    """Where every voxel lies: in the damaged vertebra (u, v, w) and in the real shape (source)."""

    u: Tensor
    v: Tensor
    w: Tensor
    source: tuple[Tensor, Tensor, Tensor]
    field: BodyField  # distances of the damaged body
    whole: Tensor


def _walls(shape: BodyShape, field_w: Tensor, q: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Displacement of the front wall (forward) and the back wall (backward) along v in mm, fading into the body and out."""
    out = torch.zeros_like(v)
    front = torch.zeros_like(v)
    if shape.damage.anterior is not None:
        front = front + wall_profile(shape.damage.anterior, field_w, q)
    if shape.details.dent > 0:
        front = front - shape.details.dent * torch.exp(-((field_w / 2.0) ** 2) - (q / 0.3) ** 2)
    out = out - front * (-s).clamp(0, 1) * (1 - ((-s - 1) * shape.half_depth / 10).clamp(0, 1))
    if shape.damage.posterior is not None:
        back = wall_profile(shape.damage.posterior, field_w, q)
        out = out + back * s.clamp(0, 1) * (1 - ((s - 1) * shape.half_depth / 14).clamp(0, 1))
    return out


def _unmapped(w: Tensor, top: Tensor, bottom: Tensor, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heights in the unhurt shape for heights in the damaged one; and the damaged plates.

    `down` and `up` are the displacements (mm) of the upper and the lower plate towards the middle.
    """
    tall = (top - bottom).clamp(min=6.0)
    crowd = ((down.clamp(min=0) + up.clamp(min=0)) / (tall - 4)).clamp(min=1)
    down, up = down / crowd, up / crowd
    room = tall - 1.5
    zone_down, zone_up = (torch.maximum(1.6 * x.abs() + 2, torch.full_like(x, 8.0)) for x in (down, up))
    squeeze = (room / (zone_down + zone_up)).clamp(max=1)
    zone_down = torch.maximum(zone_down * squeeze, down.abs() + 0.7)
    zone_up = torch.maximum(zone_up * squeeze, up.abs() + 0.7)
    new_top, new_bottom = top - down, bottom + up
    upper, lower = top - zone_down, bottom + zone_up
    inside_up = upper + (w - upper) * (zone_down / (zone_down - down))
    inside_low = lower + (w - lower) * (zone_up / (zone_up - up))
    beyond = w + down * (1 - (w - new_top) / (down.abs() * 1.3 + 6)).clamp(min=0)
    below = w - up * (1 - (new_bottom - w) / (up.abs() * 1.3 + 6)).clamp(min=0)
    out = torch.where(w > upper, inside_up, w)
    out = torch.where(w < lower, inside_low, out)
    out = torch.where(w > new_top, beyond, out)
    out = torch.where(w < new_bottom, below, out)
    return out, new_top, new_bottom


def _placed(solid: Solid, shape: BodyShape, pose: Pose, grid: Grid) -> Place:
    """Map every voxel of the crop (patient axes = vertebra axes: x u, y v, z w) into the real shape."""
    affine = torch.tensor(grid.affine, dtype=torch.float32)
    i, j, k = (torch.arange(n, dtype=torch.float32) for n in grid.shape)
    at = affine[:3, 3] + i[:, None, None, None] * affine[:3, 0] + j[None, :, None, None] * affine[:3, 1]
    at = at + k[None, None, :, None] * affine[:3, 2]
    u, v, w = (at[..., a] / pose.scale[a] for a in range(3))
    if pose.mirrored:
        u = -u
    bend = _read(pose.warp, u, v, w)
    u, v, w = u + bend[0], v + bend[1], w + bend[2]
    q, s = u / shape.half_width, v / shape.half_depth
    w = w * (1 + pose.wedge * s.clamp(-1.2, 1.2) * -1 + pose.concave * (1 - s * s - q * q).clamp(0, 1))
    lip = max(shape.details.lip, shape.details.lip_inferior)
    v1 = v - _walls(shape, w, q, s, v)
    u1 = u
    top, bottom, foot = (_map(m, u1, v1) for m in (solid.top, solid.bottom, solid.foot))
    if lip > 0:  # osteophytes: the rim flares out in front and to the sides
        near = shape.details.lip * torch.exp(-(top - w).abs() / 3) + shape.details.lip_inferior * torch.exp(
            -(w - bottom).abs() / 3
        )
        grow = 1 + near * (0.4 - s).clamp(0, 1) * (1 - (foot / 12).clamp(0, 1)) / shape.half_depth
        u1, v1 = u1 / grow, v1 / grow
        foot = _map(solid.foot, u1, v1)
    s1 = v1 / shape.half_depth
    bare = replace(shape, damage=Damage(), details=Details())
    full, plain = endplates(shape, q, s1), endplates(bare, q, s1)
    fade = (1 - foot / 5).clamp(0, 1)
    down, up = (plain["top"] - full["top"]) * fade, (full["bottom"] - plain["bottom"]) * fade
    w1, new_top, new_bottom = _unmapped(w, top, bottom, down, up)
    source = (u1, v1, w1)
    solid_body = _read(solid.body, *source)[0]
    share = lambda drop, plate: None if drop is None or not plate.broken else (drop / max(plate.amount, 1e-3)).clamp(0, 1)  # noqa: E731
    field = BodyField(
        solid_body,
        solid_body,
        foot,
        new_top - w,
        w - new_bottom,
        q,
        s1,
        share(full["drop_sup"], shape.damage.superior),
        share(full["drop_inf"], shape.damage.inferior),
    )
    whole = _read(solid.whole, *source)[0]
    if shape.details.limbus > 0:
        cut = ((v1 + shape.half_depth) + (new_top - w)) * 0.7071 - shape.details.limbus
        cleft = torch.where(solid_body < 3, 1.1 - cut.abs(), torch.full_like(cut, -9.0))
        whole = torch.maximum(whole, cleft)
    return Place(u, v, w, source, field, whole)


def render_scanned(
    vertebra: Scanned, grid: Grid, acq: Acquisition, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """HU, and whole-vertebra, body and fracture masks (bool) of one real shape on a grid (LPS = u, v, w)."""
    solid, shape = vertebra.solid, vertebra.body
    place = _placed(solid, shape, vertebra.pose, grid)
    hu = _soft_tissue(solid, place, shape, acq, rng)
    ramp = float(max(0.3, np.prod(grid.spacing) ** (1 / 3)))
    cover = lambda d: (0.5 - d / ramp).clamp(0, 1)  # noqa: E731
    spongy = _spongy(place, acq, rng)
    other = _read(solid.others, *place.source)[0]
    shell = acq.shell * _patches(rng, grid.shape)
    arch_mm, body_mm = rng.uniform(0.9, 2.0), rng.uniform(0.35, 0.9)
    hard = acq.hu("arch")
    value = hard + (spongy - hard) * cover(other + arch_mm * shell)
    hu = hu + (value - hu) * cover(other)
    thick = arch_mm + (body_mm - arch_mm) * cover(place.field.solid - 3.0)
    if shape.details.endplate_factor != 1.0:
        thick = torch.where(place.field.solid < 3, thick * shape.details.endplate_factor, thick)
    uneven = (1 + rng.uniform(0.2, 1.2) * random_field(rng, grid.shape, 6)).clamp(0.1, 2)
    inner = marrow_hu(shape, place.field, place.u, place.v, place.w, spongy, uneven)
    inner = torch.where(place.field.solid < 1.5, inner, spongy)
    hard = torch.where(place.field.solid < 1.5, torch.tensor(acq.hu("cortex")), torch.tensor(acq.hu("arch")))
    value = hard + (inner - hard) * cover(place.whole + thick * shell)
    holes = discontinuities(shape, place.field, place.u, place.v, place.w)
    if holes is not None:
        value = value + (acq.hu("gap") - value) * torch.where(place.field.solid < 2, holes, torch.zeros_like(holes))
    hu = hu + (value - hu) * cover(place.whole)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    hu = degrade(hu, _scan_axes(rng, grid), acq, generator=generator, antialias_mm=ramp)
    whole = place.whole < 0
    region = fracture_region(shape, place.field, place.w) if shape.damage != Damage() else None
    return hu, whole, whole & (place.field.solid < 0), None if region is None else region & whole


def _scan_axes(rng: np.random.Generator, grid: Grid) -> Grid:
    """The grid as the scanner's axes see it: mostly axial under a lordotic spine, at times sagittal or coronal slices."""
    draw = rng.random()
    tilt = np.deg2rad(rng.uniform(-32, 32)) + (0 if draw < 0.8 else np.pi / 2)
    i, j = (1, 2) if draw < 0.9 else (0, 2)
    turn = np.eye(4)
    turn[i, i] = turn[j, j] = np.cos(tilt)
    turn[i, j], turn[j, i] = -np.sin(tilt), np.sin(tilt)
    return Grid(turn @ grid.affine, grid.shape)


def _patches(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Local thickness of the shell as a factor: uneven everywhere, and in half of the crops with thin or open patches."""
    out = 1 + rng.uniform(0.1, 0.9) * random_field(rng, shape, int(rng.integers(5, 14)))
    if rng.random() < 0.5:
        fine = random_field(rng, shape, int(rng.integers(8, 20)))
        out = out * (1 - rng.uniform(0.5, 1.2) * ((fine - rng.uniform(0.1, 0.7)) * 3).clamp(0, 1))
    return out.clamp(0, 3)


def _spongy(place: Place, acq: Acquisition, rng: np.random.Generator) -> Tensor:
    """Marrow: age, trabeculae at several scales, denser towards both plates, fatty or dense patches."""
    shape = tuple(place.u.shape)
    base = rng.uniform(10, 340) * acq.trabecular_gain + acq.trabecular_shift
    if acq.family == "random":
        base = acq.hu("spongy")
    grain = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    out = base + acq.texture_sd * (
        rng.uniform(0, 0.8) * grain
        + rng.uniform(0, 1.0) * random_field(rng, shape, 24)
        + rng.uniform(0, 1.2) * random_field(rng, shape, 9)
    )
    for depth in (place.field.below_top, place.field.above_bottom):
        reach, gain = rng.uniform(1.5, 8), rng.uniform(-20, 160) * (rng.random() < 0.6)
        uneven = (1 + random_field(rng, shape, 5)).clamp(0, 2)
        out = out + gain * uneven * torch.exp(-((depth.clamp(min=0) / reach) ** 1.5))
    if rng.random() < 0.4:
        out = out + rng.uniform(-90, 120) * (random_field(rng, shape, int(rng.integers(4, 10))) - 0.3).clamp(min=0)
    return out


def _soft_tissue(solid: Solid, place: Place, shape: BodyShape, acq: Acquisition, rng: np.random.Generator) -> Tensor:
    """HU of everything that is not bone: the map's own tissues, or random ones where it has none (and at times anyway)."""
    u, v, w = place.source
    index = [((x - low) / STEP).round().long().clamp(0, n - 1) for x, low, n in zip((w, v, u), CORNER, POINTS, strict=True)]
    kinds = solid.tissue[tuple(index)].long()
    size = tuple(kinds.shape)
    disc, sac = TISSUE_NAMES.index("disc"), TISSUE_NAMES.index("sac")
    if solid.bare or rng.random() < 0.4:
        free = (kinds != disc) & (kinds != sac)
        for _ in range(int(rng.integers(2, 7))):
            blob = random_field(rng, size, int(rng.integers(3, 8))) > rng.uniform(0.2, 0.9)
            kinds = torch.where(free & blob, torch.tensor(int(rng.choice(_SOFT))), kinds)
    mean = torch.tensor([acq.hu(n) if n not in ("shell", "arch_shell") else acq.hu("muscle") for n in TISSUE_NAMES])
    spread = torch.tensor(rng.uniform(2, 30, len(TISSUE_NAMES)).astype(np.float32))
    hu = mean.float()[kinds] + spread[kinds] * random_field(rng, size, 16)
    if rng.random() < 0.12:  # vacuum phenomenon
        gas = (kinds == disc) & (random_field(rng, size, 7) > 0.3)
        hu = torch.where(gas, torch.tensor(acq.hu("vacuum")), hu)
    if shape.damage.swelling > 0:
        near = (place.field.solid < shape.damage.swelling) & (kinds != sac) & (kinds != disc)
        hu = torch.where(near, torch.tensor(acq.hu("swelling")), hu)
    return hu
