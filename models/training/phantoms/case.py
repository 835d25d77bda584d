"""One synthetic patient: a frozen, acquisition-independent description drawn from a seed.

Streams of random numbers are separate for anatomy, damage and soft tissue, so that a change in one leaves the others
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import damage as dmg
from .additions import with_additions
from .lytic import lytic_fracture
from .norms import LEVELS, NORMS, LevelNorm, sequence
from .organs import build_scene
from .patient import Arch, Case, VertebraTruth
from .shape import BodyShape, Damage, heights, middle_offset, solve_rims
from .spine import Pose, stack

#: Fracture levels: L1 most often, then T12 and L2 (clinical reference 3.3), but every level from T5 to L5.
FRACTURE_WEIGHTS = {
    "T5": 0.01,
    "T6": 0.02,
    "T7": 0.03,
    "T8": 0.03,
    "T9": 0.03,
    "T10": 0.04,
    "T11": 0.11,
    "T12": 0.20,
    "L1": 0.24,
    "L2": 0.12,
    "L3": 0.08,
    "L4": 0.06,
    "L5": 0.03,
}
_MIMIC_P = {
    "wedge": 0.14,
    "biconcave": 0.12,
    "short": 0.06,
    "schmorl": 0.16,
    "limbus": 0.05,
    "osteophytes": 0.17,
    "sclerosis": 0.09,
    "lines": 0.07,
    "haemangioma": 0.04,
    "cupid": 0.04,
    "lesion": 0.07,
    "cement": 0.015,
    "screws": 0.015,
}


@dataclass
class _Plan:
    """What happens to each level before shapes are built."""

    fractures: dict[str, tuple[str, float]]
    old: set[str]
    mimics: dict[str, str]


def _plan(rng: np.random.Generator, profile: str) -> _Plan:
    levels = list(FRACTURE_WEIGHTS)
    weights = np.array([FRACTURE_WEIGHTS[name] for name in levels])
    fractures: dict[str, tuple[str, float]] = {}
    old: set[str] = set()
    mimics: dict[str, str] = {}
    if profile == "demo":
        return _Plan({"L1": ("B", 0.30)}, old, mimics)
    if profile == "study":
        kind = str(rng.choice(list("ABCD") + ["none"], p=np.array([40, 45, 39, 55, 41]) / 220))
        count = 0 if kind == "none" else int(rng.choice([1, 2], p=[0.85, 0.15]))
        kinds = [kind] * count
    else:
        count = 0 if rng.random() > 0.45 else int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
        kinds = [str(k) for k in rng.choice(list("ABCD"), size=count)]
    weights = weights / weights.sum()
    for level, kind in zip(rng.choice(levels, size=count, replace=False, p=weights), kinds, strict=False):
        fractures[str(level)] = (kind, dmg.sample_loss(rng))
    if rng.random() < 0.25:
        for level in rng.choice(levels, size=int(rng.integers(1, 3)), replace=False, p=weights):
            if str(level) not in fractures:
                old.add(str(level))
    names, chances = list(_MIMIC_P), np.array(list(_MIMIC_P.values()))
    rate = rng.uniform(0.0, 0.45)
    for level in LEVELS[:17]:
        if rng.random() < rate:
            mimics[level] = str(rng.choice(names, p=chances / chances.sum()))
    if rng.random() < 0.05:  # Scheuermann: several neighbours wedge together
        first = int(rng.integers(5, 10))
        mimics.update({level: "scheuermann" for level in LEVELS[first : first + int(rng.integers(3, 5))]})
    return _Plan(fractures, old, mimics)


def _body(
    rng: np.random.Generator, norm: LevelNorm, level: str, scale: float, mimic: str | None, lean: float, deepest: float
) -> BodyShape:
    """A whole body; `deepest`: how many times deeper than usual the plates of a biconcave one may be."""
    own = scale * float(np.clip(rng.normal(1, 0.025), 0.93, 1.07))
    tall = float(np.clip(rng.normal(1, 0.025), 0.93, 1.07))
    ha, hm, hp = (h * own * tall for h in (norm.ha, norm.hm, norm.hp))
    ha *= 1 + lean + rng.normal(0, 0.012)
    hm *= 1 + rng.normal(0, 0.01)
    dip_min = rng.uniform(1.4, 2.8) * scale
    if mimic == "wedge":
        ha *= rng.uniform(0.86, 0.94)
    elif mimic == "scheuermann":
        ha *= rng.uniform(0.82, 0.92)
    elif mimic == "short":
        short = rng.uniform(0.82, 0.92)
        ha, hm, hp = ha * short, hm * short, hp * short
    elif mimic == "biconcave":
        dip_min *= rng.uniform(1.7, deepest)
    dip_s = float(rng.uniform(0.05, 0.3))
    r0, r1, dip = solve_rims(ha, hm, hp, dip_s, dip_min)
    share = float(rng.uniform(0.25, 0.5))
    width, depth = own * (norm.sup_w + norm.inf_w) / 4, own * (norm.sup_d + norm.inf_d) / 4
    width *= float(np.clip(rng.normal(1, 0.03), 0.92, 1.08))
    sacral = level.startswith("S")
    return BodyShape(
        width,
        depth,
        taper_w=(norm.sup_w - norm.inf_w) / (norm.sup_w + norm.inf_w),
        taper_d=(norm.sup_d - norm.inf_d) / (norm.sup_d + norm.inf_d),
        r0=r0,
        r1=r1,
        dip_sup=dip * share,
        dip_inf=dip * (1 - share),
        dip_s=dip_s,
        waist=0.02 if sacral else float(rng.uniform(0.05, 0.13)),
        power=float(rng.uniform(2.2, 2.9)),
        notch=float(rng.uniform(0.03, 0.1)),
    )


def _arch(rng: np.random.Generator, norm: LevelNorm, level: str, scale: float, body: BodyShape) -> Arch:
    jitter = lambda sd: scale * float(np.clip(rng.normal(1, sd), 1 - 2.5 * sd, 1 + 2.5 * sd))  # noqa: E731
    thoracic = level.startswith("T") and level not in ("T12",)
    return Arch(
        norm.ped_w * jitter(0.08),
        norm.ped_h * jitter(0.06),
        norm.canal_w * jitter(0.05),
        norm.canal_d * jitter(0.06),
        norm.tp_span * jitter(0.07),
        tp_back=(rng.uniform(10, 16) if thoracic else rng.uniform(2, 9)) * scale,
        sp_len=norm.sp_len * jitter(0.08),
        sp_slope=norm.sp_slope * float(rng.uniform(0.8, 1.2)),
        asym=float(rng.normal(0, 0.04)),
        ala=level.startswith("S"),
        height=2 * body.r0,
        warp=float(rng.uniform(0, 1.8)),
        warp_phase=float(rng.uniform(0, 6.28)),
    )


def sample_case(seed: int, *, profile: str = "training", varied: bool = False) -> Case:
    """Draw one patient.  Profiles: training | study | demo (module docstring of the package).

    `varied` (crops to train on, never patients to evaluate): more forms of fractures, healed deformities and hollow plates.
    """
    if profile not in ("training", "study", "demo"):
        raise ValueError(f"unknown profile {profile!r}: training, study or demo")
    anatomy, harm, soft = (np.random.default_rng([seed, stream]) for stream in (1, 2, 3))
    plan = _plan(harm, profile)
    demo = profile == "demo"
    sex = "F" if demo or anatomy.random() < 0.6 else "M"
    age = (
        72.0
        if demo
        else float(anatomy.uniform(50, 92) if plan.fractures or anatomy.random() < 0.6 else anatomy.uniform(22, 80))
    )
    scale = (0.95 if sex == "F" else 1.05) * (1.0 if demo else float(np.clip(anatomy.normal(1, 0.06), 0.83, 1.17)))
    bone = 120.0 if demo else float(np.clip(226 - 2.5 * (age - 30) + anatomy.normal(0, 40), 20, 300))
    lean = 0.0 if demo else float(anatomy.normal(0, 0.015))
    deepest = 4.0 if varied else 3.6 if profile == "training" else 2.6
    bodies, arches, truths = [], [], []
    extra = "none"  # T13, L6 or four lumbar vertebrae: own stream, so that regular patients stay as they are
    if profile == "training":
        number = np.random.default_rng([seed, 4])
        extra = str(number.choice(["none", "T13", "L6", "four_lumbar"], p=[0.79, 0.06, 0.09, 0.06]))
    levels = sequence(extra)
    norms = [NORMS["L5" if extra == "four_lumbar" and level == "L4" else level] for level in levels]
    for level, norm in zip(levels, norms, strict=True):
        mimic = plan.mimics.get(level)
        body = _body(anatomy, norm, level, scale, mimic, lean, deepest)
        arches.append(_arch(anatomy, norm, level, scale, body))
        if mimic:
            body = dmg.mimic_details(harm, body, mimic)
        healthy = heights(body)
        evidence = {"superior": False, "inferior": False, "anterior": False, "posterior": False}
        denis = None
        old = False
        if demo and level in plan.fractures:
            denis = "B"
            body, evidence = dmg.demo_fracture(body)
        elif level in plan.fractures:
            denis, loss = plan.fractures[level]
            body, evidence = dmg.fracture(harm, body, denis, loss, varied=varied)
        elif level in plan.old or (mimic == "cement" and harm.random() < 0.8):
            body, old = dmg.old_deformity(harm, body, varied=varied), True
        if denis is None and not demo:
            body = dmg.decoys(harm, body)
        bodies.append(body)
        truths.append((mimic, healthy, evidence, denis, old))
    if profile == "training":
        _make_lytic(np.random.default_rng([seed, 44]), levels, bodies, truths)
    pose = Pose.demo() if demo else Pose.sample(anatomy)
    discs = _discs(anatomy, demo, levels, norms)
    variant = "none" if demo else str(anatomy.choice(["none", "sacralised", "lumbarised"], p=[0.89, 0.075, 0.035]))
    last = levels.index("S1") - 1
    if variant == "sacralised":  # broad transverse processes of L5 meet the alae over a narrow disc
        k = last
        arches[k] = replace(
            arches[k], wing=float(anatomy.uniform(6, 11)), tp_span=arches[k].tp_span * float(anatomy.uniform(1.05, 1.25))
        )
        discs = discs[:k] + ((0.0, discs[k][1] * float(anatomy.uniform(0.3, 0.7))),) + discs[k + 1 :]
    elif variant == "lumbarised":  # a disc between S1 and S2
        k = last + 1
        discs = discs[:k] + ((0.0, float(anatomy.uniform(4, 8))),) + discs[k + 1 :]
    frames, origins = stack(bodies, norms, [h for _, h in discs], scale, pose, last + 1)
    vertebrae = tuple(
        _truth(level, frames[i], origins[i], bodies[i], arches[i], *truths[i]) for i, level in enumerate(levels)
    )
    torso, scene = build_scene(soft, vertebrae, scale, clean=demo)
    case = Case(
        seed,
        profile,
        sex,
        age,
        100 + 67 * scale,
        bone,
        vertebrae,
        discs,
        torso,
        scene,
        variant if extra == "none" else extra,
    )
    return with_additions(case, scale) if profile == "training" else case


def _make_lytic(rng: np.random.Generator, levels: tuple[str, ...], bodies: list[BodyShape], truths: list[tuple]) -> None:
    """One patient in thirty has a lytic lesion that broke, at a level that has nothing else (own stream, in place)."""
    if rng.random() > 1 / 30:
        return
    free = [i for i, (mimic, _, _, denis, old) in enumerate(truths) if not (mimic or denis or old)]
    free = [i for i in free if levels[i] in FRACTURE_WEIGHTS]
    if free:
        weights = np.array([FRACTURE_WEIGHTS[levels[i]] for i in free])
        k = int(rng.choice(free, p=weights / weights.sum()))
        bodies[k], evidence, denis = lytic_fracture(rng, bodies[k])
        truths[k] = ("lesion", truths[k][1], evidence, denis, False)


def _discs(
    rng: np.random.Generator, demo: bool, levels: tuple[str, ...], norms: list[LevelNorm]
) -> tuple[tuple[float, float], ...]:
    """Per gap below each level: (vacuum 0..1, height in mm before scaling)."""
    worn = 0.05 if demo else rng.uniform(0.0, 0.5)
    out = []
    for level, norm in zip(levels, norms, strict=True):
        height = (norm.disc_a + norm.disc_p) / 2
        degenerate = not level.startswith("S") and rng.random() < worn
        factor = rng.uniform(0.35, 0.75) if degenerate else np.clip(rng.normal(1, 0.1), 0.75, 1.3)
        vacuum = rng.uniform(0.3, 1.0) if degenerate and rng.random() < 0.35 else 0.0
        out.append((float(vacuum), float(max(0.9, height * factor))))
    return tuple(out)


def _truth(level, frame, origin, body, arch, mimic, healthy, evidence, denis, old) -> VertebraTruth:
    seen = healthy if body.damage == Damage() else heights(body)
    shift = middle_offset(body)
    centre = origin + frame[2] * shift
    loss = max(0.0, *(1 - a / b for a, b in zip(seen, healthy, strict=False)))
    names = ("anterior", "middle", "posterior")
    return VertebraTruth(
        level,
        tuple(map(float, centre)),
        tuple(tuple(map(float, row)) for row in frame),
        denis is not None,
        evidence,
        denis,
        old,
        loss,
        dict(zip(names, seen, strict=False)),
        dict(zip(names, healthy, strict=False)),
        mimic,
        tuple(map(float, origin)),
        body,
        arch,
    )
