"""Soft parts around the spine: HU per tissue, muscles, vessels, lung, canal, discs, haematoma."""

import numpy as np
from scipy import ndimage

from .grid import SHAPE, U, V, W, block, chance, ramp, smooth_noise


def table(rng, random):
    """HU per tissue and a few factors; ``random`` draws them far beyond what a scanner at 120 kVp would show."""
    contrast = pick_contrast(rng)
    t = {
        "fat": rng.uniform(-115, -80), "muscle": rng.uniform(35, 65), "disc": rng.uniform(60, 105),
        "csf": rng.uniform(8, 35), "cord": rng.uniform(30, 45), "blood": rng.uniform(32, 48) + contrast,
        "vein": rng.uniform(32, 48) + contrast * rng.uniform(0.15, 0.9), "organ": rng.uniform(40, 65) + 0.3 * contrast,
        "lung": rng.uniform(-880, -780), "shell": rng.uniform(750, 1300), "haematoma": rng.uniform(35, 75),
        "rough": rng.uniform(0.5, 1.6), "subchondral": rng.uniform(0, 1.2), "atrophy": rng.beta(1.3, 1.8),
    }  # fmt: skip
    if random:
        for key in ("fat", "muscle", "disc", "csf", "cord", "blood", "vein", "organ", "haematoma"):
            t[key] += rng.normal(0, 55)
        t["shell"] *= rng.uniform(0.55, 1.5)
        t["lung"] += rng.uniform(-100, 300)
        t["rough"] *= rng.uniform(0.3, 2.2)
    return t


def pick_contrast(rng):
    """Extra HU of arterial blood: none in most scans."""
    return rng.uniform(60, 320) if chance(rng, 0.3) else 0.0


class _Plane:
    """One axial plane of soft tissue over (V, U), filled with ellipses."""

    def __init__(self, value):
        self.hu = np.full((V.size, U.size), value, np.float32)

    def oval(self, v, u, rv, ru, value, edge=0.15):
        q = np.hypot((V[:, None] - v) / rv, (U[None, :] - u) / ru)
        self.hu += ramp((1 - q) / edge + 0.5) * (value - self.hu)


def _plane(level, size, t, shift, p):
    """Soft tissue at one height; ``level`` index into LEVELS, ``shift`` -1..1 along the crop, ``p`` drawn numbers."""
    a, b, cd = size.a, size.b, size.canal[1]
    pl = _Plane(t["fat"])
    atro = t["atrophy"]
    lean = t["muscle"] * (1 - atro) + t["fat"] * atro * 0.6 + 10 * atro
    if level <= 2:
        pl.oval(-a - 30, -38, 42, 34, t["organ"])  # liver
        pl.oval(-a - 34, 40, 34, 26, t["organ"])
    else:
        pl.oval(-a - 42 + p[0] * 6, p[1] * 20, 26, 34, t["organ"] - 20, 0.3)  # bowel
    if level <= 1 and p[2] > 0.25:
        for s in (-1, 1):  # lung recesses beside and behind the body
            pl.oval(14, s * (b + 30 + 6 * p[3]), 34, 22, t["lung"], 0.05)
    elif 1 <= level <= 4:
        for s in (-1, 1):
            pl.oval(8 + 6 * p[4], s * (b + 30 + 6 * p[5]), 22, 18, t["organ"] - 15)  # kidney
    grow = np.clip(level - 1 - shift, 0, 5)
    for s in (-1, 1):
        r = 3.5 + 3.0 * grow + p[6] * 2
        pl.oval(4 + 1.5 * grow, s * (b + 0.75 * r), r * 1.25, r, t["muscle"], 0.1)  # psoas
        pl.oval(a + 12, s * (b + 26), 7, 14, lean)  # quadratus
        pl.oval(a + cd + 18, s * 21, 19, 20, lean, 0.2)  # erector spinae
        pl.oval(a + cd + 11, s * 9, 10, 8, t["muscle"] * (1 - atro) + t["fat"] * atro, 0.3)  # multifidus
        if level <= 4:
            pl.oval(-a - 3, s * (11 + 2 * p[7]), 3.5, 9, t["muscle"], 0.3)  # crus
    pl.oval(a + cd + 2, 0, 4, 6, t["muscle"] * 0.6, 0.5)
    gap = p[8]
    if level <= 5:
        pl.oval(-a - gap - p[9], 5 + 9 * p[10] + shift, p[9] + 1.2, p[9] + 1.2, t["muscle"], 0.1)
        pl.oval(-a - gap - p[9], 5 + 9 * p[10] + shift, p[9], p[9], t["blood"], 0.1)
        if level >= 2:
            pl.oval(-a - gap - 7, -14 - 3 * p[11], 8, 10, t["vein"], 0.1)
    else:
        for s in (-1, 1):
            pl.oval(-a - gap - 4 + 4 * shift, s * (13 - 6 * shift), 6, 6, t["blood"])
            pl.oval(-a - gap + 1 + 4 * shift, s * (18 - 6 * shift), 7, 8, t["vein"])
    return pl.hu, (-a - gap - p[9], 5 + 9 * p[10], p[9])


