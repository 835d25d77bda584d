"""A CT scan in patient axes, tilted against the vertebra, and the reformat of it into the crop."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .grid import START, STEP, chance, pick, smooth_noise

CROP = (56, 72, 32)
SPACING = np.array([1.0, 1.25, 3.0])  # mm
CENTRE = np.array([27.5, 24.0, 15.5])  # index at which the locator puts the body's centre


def _turn(rx, ry, rz):
    """Rotation (radians) about the u, v and w axes, acting on (w, v, u)."""
    cx, sx, cy, sy, cz, sz = np.cos(rx), np.sin(rx), np.cos(ry), np.sin(ry), np.cos(rz), np.sin(rz)
    about_u = np.array([[cx, sx, 0], [-sx, cx, 0], [0, 0, 1]])
    about_v = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_w = np.array([[1, 0, 0], [0, cz, sz], [0, -sz, cz]])
    return about_u @ about_v @ about_w


def place(rng, centre, tilt):
    """World positions (mm, shape (3, *CROP)) of the crop's samples about ``centre``, as a locator would err.

    ``tilt`` (radians, sagittal) is the slant of the body as it lies.
    """
    amount = 2.0 if chance(rng, 0.25) else 1.0
    turn = _turn(tilt + amount * np.radians(rng.uniform(-6, 6)), *(amount * np.radians(rng.uniform(-6, 6, 2))))
    scale = 1 + amount * rng.uniform(-0.05, 0.05)
    shift = amount * rng.uniform(-4, 4, 3)
    idx = np.stack(np.meshgrid(*(np.arange(n) for n in CROP), indexing="ij")).astype(float).reshape(3, -1)
    p = turn @ ((idx - CENTRE[:, None]) * SPACING[:, None] * scale) + (np.asarray(centre) + shift)[:, None]
    return p.reshape(3, *CROP)


def at_grid(p):
    """Grid indices of world points, mm."""
    shape = (3,) + (1,) * (p.ndim - 1)
    return ((p - START.reshape(shape)) / STEP.reshape(shape)).astype(np.float32)


def sample(vol, p):
    """Linear interpolation of a grid volume at world points."""
    return ndimage.map_coordinates(vol, at_grid(p), order=1, mode="nearest", prefilter=False, output=np.float32)


@dataclass
class Scan:
    """Acquisition: patient axes as columns (z, y, x) in world coordinates, slices and blur in mm, noise in HU."""

    axes: np.ndarray
    thick: float
    step: float
    blur: float
    edge: float
    noise: float
    streak: float
    phase: float


def draw(rng, random):
    """A scanner: soft to sharp kernel, slices 0.6-3.2 mm, tilted up to 35 degrees against the vertebra."""
    tilt = np.clip(rng.normal(0, 14), -35, 35)
    axes = _turn(np.radians(tilt), np.radians(np.clip(rng.normal(0, 5), -15, 15)), np.radians(rng.normal(0, 4)))
    low, high = pick(rng, {(0.6, 1.0): 35, (1.0, 1.5): 35, (1.5, 2.2): 18, (2.2, 3.2): 12})
    thick = rng.uniform(low, high)
    kernel = pick(rng, {"soft": 4, "medium": 3, "sharp": 3})
    blur = {"soft": (0.65, 1.0), "medium": (0.45, 0.7), "sharp": (0.3, 0.5)}[kernel]
    edge = {"soft": (0.0, 0.1), "medium": (0.0, 0.35), "sharp": (0.3, 1.0)}[kernel]
    noise = np.exp(rng.uniform(np.log(5), np.log(60 if kernel != "soft" else 35)))
    if random:
        blur, edge = (0.25, 1.3), (0.0, 1.2)
    return Scan(axes, thick, thick * rng.uniform(0.5, 1.0), rng.uniform(*blur), rng.uniform(*edge), noise,
                rng.uniform(0, 14) if chance(rng, 0.3) else 0.0, rng.uniform(0, 1))  # fmt: skip


def _psf(vol, scan):
    """In-plane blur and edge enhancement; along the slices' normal only what the tilt leaks in."""
    slant = abs(scan.axes[1, 0])
    sigma = scan.blur * np.array([0.25 + 0.75 * slant, 1.0, 1.0]) / STEP
    out = ndimage.gaussian_filter(vol, sigma, truncate=2.5)
    if scan.edge > 0.05:
        out += scan.edge * (out - ndimage.gaussian_filter(out, 1.1 / STEP * [0.4, 1, 1], truncate=2))
    return out


