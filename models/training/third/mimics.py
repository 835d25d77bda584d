"""What looks like a fracture and is none: osteophytes, Schmorl nodes, physiological wedges. They change a body in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .bodies import FRONT, PLATE_X, PLATE_Y, WALL_ANGLE, WALL_STEP, Body


def osteophytes(body: Body, side: str, out: float, rng: np.random.Generator) -> None:
    """One or two spurs of about `out` mm on the front or sides of a rim."""
    rim = 1.0 if side == "superior" else -1.0
    for _ in range(rng.integers(1, 3)):
        angle = WALL_ANGLE - FRONT - rng.uniform(-1.1, 1.1)
        spur = out * rng.uniform(0.6, 1.1) * np.exp(-((angle / rng.uniform(0.3, 0.6)) ** 2))
        body.radius = body.radius + spur * np.exp(-(((WALL_STEP - rim) / 0.22) ** 2))


def schmorl_node(body: Body, side: str, rng: np.random.Generator) -> None:
    """A round pit of 3 to 5.5 mm in a plate, in the middle or behind it, with a thick rim and floor."""
    reach = np.hypot(PLATE_X - rng.uniform(-7, 7), PLATE_Y - rng.uniform(-3, 7))
    radius = rng.uniform(3.5, 5.5)
    plate = body.plate(side)
    plate.sunk = plate.sunk + rng.uniform(3, 5.5) * np.exp(-((reach / radius) ** 4))
    plate.thick = plate.thick + 1.2 * np.exp(-(((reach - radius) / 2.5) ** 2)) + 0.8 * (reach < radius)


def wedge(body: Body, rng: np.random.Generator) -> None:
    """A body that grew 2 to 10 % lower in front than usual; nothing is lost."""
    body.size = replace(body.size, anterior=body.size.anterior * rng.uniform(0.90, 0.98))


def worn_plate(body: Body, side: str, rng: np.random.Generator) -> None:
    """The plate next to a degenerate disc: thicker, with osteophytes on its rim."""
    body.plate(side).thick = body.plate(side).thick + 0.6
    osteophytes(body, side, 5.0, rng)
