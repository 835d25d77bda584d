"""Geometry of one vertebral body: endplate height fields, footprint and wall deformation, and the heights they imply.

Vertebra frame: origin at the centre of the undamaged body, u left, v back, w up (mm). Normalised coordinates: q = u /
half_width, s = v / half_depth, so s = -1 is the anterior wall. Surfaces are height fields w = top(q, s) and w =
bottom(q, s): every fracture, wedge, pit or lip is a term in them, so that heights (clinical reference 2.1) follow from
the same functions as the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

Tensor = torch.Tensor

#: Positions of the anterior, middle and posterior height (s) and the central band (|q|), clinical reference 2.1.
HEIGHT_S = (-0.8, 0.0, 0.8)
BAND_Q = 0.2


@dataclass(frozen=True)
class EndplateDamage:
    """Depression of one endplate.  `amount` mm scales (1 - wedge) * bump + wedge * anterior drop; edges in s and q units.

    `turn` (radians) makes it run aslant across the plate; `fray` (s units) lets its edges wander; `band_flames` (mm) is how
    far the band's far edge wanders.
    """

    amount: float
    wedge: float = 0.0
    wedge_power: float = 1.0
    front: float = -1.4
    back: float = 0.1
    front_soft: float = 0.1
    back_soft: float = 0.1
    q_centre: float = 0.0
    q_edge: float = 1.2
    q_soft: float = 0.15
    ripple: float = 0.0
    ripple_phase: float = 0.0
    line: bool = False
    band_hu: float = 0.0
    band_thick: float = 4.0
    band_offset: float = 0.5
    broken: bool = True
    band_soft: float = 0.8
    turn: float = 0.0
    fray: float = 0.0
    fray_phase: float = 0.0
    band_flames: float = 0.0


@dataclass(frozen=True)
class WallDamage:
    """Buckle of the anterior cortex (or bulge of the posterior one): `amount` mm at height w0 mm, kind step | bulge |
    fold.
    """

    amount: float
    w0: float
    kind: str = "step"
    reach: float = 7.0
    q_centre: float = 0.0
    q_width: float = 1.0
    band_hu: float = 0.0
    band_thick: float = 4.0
    band_depth: float = 0.4
    gap: bool = False
    broken: bool = True
    band_soft: float = 0.8


@dataclass(frozen=True)
class Pit:
    """Round defect of an endplate (Schmorl): centre (q, s), radius and depth in mm, sclerotic rim thickness in mm."""

    superior: bool
    q: float
    s: float
    radius: float
    depth: float
    rim: float = 1.0


@dataclass(frozen=True)
class Damage:
    """All deformation of one body; empty for a healthy one."""

    superior: EndplateDamage | None = None
    inferior: EndplateDamage | None = None
    anterior: WallDamage | None = None
    posterior: WallDamage | None = None
    swelling: float = 0.0
    cleft: float = 0.0
    line_axial: float = 0.0


@dataclass(frozen=True)
class Details:
    """Non-fracture features of one vertebra."""

    pits: tuple[Pit, ...] = ()
    lip: float = 0.0
    lip_inferior: float = 0.0
    cupid: float = 0.0
    limbus: float = 0.0
    sclerosis_hu: float = 0.0
    sclerosis_mm: float = 5.0
    sclerosis_superior: float = 1.0
    lines_hu: float = 0.0
    lines_depth: float = 4.0
    endplate_factor: float = 1.0
    haemangioma: float = 0.0
    lesion: tuple[float, float, float, float] | None = None
    cement: bool = False
    screws: bool = False
    wave: float = 0.0
    wave_phase: float = 0.0
    channel: tuple[float, float, float, float] | None = (
        None  # dark vascular channel: q, s, lean, depth below the upper plate (mm)
    )
    dent: float = 0.0  # nutrient notch of the front wall, mm


@dataclass(frozen=True)
class BodyShape:
    """Undamaged body: half sizes, rim half-heights r = r0 + r1 s, concavity depths, waist and posterior shape, in mm."""

    half_width: float
    half_depth: float
    taper_w: float
    taper_d: float
    r0: float
    r1: float
    dip_sup: float
    dip_inf: float
    dip_s: float
    waist: float
    power: float
    notch: float
    damage: Damage = Damage()
    details: Details = Details()


def solve_rims(ha: float, hm: float, hp: float, dip_s: float, dip_min: float) -> tuple[float, float, float]:
    """Rim parameters r0, r1 and total dip so that the heights by definition are ha, hm, hp (hm as far as dip >= dip_min
    allows).
    """
    offsets = (
        (s - dip_s) / (1 + dip_s if s < dip_s else 1 - dip_s) for s in HEIGHT_S
    )  # _dip_profile at q = 0, in plain floats
    k_a, k_m, k_p = (max(0.0, 1 - d * d) * (1 - BAND_Q**2 / 3) for d in offsets)
    # ha = 2(r0 - .8 r1) - dip k_a ; hp = 2(r0 + .8 r1) - dip k_p ; hm = 2 r0 - dip k_m
    dip = max(dip_min, ((ha + hp) / 2 - hm) / (k_m - (k_a + k_p) / 2))
    r0 = (ha + hp + dip * (k_a + k_p)) / 4
    r1 = (hp - ha + dip * (k_p - k_a)) / 3.2
    return r0, r1, dip


def _dip_profile(s: Tensor, q: Tensor, apex: float) -> Tensor:
    """Endplate concavity in [0, 1]: apex in the posterior half, zero at the rim."""
    d = s - apex
    d = torch.where(d < 0, d / (1 + apex), d / (1 - apex))
    return (1 - d * d).clamp(min=0) * (1 - q * q).clamp(min=0)


def own_axes(damage: EndplateDamage, q: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Points of the plate in the axes of its depression: turned by `turn`, shifted where its edges are frayed."""
    d = damage
    if d.turn:
        c, n = math.cos(d.turn), math.sin(d.turn)
        q, s = c * q - n * s, c * s + n * q
    if d.fray:
        long, short = 5.1 * q + 2.3 * s + d.fray_phase, 10.7 * q - 3.9 * s + 2 * d.fray_phase
        away = d.fray * (torch.sin(long) + 0.6 * torch.sin(short))
        q, s = q + 0.7 * away, s + away
    return q, s


