"""Recent fractures of the four Denis types, and healed ones. They change a body in place until its loss is as wanted.

Plates sink as a broken piece with a step at its edge, cracks around it and an impacted band below it; the front wall
buckles into a ledge with a notch. A healed body is dished smoothly, has thick plates, dense bone and osteophytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .bodies import CELLS, FRONT, WALL_ANGLE, WALL_STEP, Band, Body, Oblique
from .mimics import osteophytes
from .shapes import noise, smoothstep

BROKEN = {"A": ("superior", "inferior"), "B": ("superior",), "C": ("inferior",), "D": ()}
TILT = {"A": (0.1, 0.4), "B": (0.1, 0.5), "C": (0.0, 0.25), "D": (1.0, 1.0)}  # part of the loss by tilting plates
BUCKLES = {"superior": 0.8, "inferior": 0.65}  # how often the front wall buckles next to a broken plate
LEAST_DEPTH = 2.0  # mm that a broken plate sinks over a tenth of its area: clinical.md 2.4
MOST_LOSS = 0.5
STROKE = 24.0  # mm that a plate sinks where a body loses all its height


class Piece(NamedTuple):
    """A broken piece of a plate, fields as in `Plate`: relative depth, continuity, impaction."""

    depth: np.ndarray
    whole: np.ndarray
    dense: np.ndarray


def fracture(body: Body, denis: str, loss: float, rng: np.random.Generator) -> None:
    """Break a body so that its largest height loss is `loss`, or more where a plate would sink by less than 2 mm."""
    pieces = {side: broken_piece(body, rng) for side in BROKEN[denis]}
    tilted = rng.uniform(*TILT[denis])
    upper = rng.uniform(0.4, 0.6)
    share = {"superior": upper, "inferior": 1 - upper} if denis == "A" else dict.fromkeys(pieces, 1.0)

    def sink(amount: float) -> None:
        body.anterior_loss = amount * tilted
        body.posterior_loss = (0.06 if denis == "D" else 0.12 * tilted) * amount
        for side, piece in pieces.items():
            body.plate(side).sunk = piece.depth * STROKE * amount * share[side]

    settle(body, sink, loss, most=1.2)
    while any(body.depth_of(side) < LEAST_DEPTH for side in pieces) and loss < MOST_LOSS:
        loss += 0.005
        settle(body, sink, loss, most=1.2)
    for side, piece in pieces.items():
        body.plate(side).whole, body.plate(side).dense = piece.whole, piece.dense
        body.signs[side] = True
    buckle_front(body, tuple(pieces), loss, rng)
    body.band = Band(rng.uniform(90, 200), rng.uniform(1.6, 3.0), rng.uniform(1.5, 3.0))
    if rng.random() < 0.6:
        body.swelling = rng.uniform(2, 5)


def settle(body: Body, change: Callable[[float], None], loss: float, most: float) -> None:
    """Find by halving the amount of a change at which the body has lost `loss`."""
    low, high = 0.0, most
    for _ in range(16):
        amount = (low + high) / 2
        change(amount)
        low, high = (amount, high) if body.loss() < loss else (low, amount)


def broken_piece(body: Body, rng: np.random.Generator) -> Piece:
    """A piece of irregular outline, deepest in front of the middle (clinical.md 2.3, F3), often with a tilted fragment."""
    x, y = body.relative()
    x, y = x - rng.uniform(-0.22, 0.22), y - rng.uniform(-0.62, -0.12)
    outline = np.hypot(x / rng.uniform(0.65, 1.0), y / rng.uniform(0.55, 0.95)) + 0.07 * noise(rng, x.shape, 9)
    depth = 1 / (1 + np.exp((outline - 1) / rng.uniform(0.05, 0.11)))
    depth *= 0.72 + 0.28 * np.clip(1 - outline, 0, 1) + 0.06 * noise(rng, x.shape, 5)
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        beyond = smoothstep((np.cos(angle) * x + np.sin(angle) * y) / 0.06 + 0.5)
        depth *= 1 - 0.4 * beyond * (outline < 1.1)
    dense = np.exp(-(np.clip(outline - 0.95, 0, None) ** 2) / 0.02)
    dense *= 0.75 + 0.25 * np.clip(noise(rng, x.shape, 6), -1, 1)
    cracks = _cracks(x, y, outline, body.size.depth / 2, rng)
    return Piece(np.clip(depth, 0, None), ndimage.gaussian_filter(1.0 - cracks, 0.8), dense)


def _cracks(x: np.ndarray, y: np.ndarray, outline: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Where the plate is torn: most of the piece's edge, and one ray across it. Booleans (CELLS, CELLS)."""
    angle = np.arctan2(y, x)
    torn = np.sin(angle * rng.integers(2, 4) + rng.uniform(0, 6)) > -0.55
    edge = (np.abs(outline - 1) < 0.085) & torn
    towards = rng.uniform(-np.pi, np.pi)
    ray = np.abs(np.sin(angle - towards)) * outline * radius < 0.7
    return edge | (ray & (outline < 1.1) & (np.cos(angle - towards) > -0.4))


