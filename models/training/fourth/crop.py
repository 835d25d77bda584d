"""Assembly of crops: bodies, discs, arches and soft parts painted in place, then scanned."""

import numpy as np

from . import arch, bone, plates, scanner, target, tissue, walls
from .anatomy import LEVELS, discs, sizes
from .anatomy import plates as plain_plates
from .grid import ANGLES, MAP_U, MAP_V, SHAPE, Frame, chance
from .plan import TYPES, draw, kind_list

_ALONG = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def kinds(seed, count):
    """What each of the crops of ``crops(seed, count)`` shows: "A"-"D", "old", "plain" or a name of MIMICS."""
    return kind_list(seed, count)


def _rim_plane(plate, size):
    """Height at the centre (mm) and slope dw/dv of the plane through a plate's rim."""
    q = np.hypot(MAP_V[:, None] / size.a, MAP_U[None, :] / size.b)
    on = (q > 0.8) & (q < 0.97)
    v = (MAP_V[:, None] + 0 * plate)[on]
    slope, height = np.polyfit(v, plate[on], 1)
    return height, slope


def _neighbour(rng, plan, size, frame, shell):
    """A body above or below; in frail spines at times itself hollow, wedged or broken."""
    top, bottom = plain_plates(size)
    thick = [bone.plate_thickness(rng, size, shell) for _ in range(2)]
    r = rng.random()
    if plan.kind == "fish" or (plan.marrow < 90 and r < 0.25):
        d = plates.hollow(rng, size, rng.uniform(0.05, 0.25))
        top, bottom = top - d[0], bottom + d[1]
    elif r < 0.40:
        make = plates.broken if chance(rng, 0.4) else plates.healed
        p = make(rng, size, rng.uniform(0.08, 0.3) * size.height)
        top, thick[0] = top - p.drop, thick[0] * p.thick
        if chance(rng, 0.4):
            p = make(rng, size, rng.uniform(0.05, 0.2) * size.height)
            bottom, thick[1] = bottom + p.drop, thick[1] * p.thick
    elif r < 0.46 or plan.kind == "scheuermann":
        bottom = bottom + plates.node(rng, size)[0]
        top = top - plates.waves(rng, size)
    bottom = np.minimum(bottom, top - 5)
    wall = walls.whole(rng, size, top, bottom)
    for high in (True, False):
        if chance(rng, 0.25):
            walls.lip(rng, wall, rng.uniform(1, 5), high, rng.uniform(-50, 50), rng.uniform(30, 90))
    return bone.Body(
        frame, top, bottom, *thick, wall, shell, rng.uniform(0.8, 2.5), plan.marrow * rng.uniform(0.85, 1.15)
    )


def _frames(body, shape, gaps):
    """Frames of the neighbours: they follow the target's rims, a disc apart."""
    up, own, low = shape
    h, m = _rim_plane(body.top, own)
    front, back = gaps[0]
    tilt = np.arctan(m - (front - back) / (2 * own.a))
    lift = (front + back) / 2 + up.height / 2
    above = Frame(h + lift * np.cos(tilt), -lift * np.sin(tilt), tilt)
    h2, m2 = _rim_plane(body.bottom, own)
    front, back = gaps[1]
    tilt = np.arctan(m2 + (front - back) / (2 * own.a))
    lift = (front + back) / 2 + low.height / 2
    below = Frame(h2 - lift * np.cos(tilt), lift * np.sin(tilt), tilt)
    return above, below, (h + h2) / 2, np.arctan((m + m2) / 2)


def _bridges(rng, depth, body, shape, frames, plan):
    """Bony bridges from the target's front rims to a neighbour's."""
    first = chance(rng, 0.5)
    for high in (True, False):
        if not ("bridge" in (plan.kind, *plan.extras) and (high == first or chance(rng, 0.4))):
            continue
        turn = np.radians(rng.normal(0, 30))
        i = int(np.argmin(np.abs(ANGLES - turn)))
        own, other = shape[1], shape[0 if high else 2]
        far = frames[0 if high else 1]
        r = own.outline()[i] - 1
        a = np.array([body.wall.rim[0 if high else 1][i], -r * np.cos(turn), r * np.sin(turn)])
        q = other.outline()[i] - 1
        b = far.world(((-1 if high else 1) * other.front / 2, -q * np.cos(turn), q * np.sin(turn)))
        arch.bridge(rng, depth, Frame(), a, b, rng.uniform(2, 6))


