"""Pathological fractures: a lytic lesion that has eaten into a body until a plate, and perhaps the back wall, gave way.

A lesion alone is a mimic (`damage.py`); a break over it is a recent failure, typed by its plates and walls like any other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .shape import BodyShape, Damage, EndplateDamage, WallDamage, heights, scaled_to_loss


def lytic_fracture(rng: np.random.Generator, body: BodyShape) -> tuple[BodyShape, dict[str, bool], str]:
    """The body with lesion and break, its evidence, and its letter by the broken plates."""
    healthy = heights(body)
    denis = str(rng.choice(["A", "B", "C"], p=[0.25, 0.5, 0.25]))
    behind = rng.random() < 0.45
    q = float(rng.uniform(-0.3, 0.3))
    s = float(rng.uniform(0.4, 0.75) if behind else rng.uniform(-0.7, 0.4))
    level = float(rng.uniform(-0.15, 0.15) if denis == "A" else rng.uniform(0.25, 0.55) * (1 if denis == "B" else -1))
    # It reaches the plates that break, and the nearer wall: cortex is missing there.
    radius = max(float(rng.uniform(6.5, 10.5)), (1 - abs(level)) * body.r0 + 0.5, (1 - abs(s)) * body.half_depth * 0.8)
    radius = min(radius, 14.0)
    loss = float(rng.uniform(0.14, 0.27) if rng.random() < 0.6 else rng.uniform(0.27, 0.5))

    def plate() -> EndplateDamage:
        """The plate over the lesion sinks into it, with sharp edges and without the dense band of impacted bone."""
        half = max(0.45, radius / body.half_depth * float(rng.uniform(0.8, 1.2)))
        return EndplateDamage(
            1.0,
            wedge=float(rng.uniform(0, 0.35)),
            front=-1.5 if s < -0.1 else s - half,
            back=1.5 if s > 0.35 else s + half,
            front_soft=float(rng.uniform(0.03, 0.12)),
            back_soft=float(rng.uniform(0.03, 0.12)),
            q_centre=q,
            q_edge=max(0.5, radius / body.half_width * float(rng.uniform(0.9, 1.4))),
            q_soft=float(rng.uniform(0.06, 0.15)),
            ripple=float(rng.uniform(0.4, 0.9)),
            ripple_phase=float(rng.uniform(0, 6.28)),
            line=bool(rng.random() < 0.35),
        )

    if denis == "A":
        share = float(rng.uniform(0.35, 0.65))
        pair = replace(plate(), amount=share), replace(plate(), amount=1 - share)
        superior, inferior = scaled_to_loss(pair, healthy, max(loss, 0.18))
    else:
        (one,) = scaled_to_loss(plate(), healthy, loss)
        superior, inferior = (one, None) if denis == "B" else (None, one)
    # A broken plate is depressed by at least 2 mm (clinical reference 2.4).
    superior, inferior = (p and replace(p, amount=max(p.amount, 2.3)) for p in (superior, inferior))
    wall = None
    if behind:
        wall = WallDamage(
            amount=float(rng.uniform(2.2, 6.0)),
            w0=level * body.r0,
            kind="bulge",
            reach=float(rng.uniform(8, 16)),
            q_centre=q,
            q_width=float(rng.uniform(0.4, 0.8)),
            gap=bool(rng.random() < 0.6),
        )
    swelling = float(rng.uniform(3, 9)) if rng.random() < 0.6 else 0.0
    evidence = {"superior": denis in "AB", "inferior": denis in "AC", "anterior": False, "posterior": behind}
    damage = Damage(superior, inferior, None, wall, swelling=swelling)
    return replace(body, damage=damage, details=replace(body.details, lesion=(q, s, level, radius))), evidence, denis
