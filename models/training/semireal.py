"""Semi-real test series from real label maps: for tests only, nothing made here may be trained on or committed.

``python models/training/semireal.py --data FOLDER --out COHORT`` writes three cases into a cohort folder for
``ovcf-node models evaluate BUNDLE COHORT``: s0328 (real bone HU, true names, no fracture), healthivert_0007 and malekosh
(real biconcave fractures of L1 and L2; one patient; names uncertain, for there is neither sacrum nor ribs). FOLDER is the
data folder of the tests (`OVCF_TEST_DATA`); its MANIFEST names the sources and licences.
"""

from __future__ import annotations

import argparse
import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from scipy import ndimage

from casefolder import REPORTED, axial, write_case

VERSE = {19: "T12", 20: "L1", 21: "L2", 22: "L3", 23: "L4", 24: "L5"}
S0328 = {32: "T12", 31: "L1", 30: "L2", 29: "L3", 28: "L4", 27: "L5", 26: "S1"}
ORGAN_HU = {
    "autochthon": 42, "iliopsoas": 52, "gluteus": 48, "aorta": 44, "iliac": 42, "inferior_vena_cava": 40, "kidney": 33,
    "liver": 58, "spleen": 50, "pancreas": 40, "stomach": 20, "duodenum": 30, "small_bowel": 30, "colon": 5,
    "gallbladder": 12, "adrenal": 30, "urinary_bladder": 8, "prostate": 40, "spinal_cord": 28, "heart": 45,
    "esophagus": 35, "lung": -850, "portal": 42, "costal_cartilages": 110, "pulmonary_vein": 42, "atrial": 44,
}
BONES = ("hip", "femur", "rib", "sacrum", "vertebrae", "sternum", "scapula", "humerus", "clavicula")


def nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) of a single-file NIfTI-1 with sform, and its affine to RAS mm."""
    raw = gzip.decompress(path.read_bytes())
    dims = struct.unpack("<8h", raw[40:56])
    kind = {2: np.uint8, 4: np.int16, 512: np.uint16, 8: np.int32}[struct.unpack("<h", raw[70:72])[0]]
    offset = int(struct.unpack("<f", raw[108:112])[0])
    affine = np.eye(4)
    affine[:3] = np.frombuffer(raw[280:328], "<f4").reshape(3, 4)
    count = int(np.prod(dims[1:4]))
    return np.frombuffer(raw, kind, count, offset).reshape(dims[1:4], order="F"), affine


def nrrd(path: Path) -> np.ndarray:
    """Voxels (i, j, k) of a gzip NRRD of shorts."""
    raw = path.read_bytes()
    header, _, body = raw.partition(b"\n\n")
    sizes = next(line for line in header.decode().splitlines() if line.startswith("sizes:"))
    return np.frombuffer(zlib.decompress(body, 31), np.int16).reshape([int(n) for n in sizes.split()[1:]], order="F")


def upright(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """A volume on RAS-aligned axes (in any order and sign) as (z, y, x) towards head, back, left; LPS of its first voxel."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    order = [int(np.abs(lps[axis, :3]).argmax()) for axis in (2, 1, 0)]
    signs = [np.sign(lps[axis, k]) for axis, k in zip((2, 1, 0), order, strict=True)]
    first = np.zeros(3)
    for k, sign in zip(order, signs, strict=True):
        first[k] = 0 if sign > 0 else volume.shape[k] - 1
    low = lps[:3, :3] @ first + lps[:3, 3]
    spacing = tuple(float(np.linalg.norm(lps[:3, k])) for k in order)
    out = volume.transpose(order)
    flip = tuple(slice(None) if s > 0 else slice(None, None, -1) for s in signs)
    return np.ascontiguousarray(out[flip]), low, spacing