def _noise(rng, scan, at, y, x, slices):
    """Noise at the crop's samples, made per slice in the scan plane so that the reformat mixes it as it does bone."""
    spans = [(q.min(), np.ptp(q)) for q in (y, x)]
    n = (int(slices.max() - slices.min()) + 3, int(spans[0][1]) + 3, int(spans[1][1] / 2) + 3)
    field = rng.standard_normal(n, dtype=np.float32)
    soft = ndimage.gaussian_filter(field, (0, 0.9, 0.5), truncate=2)
    # Soft kernels leave coarse noise, sharp ones take its slow part away.
    mix = rng.uniform(0, 1) if scan.edge < 0.2 else rng.uniform(-0.7, 0.2)
    field = field * (1 - abs(mix)) + mix * soft * 2.2
    field /= field.std()
    if scan.streak:
        rows = smooth_noise(rng, n[:2], (0.4, 1.3))[..., None] * np.float32(scan.streak / scan.noise)
        field += rows
    idx = np.stack([at - slices.min(), y - spans[0][0], (x - spans[1][0]) / 2]).astype(np.float32)
    out = ndimage.map_coordinates(field, idx, order=1, mode="nearest", prefilter=False)
    return (
        out * np.float32(scan.noise / max(out.std(), 1e-3)) if not scan.streak else out * np.float32(scan.noise * 1.5)
    )


def acquire(rng, vol, scan, p, metal=()):
    """HU of the crop at world points ``p``: slices are averaged over their thickness, then interpolated.

    ``metal`` lists (centre in mm, radius in mm) of cement, beside which beams harden.
    """
    vol = _psf(vol, scan)
    z, y, x = np.tensordot(scan.axes.T, p, axes=1)
    kz = z / scan.step + scan.phase
    k = np.floor(kz)
    frac = (kz - k).astype(np.float32)
    subs = max(1, int(np.ceil(scan.thick / 1.1)))
    offsets = (np.arange(subs) + 0.5) / subs * scan.thick - scan.thick / 2
    normal = scan.axes[:, 0]
    out = np.zeros(CROP, np.float32)
    base, stride = at_grid(p), (normal / STEP).astype(np.float32)[:, None, None, None]
    for which, weight in ((0, 1 - frac), (1, frac)):
        lift = ((k + which - scan.phase) * scan.step - z).astype(np.float32)
        for off in offsets:
            idx = base + stride * (lift + np.float32(off))
            out += weight / subs * ndimage.map_coordinates(vol, idx, order=1, mode="nearest", prefilter=False)
    zq = (np.round(kz) - scan.phase) * scan.step
    for centre, radius in metal:
        cz, cy, cx = scan.axes.T @ centre
        turn = rng.uniform(-0.4, 0.4)
        dy, dx = y - cy - turn * (x - cx), x - cx
        shade = np.exp(-((dy / radius) ** 2) - (dx / 30) ** 2 - ((zq - cz) / (radius + 1)) ** 2)
        out -= rng.uniform(20, 160) * shade * (np.hypot(dy, dx) > radius) * (out < 900)
        fan = np.cos(np.arctan2(dy, dx) * rng.integers(3, 8) + rng.uniform(0, 6))
        out += rng.uniform(0, 45) * fan * np.exp(-np.hypot(dy, dx) / 22 - ((zq - cz) / (radius + 1)) ** 2)
    return out + _noise(rng, scan, kz, y, x, k)