def surroundings(rng, level, size, t):
    """HU of all soft tissue on the grid: two planes blended along the spine, with slow unevenness."""
    p = [rng.uniform(0, 1) for _ in range(12)]
    p[8], p[9] = rng.uniform(2, 7), rng.uniform(8, 13)
    low, tube = _plane(level, size, t, -1.0, p)
    high, _ = _plane(level, size, t, 1.0, p)
    f = ((W - W[0]) / (W[-1] - W[0])).astype(np.float32)[:, None, None]
    hu = low * (1 - f) + high * f
    coarse = rng.standard_normal((5, 14, 10), dtype=np.float32) * np.float32(rng.uniform(4, 14))
    fine = [ndimage.zoom(c, np.array(SHAPE[1:]) / c.shape, order=1) for c in coarse]
    at = np.linspace(0, 3.999, W.size)
    hu += np.stack([fine[int(k)] * np.float32(1 - k % 1) + fine[int(k) + 1] * np.float32(k % 1) for k in at])
    if level <= 5 and chance(rng, 0.4):  # plaque in the aortic wall
        q = np.hypot(V[:, None] - tube[0], U[None, :] - tube[1])
        turn = np.arctan2(V[:, None] - tube[0], U[None, :] - tube[1])
        wall = np.clip(1.5 - np.abs(q - tube[2]) / 0.9, 0, 1) * (
            np.cos(turn - rng.uniform(0, 6.3)) > rng.uniform(0, 0.9)
        )
        along = smooth_noise(rng, W.size, 6)[:, None, None] > 0
        hu += wall * along * rng.uniform(200, 800)
    return hu


def canal(rng, hu, level, frames, shapes, t):
    """Epidural fat, thecal sac and (down to L1) cord behind the bodies of ``frames``."""
    at = [f.world((0, s.a + s.canal[1] / 2, 0)) for f, s in zip(frames, shapes, strict=True)][::-1]
    mid = np.interp(W, [p[0] for p in at], [p[1] for p in at])[:, None, None]
    wide, deep = shapes[1].canal
    sl = block((-99, shapes[1].a - 12, -wide), (99, shapes[1].a + deep + 20, wide))
    v, u = V[sl[1]][None, :, None] - mid, U[sl[2]][None, None, :]
    part = hu[sl]
    full, sac = rng.uniform(0.85, 1.0), rng.uniform(0.75, 0.98)
    for rv, ru, value in ((deep / 2 + 2.5, wide / 2 + 1, t["fat"]), (deep / 2 * sac, wide / 2 * sac * full, t["csf"])):
        part += ramp((1 - np.hypot(v / rv, u / ru)) / 0.2 + 0.5) * (value - part)
    if level <= 2:
        r = 4.2 if level < 2 else 3.0
        part += ramp((1 - np.hypot(v / r, u / (r * 1.15))) / 0.3 + 0.5) * (t["cord"] - part)


