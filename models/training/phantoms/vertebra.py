"""Signed distances and HU of one vertebra in its own frame (u left, v back, w up, mm; negative inside)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .shape import BodyShape, endplates, own_axes, wall_profile

Tensor = torch.Tensor
CORTEX_MM = 0.55  # side walls; clinical reference 3.2: 0.4-0.6
ENDPLATE_MM = 0.7  # 0.5-0.8
ARCH_CORTEX_MM = 1.5


@dataclass
class BodyField:
    """Distances of a body on some points: solid, its marrow cavity, footprint, depth below the plates, and what to mark."""

    solid: Tensor
    marrow: Tensor
    foot: Tensor
    below_top: Tensor
    above_bottom: Tensor
    q: Tensor
    s: Tensor
    share_sup: Tensor | None
    share_inf: Tensor | None


def smooth_max(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Maximum with edges rounded over k mm."""
    h = (k - (a - b).abs()).clamp_(min=0)
    return torch.maximum(a, b).add_(h.mul_(h), alpha=0.25 / k)


def smooth_min(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Minimum with seams filled over k mm."""
    h = (k - (a - b).abs()).clamp_(min=0)
    return torch.minimum(a, b).sub_(h.mul_(h), alpha=0.25 / k)


def body_field(shape: BodyShape, u: Tensor, v: Tensor, w: Tensor, shell: float) -> BodyField:
    """Distances of the (damaged) body; `shell` scales cortex and endplate thickness."""
    damage, details = shape.damage, shape.details
    q0, s0 = u / shape.half_width, v / shape.half_depth
    plates = endplates(shape, q0, s0)
    top, bottom = plates["top"], plates["bottom"]
    below, above = top - w, w - bottom
    level = (w / shape.r0).clamp(-1.2, 1.2)
    girth = 1 - shape.waist + shape.waist * level * level
    q = u / (shape.half_width * (girth + shape.taper_w * level))
    s = v / (shape.half_depth * (girth + shape.taper_d * level))
    if details.lip > 0 or details.lip_inferior > 0:  # osteophytes: the rim flares out in front and to the sides
        flare = details.lip * torch.exp(-below.clamp(min=0) / 2.5) + details.lip_inferior * torch.exp(
            -above.clamp(min=0) / 2.5
        )
        flare = flare * ((0.4 - s).clamp(0, 1))
        grow = 1 + flare / shape.half_depth
        q, s = q / grow, s / grow
    if damage.anterior is not None:
        grow = 1 + wall_profile(damage.anterior, w, q) / shape.half_depth
        s = torch.where(s < 0, s / grow, s)
    if details.dent > 0:
        s = torch.where(s < 0, s * (1 + details.dent / shape.half_depth * torch.exp(-((w / 2.0) ** 2) - (q / 0.3) ** 2)), s)
    back = (s > 0) * (1 - (q / 0.6) ** 2).clamp(min=0) * shape.notch
    if damage.posterior is not None:
        back = back - (s > 0) * wall_profile(damage.posterior, w, q) / shape.half_depth
    s = s + back * s.clamp(0, 1)
    r = (q.abs().pow(shape.power) + s.abs().pow(shape.power)).pow(1 / shape.power).clamp_(min=0.05)
    rho = torch.sqrt(u * u + v * v).clamp_(min=0.05 * shape.half_depth)  # as r: no false surface on the axis
    foot = rho * (1 - 1 / r)
    solid = smooth_max(smooth_max(foot, -below, 1.6), -above, 1.6)
    if details.limbus > 0:  # anterosuperior corner separated by a slanting cleft
        cut = ((v + shape.half_depth) + (top - w)) * 0.7071 - details.limbus
        solid = torch.maximum(solid, 1.1 - cut.abs())
    plate = ENDPLATE_MM * shell * details.endplate_factor
    sup = plate if plates["rim_sup"] is None else plate + plates["rim_sup"] * shell
    inf = plate if plates["rim_inf"] is None else plate + plates["rim_inf"] * shell
    marrow = torch.maximum(torch.maximum(foot + CORTEX_MM * shell, sup - below), inf - above)
    return BodyField(
        solid,
        marrow,
        foot,
        below,
        above,
        q0,
        s0,
        _share(plates["drop_sup"], damage.superior),
        _share(plates["drop_inf"], damage.inferior),
    )


def _share(drop: Tensor | None, damage) -> Tensor | None:
    """Depression as a fraction of the damage amount, 0 for an absent or unbroken plate."""
    return None if drop is None or not damage.broken else (drop / max(damage.amount, 1e-3)).clamp_(0, 1)


def _slab(depth: Tensor, start: float, thick: float, soft: float = 0.8) -> Tensor:
    """Smooth box: 1 where depth is in [start, start + thick]."""
    return ((depth - start) / soft + 0.5).clamp_(0, 1) * ((start + thick - depth) / soft + 0.5).clamp_(0, 1)


def marrow_hu(shape: BodyShape, f: BodyField, u: Tensor, v: Tensor, w: Tensor, base: Tensor, uneven) -> Tensor:
    """Add impaction bands, sclerosis, lines, haemangioma and other inner features to the spongy HU `base`.

    `uneven` (about 1) scales them from place to place.
    """
    damage, details = shape.damage, shape.details
    hu = base
    for share, plate, depth in ((f.share_sup, damage.superior, f.below_top), (f.share_inf, damage.inferior, f.above_bottom)):
        if share is not None and plate.band_hu > 0:
            thick = plate.band_thick
            if plate.band_flames:
                thick = (thick + plate.band_flames * (uneven - 1)).clamp(min=1.0)
            band = _slab(depth, plate.band_offset, thick, plate.band_soft) * ((share - 0.15) * 3).clamp(0, 1)
            hu = hu + plate.band_hu * uneven * band
    wall = damage.anterior
    if wall is not None and wall.band_hu > 0:
        reach = ((-f.s - 1 + wall.band_depth) * 4).clamp(0, 1)
        band = _slab(w - wall.w0 + 1.0, -wall.band_thick / 2, wall.band_thick, wall.band_soft)
        hu = hu + wall.band_hu * uneven * band * reach
    if details.sclerosis_hu > 0:
        near = torch.exp(-((f.below_top.clamp(min=0) / details.sclerosis_mm) ** 2)) * details.sclerosis_superior
        near = near + torch.exp(-((f.above_bottom.clamp(min=0) / details.sclerosis_mm) ** 2)) * (
            1 - details.sclerosis_superior
        )
        hu = hu + details.sclerosis_hu * uneven * near * (1 - 0.5 * f.s.clamp(-1, 1))
    if details.lines_hu > 0:  # growth-arrest lines: thin, full width, along both intact plates
        hu = hu + details.lines_hu * (
            _slab(f.below_top, details.lines_depth, 1.8) + _slab(f.above_bottom, details.lines_depth, 1.8)
        )
    if details.haemangioma > 0:
        inside = ((details.haemangioma - torch.sqrt((u - 3) ** 2 + v * v + w * w)) / 2).clamp(0, 1)
        hu = hu + inside * (torch.cos(u * 1.9) * torch.cos(v * 1.9) * 160 - 70)
    foramen = torch.exp(-((u / 3.0) ** 2) - ((v - 0.8 * shape.half_depth) / 6.0) ** 2 - (w / 2.2) ** 2)  # basivertebral vein
    return hu - foramen * 70


def discontinuities(shape: BodyShape, f: BodyField, u: Tensor, v: Tensor, w: Tensor) -> Tensor | None:
    """Fraction (0-1) of bone replaced by a dark fracture line, notch or lytic focus; None where there is nothing to
    remove.
    """
    damage, details = shape.damage, shape.details
    out = None
    for share, plate, depth in ((f.share_sup, damage.superior, f.below_top), (f.share_inf, damage.inferior, f.above_bottom)):
        if share is None or not plate.line:
            continue
        q, s = own_axes(plate, f.q, f.s)
        wave = 0.05 * torch.sin(6 * q + plate.ripple_phase)
        for edge in (plate.back, plate.front if plate.front > -1 else plate.front + 0.9):
            line = (1.2 - (s - edge + wave - depth * 0.02).abs() * shape.half_depth).clamp(0, 1) * _slab(
                depth, -3.0, 8.0, 2.0
            )
            line = line * ((plate.q_edge + 0.1 - (q - plate.q_centre).abs()) * 5).clamp(0, 1)
            out = line if out is None else torch.maximum(out, line)
    wall = damage.anterior
    if wall is not None and wall.gap:
        notch = _slab(w - wall.w0 + (f.s + 1) * 3, -0.7, 1.4, 0.6) * ((-f.s - 0.72) * 8).clamp(0, 1)
        out = notch if out is None else torch.maximum(out, notch)
    wall = damage.posterior
    if wall is not None and wall.gap:
        notch = _slab(w - wall.w0 + (1 - f.s) * 4, -0.7, 1.6, 0.6) * ((f.s - 0.55) * 6).clamp(0, 1)
        notch = notch * ((wall.q_width - (f.q - wall.q_centre).abs()) * 5).clamp(0, 1)
        out = notch if out is None else torch.maximum(out, notch)
    if damage.cleft > 0:
        r2 = (f.q / 0.5) ** 2 + ((f.s + 0.35) / 0.45) ** 2 + ((f.below_top - 6) / 2.2) ** 2
        hole = ((1 - r2) * 2).clamp(0, 1) * damage.cleft
        out = hole if out is None else torch.maximum(out, hole)
    if details.channel is not None:  # a thin dark line like a fracture line, but inside the marrow, under an unbroken plate
        cq, cs, lean, deep = details.channel
        line = (1.1 - (f.s - cs + lean * (f.q - cq)).abs() * shape.half_depth).clamp(0, 1) * _slab(
            f.below_top, deep, 9.0, 2.0
        )
        line = line * ((0.5 - (f.q - cq).abs()) * 5).clamp(0, 1) * 0.8
        out = line if out is None else torch.maximum(out, line)
    if details.lesion is not None:
        lq, ls, lw, radius = details.lesion
        d = torch.sqrt(
            ((f.q - lq) * shape.half_width) ** 2 + ((f.s - ls) * shape.half_depth) ** 2 + (w - lw * shape.r0) ** 2
        )
        d = d + 0.2 * radius * torch.sin(5 * f.q + 7 * f.s + 0.4 * w)  # no metastasis is a ball
        hole = ((radius - d) / 2 + 0.5).clamp(0, 1)
        out = hole if out is None else torch.maximum(out, hole)
    return out


def fracture_region(shape: BodyShape, f: BodyField, w: Tensor) -> Tensor | None:
    """Boolean region of recent damage inside or at the body: broken plate with its impaction zone, buckled cortex,
    bulged back wall.
    """
    damage = shape.damage
    inside = f.solid < 0.3
    out = None
    for share, plate, depth in ((f.share_sup, damage.superior, f.below_top), (f.share_inf, damage.inferior, f.above_bottom)):
        if share is not None:
            thick = plate.band_offset + plate.band_thick if plate.band_hu > 0 else 3.5
            region = inside & (depth < thick) & (share > 0.25)
            out = region if out is None else out | region
    for wall, sign in ((damage.anterior, -1), (damage.posterior, 1)):
        if wall is None or not wall.broken:
            continue
        near = (w - wall.w0 - 0.5).abs() < 3.5
        region = inside & near & (f.s * sign > 0.2) & (f.foot > -3.5) & ((f.q - wall.q_centre).abs() < wall.q_width)
        if sign < 0 and wall.band_hu > 0:
            region = region | (inside & ((w - wall.w0 + 1.0).abs() < wall.band_thick / 2) & (f.s < wall.band_depth - 1))
        out = region if out is None else out | region
    return out


def _limb(u: Tensor, v: Tensor, w: Tensor, a: tuple, b: tuple, ra: float, rb: float, flat: float) -> Tensor:
    """Tapered capsule whose w axis is stretched by 1 / flat (flat < 1: taller than wide)."""
    du, dv, dw = b[0] - a[0], b[1] - a[1], (b[2] - a[2]) * flat
    length2 = du * du + dv * dv + dw * dw
    pu, pv, pw = u - a[0], v - a[1], (w - a[2]) * flat
    h = torch.add(pu * (du / length2), pv, alpha=dv / length2).add(pw, alpha=dw / length2).clamp_(0, 1)
    squares = torch.sub(pu, h, alpha=du).square_()
    for p, d in ((pv, dv), (pw, dw)):
        across = torch.sub(p, h, alpha=d)
        squares.addcmul_(across, across)
    return squares.sqrt_().sub_(h, alpha=rb - ra).sub_(ra)


def arch_distance(arch, body: BodyShape, u: Tensor, v: Tensor, w: Tensor, thoracic: bool) -> Tensor:
    """Signed distance of pedicles, laminae, articular, transverse and spinous processes (or sacral alae and crest)."""
    k = 0.16  # wavelength about 40 mm: bones are never as straight as capsules
    u, v, w = (
        u + arch.warp * torch.sin(k * (v + 0.7 * w) + arch.warp_phase),
        v + arch.warp * torch.sin(k * (w + u) + 2 * arch.warp_phase),
        w + 1.3 * arch.warp * torch.sin(k * (u + 0.5 * v) + 3 * arch.warp_phase),
    )
    au = u.abs() + arch.asym * u
    cw, cd, pw, h, back = arch.canal_w / 2, arch.canal_d, arch.ped_w, arch.height, body.half_depth
    side = cw + pw / 2
    flat = min(1.0, pw / arch.ped_h)
    d = _limb(au, v, w, (side - 0.5, back - 5, 0.18 * h), (side + 1, back + cd * 0.6, 0.2 * h), pw / 2, pw / 2, flat)
    if arch.ala:
        out = arch.tp_span / 2
        d = smooth_min(
            d,
            _limb(
                au,
                v,
                w,
                (body.half_width * 0.6, body.half_depth * 0.3, 0.12 * h),
                (out - 9, body.half_depth * 1.3, -0.02 * h),
                0.52 * h,
                0.40 * h,
                1.0,
            ),
            4.0,
        )
        d = smooth_min(
            d, _limb(au, v, w, (out - 14, body.half_depth * 1.2, 0.0), (cw, back + cd, -0.05 * h), 7.0, 4.0, 0.6), 3.0
        )
    else:
        tip = arch.tp_span / 2
        root = (side + 1, back + cd * 0.55, 0.12 * h)
        d = smooth_min(
            d,
            _limb(au, v, w, root, (max(tip - 3, side + 4), back + cd * 0.55 + arch.tp_back, 0.16 * h), 4.6, 3.3, 0.75),
            2.5,
        )
        if arch.wing > 0:
            d = smooth_min(
                d,
                _limb(
                    au,
                    v,
                    w,
                    (body.half_width * 0.7, back * 0.6, 0.1 * h),
                    (tip, back * 0.9, -0.05 * h),
                    arch.wing,
                    arch.wing,
                    1.0,
                ),
                3.0,
            )
        spread = 2 if thoracic else 4
        d = smooth_min(
            d,
            _limb(
                au,
                v,
                w,
                (side + 1, back + cd * 0.62, 0.15 * h),
                (side + spread * 0.6, back + cd * (0.75 if thoracic else 0.7), 0.66 * h),
                5.2,
                4.4,
                1.0,
            ),
            2.5,
        )
        d = smooth_min(
            d,
            _limb(
                au,
                v,
                w,
                (cw * 0.85 + 2, back + cd + 1.5, -0.15 * h),
                (cw * 0.85 + spread, back + cd + 2.0, -0.72 * h),
                4.4,
                4.2,
                1.0,
            ),
            2.0,
        )
    d = smooth_min(
        d, _limb(au, v, w, (side + 0.5, back + cd * 0.72, 0.06 * h), (0.8, back + cd + 3.4, -0.16 * h), 3.1, 3.3, 0.42), 2.5
    )
    start = back + cd + 4
    end = (0.0, start + max(arch.sp_len - 6, 2), -0.22 * h - arch.sp_slope * arch.sp_len)
    d = smooth_min(d, _limb(au, v, w, (0.0, start, -0.2 * h), end, 2.6, 3.4, 0.55 if thoracic else 0.36), 2.5)
    hole = (torch.sqrt((u / cw) ** 2 + ((v - back - cd / 2) / (cd / 2)) ** 2) - 1) * (cd / 2)
    return torch.maximum(d, -hole)
