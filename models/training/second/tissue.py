"""Everything that is not bone or disc, painted at 3 mm and enlarged: skin, fat, muscles, organs, vessels, bowel, lung."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from .anatomy import Patient

COARSE = 3.0
CONTRAST = {
    "none": dict(aorta=0, vein=0, kidney=0, liver=0, spleen=0, bowel=0, muscle=0),
    "arterial": dict(aorta=250, vein=25, kidney=120, liver=12, spleen=75, bowel=0, muscle=3),
    "venous": dict(aorta=115, vein=110, kidney=145, liver=50, spleen=70, bowel=10, muscle=8),
    "oral": dict(aorta=0, vein=0, kidney=0, liver=0, spleen=0, bowel=260, muscle=0),
}


def soft(patient: Patient, low: np.ndarray, shape: tuple[int, int, int], spacing: tuple[float, float, float],
         contrast: str) -> np.ndarray:
    """HU float32 on a grid whose voxel (0, 0, 0) lies at `low` (LPS mm); axes z, y, x with `spacing` in that order."""
    extent = np.array(shape) * np.array(spacing)
    count = tuple(int(np.ceil(e / COARSE)) + 2 for e in extent)
    rng = np.random.default_rng([patient.seed, 30])
    z, y, x = (low[2 - i] + COARSE * np.arange(count[i]) for i in range(3))
    hu = gaussian_filter(_paint(patient, rng, z[:, None, None], y[None, :, None], x[None, None, :], contrast), 0.45)
    at = [np.arange(n) * s / COARSE for n, s in zip(shape, spacing, strict=True)]
    return _enlarge(hu, at)


def _enlarge(hu: np.ndarray, at: list[np.ndarray]) -> np.ndarray:
    """Separable linear interpolation."""
    for axis, places in enumerate(at):
        base = np.clip(places.astype(int), 0, hu.shape[axis] - 2)
        share = (places - base).astype(np.float32)
        share = share.reshape([-1 if a == axis else 1 for a in range(3)])
        hu = np.take(hu, base, axis) * (1 - share) + np.take(hu, base + 1, axis) * share
    return hu


def _texture(rng, size: float) -> np.ndarray:
    """A repeatable random field of 64^3 nodes, unit standard deviation; sampled in patient space."""
    noise = gaussian_filter(rng.standard_normal((64, 64, 64)), size, mode="wrap")
    return (noise / noise.std()).astype(np.float32)


def _sample(noise: np.ndarray, x, y, z, millimetres: float) -> np.ndarray:
    x, y, z = np.broadcast_arrays(x, y, z)
    return map_coordinates(noise, [z / millimetres, y / millimetres, x / millimetres], order=1, mode="grid-wrap")


def _paint(patient: Patient, rng, z, y, x, contrast: str) -> np.ndarray:
    gain, k = CONTRAST[contrast], patient.scale
    chain = [v for v in patient.vertebrae][::-1]
    heights = np.array([v.origin[2] for v in chain])
    spine_x = np.interp(z, heights, [v.origin[0] for v in chain])
    spine_y = np.interp(z, heights, [v.origin[1] for v in chain])
    half_w = np.interp(z, heights, [v.shell.outline.width / 2 for v in chain])
    half_d = np.interp(z, heights, [v.shell.outline.depth / 2 for v in chain])
    top = {v.level: v.origin[2] for v in chain}
    broad = np.interp(z, [top["S4"], top["S1"], top["L3"], top["T12"], top["T8"], top["T2"]], [172, 168, 142, 148, 152, 150])
    deep = np.interp(z, [top["S4"], top["S1"], top["L3"], top["T12"], top["T8"], top["T2"]], [112, 104, 98, 104, 108, 82])
    broad, deep = broad * k * 0.92 + patient.fat, deep * k * 0.92 + 0.8 * patient.fat
    back = np.median(spine_y[(z > top["S1"])[:, 0, 0]] if (z > top["S1"]).any() else spine_y) + (17 + 52 * k)
    middle_y = back + 0.35 * patient.fat - deep
    dx, dy = x, y - middle_y
    phi = np.arctan2(dx, -dy)
    outline = 1 / np.sqrt((np.sin(phi) / broad) ** 2 + (np.cos(phi) / deep) ** 2)
    outline = outline * (1 + 0.05 * np.sin(phi) ** 4 - 0.05 * np.exp(-(((np.pi - np.abs(phi)) / 0.12) ** 2)))
    depth = (outline - np.hypot(dx, dy)).astype(np.float32)
    grain, blobs = _texture(rng, 1.0), _texture(rng, 2.2)
    fine, big = _sample(grain, x, y, z, 3.3), _sample(blobs, x, y, z, 7.0)
    hu = np.where(depth > 0, -102 + 9 * fine, -1000).astype(np.float32)
    hu = np.where((depth > 0) & (depth < 2.5), 10, hu)
    skin = patient.fat * (0.8 + 0.1 * big)
    inner = depth - skin
    muscle = rng.uniform(38, 60) + gain["muscle"]
    marbled = muscle - np.clip(fine * 1.0 + rng.uniform(-0.8, 0.8), 0, 2) * rng.uniform(15, 55)
    hu = np.where((inner > 0) & (inner < 13), marbled, hu)
    cavity = inner >= 13
    hu = np.where(cavity, -98 + 8 * fine, hu)
    dome = top["T10"] + 22 * k + 16 * np.cos(dx / (45 * k)) + 6 * big
    behind = spine_y - half_d - 12 - 10 * big + np.clip(np.abs(x - spine_x) - 40, 0, 50) * 0.8
    bowel = cavity & (y < behind) & (z < top["L1"] + 10)
    loop = big + 0.4 * fine
    hu = np.where(bowel & (loop > -0.1), 30 + gain["bowel"] * (loop > 0.5) + 6 * fine, hu)
    hu = np.where(bowel & (loop > 1.15), -940, hu)
    hu = np.where(bowel & (loop < -1.3), 25 + 110 * np.abs(fine) - 90, hu)
    for name, side, at, axes in (
        ("liver", -1, "T12", (78, 78, 78)), ("spleen", 1, "T12", (38, 44, 46)), ("kidney", -1, "L2", (27, 26, 54)),
        ("kidney", 1, "L1", (27, 26, 54)),
    ):
        centre_x = side * {"liver": 62, "spleen": 96, "kidney": 66}[name] * k
        centre_y = middle_y + {"liver": -10, "spleen": 34, "kidney": 0}[name] * k
        if name == "kidney":
            centre_y = float(np.interp(top[at], heights, [v.origin[1] for v in chain])) + 12 * k
        q = ((x - centre_x) / axes[0]) ** 2 + ((y - centre_y) / axes[1]) ** 2 + ((z - top[at] + 8) / axes[2]) ** 2
        held = cavity & (q / k**2 + 0.12 * big < 1)
        base = {"liver": 56, "spleen": 48, "kidney": 33}[name] + gain[name] + rng.uniform(-6, 6)
        hu = np.where(held, base + 5 * fine, hu)
        if name == "kidney":
            hu = np.where(held & (q / k**2 < 0.22), -60 + 20 * fine, hu)
    chest = (inner >= 13) & (z > dome)
    near = np.hypot(x - spine_x, (y - spine_y + 24) / 1.2) < 40 * k
    hu = np.where(chest, -860 + 45 * np.abs(fine) * (fine > 1.3) * 4, hu)
    hu = np.where(chest & near & (y < spine_y + half_d), 36 + 4 * fine, hu)
    heart = ((x - 18) / 62) ** 2 + ((y - middle_y + 30) / 50) ** 2 + ((z - top["T8"]) / 58) ** 2 < k**2
    hu = np.where(chest & heart, 42 + 0.7 * gain["aorta"], hu)
    frame_y = (y - spine_y) / k
    low = top.get("L5", top["L4"])  # a spine with four lumbar vertebrae has no L5
    for side in (-1, 1):
        off = (x - spine_x) / k
        size = np.interp(z, [top["S2"], low, top["L3"], top["L1"], top["T12"]], [19, 22, 19, 11, 4])
        centre = half_w / k + size * np.interp(z, [top["S2"], low, top["L2"]], [1.6, 1.05, 0.95])
        forward = np.interp(z, [top["S2"], low, top["L2"]], [-24, -9, 3])
        psoas = ((off - side * centre) / size) ** 2 + ((frame_y - forward) / (1.12 * size)) ** 2
        hu = np.where((psoas < 1) & (depth > skin), marbled, hu)
        quad = ((off - side * (half_w / k + 33)) / 17) ** 2 + ((frame_y - 30) / 8) ** 2
        hu = np.where((quad < 1) & (z < top["T12"]) & (z > low) & (depth > skin), marbled, hu)
        wasted = np.clip(marbled - 25 * (fine + big > 0.6), -90, 80)
        tall = np.interp(z, [top["S2"], top["L4"]], [15, 24])
        erector = ((off - side * 31) / 26) ** 2 + ((frame_y - half_d / k - 36) / tall) ** 2
        multifidus = ((off - side * 12) / 12) ** 2 + ((frame_y - half_d / k - 36) / 18) ** 2
        hu = np.where(((erector < 1) | (multifidus < 1)) & (depth > 0.5 * skin), wasted, hu)
        glute = ((off - side * 78) / 56) ** 2 + ((y - back + 34) / 34) ** 2 + ((z - top["S2"]) / 74) ** 2
        hu = np.where((glute < 1) & (depth > skin * 0.9), wasted, hu)
    split = top["L4"] - 12
    aorta_x = spine_x + np.where(z > split, 9 + 4 * np.sin(z / 60.0), 9)
    spread = np.clip(split - z, 0, 120) * 0.28
    calcified = rng.random() < 0.6
    for side in (-1, 1):
        r = np.hypot(x - (aorta_x - 9 * (z <= split) + side * spread), y - (spine_y - half_d - 13 * k + 0.25 * spread))
        wide = np.where(z > split, rng.uniform(8.5, 12.5), 6.0) * k
        held = (r < wide) & (depth > skin + 10)
        hu = np.where(held, 41 + gain["aorta"] + 3 * fine, hu)
        if calcified:
            hu = np.where(held & (r > wide - 3) & (big > 0.9), 450, hu)
        r = np.hypot((x - (spine_x - 17 * k + side * spread)) / 1.15, y - (spine_y - half_d - 11 * k + 0.4 * spread))
        hu = np.where((r < np.where(z > split, 10, 6.5) * k) & (depth > skin + 10), 39 + gain["vein"] + 3 * fine, hu)
    bladder = (x / 45) ** 2 + ((y - middle_y + 30) / 36) ** 2 + ((z - top["S5"] + 30) / 34) ** 2 < 1
    hu = np.where(bladder & cavity, 6, hu)
    table = (y > back + 0.35 * patient.fat + 14 + (x / 150.0) ** 2 * 14) & (depth < 0)
    return np.where(table & (np.abs(x) < 230) & (y < back + 70), -120 + 30 * fine, hu).astype(np.float32)