def buckle_front(body: Body, broken: tuple[str, ...], loss: float, rng: np.random.Generator) -> None:
    """Buckle the front wall: always where both plates are intact (type D), else often, next to a broken plate."""
    if not broken:
        step = rng.uniform(-0.15, 0.5)
        _ledge(body, step, 1.7 + 4.5 * loss, rng.uniform(-0.2, 0.2), rng.uniform(0.8, 1.15), False, rng)
        body.oblique = Oblique(
            step, depth=rng.uniform(0.35, 0.7), width=rng.uniform(1.5, 2.4), hu=rng.uniform(90, 190),
            slope=rng.uniform(-0.15, 0.15),
        )
    for side in broken:
        if rng.random() < BUCKLES[side]:
            down = side == "inferior"
            step = rng.uniform(0.35, 0.7) * (-1 if down else 1)
            _ledge(body, step, 0.8 + 3.5 * loss, rng.uniform(-0.3, 0.3), rng.uniform(0.5, 1.0), down, rng)


def _ledge(
    body: Body, step: float, out: float, turned: float, half: float, mirrored: bool, rng: np.random.Generator
) -> None:
    """A ledge of `out` mm over a notch, at a relative height, `half` rad to each side; `mirrored` is upside down."""
    arc = smoothstep((half - np.abs(WALL_ANGLE - FRONT - turned)) / 0.25)
    arc *= 1 + 0.25 * np.cos(5 * WALL_ANGLE + rng.uniform(0, 6))
    line = step + 0.1 * np.sin(2 * WALL_ANGLE + rng.uniform(0, 6)) + 0.05 * np.cos(5 * WALL_ANGLE)
    beyond = (WALL_STEP - line) * (-1 if mirrored else 1)
    ledge = np.exp(-np.clip(beyond, 0, None) / 0.38) * smoothstep(beyond / 0.08 + 0.5)
    notch = np.exp(-((np.clip(-beyond, 0, None) / 0.3) ** 2)) * smoothstep(0.5 - beyond / 0.08)
    body.radius = body.radius + out * arc * (ledge - 0.45 * notch)
    body.whole = body.whole * (1 - 0.9 * ((np.abs(beyond) < 0.05) & (arc > 0.3)))
    body.signs["anterior"] = True


def heal(body: Body, loss: float, rng: np.random.Generator) -> None:
    """An old deformity: dished or wedged smoothly, plates continuous and thick, bone dense, osteophytes on both rims."""
    x, y = body.relative()
    dish = np.exp(-(((x / 0.75) ** 2 + ((y + 0.15) / 0.7) ** 2) ** 1.5))
    tilted = rng.uniform(0.3, 1.0)
    both = rng.random() < 0.5

    def sink(amount: float) -> None:
        body.anterior_loss, body.posterior_loss = amount * tilted, 0.05 * amount
        body.superior.sunk = 20 * amount * (1 - 0.6 * tilted) * dish
        body.inferior.sunk = 14 * amount * (1 - 0.6 * tilted) * dish * both

    settle(body, sink, loss, most=1.0)
    body.superior.thick = np.full((CELLS, CELLS), 2.3)
    body.inferior.thick = np.full((CELLS, CELLS), 1.9 if both else 1.3)
    body.healed = True
    osteophytes(body, "superior", 5.0, rng)
    osteophytes(body, "inferior", 3.0, rng)