def _one(seed, index, kind):
    """Paint and scan one crop."""
    rng = np.random.default_rng([seed, index])
    plan = draw(rng, kind)
    level = LEVELS.index(plan.level)
    shape = sizes(rng, plan.level, np.clip((130 - plan.marrow) / 100, 0, 1))
    t = tissue.table(rng, plan.random)
    body, loss, metal = target.build(rng, plan, shape[1])
    gaps = discs(rng, plan.level)
    above, below, middle, slant = _frames(body, shape, gaps)
    frames = (above, Frame(), below)

    hu = tissue.surroundings(rng, level, shape[1], t)
    tissue.canal(rng, hu, level, frames, shape, t)
    if (plan.broken and chance(rng, 0.4)) or chance(rng, 0.08):
        tissue.cuff(rng, hu, shape[1], t, rng.uniform(2, 9))
    deep = max(float(np.max(shape[1].height / 2 - body.top[40:90, 20:57])), 6.0)
    tissue.disc(rng, hu, above, shape[0], sum(gaps[0]) / 2, deep, t)
    deep = max(float(np.max(shape[1].height / 2 + body.bottom[40:90, 20:57])), 6.0)
    # The lower disc belongs to the target's own lower rim, which may have risen.
    tilt = np.arctan(_rim_plane(body.bottom, shape[1])[1])
    rim = _rim_plane(body.bottom, shape[1])[0]
    tissue.disc(rng, hu, Frame(rim + shape[1].height / 2, 0, tilt), shape[1], sum(gaps[1]) / 2, deep, t)
    bodies = [_neighbour(rng, plan, s, f, body.shell) for s, f in ((shape[0], above), (shape[2], below))]
    cortex = rng.uniform(0.6, 1.6)
    for s, f in ((shape[0], above), (shape[2], below)):
        depth = arch.empty()
        arch.arch(rng, depth, f, s)
        if s.level in ("T10", "T11", "T12"):
            arch.rib(depth, f, s, rng.uniform(12, 30))
        arch.lay(rng, hu, depth, cortex, plan.marrow + 40, t)
    fabric = bone.weave(rng)
    for b, flip in zip(bodies, (np.flipud, np.fliplr), strict=True):
        bone.paint(rng, hu, b, t, [flip(f) for f in fabric])
    depth = arch.empty()
    if plan.level in ("T11", "T12"):
        arch.rib(depth, Frame(), shape[1], rng.uniform(12, 30))
    _bridges(rng, depth, body, shape, (above, below), plan)
    arch.lay(rng, hu, depth, cortex, plan.marrow + 40, t)
    depth = arch.empty()
    arch.arch(rng, depth, Frame(), shape[1])
    ring = arch.lay(rng, hu, depth, cortex, plan.marrow + 40, t)
    sl, cover, room = bone.paint(rng, hu, body, t, fabric)

    own, rest, hurt = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    own[sl] = cover
    rest[ring[0]] = ring[1]
    if plan.broken:
        hurt[sl] = room.mark
    p = scanner.place(rng, (middle, 0.0, 0.0), slant * rng.uniform(0.4, 1.0))
    image = scanner.acquire(rng, hu, scanner.draw(rng, plan.random), p, metal)
    if plan.random:
        slope = rng.normal(0, 25, 3)
        drift = sum(k * np.linspace(-1, 1, n).reshape(s) for k, n, s in zip(slope, scanner.CROP, _ALONG, strict=True))
        image = image * rng.uniform(0.75, 1.3) + rng.normal(0, 50) + drift
    in_body = scanner.sample(own, p) > 0.5
    in_ring = scanner.sample(rest, p) > 0.5
    in_hurt = (scanner.sample(hurt, p) > 0.4) & in_body
    masks = (in_body | in_ring) + 2 * in_body.astype(np.uint8) + 4 * in_hurt.astype(np.uint8)
    return np.clip(np.rint(image), -1024, 3071), masks, plan, loss, level


def crops(seed: int, count: int) -> dict[str, np.ndarray]:
    """Paint ``count`` crops, the same for the same ``seed``; the first ones do not depend on ``count``.

    ``hu`` int16 and ``masks`` uint8 (bits 1 vertebra, 2 body, 4 recently broken bone) are [count, 56, 72, 32]: axes
    caudal->cranial, anterior->posterior, right->left at 1.0 x 1.25 x 3.0 mm, body centre near (27.5, 24.0, 15.5).
    ``evidence`` uint8 [count, 4]: superior plate, inferior plate, front wall, back wall recently broken. ``type``
    uint8: 0 none, 1-4 Denis compression type A-D. ``old``, ``mimic`` (whole vertebrae only), ``random`` uint8 flags.
    ``loss`` float32: largest height loss (fraction) against the undamaged vertebra; 0 for whole vertebrae, also
    those that grew low or hollow. ``level`` uint8: index into LEVELS.
    """
    out = {
        "hu": np.zeros((count, *scanner.CROP), np.int16),
        "masks": np.zeros((count, *scanner.CROP), np.uint8),
        "evidence": np.zeros((count, 4), np.uint8),
        "loss": np.zeros(count, np.float32),
    }
    out |= {key: np.zeros(count, np.uint8) for key in ("type", "old", "mimic", "level", "random")}
    for i, kind in enumerate(kind_list(seed, count)):
        out["hu"][i], out["masks"][i], plan, out["loss"][i], out["level"][i] = _one(seed, i, kind)
        out["evidence"][i] = plan.evidence
        out["type"][i] = 1 + TYPES.index(kind) if plan.broken else 0
        out["old"][i], out["mimic"][i], out["random"][i] = kind == "old", plan.mimic, plan.random
    return out
