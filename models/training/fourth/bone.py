"""Painting of one vertebral body: shell, endplates, spongy bone and whatever lesions are handed in."""

from dataclasses import dataclass, field

import numpy as np

from .grid import ANGLES, MAP_U, MAP_V, MAP_W, Frame, block, look, overlap, plate_look, ramp, smin, smooth_noise
from .walls import Wall


@dataclass
class Body:
    """Shape and make of one body; maps in mm in its own frame, ``marrow`` in HU."""

    frame: Frame
    top: np.ndarray
    bottom: np.ndarray
    top_thick: np.ndarray  # mm
    bottom_thick: np.ndarray
    wall: Wall
    shell: float  # mm
    corner: float  # mm, rounding of the rim
    marrow: float
    hurt_top: np.ndarray | None = None
    hurt_bottom: np.ndarray | None = None
    lesions: list = field(default_factory=list)


@dataclass
class Room:
    """Arrays over the grid block of a body, for lesions to work on.

    ``dt``, ``db``, ``dl``: depth below the superior plate, above the inferior plate, behind the wall (mm);
    ``rho`` 0 in the axis to 1 at the wall; ``hu`` spongy bone; ``mark`` recent injury.
    """

    w: np.ndarray
    v: np.ndarray
    u: np.ndarray
    dt: np.ndarray
    db: np.ndarray
    dl: np.ndarray
    rho: np.ndarray
    hu: np.ndarray
    mark: np.ndarray


def weave(rng):
    """Unit noise for the spongy bone of all bodies of a crop: struts along the load, cross struts, slow blotches."""
    shape = (76, 78, 52)
    struts = smooth_noise(rng, shape, (3.2, 0.7, 0.5))
    cross = smooth_noise(rng, shape, (0.6, 1.5, 1.0))
    return struts, cross, smooth_noise(rng, shape, (5, 4, 2.5))


def spongiosa(fabric, shape, marrow, rough):
    """Trabecular bone in HU from the unit noises ``fabric``."""
    struts, cross, blotch = (f[tuple(slice(n) for n in shape)] for f in fabric)
    spread = rough * (12 + 0.22 * marrow)
    # Frail bone loses its cross struts first, so the upright ones stand out.
    weight = 0.6 * np.clip(marrow / 160, 0.2, 1)
    return marrow + spread * (struts + weight * cross) + 0.10 * (marrow + 40) * blotch


def _slope(table):
    """Factor that turns a vertical distance below a plate into one along its normal."""
    gv, gu = np.gradient(table, MAP_V[1] - MAP_V[0], MAP_U[1] - MAP_U[0])
    return 1 / np.sqrt(1 + np.clip(gv, -3, 3) ** 2 + np.clip(gu, -3, 3) ** 2)


def paint(rng, hu, body, tissue, fabric):
    """Paint ``body`` into ``hu``; return (grid block, coverage 0..1, Room) or None when it lies outside the grid."""
    reach = np.array([24.0, 30.0])
    f = body.frame
    sl = block((f.w - reach[0], f.v - reach[1], -38), (f.w + reach[0], f.v + reach[1], 38))
    if sl is None:
        return None
    w, v, u = f.local(sl)
    dt = (plate_look(body.top, v, u) - w) * plate_look(_slope(body.top), v, u)
    db = (w - plate_look(body.bottom, v, u)) * plate_look(_slope(body.bottom), v, u)
    r = np.hypot(v, u)
    angle = np.arctan2(u + np.zeros_like(v), -v)

    def on_wall(table):
        return look(table, (MAP_W, ANGLES), w, angle)

    radius = on_wall(body.wall.radius)
    dl = radius - r
    rough = tissue["rough"]
    room = Room(w, v, u, dt, db, dl, r / np.maximum(radius, 1), None, None)
    room.hu = spongiosa(fabric, dl.shape, body.marrow, rough)
    near = np.minimum(np.minimum(dt, db), 20)
    room.hu += (25 + 0.3 * body.marrow) * tissue["subchondral"] * np.exp(-np.clip(near, 0, None) / 2.5)
    room.mark = np.zeros(dl.shape, bool)
    if body.hurt_top is not None:
        deep = rng.uniform(3.5, 7.0)
        room.mark |= (plate_look(body.hurt_top, v, u) > 0.35) & (dt < deep)
        room.mark |= (plate_look(body.hurt_bottom, v, u) > 0.35) & (db < deep)
    if body.wall.front.any():
        room.mark |= (on_wall(body.wall.front) > 0.35) & (dl < 6)
    if body.wall.back.any():
        room.mark |= (on_wall(body.wall.back) > 0.35) & (dl < 5)
    for lesion in body.lesions:
        lesion(room)
    thick = on_wall(body.wall.thick) * np.float32(body.shell)
    # The back wall opens where the basivertebral vein leaves.
    hole = np.exp(-((w / 3.0) ** 2) - (u / 4.5) ** 2) * (v > 0)
    thick = thick * (1 - 0.8 * hole)
    hard = overlap(dl, thick, 0.9)
    hard = np.maximum(hard, overlap(dt, np.clip(plate_look(body.top_thick, v, u), 0, 6), 0.65))
    hard = np.maximum(hard, overlap(db, np.clip(plate_look(body.bottom_thick, v, u), 0, 6), 0.65))
    cover = np.clip(smin(smin(dt, db, 1.0), dl, np.float32(body.corner)) / 0.8 + 0.5, 0, 1)
    bone = room.hu * (1 - hard) + hard * np.maximum(tissue["shell"], room.hu)
    part = hu[sl]
    part += cover * (bone - part)
    return sl, cover, room


def plate_thickness(rng, size, shell):
    """Bone layer of an endplate in mm: thin in the middle, thicker on the ring apophysis, a little uneven."""
    x, y = MAP_V[:, None] / size.a, MAP_U[None, :] / size.b
    ring = ramp((np.hypot(x, y) - 0.55) / 0.3)
    uneven = np.clip(1 + 0.25 * smooth_noise(rng, (MAP_V.size, MAP_U.size), (5, 2.5)), 0.3, 1.8)
    return shell * rng.uniform(0.9, 1.4) * (1 + rng.uniform(0.1, 0.9) * ring) * uneven
