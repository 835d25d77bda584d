"""Random fractures, old deformities and mimics of one vertebral body (clinical reference 2.3, 2.4, 2.6 and 3.3)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .shape import BodyShape, Damage, EndplateDamage, Pit, WallDamage, endplates, heights, scaled_to_loss
from .undated import UNDATED, undated_plates

MIMICS = (
    "wedge",
    "biconcave",
    "short",
    "schmorl",
    "limbus",
    "scheuermann",
    "osteophytes",
    "sclerosis",
    "lines",
    "haemangioma",
    "cupid",
    "lesion",
    "cement",
    "screws",
)


def sample_loss(rng: np.random.Generator) -> float:
    """True largest height loss of a recent fracture: 48 % from 0.10 to 0.20, 32 % to 0.33, 20 % to 0.65."""
    draw = rng.random()
    if draw < 0.48:
        return float(rng.uniform(0.10, 0.20))
    return float(rng.uniform(0.20, 0.33) if draw < 0.80 else rng.uniform(0.33, 0.65))


def _plate(rng: np.random.Generator, *, superior: bool, recent: bool) -> EndplateDamage:
    """One depressed endplate of unit amount: deepest in the anterior 20-40 % of the depth, sometimes in the middle."""
    middle = rng.random() < 0.25
    deepest = rng.uniform(-0.25, 0.2) if middle else rng.uniform(-0.6, -0.2)
    half = rng.uniform(0.35, 0.6)
    blunt = rng.random() < 0.25  # osteoporotic plates also cave in without a sharp edge; thick plates tell the healed
    soft = rng.uniform(0.1, 0.25) if blunt else rng.uniform(0.03, 0.12)
    soft = soft if recent else rng.uniform(0.18, 0.3)
    front_open = not middle and rng.random() < 0.6
    band = recent and rng.random() < 0.55
    return EndplateDamage(
        amount=1.0,
        wedge=float(rng.uniform(0.0, 0.6)) if not middle else float(rng.uniform(0, 0.2)),
        wedge_power=float(rng.choice([1.0, 1.6])),
        front=-1.5 if front_open else float(deepest - half),
        back=float(deepest + half),
        front_soft=float(soft * 1.2),
        back_soft=float(soft),
        q_centre=float(rng.uniform(-0.3, 0.3)),
        q_edge=float(rng.uniform(0.65, 1.3)),
        q_soft=float(rng.uniform(0.06, 0.2)) if recent else float(rng.uniform(0.2, 0.3)),
        ripple=float(rng.uniform(0.2, 0.8)) if recent and rng.random() < 0.6 else 0.0,
        ripple_phase=float(rng.uniform(0, 6.28)),
        line=bool(recent and rng.random() < 0.45),
        band_hu=float(rng.uniform(50, 250)) if band else 0.0,
        band_thick=float(rng.uniform(3.0, 6.5)),
        band_offset=float(rng.uniform(0.0, 2.0)),
        broken=recent,
        band_soft=float(rng.uniform(0.6, 3.5)),
    )


def _deep_enough(plate: EndplateDamage, least: float) -> EndplateDamage:
    """A broken endplate is depressed by at least 2 mm, or less where its cortex is broken (clinical reference 2.4)."""
    return plate if plate.amount >= least else replace(plate, amount=least)


def _seen_to_break(rng: np.random.Generator, plate: EndplateDamage | None) -> EndplateDamage | None:
    """A mild failure shows a band, a line or an uneven plate at least: a mild shape alone is no fracture."""
    if plate is None or not plate.broken or plate.line or plate.band_hu > 0 or plate.ripple > 0.35:
        return plate
    cue = str(rng.choice(["line", "band", "ripple"]))
    if cue == "line":
        return replace(plate, line=True)
    if cue == "band":
        return replace(plate, band_hu=float(rng.uniform(70, 250)))
    return replace(plate, ripple=float(rng.uniform(0.4, 0.8)), back_soft=min(plate.back_soft, 0.1))


def _varied(rng: np.random.Generator, plate: EndplateDamage) -> EndplateDamage:
    """Aslant in one of three, with edges that wander in one of two; one in five sinks from rim to rim, seen to break.

    Two of three bands end in flames, as trabeculae that were pushed into each other do.
    """
    if rng.random() < 0.35:
        plate = replace(plate, turn=float(rng.uniform(-0.8, 0.8)))
    if rng.random() < 0.5:
        plate = replace(plate, fray=float(rng.uniform(0.03, 0.15)), fray_phase=float(rng.uniform(0, 6.28)))
    if rng.random() < 0.2:  # beside a buckled wall the break alone tells it from the tilted, unbroken plate of type D
        plate = replace(plate, front=-1.6, back=1.7, q_edge=1.5, q_centre=0.0, wedge=float(rng.uniform(0.1, 0.9)))
        plate = _seen_to_break(rng, plate)
    if rng.random() < 0.65:
        plate = replace(plate, band_flames=float(rng.uniform(1.5, 7.0)))
    return plate


def _front_top(body: BodyShape) -> float:
    """Where the upper plate meets the front wall, mm; a buckle above it would be a sign that nobody sees."""
    middle, front = (torch.tensor([x], dtype=torch.float64) for x in (0.0, -0.97))
    return float(endplates(body, middle, front)["top"])


def _front(rng: np.random.Generator, body: BodyShape, top: float, height: float, *, strong: bool, low: bool) -> WallDamage:
    """Buckled anterior cortex, mostly in the upper third; `low` puts it into the lower one."""
    fraction = rng.uniform(0.12, 0.36) if rng.random() < 0.85 else rng.uniform(0.36, 0.8)
    fraction = 1 - fraction if low else fraction
    return WallDamage(
        amount=float(rng.uniform(1.8, 4.2) if strong else rng.uniform(1.5, 3.0)),
        w0=float(top - fraction * height),
        kind=str(rng.choice(["step", "bulge", "fold"], p=[0.5, 0.25, 0.25])),
        reach=float(rng.uniform(4, 9)),
        q_centre=float(rng.uniform(-0.25, 0.25)),
        q_width=float(rng.uniform(0.5, 1.1)),
        band_hu=float(rng.uniform(60, 250)) if rng.random() < 0.55 else 0.0,
        band_thick=float(rng.uniform(3, 5.5)),
        band_depth=float(rng.uniform(0.5, 1.1)),
        gap=bool(rng.random() < 0.45),
        band_soft=float(rng.uniform(0.6, 3.5)),
    )


def _retropulsion(rng: np.random.Generator, body: BodyShape, *, up: bool) -> WallDamage:
    """Broken posterior wall, 2-8 mm into the canal, beside the damaged plate; half of them with an open fracture line."""
    return WallDamage(
        amount=float(rng.uniform(2.2, 5.0) if rng.random() < 0.7 else rng.uniform(5.0, 8.0)),
        w0=float(rng.uniform(0.2, 0.65) * (1 if up else -1) * body.r0),
        kind=str(rng.choice(["bulge", "step"], p=[0.65, 0.35])),
        reach=float(rng.uniform(6, 13)),
        q_centre=float(rng.uniform(-0.3, 0.3)),
        q_width=float(rng.uniform(0.4, 0.9)),
        gap=bool(rng.random() < 0.5),
    )


def fracture(
    rng: np.random.Generator, body: BodyShape, denis: str, loss: float, *, varied: bool = False
) -> tuple[BodyShape, dict[str, bool]]:
    """The body with a compression fracture of a Denis type and a height loss; evidence S, I, N, P as a dict.

    One in three of A, B and C carries no sign of recent failure but the deformity itself, which is then severe enough.
    `varied`: depressions aslant, frayed or from rim to rim; front walls of type C that mostly buckle low; plates of type A
    that sank unevenly, by less than 2 mm where the cortex is seen to be broken; one in four without such a sign has
    osteophytes.
    """
    healthy = heights(body)
    superior = inferior = None
    low = False
    undated = denis != "D" and rng.random() < 0.34
    if undated:
        shape = str(rng.choice(list(UNDATED), p=[0.6, 0.27, 0.13]))
        loss = loss if loss > UNDATED[shape] else float(rng.uniform(UNDATED[shape], UNDATED[shape] + 0.2))
        superior, inferior = undated_plates(rng, healthy, denis, shape, loss)
        if varied and rng.random() < 0.25:  # beside plates of usual thickness osteophytes date nothing
            lips = [max(had, float(rng.uniform(3, 10))) for had in (body.details.lip, body.details.lip_inferior)]
            body = replace(body, details=replace(body.details, lip=lips[0], lip_inferior=lips[1]))
    elif denis == "A":
        share = rng.uniform(0.22, 0.78) if varied else rng.uniform(0.35, 0.65)
        pair = (
            replace(_plate(rng, superior=True, recent=True), amount=share),
            replace(_plate(rng, superior=False, recent=True), amount=1 - share),
        )
        if varied:
            pair = tuple(_varied(rng, plate) for plate in pair)
        least, lowest = (1.3, 0.10) if varied else (2.3, 0.14)
        superior, inferior = (_deep_enough(p, least) for p in scaled_to_loss(pair, healthy, max(loss, lowest)))
    elif denis == "B":
        plate = _plate(rng, superior=True, recent=True)
        (superior,) = scaled_to_loss(_varied(rng, plate) if varied else plate, healthy, loss)
    elif denis == "C":
        plate = _plate(rng, superior=False, recent=True)
        (inferior,) = scaled_to_loss(_varied(rng, plate) if varied else plate, healthy, loss)
    else:  # D: one plate tilts rigidly, unbroken, over the collapsed front wall; mostly the upper one
        low = rng.random() < 0.15
        tilt = EndplateDamage(amount=1.0, wedge=1.0, broken=False)
        (tilted,) = scaled_to_loss(tilt, healthy, min(loss, 0.33))
        superior, inferior = (None, tilted) if low else (tilted, None)
    uneven = varied and denis == "A"  # a deep A may have a plate that hardly sank
    if not undated and (loss < 0.25 or uneven):
        superior, inferior = _seen_to_break(rng, superior), _seen_to_break(rng, inferior)
    bent = replace(body, damage=Damage(superior=superior, inferior=inferior))
    height = heights(bent)[0]
    sunk = 0.9 * superior.amount if superior and (denis == "D" or superior.front < -1.1) else 0.0
    front_top = body.r0 - body.r1 - sunk
    if varied and denis != "D":  # a D's plate tilts; patients of the study stay those of before
        front_top = _front_top(bent)
    buckled = denis == "D" or (not undated and rng.random() < 0.45)
    if varied and buckled and denis in "AC":  # the wall buckles beside a plate that broke: low does not mean type D
        low = rng.random() < (0.8 if denis == "C" else 0.3)
    anterior = _front(rng, body, front_top, height, strong=denis == "D", low=low) if buckled else None
    posterior = None
    if denis != "D" and rng.random() < 0.28:
        posterior = _retropulsion(rng, body, up=superior is not None)
    damage = Damage(
        superior,
        inferior,
        anterior,
        posterior,
        swelling=float(rng.uniform(2.5, 8)) if rng.random() < (0.1 if undated else 0.45) else 0.0,
        cleft=float(rng.uniform(0.5, 1.0)) if loss > 0.2 and rng.random() < 0.08 else 0.0,
    )
    evidence = {
        "superior": denis in "AB",
        "inferior": denis in "AC",
        "anterior": buckled,
        "posterior": posterior is not None,
    }
    return replace(body, damage=damage), evidence


def demo_fracture(body: BodyShape) -> tuple[BodyShape, dict[str, bool]]:
    """The demonstration fracture: type B, wedge of 30 %, band and endplate line, buckled upper front wall, slight
    swelling.
    """
    plate = EndplateDamage(
        1.0,
        wedge=0.5,
        front=-1.5,
        back=-0.05,
        back_soft=0.07,
        q_edge=1.05,
        ripple=0.4,
        line=True,
        band_hu=170,
        band_thick=5,
        band_offset=0.8,
    )
    (plate,) = scaled_to_loss(plate, heights(body), 0.30)
    height = heights(replace(body, damage=Damage(superior=plate)))[0]
    wall = WallDamage(2.6, w0=body.r0 - body.r1 - 0.9 * plate.amount - 0.3 * height, kind="step", band_hu=0.0, gap=True)
    damage = Damage(superior=plate, anterior=wall, swelling=4.0)
    return replace(body, damage=damage), {"superior": True, "inferior": False, "anterior": True, "posterior": False}


def old_deformity(rng: np.random.Generator, body: BodyShape, *, varied: bool = False) -> BodyShape:
    """A healed fracture: smooth wedge or biconcave contour, no band, line, buckle or swelling, and it looks its age.

    Every one has a thick plate and dense bone under it, remodelled, bridging corners or both; half of the mild ones of
    `varied` have the thick plate alone, distinctly. A deformity that shows none of them is `undated_plates`.
    """
    loss = float(rng.uniform(0.12, 0.45))
    healthy = heights(body)
    kind = rng.choice(["sup", "inf", "both"], p=[0.55, 0.15, 0.3])
    superior = inferior = None
    if kind == "both":
        superior, inferior = scaled_to_loss(
            (_plate(rng, superior=True, recent=False), _plate(rng, superior=False, recent=False)), healthy, loss
        )
    elif kind == "sup":
        (superior,) = scaled_to_loss(_plate(rng, superior=True, recent=False), healthy, loss)
    else:
        (inferior,) = scaled_to_loss(_plate(rng, superior=False, recent=False), healthy, loss)
    bulge = None
    if rng.random() < 0.5:  # remodelled, smoothly bulging front wall
        bulge = WallDamage(amount=float(rng.uniform(0.8, 2.2)), w0=0.0, kind="bulge", reach=25.0, broken=False)
    hump = None
    if rng.random() < 0.15:  # healed retropulsion: smooth, not a recent break
        hump = WallDamage(float(rng.uniform(0.8, 3)), float(rng.uniform(-0.4, 0.6) * body.r0), "bulge", 20.0, broken=False)
    remodelled, dense = ((True, True), (True, False), (False, True))[int(rng.integers(3))]
    lip, lip_low = (float(x) for x in rng.uniform(3, 10, 2))
    thick = float(rng.uniform(1.8, 3.4))
    # From UNDATED on a thick plate alone proves no age: a blurred one looks thick.
    if varied and loss < UNDATED["biconcave"] and rng.random() < 0.5:
        remodelled, dense, thick = False, False, float(rng.uniform(2.3, 3.6))
    details = replace(
        body.details,
        endplate_factor=thick,
        lip=max(body.details.lip, lip) if remodelled else body.details.lip,
        lip_inferior=max(body.details.lip_inferior, lip_low) if remodelled else body.details.lip_inferior,
        sclerosis_hu=float(rng.uniform(70, 260)) if dense else body.details.sclerosis_hu,
        sclerosis_mm=float(rng.uniform(2, 7)),
        sclerosis_superior=float({"sup": 1.0, "inf": 0.0, "both": 0.5}[str(kind)]),
    )
    return replace(body, damage=Damage(superior, inferior, bulge, hump), details=details)


def _pits(rng: np.random.Generator, count: int) -> tuple[Pit, ...]:
    return tuple(
        Pit(
            bool(rng.random() < 0.45),
            float(rng.uniform(-0.45, 0.45)),
            float(rng.uniform(-0.4, 0.5)),
            float(rng.uniform(2.5, 6.5)),
            float(rng.uniform(2.0, 6.0)),
            float(rng.uniform(0.6, 2.0)),
        )
        for _ in range(count)
    )


def decoys(rng: np.random.Generator, body: BodyShape) -> BodyShape:
    """Single cues of a fracture on a body that has none: dark line, notch, soft-tissue cuff.  No cue may give the answer
    away.
    """
    d, damage = body.details, body.damage
    if rng.random() < 0.05:
        d = replace(
            d,
            channel=(
                float(rng.uniform(-0.4, 0.4)),
                float(rng.uniform(-0.8, 0.5)),
                float(rng.uniform(-0.6, 0.6)),
                float(rng.uniform(2, 8)),
            ),
        )
    if rng.random() < 0.08:
        d = replace(d, dent=float(rng.uniform(0.8, 2.2)))
    if rng.random() < 0.05:
        damage = replace(damage, swelling=float(rng.uniform(2, 6)))
    if damage.anterior is None and rng.random() < 0.15:  # no real front wall is smooth: well below a step of 1.5 mm
        ripple = WallDamage(
            amount=float(rng.uniform(0.3, 1.0)),
            w0=float(rng.uniform(-0.8, 0.8) * body.r0),
            kind=str(rng.choice(["bulge", "fold", "step"])),
            reach=float(rng.uniform(4, 14)),
            q_centre=float(rng.uniform(-0.5, 0.5)),
            q_width=float(rng.uniform(0.3, 1.2)),
            broken=False,
        )
        damage = replace(damage, anterior=ripple)
    for side in ("superior", "inferior"):  # shallow, uneven plates: below a depression of 2 mm
        if getattr(damage, side) is None and rng.random() < 0.1:
            shallow = replace(_plate(rng, superior=side == "superior", recent=False), amount=float(rng.uniform(0.3, 1.1)))
            damage = replace(damage, **{side: shallow})
    if rng.random() < 0.04 and d.lines_hu == 0:
        d = replace(d, lines_hu=float(rng.uniform(60, 200)), lines_depth=float(rng.uniform(1.5, 8)))
    return replace(body, details=d, damage=damage)


def mimic_details(rng: np.random.Generator, body: BodyShape, mimic: str) -> BodyShape:
    """Body with the local features of a mimic; height-changing mimics (wedge, short, biconcave) are made where heights
    are drawn.
    """
    d = body.details
    if mimic == "schmorl":
        d = replace(d, pits=_pits(rng, int(rng.integers(1, 3))))
    elif mimic == "limbus":
        d = replace(d, limbus=float(rng.uniform(5, 9)))
    elif mimic == "scheuermann":
        d = replace(
            d,
            wave=float(rng.uniform(0.25, 0.9)),
            wave_phase=float(rng.uniform(0, 6.28)),
            pits=_pits(rng, int(rng.integers(0, 3))),
        )
    elif mimic == "osteophytes":
        d = replace(d, lip=float(rng.uniform(3, 9)), lip_inferior=float(rng.uniform(0, 8)))
    elif mimic == "sclerosis":
        d = replace(
            d,
            sclerosis_hu=float(rng.uniform(80, 280)),
            sclerosis_mm=float(rng.uniform(2, 7)),
            sclerosis_superior=float(rng.choice([0, 0.5, 1])),
        )
    elif mimic == "lines":
        d = replace(d, lines_hu=float(rng.uniform(70, 220)), lines_depth=float(rng.uniform(2.5, 8)))
    elif mimic == "haemangioma":
        d = replace(d, haemangioma=float(rng.uniform(6, 13)))
    elif mimic == "cupid":
        d = replace(d, cupid=float(rng.uniform(1.5, 4)))
    elif mimic == "lesion":
        d = replace(
            d,
            lesion=(
                float(rng.uniform(-0.6, 0.6)),
                float(rng.uniform(-0.7, 0.9)),
                float(rng.uniform(-0.5, 0.5)),
                float(rng.uniform(5, 11)),
            ),
        )
    elif mimic == "cement":
        d = replace(d, cement=True)
    elif mimic == "screws":
        d = replace(d, screws=True)
    return replace(body, details=d)
