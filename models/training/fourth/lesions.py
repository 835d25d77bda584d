"""Changes inside a body: signs of recent breakage, and the things that imitate them. Each works on a bone.Room."""

import numpy as np

from .grid import chance, plate_look, ramp, smooth_noise


def impaction(rng, high, hurt):
    """Dense crushed bone under a sunk plate; ``hurt`` (plate map) says where."""
    at, wide, more = rng.uniform(0.5, 4.0), rng.uniform(1.2, 3.5), rng.uniform(40, 320)
    patchy = rng.uniform(0.1, 0.7)

    def act(room):
        d = room.dt if high else room.db
        w = np.exp(-(((d - at) / wide) ** 2)) * plate_look(hurt, room.v, room.u)
        room.hu += more * w * np.clip(1 + patchy * smooth_noise(rng, w.shape, (1.2, 2.0, 1.2)), 0, 2)
        room.mark |= (w > 0.4) & (d > -0.5)

    return act


def cleft(rng, high, hurt):
    """A lens of fluid or gas under a broken plate."""
    at, wide = rng.uniform(2.0, 7.0), rng.uniform(0.6, 1.8)
    fill = rng.uniform(-800, -150) if chance(rng, 0.35) else rng.uniform(-10, 40)
    c, r = rng.uniform((-0.4, -0.3), (0.2, 0.3)), rng.uniform(6, 14)

    def act(room):
        d = room.dt if high else room.db
        far = np.hypot(room.v - c[0] * 16, room.u - c[1] * 20)
        gap = wide * np.sqrt(np.clip(1 - (far / r) ** 2, 0, 1))
        rough = smooth_noise(rng, (1, *room.hu.shape[1:]), (0, 4, 2))
        gap = gap * np.clip(1 + 0.5 * smooth_noise(rng, rough.shape, (0, 2, 1)), 0, 2)
        w = np.clip((gap - np.abs(d - at - 0.08 * far - 0.9 * rough)) / 0.6 + 0.5, 0, 1) * (gap > 0) * (room.dl > 1)
        room.hu += w * (fill - room.hu)
        room.mark |= w > 0.4

    return act


def crack(rng, height, reach, lucent):
    """A line through the spongy bone from the front wall at ``height`` mm back over ``reach`` mm."""
    slope = rng.uniform(-0.5, 0.5)
    cant, wide, more = rng.uniform(-0.2, 0.2), rng.uniform(0.5, 1.3), rng.uniform(50, 260)
    off = rng.uniform(-8, 8)

    def act(room):
        jag = smooth_noise(rng, (1, *room.hu.shape[1:]), (0, 3, 2)) * 0.5
        d = np.abs(room.w - height - slope * (room.v + 15) - cant * room.u - jag)
        w = np.clip(1.5 - d / wide, 0, 1) * ramp((reach - room.dl) / 4 + 0.5)
        w = w * np.exp(-(((room.u - off) / 16) ** 2)) * (room.v < 14)
        room.hu += w * ((-0.6 * (room.hu - 10)) if lucent else more)
        room.mark |= (w > 0.4) & (room.dl < reach)

    return act


def condense(rng, height):
    """A diffuse white band across the body, as of crushed trabeculae between whole plates."""
    wide, more, slope = rng.uniform(1.2, 3.0), rng.uniform(40, 200), rng.uniform(-0.3, 0.3)
    back = rng.uniform(-4, 16)

    def act(room):
        w = np.exp(-(((room.w - height - slope * (room.v + 14)) / wide) ** 2)) * ramp((back - room.v) / 6)
        room.hu += more * w * np.clip(1 + 0.4 * smooth_noise(rng, room.hu.shape, (1.5, 2, 1.2)), 0, 2)
        room.mark |= w > 0.5

    return act


def rim_of_pit(rng, high, ring):
    """Sclerotic rim around a Schmorl's node; ``ring`` is a plate map."""
    wide, more = rng.uniform(1.0, 2.8), rng.uniform(120, 600)

    def act(room):
        d = room.dt if high else room.db
        room.hu += more * np.exp(-((np.clip(d, 0, None) / wide) ** 2)) * plate_look(ring, room.v, room.u)

    return act


def sclerosis(rng, high, fatty=False):
    """Modic change under a plate: a dense (or fatty) wedge of uneven depth, often in front."""
    deep, more = rng.uniform(2.5, 9.0), (rng.uniform(-90, -30) if fatty else rng.uniform(80, 380))
    c, r = rng.uniform((-14, -12), (8, 12)), rng.uniform(10, 24)

    def act(room):
        d = room.dt if high else room.db
        reach = deep * np.exp(-((np.hypot(room.v - c[0], room.u - c[1]) / r) ** 2))
        reach = reach * (1 + 0.25 * smooth_noise(rng, (1, *room.hu.shape[1:]), (0, 4, 2)))
        room.hu += more * ramp((reach - d) / rng.uniform(1.5, 4)) * (reach > 0.6)

    return act


