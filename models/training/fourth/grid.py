"""The fine grid on which a vertebra is painted, frames of single vertebrae, and small numeric helpers.

World frame: (w, v, u) in mm = caudal->cranial, anterior->posterior, patient right->left; the origin is the centre of
the undamaged target body. A vertebra's own frame is the world frame rotated in the sagittal plane and shifted.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

STEP = np.array([0.65, 0.8, 1.5])  # mm; shells are thinner than this, so every edge is painted by coverage
W = np.arange(-36.4, 36.5, STEP[0], dtype=np.float32)
V = np.arange(-38.4, 66.5, STEP[1], dtype=np.float32)
U = np.arange(-52.5, 52.6, STEP[2], dtype=np.float32)
SHAPE = (W.size, V.size, U.size)
START = np.array([W[0], V[0], U[0]])

# Maps of one vertebra: endplates over (v, u), walls over (w, angle); mm in its own frame.
MAP_V = np.arange(-32.0, 32.1, 0.5)
MAP_U = np.arange(-38.0, 38.1, 1.0)
MAP_W = np.arange(-26.0, 26.1, 0.5)
ANGLES = np.linspace(-np.pi, np.pi, 145)  # atan2(u, -v): 0 is straight anterior, +90 degrees is patient left


@dataclass
class Frame:
    """Pose of a vertebra: origin ``w``, ``v`` in mm; ``tilt`` in radians, positive when its front dips down."""

    w: float = 0.0
    v: float = 0.0
    tilt: float = 0.0

    def world(self, p):
        """World (w, v, u) of a point (w, v, u) of the vertebra's own frame, mm."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return np.array([self.w + c * p[0] + s * p[1], self.v - s * p[0] + c * p[1], p[2]])

    def local(self, sl):
        """Own-frame coordinates (w, v, u) of the grid block ``sl``: shapes (nw, nv, 1), (nw, nv, 1), (1, 1, nu)."""
        dw = W[sl[0]][:, None, None] - np.float32(self.w)
        dv = V[sl[1]][None, :, None] - np.float32(self.v)
        c, s = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        return c * dw - s * dv, s * dw + c * dv, U[sl[2]][None, None, :]


def block(low, high):
    """Slices of the grid that hold the world box from ``low`` to ``high`` (mm); None when they miss the grid."""
    out = []
    for axis, lo, hi in zip((W, V, U), low, high, strict=True):
        i, j = np.searchsorted(axis, lo), np.searchsorted(axis, hi, side="right")
        if i >= j:
            return None
        out.append(slice(int(i), int(j)))
    return tuple(out)


def look(table, axes, *at):
    """Linear look-up of a 2-D ``table`` sampled evenly along ``axes`` at broadcast coordinates ``at``."""
    at = np.broadcast_arrays(*at)
    idx = [(a - ax[0]) / np.float32(ax[1] - ax[0]) for a, ax in zip(at, axes, strict=True)]
    return ndimage.map_coordinates(np.asarray(table, np.float32), idx, order=1, mode="nearest", prefilter=False)


def plate_look(table, v, u):
    """An endplate map at (v, u), where v is (nw, nv, 1) and u is (1, 1, nu): two one-dimensional interpolations."""
    cols = np.clip((u.ravel() - MAP_U[0]) / (MAP_U[1] - MAP_U[0]), 0, MAP_U.size - 1.001)
    i = cols.astype(int)
    f = (cols - i).astype(np.float32)
    table = np.asarray(table, np.float32)
    table = table[:, i] * (1 - f) + table[:, i + 1] * f
    rows = np.clip((v[..., 0] - MAP_V[0]) / (MAP_V[1] - MAP_V[0]), 0, MAP_V.size - 1.001)
    j = rows.astype(int)
    g = (rows - j).astype(np.float32)[..., None]
    return table[j] * (1 - g) + table[j + 1] * g


def overlap(depth, thick, voxel):
    """Share of a voxel of size ``voxel`` at ``depth`` below a surface that a layer of ``thick`` fills (all mm)."""
    half = np.float32(voxel / 2)
    return (np.clip(depth + half, 0, thick) - np.clip(depth - half, 0, thick)) / np.float32(voxel)


def smin(a, b, k):
    """Smooth minimum: corners rounded over ``k`` mm."""
    h = np.clip(k - np.abs(a - b), 0, None)
    return np.minimum(a, b) - h * h / (4 * k)


def ramp(x):
    """Smooth step from 0 (x <= 0) to 1 (x >= 1)."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def smooth_noise(rng, shape, sigma):
    """Gaussian noise of unit standard deviation, smoothed by ``sigma`` samples per axis."""
    n = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, truncate=3)
    return n / (n.std() + 1e-6)


def pick(rng, table):
    """One key of ``table`` {key: weight}."""
    keys = list(table)
    p = np.array([table[k] for k in keys], float)
    return keys[rng.choice(len(keys), p=p / p.sum())]


def chance(rng, p):
    """True with probability ``p``."""
    return bool(rng.random() < p)
