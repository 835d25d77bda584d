"""The lumbosacral junction read from the CT itself: is L5 half sacral, or S1 half lumbar?

Castellvi's transverse processes: those of a sacralised L5 are broad from head to foot and meet the sacral ala
(Spine 9:493, 1984: 19 mm; our L5 are small). O'Driscoll's disc: a lumbarised S1 has a disc of full depth between two
endplates below it (Skeletal Radiol 25:225, 1996), where one line of fusion is usual. Neither is a name: both only say
that a count up from here may be one off.
"""

import numpy as np
from scipy import ndimage

from ovcf_node.domain.volume import Volume
from ovcf_node.infer.resample import crop_grid, sample_crop

_BONE_HU = 160.0
_BESIDE_MM = range(30, 41)  # from the middle of L5, between the pedicle and the iliac crest
_LEAST_SEEN = 5  # of these millimetres
_ALONG_MM = np.arange(-45.0, 5.0, 0.5)  # below the middle of S1
_ACROSS_MM = np.arange(-8.0, 8.5, 1.0)  # front to back: more than half of the joint S1/S2
_TILTS = np.radians(np.arange(-25.0, 26.0, 5.0))
_APART = range(8, 20)  # half millimetres from endplate to endplate
_CORE = 5  # half millimetres half way between them
_JOINT = (0.43, 0.64)  # where its middle lies, from the middle of S1 to that of S2: plates and lines of S2 lie lower
_S2_MM = (20.0, 42.0)  # how far below S1 it is; what lies elsewhere is another vertebra or a piece of one
_JOINT_MM = (13.0, 29.0)  # below the middle of S1: where the joint is looked for if S2 is not seen


def process_heights(volume: Volume, centre: np.ndarray, frame: np.ndarray) -> tuple[float, float] | None:
    """Height (mm, head to foot) of L5's right and left transverse process beside the pedicle; None where not seen.

    `centre` (LPS mm) and `frame` (rows u, v, w) of L5. Bone fused with the sacral ala counts as far as it goes.
    """
    crop = sample_crop(volume, crop_grid(centre, frame, (1.0, 1.0, 1.0), (60, 42, 121), (29.5, 2.0, 60.0)))
    shadow = np.where(crop.inside, crop.hu, -1000.0).max(axis=1) > _BONE_HU
    whole = crop.inside.mean(axis=(0, 1)) > 0.9
    heights = []
    for side in (-1, 1):
        columns = [60 + side * mm for mm in _BESIDE_MM if whole[60 + side * mm]]
        if len(columns) < _LEAST_SEEN:
            return None
        heights.append(float(np.median([_run(shadow[:, c]) for c in columns])))
    return heights[0], heights[1]


def _run(column: np.ndarray) -> int:
    """Longest run of bone that passes the level of the body's middle, 8 mm below to 13 mm above."""
    runs, _ = ndimage.label(column)
    near = np.unique(runs[22:44])
    return max((int((runs == k).sum()) for k in near if k), default=0)


def disc_below(volume: Volume, centre: np.ndarray, frame: np.ndarray, below: np.ndarray | None = None) -> float:
    """How dark (HU) a disc of at least 4 mm below S1 lies between its two endplates, from front to back; 0 where none is.

    `centre` (LPS mm) and `frame` (rows u, v, w) of S1; `below` is the middle of what is seen below it, if any.
    The joint's tilt is not known: profiles along S1 are tried at several. Front, middle and back are looked at apart, for
    the usual remnant of this disc is a wedge, open on one side only.
    """
    crop = sample_crop(volume, crop_grid(centre, frame, (1.0, 1.0, 2.0), (70, 50, 7), (55.0, 24.5, 3.0)))
    picture, seen = crop.hu.mean(axis=2), crop.inside.all(axis=2).astype(np.float32)
    down = 0.0 if below is None else float((centre - below) @ frame[2])
    joint = tuple(share * down for share in _JOINT) if _S2_MM[0] < down < _S2_MM[1] else _JOINT_MM
    deepest = 0.0
    for tilt in _TILTS:
        along = 55.0 + _ALONG_MM[:, None] + np.tan(tilt) * _ACROSS_MM
        at = np.stack([along, np.broadcast_to(24.5 + _ACROSS_MM, along.shape)])
        values = ndimage.map_coordinates(picture, at, order=1, mode="nearest")
        whole = ndimage.map_coordinates(seen, at, order=1, mode="nearest").min(axis=1) > 0.99
        thirds = [_dips(third.mean(axis=1), whole, joint) for third in np.array_split(values, 3, axis=1)]
        deepest = max(deepest, float(np.min(thirds, axis=0).max()))
    return deepest


def _dips(profile: np.ndarray, whole: np.ndarray, joint: tuple[float, float]) -> np.ndarray:
    """How far a profile falls, at most, between each point (give or take 1 mm) and a point 4 to 9.5 mm above it.

    The whole core counts: a gap of 1 mm between two plates that meet is darker than a disc, and no disc.
    """
    lightest, deepest = ndimage.maximum_filter1d(profile, _CORE), np.zeros(len(profile))
    for apart in _APART:
        between = lightest[apart // 2 :][: len(profile) - apart]
        dip = np.minimum(profile[apart:], profile[:-apart]) - between
        middle = -(_ALONG_MM[apart:] + _ALONG_MM[:-apart]) / 2
        allowed = (middle > joint[0]) & (middle < joint[1]) & whole[apart:] & whole[:-apart]
        deepest[:-apart] = np.maximum(deepest[:-apart], np.where(allowed, dip, 0.0))
    return ndimage.maximum_filter1d(deepest, 5)
