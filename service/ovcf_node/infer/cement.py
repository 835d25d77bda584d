"""Cement in a vertebral body: where it lies, and the picture without it.

Bone cement (vertebroplasty) outshines every sign of a fracture, and a network that saw it in treated vertebrae takes it for
an answer. So the vertebra is shown to the network with its cement, and what its blur reaches, replaced by the mean of the
bone around. What lay there is gone from that picture, broken or not: where too much of a plate or wall is hidden, or the
arch is as bright (a screw), there is nothing to read.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ovcf_node.infer.resample import Crop

_CEMENT_HU, _CEMENT_MM3 = 1500.0, 600.0  # beyond bone, and more than most dense plates in a sharp kernel add up to
_THICKER_MM = 5.0  # along the spine: the thickest healed plates are thinner
_IMPLANT_MM3 = 300.0  # as bright, and outside the body: more than leaks and needle tracts, a screw has a thousand
_BLUR_MM = 3.0  # how far the edge of cement shines into the bone around it; leaks so far off count as the vertebra's
_SHELL_MM = 3.0  # depth of the plates and walls that cement may hide
_MOST_HIDDEN = 0.4  # share of one plate or wall beyond which it is not read
_REACH_MM = 4.0  # distance over which the bone around fills the hole


@dataclass(frozen=True)
class Cement:
    """Cement of one vertebra on its crop's grid (w, v, u).

    hole      bool: the cement and what its blur reaches, in this vertebra.
    bone      bool: the rest of the vertebra.
    hidden    share of that plate or wall (outer 3 mm of the body from above, below, front, back) that is hidden most.
    readable  no screw, and no plate or wall hidden by more than `_MOST_HIDDEN`.
    """

    hole: np.ndarray
    bone: np.ndarray
    hidden: float
    readable: bool


def cement_of(crop: Crop, vertebra: np.ndarray, body: np.ndarray) -> Cement | None:
    """Find cement in a crop by the masks (bool) of vertebra and body; None where there is none."""
    spacing = crop.grid.spacing
    voxel = float(np.prod(spacing))
    bright = crop.hu > _CEMENT_HU
    if bright.sum() * voxel <= _CEMENT_MM3:
        return None
    body, vertebra = _closed(body), _closed(vertebra | body)  # cement makes holes in a network's masks
    thick = ndimage.binary_opening(bright, np.ones((max(1, round(_THICKER_MM / spacing[0])), 1, 1), dtype=bool))
    if (thick & body).sum() * voxel <= _CEMENT_MM3:
        return None
    bright &= ndimage.distance_transform_edt(~vertebra, sampling=spacing) <= _BLUR_MM
    hole = vertebra & (ndimage.distance_transform_edt(~bright, sampling=spacing) <= _BLUR_MM)
    hidden = max(float((face & hole).sum() / max(1, face.sum())) for face in _faces(body, spacing))
    implant = (bright & ~body).sum() * voxel > _IMPLANT_MM3
    return Cement(hole, vertebra & ~hole, hidden, bool(not implant and hidden <= _MOST_HIDDEN))


def without_cement(hu: np.ndarray, hole: np.ndarray, bone: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """`hu` with the hole filled by the mean of the bone around it, nearer bone counting more; float32."""
    sigma = _REACH_MM / np.asarray(spacing)
    weight = ndimage.gaussian_filter(bone.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(bone, hu, 0.0).astype(np.float32), sigma)
    everywhere = float(np.median(hu[bone])) if bone.any() else 0.0
    around = np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), everywhere)
    return np.where(hole, around, hu).astype(np.float32)


def _closed(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=2) | mask)


def _faces(body: np.ndarray, spacing: np.ndarray) -> list[np.ndarray]:
    """The outer 3 mm of a body seen from above, below, front and back, bool (w, v, u) each."""
    out = []
    for axis, first in ((0, False), (0, True), (1, True), (1, False)):
        seen = body if first else np.flip(body, axis)
        depth = np.cumsum(seen, axis=axis) * spacing[axis]
        face = seen & (depth <= _SHELL_MM + spacing[axis] / 2)
        out.append(face if first else np.flip(face, axis))
    return out
