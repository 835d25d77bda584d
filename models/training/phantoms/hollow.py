"""The background that analytic spines are pasted into (pasted.py): the organ label map of one real CT (atlas.py: case s0327
of the TotalSegmentator data set, CC BY 4.0) without its spine.

What the masks leave out is added by rule: a closed outline with fat under the skin, a muscular wall, the lobe of a lung
without a mask, and the necks of the ribs. Grid and axes as in atlas.py, with a margin (PAD).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from .atlas import CASE, STEP, TISSUE_NAMES, Atlas, ball, load_atlas, read_nifti

#: Voxels added around the map, (z, y, x): its ends are continued, since it stops 20 mm above T1; air at the sides.
PAD = ((60, 60), (12, 16), (12, 12))
#: Gaps up to twice this (mm) between labelled tissues are inside of the body; the skin lies COVER_MM outside of them.
CLOSING_MM, COVER_MM = 60.0, 20.0
#: Folds of the skin narrower than twice this (mm) are cut off.
OPENING_MM = 45.0
#: Depth (mm) of the muscular wall of the trunk, which no mask shows.
WALL_MM = (11.0, 22.0)
#: Radius (mm) of the necks of the ribs.
NECK_MM = 4.5


@lru_cache(maxsize=1)
def load_background(folder: Path) -> Atlas:
    """The map without its spine, with a closed outline and a wall of muscle (five seconds more than the map); kept for the
    life of the process. `levels` and `body` are empty.
    """
    atlas = load_atlas(folder)
    number = {name: np.uint8(k) for k, name in enumerate(TISSUE_NAMES)}
    # The outermost slices are all shell, cut as they are: they are left out and the ones beside them continued.
    ends = (PAD[0][0] + 1, PAD[0][1] + 1)
    tissue = np.pad(np.pad(atlas.tissue[1:-1], (ends, (0, 0), (0, 0)), mode="edge"), ((0, 0), PAD[1], PAD[2]))
    above = tissue[-PAD[0][1] :]
    above[np.isin(above, [number["spongy"], number["arch_shell"]])] = number["muscle"]
    spine = np.pad(atlas.levels > 0, PAD) | np.isin(tissue, [number["disc"], number["sac"]])
    depth = _depth((tissue != number["air"]) & (tissue != number["fat"]))
    empty = tissue == number["air"]
    tissue[empty & (depth > 0)] = number["fat"]
    _lost_lung(tissue, empty, depth, atlas, number)
    tissue[depth <= 0] = number["air"]
    wall = (depth > WALL_MM[0]) & (depth < WALL_MM[1]) & (tissue == number["fat"])
    tissue[wall] = number["muscle"]
    _fill(tissue, spine, _behind(tissue.shape, atlas), number)
    _necks(tissue, Path(folder) / "masks" / CASE, atlas, number)
    offset = np.array([before for before, _ in PAD]) * STEP
    centres = {name: tuple(map(float, np.asarray(c) + offset)) for name, c in atlas.centres.items()}
    nothing = np.zeros((0, 0, 0), np.uint8)
    return Atlas(tissue, nothing, nothing.astype(bool), centres)


def _depth(labelled: np.ndarray) -> np.ndarray:
    """Depth (mm) below the skin, OPENING_MM at most, negative outside, from 4.5 mm voxels: the labelled tissues
    closed, covered and opened (an arm beside the chest would pull it out to a crest).
    """
    step = 3 * STEP
    coarse = labelled[::3, ::3, ::3]
    wide = int(np.ceil((CLOSING_MM + COVER_MM) / step)) + 2
    # The ends of the map are no surface of the body: they go on, the sides are air.
    body = np.pad(np.pad(coarse, ((wide, wide), (0, 0), (0, 0)), mode="edge"), ((0, 0), (wide, wide), (wide, wide)))
    body = ndimage.distance_transform_edt(~body, sampling=step) < CLOSING_MM + COVER_MM
    core = ndimage.distance_transform_edt(body, sampling=step) > CLOSING_MM + OPENING_MM
    outside = ndimage.distance_transform_edt(~core, sampling=step)[wide:-wide, wide:-wide, wide:-wide]
    depth = ndimage.gaussian_filter((OPENING_MM - outside).astype(np.float32), 1.3)
    for axis, count in enumerate(labelled.shape):  # linear between them
        at = np.minimum(np.arange(count) / 3, depth.shape[axis] - 1.001)
        low = at.astype(int)
        share = (at - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        depth = depth.take(low, axis) * (1 - share) + depth.take(low + 1, axis) * share
    return depth


def _behind(shape: tuple[int, int, int], atlas: Atlas) -> np.ndarray:
    """First row y of each slice (z, 1, 1) that lies behind the spinal canal: 26 mm behind the centres of the bodies."""
    z, y = np.array(sorted(c[:2] for c in atlas.centres.values())).T / STEP
    return (np.interp(np.arange(shape[0]) - PAD[0][0], z, y) + PAD[1][0] + 26 / STEP)[:, None, None]


def _fill(tissue: np.ndarray, spine: np.ndarray, behind: np.ndarray, number: dict[str, np.uint8]) -> None:
    """What was spine becomes the nearest fat or muscle; behind the canal, where muscle lies on the arches, muscle."""
    box = ndimage.find_objects(spine.astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - 20), s.stop + 20) for s in box)
    part, hole = tissue[box], spine[box]
    dorsal = np.arange(tissue.shape[1])[None, box[1], None] > behind[box[0]]
    # Unlabelled gaps beside the arches would draw their outline.
    hole = hole | (ndimage.binary_dilation(hole, ball(3)) & (part == number["fat"]) & dorsal)
    for where, kinds in ((hole & ~dorsal, ("fat", "muscle")), (hole & dorsal, ("muscle",))):
        source = np.isin(part, [number[kind] for kind in kinds]) & ~hole
        at = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
        part[where] = part[tuple(at)][where]


def _lost_lung(tissue: np.ndarray, empty: np.ndarray, depth: np.ndarray, atlas: Atlas, number: dict[str, np.uint8]) -> None:
    """The largest unlabelled hollow of the chest, T4 to T12, and the fat that atlas.py put around it: the lobe for which
    the case has no mask.
    """
    low, high = (int(atlas.centres[name][0] / STEP) + PAD[0][0] for name in ("T12", "T4"))
    chest = tissue[low:high]
    parts, count = ndimage.label(ndimage.binary_opening(empty[low:high] & (depth[low:high] > 30), ball(2)))
    if not count:
        return
    lobe = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    box = tuple(slice(max(0, s.start - 24), s.stop + 24) for s in ndimage.find_objects(lobe.astype(np.uint8))[0])
    chest, lobe, deep = chest[box], lobe[box], depth[low:high][box] > 24
    lung = ndimage.binary_dilation(lobe, ball(3), iterations=4) | (chest == number["lung"])
    lung = ndimage.binary_closing(lung, ball(3), iterations=2)  # a fissure, not a layer of fat
    chest[lung & (chest == number["fat"]) & deep] = number["lung"]


def _necks(tissue: np.ndarray, folder: Path, atlas: Atlas, number: dict[str, np.uint8]) -> None:
    """Head and neck of every rib: the masks begin at the tips of the transverse processes. A rod from the end of the mask
    to the upper back corner of the vertebra's body.
    """
    for path in sorted(folder.glob("rib_*.nii.gz")):
        side, k = path.name.removesuffix(".nii.gz").split("_")[1:]
        own = np.array(atlas.centres[f"T{k}"])
        above = np.array(atlas.centres[f"T{max(1, int(k) - 1)}"])
        head = own + 0.3 * (above - own) + np.array([0.0, 8.0, 13.0 if side == "left" else -13.0])
        rib = np.argwhere(read_nifti(path) > 0) * STEP
        end = rib[np.argmin(((rib - head) ** 2).sum(1))]
        end += (end - head) / np.linalg.norm(end - head) * 3.0  # into the rib
        pad = np.array([before for before, _ in PAD]) * STEP
        head, end = head + pad, end + pad
        low = np.floor((np.minimum(head, end) - 8) / STEP).astype(int)
        high = np.ceil((np.maximum(head, end) + 8) / STEP).astype(int)
        points = np.moveaxis(np.indices(high - low), 0, -1) * STEP + low * STEP - head
        along = np.clip(points @ (end - head) / ((end - head) @ (end - head)), 0, 1)
        away = np.linalg.norm(points - along[..., None] * (end - head), axis=-1)
        part = tissue[tuple(slice(i, j) for i, j in zip(low, high, strict=True))]
        part[(away < NECK_MM) & (part != number["spongy"])] = number["arch_shell"]
        part[away < NECK_MM - STEP] = number["spongy"]