def drop(damage: EndplateDamage, q: Tensor, s: Tensor) -> Tensor:
    """Depression of a damaged endplate in mm (>= 0 towards the body centre)."""
    d = damage
    q, s = own_axes(d, q, s)
    bump = torch.sigmoid((s - d.front) / d.front_soft) * torch.sigmoid((d.back - s) / d.back_soft)
    bump = bump * torch.sigmoid((d.q_edge - (q - d.q_centre).abs()) / d.q_soft)
    total = bump * (d.amount * (1 - d.wedge))
    if d.wedge > 0:
        ramp = ((1 - s) * 0.5).clamp(min=0)
        total = total + (d.amount * d.wedge) * (ramp if d.wedge_power == 1.0 else ramp.pow(d.wedge_power))
    if d.ripple > 0:
        total = total + bump * (d.ripple * torch.sin(9 * s + 5 * q + d.ripple_phase))
    return total


def endplates(shape: BodyShape, q: Tensor, s: Tensor) -> dict[str, Tensor | None]:
    """Surfaces and their parts: top, bottom (mm), drop_sup, drop_inf (mm or None), rim_sup, rim_inf (extra shell
    thickness or None).
    """
    rim = shape.r0 + shape.r1 * s
    k = _dip_profile(s, q, shape.dip_s)
    top, bottom = rim - shape.dip_sup * k, shape.dip_inf * k - rim
    damage, details = shape.damage, shape.details
    out: dict[str, Tensor | None] = {"drop_sup": None, "drop_inf": None, "rim_sup": None, "rim_inf": None}
    if damage.superior is not None:
        out["drop_sup"] = drop(damage.superior, q, s)
        top = top - out["drop_sup"]
    if damage.inferior is not None:
        out["drop_inf"] = drop(damage.inferior, q, s)
        bottom = bottom + out["drop_inf"]
    if details.cupid > 0:  # paired parasagittal concavities of the lower endplate
        bottom = bottom + details.cupid * torch.exp(-(((q.abs() - 0.42) / 0.22) ** 2) - ((s - 0.35) / 0.4) ** 2)
    if details.wave > 0:  # Scheuermann-like irregular plates
        top = top - details.wave * torch.sin(7 * s + details.wave_phase) * torch.cos(4 * q)
        bottom = bottom + details.wave * torch.sin(6 * s - details.wave_phase) * torch.cos(5 * q)
    for pit in details.pits:
        r2 = ((q - pit.q) * shape.half_width) ** 2 + ((s - pit.s) * shape.half_depth) ** 2
        hole = torch.exp(-((r2 / pit.radius**2) ** 2)) * pit.depth
        rim_extra = torch.exp(-((r2 / (pit.radius + 2.0) ** 2) ** 2)) * pit.rim
        if pit.superior:
            top = top - hole
            out["rim_sup"] = rim_extra if out["rim_sup"] is None else out["rim_sup"] + rim_extra
        else:
            bottom = bottom + hole
            out["rim_inf"] = rim_extra if out["rim_inf"] is None else out["rim_inf"] + rim_extra
    # Opposite plates must never cross, however hard the damage.
    middle = (top + bottom) * 0.5
    half = ((top - bottom) * 0.5).clamp(min=1.5)
    out["top"], out["bottom"] = middle + half, middle - half
    return out


