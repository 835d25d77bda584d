"""A second source of shapes: the organ label maps of one real CT (folder named by the environment variable SHAPES, case
s0327 only).

`load_atlas` turns the NIfTI masks (TotalSegmentator data set, CC BY 4.0; see MANIFEST.md in that folder) into one
tissue map, one vertebra map and a body mask on a 1.5 mm grid, index (z, y, x), axes roughly head, back, left. Body and
arch are told apart by the spinal canal. No other case of that folder is opened.
"""

from __future__ import annotations

import gzip
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from .norms import LEVELS

CASE = "s0327"
STEP = 1.5

#: Tissue classes of the map; HU names of acquisition.TISSUES. Index 0 is air outside.
TISSUE_NAMES = (
    "air",
    "fat",
    "muscle",
    "lung",
    "gas",
    "artery",
    "vein",
    "blood",
    "liver",
    "spleen",
    "kidney",
    "organ",
    "stomach",
    "water",
    "stool",
    "sac",
    "disc",
    "spongy",
    "shell",
    "arch_shell",
)
_PREFIXES = {
    "autochthon": "muscle",
    "gluteus": "muscle",
    "iliopsoas": "muscle",
    "lung": "lung",
    "trachea": "gas",
    "aorta": "artery",
    "iliac_artery": "artery",
    "subclavian": "artery",
    "common_carotid": "artery",
    "brachiocephalic_trunk": "artery",
    "brachiocephalic_vein": "vein",
    "superior_vena": "vein",
    "inferior_vena": "vein",
    "iliac_vena": "vein",
    "portal": "vein",
    "pulmonary": "vein",
    "heart": "blood",
    "atrial": "blood",
    "liver": "liver",
    "spleen": "spleen",
    "kidney": "kidney",
    "stomach": "stomach",
    "urinary": "water",
    "gallbladder": "water",
    "colon": "stool",
    "duodenum": "organ",
    "small_bowel": "organ",
    "pancreas": "organ",
    "adrenal": "organ",
    "esophagus": "muscle",
    "prostate": "organ",
    "thyroid": "organ",
    "brain": "organ",
    "costal": "muscle",
}
_BONES = ("rib_", "hip_", "femur_", "scapula_", "clavicula_", "humerus_", "sternum", "skull", "vertebrae_C")


@dataclass(frozen=True)
class Atlas:
    """Maps on a 1.5 mm grid; `levels` (index into LEVELS + 1) is 0 off the T1-S5 spine; centres in mm = index * STEP,
    order (z, y, x).
    """

    tissue: np.ndarray
    levels: np.ndarray
    body: np.ndarray
    centres: dict[str, tuple[float, float, float]]


def shapes_folder() -> Path | None:
    """Folder named by SHAPES that holds masks/s0327, or None."""
    value = os.environ.get("SHAPES")
    folder = Path(value) if value else None
    return folder if folder and (folder / "masks" / CASE).is_dir() else None


def read_nifti(path: Path) -> np.ndarray:
    """Voxels of a single-file NIfTI-1 label map as (z, y, x) with axes head, back, left (header axes must be near R, A,
    S).
    """
    raw = gzip.decompress(path.read_bytes())
    dims = struct.unpack("<8h", raw[40:56])
    kind = {2: np.uint8, 4: np.int16, 512: np.uint16, 8: np.int32}[struct.unpack("<h", raw[70:72])[0]]
    offset = int(struct.unpack("<f", raw[108:112])[0])
    rows = np.frombuffer(raw[280:328], "<f4").reshape(3, 4)
    if not (np.diag(rows[:, :3]) > 0.9 * np.abs(rows[:, :3]).sum(axis=1) - 0.3).all():
        raise ValueError(f"{path.name}: axes are not right, anterior, superior")
    volume = np.frombuffer(raw[offset:], kind)[: int(np.prod(dims[1:4]))].reshape(dims[1:4], order="F")
    return np.ascontiguousarray(volume.transpose(2, 1, 0)[:, ::-1, ::-1])


@lru_cache(maxsize=1)
def load_atlas(folder: Path) -> Atlas:
    """Build the atlas (half a minute); kept for the life of the process."""
    masks = folder / "masks"
    spine = read_nifti(masks / f"{CASE}_spine_combined.nii.gz")
    tissue = np.zeros(spine.shape, np.uint8)
    bone = spine > 0
    anything = bone.copy()
    for path in sorted((masks / CASE).glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        kind = next((t for prefix, t in _PREFIXES.items() if name.startswith(prefix)), None)
        hard = name.startswith(_BONES)
        if kind is None and not hard:
            continue
        mask = read_nifti(path) > 0
        anything |= mask
        if hard:
            bone |= mask
        else:
            tissue[mask] = TISSUE_NAMES.index(kind)
    cord = read_nifti(masks / CASE / "spinal_cord.nii.gz") > 0
    hull = _hull(anything)
    tissue[(tissue == 0) & hull] = TISSUE_NAMES.index("fat")
    levels = _levels(spine)
    canal = canal_line(spine, cord)
    body, sac = split_bodies(levels, canal)
    tissue[sac & ~bone] = TISSUE_NAMES.index("sac")
    box = ndimage.find_objects(body.astype(np.uint8))[0]  # closing adds nothing outside of it
    discs = ndimage.binary_closing(np.pad(body[box], 6), ball(5))[6:-6, 6:-6, 6:-6] & ~bone[box] & ~sac[box]
    tissue[box][discs] = TISSUE_NAMES.index("disc")
    inner = ndimage.binary_erosion(bone, ball(1))
    tissue[bone] = TISSUE_NAMES.index("arch_shell")
    tissue[body] = TISSUE_NAMES.index("shell")
    tissue[inner] = TISSUE_NAMES.index("spongy")
    boxes = ndimage.find_objects(levels)
    for k in np.unique(levels)[1:]:  # neighbouring bodies that touch keep their endplates
        own = levels == k
        box = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in boxes[k - 1])
        edge = own[box] & body[box] & ~ndimage.binary_erosion(own[box], ball(1))
        tissue[box][edge] = TISSUE_NAMES.index("shell")
    return Atlas(tissue, levels, body, centres_of(levels, body))


