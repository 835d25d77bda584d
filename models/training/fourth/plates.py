"""How endplates change: broken, healed, or shaped so that they merely look broken. All maps are mm over (v, u)."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .grid import MAP_U, MAP_V, chance, pick, ramp, smooth_noise

SHAPE = (MAP_V.size, MAP_U.size)
FORMS = {"front": 2.2, "central": 2.2, "side": 1.0, "whole": 0.8, "tilt": 1.2, "trough": 1.0, "step": 1.0}


@dataclass
class Plate:
    """State of one endplate: ``drop`` (mm towards the body's middle), ``thick`` (factor on its bone layer)
    and ``hurt`` (0..1, where the bone below is recently broken)."""

    drop: np.ndarray
    thick: np.ndarray
    hurt: np.ndarray


def whole():
    """A plate without any change."""
    return Plate(np.zeros(SHAPE), np.ones(SHAPE), np.zeros(SHAPE))


def _xy(size):
    """Plate coordinates: x from -1 (front rim) to 1 (back rim), y from -1 (right) to 1 (left)."""
    return MAP_V[:, None] / size.a + 0 * MAP_U[None, :], MAP_U[None, :] / size.b + 0 * MAP_V[:, None]


def form(rng, size, name, soft, depth=0.0):
    """Shape (0..1) of a sinking plate; ``soft`` adds that much width (fraction of the half depth) to its borders.

    ``depth`` mm widens narrow forms: a deep hole with steep walls is no way for bone to give in.
    """
    grow = np.clip(depth / 4.5, 1.0, 2.0)
    x, y = _xy(size)
    bend = smooth_noise(rng, SHAPE, (10, 5)) * rng.uniform(0, 0.12)
    edge = rng.uniform(0.06, 0.4) + soft
    side = rng.choice([-1, 1])
    if name == "front":
        hinge = rng.uniform(-0.35, 0.55)
        lean = rng.uniform(-0.3, 0.3)
        s = np.clip((hinge - x + bend + lean * y) / (hinge + 1), 0, 1.2) ** rng.uniform(0.5, 1.5)
    elif name == "central":
        q = np.hypot((x - rng.uniform(-0.4, 0.25) + bend) / (rng.uniform(0.35, 0.8) * grow),
                     (y - rng.uniform(-0.35, 0.35)) / (rng.uniform(0.4, 0.9) * grow))  # fmt: skip
        s = ramp((1 - q) / (edge + rng.uniform(0.1, 0.8)) + 0.5 * edge)
    elif name == "side":
        hinge = rng.uniform(-0.3, 0.5)
        s = np.clip((side * y - hinge + bend) / (1 - hinge), 0, 1.2) ** rng.uniform(0.5, 1.5)
    elif name == "whole":
        s = 1 + rng.uniform(-0.25, 0.15) * x + rng.uniform(-0.15, 0.15) * y
    elif name == "tilt":
        s = np.clip((rng.uniform(0.7, 1.1) - x) / 2, 0, 1.1)
    elif name == "trough":
        # A furrow from rim to rim, across or from front to back: here the rim itself gives way.
        c, turn = rng.uniform(-0.4, 0.3), rng.uniform(-0.5, 0.5) + (np.pi / 2 if chance(rng, 0.3) else 0)
        q = np.abs((x - c) * np.cos(turn) + y * np.sin(turn) + bend) / (rng.uniform(0.25, 0.5) * grow)
        s = ramp((1 - q) / (edge + 0.3) + 0.3)
    else:  # step: a piece in front of, or beside, a line drops as one
        turn = pick(rng, {0.0: 3, np.pi / 2: 1}) + rng.uniform(-0.4, 0.4)
        line = rng.uniform(-0.4, 0.4) - side * (x * np.cos(turn) + y * np.sin(turn)) + 2 * bend
        line = line if side > 0 or chance(rng, 0.3) else -line
        s = ramp(line / edge + 0.5) * (1 + rng.uniform(-0.3, 0.3) * x)
    return np.clip(s, 0, 1.3)


def _line(field, level, width):
    """1 on the contour ``field`` = ``level``, 0 beyond ``width`` mm from it."""
    gv, gu = np.gradient(field, MAP_V[1] - MAP_V[0], MAP_U[1] - MAP_U[0])
    return np.clip(1.5 - np.abs(field - level) / (np.hypot(gv, gu) + 1e-3) / width, 0, 1)


def broken(rng, size, depth):
    """A recently broken plate that sinks by about ``depth`` mm at its deepest; every sign may be faint or missing."""
    s = form(rng, size, pick(rng, FORMS), 0.0, depth)
    if chance(rng, 0.35):
        s = s + rng.uniform(0.2, 0.7) * form(rng, size, pick(rng, FORMS), 0.0, depth)
    if depth > 5 and chance(rng, 0.75):  # a deep break takes the rims along
        s = s + rng.uniform(0.3, 1.0) * form(rng, size, pick(rng, {"tilt": 3, "whole": 2, "front": 1}), 0.1)
    x, y = _xy(size)
    inside = np.hypot(x, y) < 0.95
    s = s / (s[inside].max() + 1e-6)
    hurt = np.clip(s * 2.5 - 0.25, 0, 1)
    drop, gap = depth * s, np.zeros(SHAPE)
    if chance(rng, 0.55):  # pieces between crack lines, each a little off its place
        points = rng.uniform((-1, -1), (1, 1), (rng.integers(3, 8), 2)) * 0.9
        far = np.stack([np.hypot(x - p, (y - q) * 1.1) for p, q in points])
        near = np.sort(far, axis=0)
        crack = np.clip(1.5 - (near[1] - near[0]) * size.a / rng.uniform(0.8, 1.6), 0, 1)
        off = rng.normal(0, rng.uniform(0.1, 0.7) * min(1.0, 0.35 + depth / 5), len(points))
        piece = ndimage.gaussian_filter(off[far.argmin(0)], np.array([2.0, 1.0]) * rng.uniform(0.4, 1.6))
        drop = drop + piece * hurt
        gap = np.maximum(gap, crack * hurt * rng.uniform(0.2, 1.0))
    if chance(rng, 0.7):  # the line along which the sunk part left the rest
        line = _line(s + smooth_noise(rng, SHAPE, 3) * 0.03, rng.uniform(0.15, 0.5), rng.uniform(0.6, 1.4))
        gap = np.maximum(gap, line * rng.uniform(0.3, 1.0))
    if chance(rng, 0.35):  # a fine stray crack across the plate
        turn = rng.uniform(0, np.pi)
        far = np.abs((x - rng.uniform(-0.5, 0.3)) * np.cos(turn) + (y - rng.uniform(-0.4, 0.4)) * np.sin(turn)
                     + smooth_noise(rng, SHAPE, (8, 4)) * 0.06) * size.a  # fmt: skip
        crack = np.clip(1.5 - far / rng.uniform(0.6, 1.2), 0, 1)
        gap = np.maximum(gap, crack * rng.uniform(0.3, 1.0))
        hurt = np.maximum(hurt, np.clip(1.6 - far / 3, 0, 1) * 0.8)
    gv, gu = np.gradient(drop, MAP_V[1] - MAP_V[0], MAP_U[1] - MAP_U[0])
    # Where the plate bends steeply it is torn, or at least crumbled.
    gap = np.maximum(gap, np.clip(np.hypot(gv, gu) * 1.4 - 0.5, 0, 1) * rng.uniform(0, 1))
    thick = (1 - gap) * (1 - hurt * rng.uniform(0, 0.5)) * rng.uniform(0.8, 1.4)
    return Plate(drop, thick, hurt)


def sunk(rng, size, depth):
    """A plate that leans forward by ``depth`` mm as one unbroken piece, as when only the front wall gives way."""
    s = form(rng, size, pick(rng, {"tilt": 3, "front": 1}), 0.1)
    s = ndimage.gaussian_filter(s, (6, 3), mode="nearest")
    return Plate(depth * s / s[MAP_V.size // 2 - int(size.a / 0.5 * 0.9), SHAPE[1] // 2], np.ones(SHAPE), 0 * s)


def healed(rng, size, depth):
    """An old deformity: a smooth, continuous plate with a shell of any thickness."""
    s = form(rng, size, pick(rng, {"tilt": 2, "front": 2, "central": 3, "whole": 1, "side": 0.7}), 0.4, depth)
    s = ndimage.gaussian_filter(s, (rng.uniform(4, 9), rng.uniform(2, 4.5)), mode="nearest")
    x, y = _xy(size)
    return Plate(depth * s / s[np.hypot(x, y) < 0.95].max(), np.full(SHAPE, rng.uniform(0.8, 2.4)), 0 * s)


def node(rng, size, depth=None):
    """Drop (mm) of a Schmorl's node and its rim weight (0..1): a focal, round, steep pit away from the rim."""
    r, c = rng.uniform(3.0, 7.0), rng.uniform((-0.35, -0.45), (0.5, 0.45))
    depth = depth or rng.uniform(2.5, 7.5)
    q = np.hypot(MAP_V[:, None] - c[0] * size.a, (MAP_U[None, :] - c[1] * size.b) * rng.uniform(0.8, 1.2))
    q = q * (1 + smooth_noise(rng, SHAPE, (6, 3)) * 0.06)
    pit = np.clip(1 - (q / (r * 1.15)) ** rng.uniform(1.8, 4.0), 0, None) ** rng.uniform(0.6, 1.0)
    return depth * ndimage.gaussian_filter(pit, (1.2, 0.6)), np.clip(1.6 - np.abs(q - r) / 2.5, 0, 1)


def hollow(rng, size, loss):
    """Even drop (mm, both plates) of a fish vertebra whose middle is lower by ``loss`` of its height."""
    x, y = _xy(size)
    p, flat = rng.uniform(1.4, 2.6), rng.uniform(0.75, 0.95)
    bowl = np.clip(1 - np.hypot((x - rng.uniform(-0.05, 0.15)) / flat, y / flat) ** p, 0, None) ** rng.uniform(0.8, 1.2)
    bowl = ndimage.gaussian_filter(bowl, (3, 1.5))
    share = rng.uniform(0.4, 0.6)
    return loss * size.height * share * bowl, loss * size.height * (1 - share) * bowl


def cupid(rng, size):
    """Drop (mm) of a Cupid's bow: paired hollows beside the midline in the back third of the inferior plate."""
    x, y = _xy(size)
    pair = np.exp(-(((x - rng.uniform(0.3, 0.5)) / 0.35) ** 2) - ((np.abs(y) - rng.uniform(0.32, 0.42)) / 0.25) ** 2)
    return rng.uniform(1.8, 4.0) * pair


def waves(rng, size):
    """Drop (mm) of a wavy Scheuermann plate."""
    x, y = _xy(size)
    w = np.cos(x * rng.uniform(3, 7) + rng.uniform(0, 6)) + 0.5 * np.cos(y * rng.uniform(3, 6) + rng.uniform(0, 6))
    return rng.uniform(0.4, 1.1) * (w + 1) * np.clip(1.4 - np.hypot(x, y), 0, 1)


def loss_of(size, top0, bottom0, top, bottom):
    """Largest local height loss (fraction) within 85 % of the outline, over patches of about 4 mm."""
    x, y = _xy(size)
    h0 = ndimage.gaussian_filter(top0 - bottom0, (3.5, 1.7), mode="nearest")
    h1 = ndimage.gaussian_filter(top - bottom, (3.5, 1.7), mode="nearest")
    return float(np.clip(1 - h1 / h0, 0, 1)[np.hypot(x, y) < 0.85].max())
