"""Ribs and transverse processes read from the CT itself, without a network: how far bone runs out from each vertebra.

The label network names vertebrae by their looks and by counting; what a radiologist checks the count with are the ribs.
At 2.5 mm what is brighter than its surroundings and thinner than an organ is bone; cut off from the column 26 mm beside
it, a transverse process is a stub and a rib a long bow that sinks to the front. Each piece belongs to the vertebra
beside whose body it begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ovcf_node.domain.volume import Volume
from ovcf_node.infer.resample import Field, isotropic, part_of

_SPACING_MM = 2.5
_AROUND_MM = np.array([[-125.0, -90.0, -40.0], [125.0, 75.0, 35.0]])  # LPS around the bodies looked at
_ORGAN = 9  # voxels: what is wider than this in every direction is an organ, not a rib
_BRIGHT_HU = (200.0, 150.0)  # bone: CT number, and how much above its surroundings; enhanced kidneys stay below
_DULL_HU = (130.0, 90.0)  # thin bone, believed for `_BRIDGE` voxels beside bright bone only
_BRIDGE = 2
_BEGIN_MM = 26.0  # beside the middle of the body: outside the body, near the tip of T12's transverse process
_BEGIN_DEEP_MM = 5.0
_BEGIN_BACK_MM = (-8.0, 60.0)  # from the body's middle backwards
_SHARE_MM = (-19.0, 14.0)  # from the body's middle upwards: one vertebra's share of the column
_LEAST_VOXELS = 3
_EVERYWHERE = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Bony:
    """What runs out from one side of a vertebra, in mm.

    length  straight from where it leaves the column to its farthest point; 0 where nothing leaves it.
    reach   the farthest point's distance beside the middle of the body.
    drop    how much lower the farthest point lies (LPS).
    cut     it runs into the border of the field: all three are then what is seen at least.
    seen    how far the field lets one see beside the body.
    """

    length: float
    reach: float
    drop: float
    cut: bool
    seen: float


def bony_sides(
    volume: Volume, centres: Sequence[np.ndarray], frames: Sequence[np.ndarray]
) -> list[tuple[Bony, Bony]]:
    """Right and left of each of some neighbouring vertebrae: body centres (LPS mm) and frames (rows u, v, w).

    Give one vertebra more at either end than is asked about: pieces are shared out between those given.
    """
    low, high = np.min(centres, axis=0) + _AROUND_MM[0], np.max(centres, axis=0) + _AROUND_MM[1]
    field = isotropic(part_of(volume, low, high), _SPACING_MM)
    smooth = ndimage.gaussian_filter(field.hu, 0.6)
    above = smooth - ndimage.grey_opening(smooth, size=_ORGAN)
    bright, dull = (field.inside & (smooth > hu) & (above > more) for hu, more in (_BRIGHT_HU, _DULL_HU))
    bone = ndimage.binary_dilation(bright, _EVERYWHERE, _BRIDGE, mask=dull)
    border = field.inside & ~ndimage.binary_erosion(field.inside, iterations=2)
    index = np.argwhere(bone)
    place = _Places(field.point_of(index), np.array(centres), np.array(frames))
    found = {side: _pieces(bone.shape, index, place, border, side) for side in (-1, 1)}
    return [
        tuple(_measured(found[side].get(k), side, c, f, _seen(field, c, f, side)) for side in (-1, 1))
        for k, (c, f) in enumerate(zip(centres, frames, strict=True))
    ]


class _Places:
    """Bone voxels in the frame of the vertebra beside them: `owner`, and mm to the left (u), behind (v) its body."""

    def __init__(self, points: np.ndarray, centres: np.ndarray, frames: np.ndarray):
        along = np.einsum("kpc,kc->kp", points[None] - centres[:, None], frames[:, 2])
        self.points = points
        self.owner = np.abs(along - np.mean(_SHARE_MM)).argmin(axis=0)
        self.outside = (along[0] < _SHARE_MM[0]) | (along[-1] > _SHARE_MM[1])
        own = points - centres[self.owner]
        self.u = np.einsum("pc,pc->p", own, frames[self.owner, 0])
        self.v = np.einsum("pc,pc->p", own, frames[self.owner, 1])


@dataclass(frozen=True)
class _Piece:
    """What leaves one vertebra on one side: all its points, those where it begins, and whether the field cuts it."""

    points: np.ndarray
    begin: np.ndarray
    cut: bool


def _pieces(shape: tuple[int, ...], index: np.ndarray, place: _Places, border: np.ndarray, side: int) -> dict[int, _Piece]:
    """Connected bone beside the column by the vertebra (position in the list) where it begins."""
    beside = side * place.u > _BEGIN_MM
    at = tuple(index[beside].T)
    mask = np.zeros(shape, dtype=bool)
    mask[at] = True
    pieces, _ = ndimage.label(mask, _EVERYWHERE)
    first = (side * place.u[beside] < _BEGIN_MM + _BEGIN_DEEP_MM) & ~place.outside[beside]
    first &= (place.v[beside] > _BEGIN_BACK_MM[0]) & (place.v[beside] < _BEGIN_BACK_MM[1])
    begins = np.zeros(shape, dtype=bool)
    begins[tuple(a[first] for a in at)] = True
    stumps, count = ndimage.label(begins, _EVERYWHERE)
    stump, owner, seeds = stumps[at], place.owner[beside], np.zeros(shape, dtype=np.int16)
    for k in range(1, count + 1):
        mine = stump == k
        if mine.sum() >= _LEAST_VOXELS:
            seeds[tuple(a[mine] for a in at)] = 1 + np.bincount(owner[mine]).argmax()
    shared = _shared(pieces, seeds)[at]
    out = {}
    for k in np.unique(shared[shared > 0]):
        mine = shared == k
        here = tuple(a[mine] for a in at)
        begin = mine & (seeds[at] == k)
        out[int(k) - 1] = _Piece(place.points[beside][mine], place.points[beside][begin], bool(border[here].any()))
    return out


def _shared(pieces: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Give every piece to the vertebra it begins at; one that begins at several is shared by the way from each."""
    owner = np.zeros_like(seeds)
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece, own = pieces[box] == number, seeds[box]
        named = np.unique(own[piece & (own > 0)])
        if len(named) == 1:
            owner[box][piece] = named[0]
        elif len(named) > 1:
            grown, free = np.where(piece, own, 0), piece & (own == 0)
            while free.any():
                reached = np.where(free, ndimage.maximum_filter(grown, size=3), 0)
                grown, free = np.where(reached > 0, reached, grown), free & (reached == 0)
            owner[box][piece] = grown[piece]
    return owner


def _measured(piece: _Piece | None, side: int, centre: np.ndarray, frame: np.ndarray, seen: float) -> Bony:
    if piece is None:
        return Bony(0.0, 0.0, 0.0, False, seen)
    away = piece.points - piece.begin.mean(axis=0)
    far = np.linalg.norm(away, axis=1)
    reach = float((side * (piece.points - centre) @ frame[0]).max())
    return Bony(float(far.max()), reach, -float(away[far.argmax(), 2]), piece.cut, seen)


def _seen(field: Field, centre: np.ndarray, frame: np.ndarray, side: int) -> float:
    """How far (mm) the field reaches beside a body, at the depth of its arch."""
    steps = np.arange(0.0, 130.0, _SPACING_MM)
    points = centre + side * steps[:, None] * frame[0] + 20.0 * frame[1]
    at = np.round(field.index_of(points)).astype(int)
    ok = np.all((at >= 0) & (at < field.inside.shape), axis=1)
    ok[ok] = field.inside[tuple(at[ok].T)]
    return float(steps[-1] if ok.all() else steps[max(0, int(np.argmin(ok)) - 1)])
