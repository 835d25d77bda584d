"""Deformities without a date: smooth, with neither a break nor a sign of age. Severe ones count as fractures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .shape import EndplateDamage, scaled_to_loss

#: From these height losses a deformity without any sign of its age counts as a fracture (Genant 2 is 25 %); below them
#: at least one sign of a break is seen, or it is no fracture. A crush has no unhurt rim to compare with, a crop little of
#: the neighbours: only a severe one is told from a short vertebra.
UNDATED = {"biconcave": 0.22, "wedge": 0.25, "crush": 0.40}


def undated_plates(
    rng: np.random.Generator, healthy: tuple[float, float, float], denis: str, shape: str, loss: float
) -> tuple[EndplateDamage | None, EndplateDamage | None]:
    """Plates that sank smoothly into `shape` (biconcave, wedge, crush) and show neither a break nor that they healed."""

    def plate() -> EndplateDamage:
        smooth, lateral = float(rng.uniform(0.1, 0.35)), float(rng.uniform(0.1, 0.35))
        if shape == "crush":
            front, back, wedge, edge = -1.6, 1.6, rng.uniform(0, 0.3), 1.5
        elif shape == "wedge":
            front, back, wedge, edge = -1.6, rng.uniform(-0.3, 0.4), rng.uniform(0.5, 1.0), rng.uniform(0.8, 1.5)
        else:
            middle, half = rng.uniform(-0.3, 0.2), rng.uniform(0.4, 0.7)
            front, back, wedge, edge = middle - half, middle + half, rng.uniform(0, 0.2), rng.uniform(0.55, 0.95)
        return EndplateDamage(
            1.0, float(wedge), float(rng.choice([1.0, 1.6])), float(front), float(back), smooth, smooth,
            float(rng.uniform(-0.2, 0.2)), float(edge), lateral,
        )

    if denis == "A":
        share = float(rng.uniform(0.35, 0.65))
        return scaled_to_loss((replace(plate(), amount=share), replace(plate(), amount=1 - share)), healthy, loss)
    (one,) = scaled_to_loss(plate(), healthy, loss)
    return (one, None) if denis == "B" else (None, one)