def arrest(rng):
    """Growth-arrest lines: thin dense lines parallel to both plates, or one across the middle."""
    at, wide, more = rng.uniform(3, 9, 3), rng.uniform(0.5, 1.1), rng.uniform(120, 400)
    which = rng.integers(1, 8)

    def act(room):
        for i, d in enumerate((room.dt, room.db, np.abs(room.w - at[2] + 6))):
            if which >> i & 1:
                room.hu += (
                    more * np.exp(-(((d - (at[i] if i < 2 else 0)) / wide) ** 2)) * ramp((0.95 - room.rho) / 0.15)
                )

    return act


def _ball(room, c, r, squash=(1, 1, 1)):
    return np.sqrt(sum(((x - m) / s) ** 2 for x, m, s in zip((room.w, room.v, room.u), c, squash, strict=True))) - r


def haemangioma(rng):
    """Coarse upright struts in fat, in a part of the body or in all of it."""
    c, r = rng.uniform((-6, -8, -10), (6, 8, 10)), rng.uniform(7, 22)
    fat, strut = rng.uniform(-60, 20), rng.uniform(250, 600)

    def act(room):
        w = ramp(-_ball(room, c, r) / 3)
        n = smooth_noise(rng, (1, *room.hu.shape[1:]), (0, 1.2, 0.8))
        room.hu += w * (fat + strut * np.clip(n - 0.2, 0, 1.5) - room.hu)

    return act


def island(rng):
    """A bone island: small, dense, with brush borders."""
    c, r, top = rng.uniform((-7, -11, -14), (7, 10, 14)), rng.uniform(2, 5.5), rng.uniform(500, 1300)

    def act(room):
        d = _ball(room, c, r, rng.uniform(0.7, 1.5, 3)) + 0.8 * smooth_noise(rng, room.hu.shape, (1.2, 1.0, 0.7))
        w = ramp(-d / 1.6 + 0.5)
        room.hu += w * np.maximum(top - room.hu, 0)

    return act


def lytic(rng):
    """A soft-tissue focus that replaces bone inside whole walls."""
    c, r = rng.uniform((-5, -9, -12), (5, 9, 12)), rng.uniform(4, 9)
    fill, sharp = rng.uniform(0, 60), rng.uniform(1.0, 4.0)

    def act(room):
        d = _ball(room, c, r) + 0.9 * smooth_noise(rng, room.hu.shape, (3, 2.5, 1.5))
        room.hu += ramp(-d / sharp + 0.5) * (fill + 8 * smooth_noise(rng, room.hu.shape, 1) - room.hu)

    return act


def basivertebral(rng):
    """The vein's cleft: lucent, wedge- or Y-shaped, from the back wall forward at mid-height."""
    depth, wide, half = rng.uniform(8, 22), rng.uniform(0.9, 2.6), rng.uniform(0.1, 0.6)
    fill, rim = rng.uniform(-30, 50), rng.uniform(0, 200)

    def act(room):
        back = np.clip((room.v - (16 - depth)) / depth, 0, 1)
        fork = np.minimum(np.abs(room.u - (1 - back) * half * 18), np.abs(room.u + (1 - back) * half * 18))
        d = np.hypot(room.w, fork * 0.7) - wide * (0.5 + back)
        on = (back > 0) * (room.dl > -2)
        room.hu += np.exp(-(((d - 1.0) / 0.8) ** 2)) * rim * on
        room.hu += ramp(-d / 1.2 + 0.5) * on * (fill - room.hu)

    return act


def limbus(rng, high):
    """A corner piece set off by a lucent oblique line with white borders, since youth."""
    reach, wide, rim = rng.uniform(5, 10), rng.uniform(0.8, 1.8), rng.uniform(120, 450)
    off, half, slant, fill = rng.uniform(-8, 8), rng.uniform(8, 16), rng.uniform(0.7, 1.3), rng.uniform(0, 70)

    def act(room):
        d = room.dt if high else room.db
        line = np.clip(d, 0, None) + room.dl * slant - reach
        on = (room.v < 0) * ramp((half - np.abs(room.u - off)) / 3 + 0.5)
        room.hu += rim * np.exp(-(((np.abs(line) - wide - 0.7) / 0.9) ** 2)) * on
        room.hu += ramp((wide - np.abs(line)) / 0.8 + 0.5) * on * (fill - room.hu)

    return act


def cement(rng):
    """Cement: one or several blobs with fingers, 1500-2500 HU; returns (lesion, centres in mm, radii in mm)."""
    n = int(rng.integers(1, 4))
    c, r, top = rng.uniform((-6, -12, -13), (6, 6, 13), (n, 3)), rng.uniform(3.0, 8.5, n), rng.uniform(1500, 2500)

    def act(room):
        finger = smooth_noise(rng, room.hu.shape, (1.6, 1.6, 1.0))
        for m, q in zip(c, r, strict=True):
            d = _ball(room, m, q, rng.uniform(0.7, 1.4, 3)) + rng.uniform(0.6, 2.2) * finger
            w = ramp(-d / 1.2 + 0.5) * (room.dl > 0.8) * (room.dt > 0.3) * (room.db > 0.3)
            room.hu += w * (top - room.hu)

    return act, c, r