def heights(shape: BodyShape) -> tuple[float, float, float]:
    """Anterior, middle and posterior height in mm by the definition of the clinical reference 2.1 (float64, exact
    geometry).
    """
    s = torch.tensor(HEIGHT_S, dtype=torch.float64)[:, None]
    q = torch.linspace(-BAND_Q, BAND_Q, 21, dtype=torch.float64)[None, :]
    plates = endplates(shape, q.expand(3, -1), s.expand(-1, 21))
    values = (plates["top"] - plates["bottom"]).mean(dim=1)
    return tuple(float(x) for x in values)


def middle_offset(shape: BodyShape) -> float:
    """w of the centre of the damaged body relative to the frame origin (mm), so that truth centres follow what is seen."""
    axis = torch.linspace(-0.85, 0.85, 18, dtype=torch.float64)
    s, q = torch.meshgrid(axis, axis, indexing="ij")
    plates = endplates(shape, q, s)
    thickness = plates["top"] - plates["bottom"]
    return float((thickness * (plates["top"] + plates["bottom"]) / 2).sum() / thickness.sum())


def wall_profile(wall: WallDamage, w: Tensor, q: Tensor) -> Tensor:
    """Outward displacement of a wall in mm at height w."""
    d = w - wall.w0
    if wall.kind == "step":  # the upper fragment overhangs with a sharp lower edge
        profile = torch.sigmoid(d / 0.35) * torch.exp(-d.clamp(min=0) / wall.reach)
    elif wall.kind == "bulge":  # angulated kink
        profile = torch.exp(-d.abs() / (wall.reach * 0.45))
    else:  # fold: notch with a shoulder above it
        profile = torch.exp(-(((d - 2.4) / 1.8) ** 2)) - 0.9 * torch.exp(-((d / 1.2) ** 2))
    lateral = torch.exp(-(((q - wall.q_centre) / wall.q_width) ** 4))
    return wall.amount * profile * lateral


def scaled_to_loss(
    damage: EndplateDamage | tuple[EndplateDamage, EndplateDamage], healthy: tuple[float, float, float], loss: float
) -> tuple[EndplateDamage, ...]:
    """Scale damage amounts so that the largest of the three relative height losses equals `loss` (drops are linear in
    amount).
    """
    parts = damage if isinstance(damage, tuple) else (damage,)
    s = torch.tensor(HEIGHT_S, dtype=torch.float64)[:, None].expand(-1, 21)
    q = torch.linspace(-BAND_Q, BAND_Q, 21, dtype=torch.float64)[None, :].expand(3, -1)
    unit = sum(drop(replace(p, ripple=0.0), q, s).mean(dim=1).numpy() for p in parts)
    factor = loss / float(np.max(unit / np.asarray(healthy)))
    return tuple(replace(p, amount=p.amount * factor) for p in parts)