def ball(radius: int) -> np.ndarray:
    grid = np.indices((2 * radius + 1,) * 3) - radius
    return (grid**2).sum(0) <= radius**2 + 0.5


def _hull(mask: np.ndarray) -> np.ndarray:
    """Body outline: each slice's labels, closed, filled and grown by a layer of subcutaneous fat (there is no skin mask)."""
    out = np.zeros_like(mask)
    disk = ball(6)[6]
    for k, plane in enumerate(mask):
        if plane.any():
            closed = ndimage.binary_closing(np.pad(plane, 14), disk, iterations=2)
            out[k] = ndimage.binary_dilation(ndimage.binary_fill_holes(closed), disk, iterations=2)[14:-14, 14:-14]
    return ndimage.uniform_filter1d(out.astype(np.float32), 9, axis=0) > 0.5


def _levels(spine: np.ndarray) -> np.ndarray:
    """spine_combined codes (25 sacrum, 26 S1, 27 L5 ... 31 L1, 32 T12 ... 43 T1) to LEVELS index + 1; the sacrum below
    S1 is cut into S2-S5 by height.
    """
    out = np.zeros(spine.shape, np.uint8)
    for code in range(26, 44):
        out[spine == code] = LEVELS.index("S1") + 1 - (code - 26)
    rest = spine == 25
    z = np.nonzero(rest.any(axis=(1, 2)))[0]
    cuts = z[0] + (z[-1] - z[0] + 1) * np.array([0, 0.2, 0.42, 0.68, 1.0])
    for k in range(4):
        slab = slice(int(cuts[k]), int(np.ceil(cuts[k + 1])))
        out[slab][rest[slab]] = LEVELS.index("S5") + 1 - k
    return out


def canal_line(spine: np.ndarray, cord: np.ndarray) -> np.ndarray:
    """Centre line of the canal, row per slice z: (y, x) in voxels; from the cord mask and from holes of the vertebral
    ring below it.
    """
    zs, points = [], []
    for k in range(spine.shape[0]):
        hole = cord[k]
        if not hole.any():
            filled = ndimage.binary_fill_holes(ndimage.binary_closing(spine[k] > 0, iterations=2)) & ~(spine[k] > 0)
            parts, count = ndimage.label(filled)
            sizes = ndimage.sum(filled, parts, range(1, count + 1)) if count else []
            if count == 0 or not 25 <= max(sizes) <= 400:
                continue
            hole = parts == int(np.argmax(sizes)) + 1
        zs.append(k)
        points.append(ndimage.center_of_mass(hole))
    z = np.arange(spine.shape[0])
    line = np.stack([np.interp(z, zs, np.asarray(points)[:, axis]) for axis in (0, 1)], axis=1)
    return ndimage.gaussian_filter1d(line, 6, axis=0, mode="nearest")


def split_bodies(levels: np.ndarray, canal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bodies (what lies in front of the canal and near the midline) and the thecal sac (a tube of 7 mm along the canal)."""
    depth, height, width = levels.shape
    slope = np.gradient(canal[:, 0])
    y, x = np.mgrid[:height, :width].astype(np.float32)
    body, sac = np.zeros(levels.shape, bool), np.zeros(levels.shape, bool)
    sacral = np.nonzero((levels == LEVELS.index("S2") + 1).any(axis=(1, 2)))[0]
    lowest = int(sacral[0]) if len(sacral) else 0
    for k in range(depth):
        plane = levels[k]
        # Distance in front of the canal, measured across its own direction: the sacral canal is steep.
        lean = float(np.clip(1 / np.hypot(1, slope[k]), 0.5, 1))
        front = (canal[k, 0] - y) * lean * STEP
        side = np.abs(x - canal[k, 1]) * STEP
        if k >= lowest:
            sac[k] = np.hypot(front / 7.0, side / 9.0) < 1
        # Below S2 the canal is no guide any more: the middle of the sacrum counts as body.
        body[k] = np.where(plane > LEVELS.index("S2") + 1, side < 14, (plane > 0) & (front > 6.5) & (side < 30))
    boxes = ndimage.find_objects(levels)
    for number in np.unique(levels)[1:]:  # keep one solid piece per level
        box = boxes[number - 1]
        own = body[box] & (levels[box] == number)
        opened = ndimage.binary_opening(own, ball(2))
        parts, count = ndimage.label(opened)
        if count:
            keep = parts == 1 + int(np.argmax(ndimage.sum(opened, parts, range(1, count + 1))))
            body[box][own] = (ndimage.binary_dilation(keep, ball(2)) & own)[own]
    return body, sac


def centres_of(levels: np.ndarray, body: np.ndarray) -> dict[str, tuple[float, float, float]]:
    numbers = [int(n) for n in np.unique(levels)[1:]]
    found = ndimage.center_of_mass(body, np.where(body, levels, 0), numbers)
    return {
        LEVELS[n - 1]: tuple(float(c) * STEP for c in point)
        for n, point in zip(numbers, found, strict=False)
        if np.isfinite(point).all()
    }
