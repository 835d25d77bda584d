"""The neck above T1: C3 to C7, muscles, airway and vessels, and a torso outline that narrows to them (LPS mm).

Fields from the neck show vertebrae that look nothing like thoracic ones; all of them are `above` to the label stage.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from .norms import NECK, NORMS
from .patient import Arch, VertebraTruth
from .shape import BodyShape, heights, middle_offset, solve_rims
from .soft import BoneGroup, Capsule, Ellipsoid, Torso, to_tuple
from .spine import rotation


def _body(rng: np.random.Generator, level: str, scale: float) -> BodyShape:
    norm, own = NORMS[level], scale * float(np.clip(rng.normal(1, 0.03), 0.92, 1.08))
    ha, hm, hp = (h * own * float(rng.normal(1, 0.015)) for h in (norm.ha, norm.hm, norm.hp))
    dip_s = float(rng.uniform(0.0, 0.25))
    r0, r1, dip = solve_rims(ha, hm, hp, dip_s, rng.uniform(1.2, 2.2) * scale)
    return BodyShape(
        own * (norm.sup_w + norm.inf_w) / 4,
        own * (norm.sup_d + norm.inf_d) / 4,
        taper_w=(norm.sup_w - norm.inf_w) / (norm.sup_w + norm.inf_w),
        taper_d=(norm.sup_d - norm.inf_d) / (norm.sup_d + norm.inf_d),
        r0=r0,
        r1=r1,
        dip_sup=dip * 0.6,  # the upper plate is the hollow one, between the uncinate processes
        dip_inf=dip * 0.4,
        dip_s=dip_s,
        waist=float(rng.uniform(0.04, 0.1)),
        power=float(rng.uniform(2.4, 3.2)),
        notch=float(rng.uniform(0.0, 0.05)),
    )


def _arch(rng: np.random.Generator, level: str, scale: float, body: BodyShape) -> Arch:
    norm = NORMS[level]
    jitter = lambda sd: scale * float(np.clip(rng.normal(1, sd), 1 - 2.5 * sd, 1 + 2.5 * sd))  # noqa: E731
    canal_d = norm.canal_d * jitter(0.06)
    return Arch(
        norm.ped_w * jitter(0.08),
        norm.ped_h * jitter(0.06),
        norm.canal_w * jitter(0.05),
        canal_d,
        norm.tp_span * jitter(0.06),
        tp_back=-0.55 * canal_d - float(rng.uniform(1, 5)),  # transverse processes lie beside the body
        sp_len=norm.sp_len * jitter(0.1),
        sp_slope=norm.sp_slope * float(rng.uniform(0.7, 1.3)),
        asym=float(rng.normal(0, 0.04)),
        ala=False,
        height=2 * body.r0,
        warp=float(rng.uniform(0, 1.2)),
        warp_phase=float(rng.uniform(0, 6.28)),
    )


def neck_vertebrae(
    rng: np.random.Generator, t1: VertebraTruth, scale: float
) -> tuple[tuple[VertebraTruth, ...], tuple[tuple[float, float], ...]]:
    """C3 to C7 stacked on T1, cranial first, and their discs as `Case.discs`; the more T1 leans, the more they extend."""
    frame, origin, top = np.asarray(t1.frame), np.asarray(t1.origin_mm), t1.body.r0
    slope = float(np.rad2deg(np.arctan2(-frame[2][1], frame[2][2])))
    lordosis = float(np.clip((slope - rng.normal(8, 7)) / sum(NORMS[level].lordosis for level in NECK), -0.3, 2.6))
    made, discs = [], []
    for level in reversed(NECK):
        norm = NORMS[level]
        body = _body(rng, level, scale)
        arch = _arch(rng, level, scale, body)
        height = (norm.disc_a + norm.disc_p) / 2 * float(rng.uniform(0.6, 1.15))
        turn = rotation(-norm.lordosis * lordosis + rng.normal(0, 1.2), rng.normal(0, 1.0), rng.normal(0, 1.5))
        joint = origin + frame[2] * (top + height * scale / 2)
        frame = turn @ frame
        origin = joint + frame[2] * (body.r0 + height * scale / 2)
        top = body.r0
        tall = dict(zip(("anterior", "middle", "posterior"), heights(body), strict=True))
        made.append(
            VertebraTruth(
                level, to_tuple(origin + frame[2] * middle_offset(body)), tuple(to_tuple(row) for row in frame), False,
                dict.fromkeys(("superior", "inferior", "anterior", "posterior"), False), None, False, 0.0,
                tall, dict(tall), None, to_tuple(origin), body, arch,
            )
        )
        discs.append((0.0, height))
    return tuple(reversed(made)), tuple(reversed(discs))


def neck_torso(torso: Torso, t1_z: float, neck: tuple[VertebraTruth, ...]) -> Torso:
    """The outline from T1 upwards follows the neck; up to T1 it stays as it is."""
    z = torso.z0 + torso.step * np.arange(len(torso.half_width))
    over, share = z > t1_z, np.clip((z - t1_z) / 60.0, 0, 1)
    spine = np.array([v.origin_mm for v in neck[::-1]])
    leaning = 1 / np.mean([v.frame[2][2] for v in neck])  # axial slices cut a tilted neck aslant
    ends = {
        "half_width": np.full_like(z, torso.half_width[-1] * 1.02),
        "half_depth": np.full_like(z, torso.half_depth[-1] * 0.98 * leaning),
        "centre_x": np.interp(z, spine[:, 2], spine[:, 0]),
        "centre_y": np.interp(z, spine[:, 2], spine[:, 1]),
    }
    blended = {}
    for name, end in ends.items():
        old = np.asarray(getattr(torso, name))
        blended[name] = to_tuple(np.where(over, old + (end - old) * share, old))
    return replace(torso, **blended)


def neck_tissues(rng: np.random.Generator, column, scale: float) -> tuple[list, list[BoneGroup]]:
    """Soft parts in painting order and the hyoid; `column` runs from T1 up to C3."""
    frames = [np.asarray(v.frame) for v in column]
    fronts = [v.body.half_depth for v in column]
    spine = [np.asarray(v.origin_mm) for v in column]
    beyond = frames[-1][2] * 35 * scale  # muscles and tubes go on above C3
    bulk, turn = float(rng.uniform(0.75, 1.2)), float(rng.uniform(-3, 3))

    def chain(tissue, across, ahead, radius, start=0, rim=None, rim_mm=0.0) -> list[Capsule]:
        """A tube along the spine; `across` to the left and `ahead` of each body's front wall in mm, negative behind it."""
        points = [
            p + f[0] * across * scale - f[1] * (d + ahead * scale)
            for p, f, d in zip(spine[start:], frames[start:], fronts[start:], strict=True)
        ]
        points.append(points[-1] + beyond)
        r = radius * scale
        return [Capsule(tissue, to_tuple(a), to_tuple(b), r, r, rim, rim_mm) for a, b in pairwise(points)]

    soft: list = []
    for side in (-1, 1):
        soft += chain("muscle", side * 15, -54, 16 * bulk)  # semispinalis and multifidus beside the spinous processes
        soft += chain("muscle", side * 36, -45, 15 * bulk)  # splenius, levator
        soft += chain("muscle", side * 33, -16, 12 * bulk)  # scalenes
        soft += chain("muscle", side * 9, 2.5, 5 * bulk)  # longus colli
        foot = spine[0] + frames[0][0] * side * 16 * scale - frames[0][1] * (fronts[0] + 40 * scale)
        mastoid = spine[-1] + beyond + frames[-1][0] * side * 50 * scale + frames[-1][1] * 8
        soft.append(Capsule("muscle", to_tuple(foot), to_tuple(mastoid), 10 * bulk, 12 * bulk))
        soft += chain("vein", side * (33 + rng.normal(0, 2)), 10, float(rng.uniform(4, 8)))
        soft += chain("artery", side * (25 + rng.normal(0, 2)), 9, float(rng.uniform(3, 4.2)))
    soft += chain("muscle", turn, 9, 6)  # oesophagus, pharynx above it
    soft += chain("gas", turn, 24, float(rng.uniform(7.5, 10)), rim="muscle", rim_mm=2.5)
    for side in (-1, 1):
        lobe = spine[1] + frames[1][0] * (turn + side * 19) * scale - frames[1][1] * (fronts[1] + 19 * scale)
        size = np.array([8, 10, 21]) * scale * rng.uniform(0.7, 1.4)
        soft.append(Ellipsoid("organ", to_tuple(lobe), to_tuple(size), tuple(to_tuple(row) for row in frames[1])))
    c3, (u, back, up) = spine[-1] - frames[-1][2] * 6 * scale, frames[-1]
    horns = ((-19, 16, 4), (-11, 36, 0), (11, 36, 0), (19, 16, 4))
    arc = [c3 + (u * x - back * (fronts[-1] + y) + up * z) * scale for x, y, z in horns]
    hyoid = BoneGroup(tuple(Capsule("spongy", to_tuple(a), to_tuple(b), 2.2, 2.2) for a, b in pairwise(arc)), 0.9)
    return soft, [hyoid]