def disc(rng, hu, frame, size, height, sink, t):
    """The disc under the vertebra of ``frame`` whose inferior plate lies at -size.height/2.

    ``height`` mm between the rims; ``sink`` mm by which it may fill hollows of either plate.
    """
    top, low = -size.height / 2, -size.height / 2 - height
    sl = block((frame.w + low - sink - 8, -32, -36), (frame.w + top + sink + 8, 32, 36))
    if sl is None:
        return
    w, v, u = frame.local(sl)
    rho = np.sqrt((v / (size.a + 0.5)) ** 2 + (u / (size.b + 0.5)) ** 2)
    # Beyond the inner part the disc is no taller than the gap between the rims, or it would hang over the walls.
    reach = np.where(rho < 0.93, sink, 1.0)
    inside = np.minimum((top + reach) - w, w - (low - reach))
    mid = np.abs(w - (top + low) / 2) / (height / 2 + 1)
    bulge = rng.uniform(0.0, 1.5)
    side = (1 + (bulge + 0.8) / size.a * np.clip(1 - mid, -1, 1) - rho) * size.a
    cover = np.clip(np.minimum(inside, side) / 0.8 + 0.5, 0, 1)
    stuff = t["disc"] + 18 * ramp((rho - 0.55) / 0.3) + np.float32(0)
    if chance(rng, 0.12):  # vacuum
        c, r = rng.uniform((-7, -10), (7, 10)), rng.uniform(5, 14)
        far = np.hypot(v - c[0], (u - c[1]) * 0.8)
        wave = smooth_noise(rng, (1, w.shape[1], u.shape[2]), (0, 4, 2))
        bow = rng.uniform(-0.02, 0.02) * v**2 + 0.7 * wave
        half = rng.uniform(0.4, 1.5) * np.clip(1 + 0.6 * smooth_noise(rng, wave.shape, (0, 3, 1.5)), 0, 2)
        flat = np.clip(half - np.abs(w - (top + low) / 2 - 0.05 * (v - c[0]) - bow), 0, 1)
        stuff = stuff + ramp((r - far) / 3) * flat * rng.uniform(-900, -250)
    if chance(rng, 0.06):  # chalk
        c = rng.uniform((-8, -10), (8, 10))
        far = np.sqrt((v - c[0]) ** 2 + ((u - c[1]) * 0.8) ** 2 + ((w - (top + low) / 2) * 2) ** 2)
        far = far + 1.5 * smooth_noise(rng, far.shape, (1.2, 2.0, 1.2))
        stuff = stuff + ramp((rng.uniform(2, 7) - far) / 3) * rng.uniform(150, 600)
    part = hu[sl]
    part += cover * (stuff - part)


def cuff(rng, hu, size, t, broad):
    """Swelling of ``broad`` mm around the front and sides of the target body, as haematoma or thick soft tissue."""
    sl = block((-26, -36, -40), (26, 16, 40))
    w, v, u = W[sl[0]][:, None, None], V[sl[1]][None, :, None], U[sl[2]][None, None, :]
    r = np.sqrt(v**2 + u**2) * (1 - 1 / np.sqrt((v / size.a) ** 2 + (u / size.b) ** 2 + 1e-3))
    lop = rng.uniform(-0.4, 0.4)
    reach = broad * np.exp(-(((w - rng.uniform(-6, 6)) / rng.uniform(9, 18)) ** 2)) * (1 + lop * np.sign(u))
    cover = ramp((reach - r) / 1.5 + 0.5) * (v < 8) * 0.95
    part = hu[sl]
    part += cover * (t["haematoma"] - part) * (part < 120)