def grain(rng: np.random.Generator, shape, sigma) -> np.ndarray:
    """Filtered noise of unit standard deviation."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return noise / noise.std()


def body_centre(labels: np.ndarray, number: int, spacing) -> np.ndarray | None:
    """Centroid (z, y, x mm) of the body of one label: what survives opening by 5 mm, largest piece (arches are thinner)."""
    box = ndimage.find_objects((labels == number).astype(np.uint8))[0]
    mask = labels[box] == number
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    pieces, count = ndimage.label(depth > 5.0)
    if not count:
        return None
    core = pieces == 1 + int(np.argmax(ndimage.sum_labels(depth > 5.0, pieces, range(1, count + 1))))
    body = mask & (ndimage.distance_transform_edt(~core, sampling=spacing) < 5.5)
    return (np.argwhere(body).mean(0) + [s.start for s in box]) * spacing


def vertebra_truth(labels, names: dict[int, str], low, spacing, broken: tuple[str, ...]) -> list[dict]:
    out = []
    for number, level in names.items():
        z, y, x = body_centre(labels, number, spacing)
        out.append({
            "level": level, "centre_mm": [round(float(c), 2) for c in (low[0] + x, low[1] + y, low[2] + z)],
            "fracture": level in broken, "denis": None, "old_deformity": None, "mimic": None,
        })
    return out


def renumbered(labels: np.ndarray, names: dict[int, str]) -> np.ndarray:
    out = np.zeros(labels.shape, np.uint8)
    for number, level in names.items():
        out[labels == number] = 1 + REPORTED.index(level)
    return out


def s0328(data: Path, out: Path) -> Path:
    """Real HU where bone is dense; organs by mask; trabecular bone about 150 HU; cortex closed where it was too thin."""
    rng = np.random.default_rng(328)
    masks = data / "masks"
    labels, affine = nifti(masks / "s0328_spine_combined.nii.gz")
    labels, low, spacing = upright(labels, affine)
    real = upright(nrrd(masks / "ct328_bone.nrrd"), affine)[0].astype(np.float32)  # same grid, by its header
    hu = np.full(labels.shape, -1000.0, np.float32)
    filled, bone = np.zeros(labels.shape, bool), labels > 0
    organs = []
    for path in sorted((masks / "s0328").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        mask = upright(*nifti(path))[0] > 0
        if not mask.any():
            continue
        filled |= mask
        if name.startswith(BONES):
            bone |= mask
        else:
            organs.append((next((v for k, v in ORGAN_HU.items() if name.startswith(k)), 40), mask))
    inner = ndimage.binary_closing(filled[::2, ::2, ::2], iterations=10)
    inner = np.stack([ndimage.binary_fill_holes(s) for s in inner])
    away = ndimage.distance_transform_edt(~inner, sampling=[2 * s for s in spacing])
    torso = ndimage.zoom(away, [n / m for n, m in zip(hu.shape, away.shape, strict=True)], order=1)
    blotch = grain(rng, hu.shape, 3.0)
    hu[torso < 24] = -105.0
    hu[(torso < 24) & (torso > 21.5)] = 10.0
    hu[(torso < 6) & (torso > 0.5)] = 45.0  # the wall of the trunk, which no mask shows
    hu[torso <= 0.5] = np.where(blotch[torso <= 0.5] > 0.5, 35.0, -95.0)
    for value, mask in organs:
        hu[mask] = value
    lung = hu < -800
    depth = ndimage.distance_transform_edt(bone, sampling=spacing)
    spongy = 148 + 26 * grain(rng, hu.shape, [1.0, 0.7, 0.7])
    near = ndimage.gaussian_filter((real >= 200).astype(np.float32), 0.8)
    spongy = np.where(depth < 2.0, np.maximum(spongy, 185.0), spongy) + 45 * near  # partial volume beside dense bone
    hu = np.where(bone, np.minimum(spongy, 199.0), hu)
    hu = np.where((real >= 200), real, hu)
    hu = ndimage.gaussian_filter(hu, 0.35) + np.where(lung, 20, 9) * grain(rng, hu.shape, 0.6)
    truth = {
        "cohort": "semireal", "variant": "none", "named": True, "complete": True, "facts": {"source": "s0328"},
        "vertebrae": vertebra_truth(labels, S0328, low, spacing, ()),
    }
    return write_case(out / "s0328", hu, axial(low, spacing, hu.shape), renumbered(labels, S0328), truth, seed=328,
                      thickness=1.5)


def mask_to_ct(labels: np.ndarray, spacing, seed: int, trabecular: float) -> np.ndarray:
    """A CT from a vertebra label map alone: thin cortex, trabeculae, discs, canal, muscles, fat, aorta."""
    rng = np.random.default_rng(seed)
    shape = labels.shape
    bone = labels > 0
    signed = ndimage.distance_transform_edt(~bone, sampling=spacing) - ndimage.distance_transform_edt(bone, sampling=spacing)
    gap = ndimage.distance_transform_edt(~ndimage.binary_erosion(bone), sampling=spacing)
    blotch = grain(rng, shape, [6, 6, 6])
    z, y, x = (np.arange(n) * s for n, s in zip(shape, spacing, strict=True))
    centres = (body_centre(labels, int(n), spacing) for n in np.unique(labels)[1:])
    cores = np.array(sorted(tuple(c) for c in centres if c is not None))
    cy, cx = (np.interp(z, cores[:, 0], cores[:, k])[:, None, None] for k in (1, 2))
    dy, dx = y[None, :, None] - cy, x[None, None, :] - cx
    hu = np.full(shape, -102.0, np.float32)
    muscle = 48 - np.clip(blotch, 0, 2) * 35
    for side in (-1, 1):
        psoas = ((dx - side * 39) / 19) ** 2 + ((dy - 2) / 20) ** 2 < 1
        back = ((dx - side * 27) / 25) ** 2 + ((dy - 50) / 22) ** 2 < 1
        hu = np.where(psoas | back, muscle, hu)
    front = (dy < -26 - 8 * blotch + 0.3 * np.abs(dx)) & (blotch > -0.2)
    hu = np.where(front, 32 + 6 * blotch, hu)
    hu = np.where(np.hypot(dx - 9, dy + 31) < 10, 42, hu)
    hu = np.where(np.hypot((dx + 15) / 1.15, dy + 28) < 10, 40, hu)
    between = ((z > cores[0, 0]) & (z < cores[-1, 0]))[:, None, None]
    disc = between & ~bone & (np.hypot(dx / 22, dy / 17) < 1)
    hu = np.where(disc, 80 + 8 * blotch, hu)
    canal = (np.hypot(dx / 11, (dy - 27) / 8.5) < 1) & ~bone
    hu = np.where(canal, np.where(np.hypot(dx / 8.5, (dy - 27) / 6.5) < 1, 24, -60), hu)
    trabecular = trabecular + 26 * grain(rng, shape, [1.1, 0.6, 0.6])
    inside = np.clip(0.5 - signed / 1.2, 0, 1)
    hu = hu * (1 - inside) + trabecular * inside
    hu = hu + np.clip(620 - hu, 0, None) * 0.75 * np.exp(-(((signed + 0.5) / 0.75) ** 2)) * (gap < 4)
    hu = ndimage.gaussian_filter(hu, [0.4 / s for s in spacing])
    return (hu + 14 * grain(rng, shape, [0.4, 0.7, 0.7])).astype(np.float32)


def healthivert(data: Path, out: Path) -> Path:
    """healthivert_0007: T10 to L5 at 1 mm, fractures of L1 and L2."""
    labels, low, spacing = upright(*nifti(data / "masks" / "healthivert_0007_msk.nii.gz"))
    return _masks_case(out / "healthivert_0007", labels, low, spacing, 7, 105.0)


def malekosh(data: Path, out: Path) -> Path:
    """malekosh: sagittal slices of 3 mm; shapes interpolated to 1 mm axial slices by signed distance; T9 to L5 kept."""
    labels, _ = nifti(data / "masks" / "malekosh_sub-sample001_seg-vert_msk.nii.gz")
    _, affine = nifti(data / "masks" / "malekosh_sub-sample001_seg-subreg_msk.nii.gz")  # the first has no sform
    affine = np.where(np.abs(affine) < 0.1, 0.0, affine)  # 2 degrees of tilt between the axes left out
    affine[3, 3] = 1.0
    thick, low, spacing = upright(labels, affine)
    found = np.argwhere(thick >= 16)
    margin = (np.array([12, 40, 60]) / spacing).astype(int)
    a, b = np.maximum(found.min(0) - margin, 0), np.minimum(found.max(0) + margin, thick.shape)
    thick = thick[tuple(slice(i, j) for i, j in zip(a, b, strict=True))]
    low = low + np.array([a[2] * spacing[2], a[1] * spacing[1], a[0] * spacing[0]])
    target = (1.0, 0.9, 0.9)
    pad = int(np.ceil(26 / spacing[2]))
    thick = np.pad(thick, ((0, 0), (0, 0), (pad, pad)))
    low[0] -= pad * spacing[2]
    count = [int(n * s / t) for n, s, t in zip(thick.shape, spacing, target, strict=True)]
    at = np.meshgrid(*(np.arange(n) * t / s for n, t, s in zip(count, target, spacing, strict=True)), indexing="ij")
    best, fine = np.full(count, 0.0, np.float32), np.zeros(count, np.uint8)
    for number in np.unique(thick[thick >= 16]):
        mask = thick == number
        inside, outside = (ndimage.distance_transform_edt(m, sampling=spacing) for m in (mask, ~mask))
        depth = ndimage.map_coordinates((inside - outside).astype(np.float32), at, order=1)
        fine = np.where(depth > best, number, fine)
        best = np.maximum(best, depth)
    return _masks_case(out / "malekosh", fine.astype(np.uint8), low, target, 70, 110.0)


def _masks_case(folder: Path, labels, low, spacing, seed: int, trabecular: float) -> Path:
    truth = {
        "cohort": "semireal", "variant": "none", "named": False, "complete": False, "facts": {"source": folder.name},
        "vertebrae": vertebra_truth(labels, VERSE, low, spacing, ("L1", "L2")),
    }
    hu = mask_to_ct(labels, spacing, seed, trabecular)
    return write_case(folder, hu, axial(low, spacing, hu.shape), renumbered(labels, VERSE), truth, seed=seed,
                      thickness=float(spacing[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OVCF_TEST_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    for make in (s0328, healthivert, malekosh):
        print(make(a.data, a.out), flush=True)


if __name__ == "__main__":
    main()
