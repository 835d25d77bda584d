"""Vertebral arch, ribs and osteophytes: unions of tapered rods with a dense shell, in a vertebra's own frame (mm)."""

import numpy as np

from .grid import SHAPE, STEP, block, overlap


def rod(depth, frame, a, b, ra, rb, flat=(1.0, 1.0, 1.0)):
    """Raise ``depth`` (mm inside) by a rod from ``a`` to ``b`` (own frame) with end radii ``ra``, ``rb``.

    ``flat`` stretches it along (w, v, u): 2 makes it twice as tall as its radius says.
    """
    flat = np.array(flat)
    a, b = np.asarray(a, float), np.asarray(b, float)
    pad = max(ra, rb) * flat.max() + 1.5
    ends = np.stack([frame.world(a), frame.world(b)])
    sl = block(ends.min(0) - pad, ends.max(0) + pad)
    if sl is None:
        return
    p = [(x - m) / np.float32(s) for x, m, s in zip(frame.local(sl), a, flat, strict=True)]
    q = (b - a) / flat
    n = float(q @ q) + 1e-6
    t = np.clip((p[0] * q[0] + p[1] * q[1] + p[2] * q[2]) / np.float32(n), 0, 1)
    far = np.sqrt(sum((x - t * np.float32(k)) ** 2 for x, k in zip(p, q, strict=True)))
    np.maximum(depth[sl], ra + (rb - ra) * t - far, out=depth[sl])


def arch(rng, depth, frame, size):
    """Raise ``depth`` by the arch of a vertebra of ``size``: pedicles, laminae, processes."""
    h, a = size.height, size.a
    pw, ph = size.pedicle
    cw, cd = size.canal
    tall = ph / pw
    thoracic = size.level in ("T10", "T11", "T12")
    drop = rng.uniform(0.45, 0.75) if thoracic else rng.uniform(0.1, 0.35)
    up, uneven = rng.uniform(0.12, 0.22), rng.normal(0, 0.8, (2, 4))
    for s, wob in zip((-1, 1), uneven, strict=True):
        pu = s * (cw + pw) / 2
        rod(depth, frame, (up * h, a - 4, pu), (up * h * 0.8, a + 0.6 * cd, pu), pw / 2, pw / 2, (tall, 1, 1))
        joint = (0.0, a + 0.65 * cd, s * (cw / 2 + 3))
        rod(depth, frame, joint, (-0.3 * h, a + cd + 5 + wob[0], s * 3), 3.4, 3.2, (2.2, 1, 1))
        rod(depth, frame, (0.1 * h, a + 0.6 * cd, s * (cw / 2 + pw * 0.6)),
            (0.62 * h, a + 0.5 * cd + 2 + wob[1], s * (cw / 2 + 5)), 4.6, 3.6, (1, 1, 1.2))  # fmt: skip
        rod(depth, frame, (-0.15 * h, a + 0.8 * cd + 2, s * cw / 2),
            (-0.85 * h, a + 0.85 * cd + 5 + wob[2], s * (cw / 2 - 1)), 4.6, 3.6, (1, 1, 1.2))  # fmt: skip
        if size.level not in ("S1", "S2"):
            rod(depth, frame, (up * h * 0.8, a + 0.5 * cd, s * (cw / 2 + pw)),
                (up * h, a + 0.6 * cd + 5 + wob[3], s * size.span / 2), 4.2, 2.8, (1.3, 0.9, 1))  # fmt: skip
        else:  # wing of the sacrum
            rod(depth, frame, (0.05 * h, a * 0.3, s * (size.b + 2)), (-0.1 * h, a * 0.8, s * size.span / 2), 11, 14)
    back = a + cd + 6
    rod(depth, frame, (-0.3 * h, back, 0), (-(0.35 + drop) * h, back + size.spine, 0), 2.9, 3.3, (2.9, 1, 1))


def rib(depth, frame, size, drop):
    """Raise ``depth`` by a pair of ribs that leave the body's back corners and fall by ``drop`` mm."""
    for s in (-1, 1):
        head = (0.15 * size.height, size.a - 3, s * (size.b * 0.85 + 4))
        neck = (0.1 * size.height - 0.2 * drop, size.a + 14, s * (size.b + 17))
        rod(depth, frame, head, neck, 4.0, 3.6, (1.3, 1, 1))
        rod(depth, frame, neck, (-drop, size.a + 20, s * 60), 3.6, 3.4, (1.7, 0.9, 1))


def bridge(rng, depth, frame, a, b, out):
    """A bony bridge between rim points ``a`` and ``b`` (own frame of ``frame``) that bows forward by ``out`` mm."""
    mid = (np.asarray(a) + np.asarray(b)) / 2 - np.array([0, out, 0])
    r = rng.uniform(1.6, 3.6)
    rod(depth, frame, a, mid, r + 0.8, r, (1, 1, 1.8))
    rod(depth, frame, mid, b, r, r + 0.8, (1, 1, 1.8))


def empty():
    """A depth array without bone."""
    return np.full(SHAPE, -50, np.float32)


def lay(rng, hu, depth, shell, marrow, tissue):
    """Paint the bone of ``depth`` into ``hu`` with a shell of ``shell`` mm; return its coverage (block, array)."""
    hit = [np.flatnonzero((depth > -1).any(axis=tuple(j for j in range(3) if j != i))) for i in range(3)]
    if not hit[0].size:
        return None
    sl = tuple(slice(int(h[0]), int(h[-1]) + 1) for h in hit)
    d = depth[sl]
    cover = np.clip(d / 0.8 + 0.5, 0, 1)
    hard = overlap(d, np.float32(shell), float(STEP[1]))
    bone = marrow + tissue["rough"] * 35 * rng.standard_normal(d.shape, dtype=np.float32)
    bone += hard * (tissue["shell"] - bone)
    part = hu[sl]
    part += cover * (bone - part)
    return sl, cover
