"""Everything but bone, painted on a coarse grid and stretched: skin, organs, muscles, vessels, canal, table."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .patient import Patient
from .shapes import Frame, ellipse, ellipsoid, lerp, noise, smoothstep
from .spine import LEVELS, Spine

STEP = 2.3  # mm of the coarse grid
FAT, MUSCLE, GAS, LUNG, CALCIUM, TABLE = -100.0, 50.0, -850.0, -860.0, 480.0, -300.0  # HU, clinical.md 3.3
AORTA, AORTA_ENHANCED = 42.0, 170.0  # HU: clinical.md 3.3


class Coarse:
    """HU on a grid of STEP mm around the canvas, and the lines of the spine at every height of it."""

    def __init__(self, canvas: Canvas, spine: Spine) -> None:
        self.axes = [np.arange(axis[0], axis[-1] + STEP, STEP, dtype=np.float32) for axis in canvas.axes]
        self.z, self.y, self.x = np.meshgrid(*self.axes, indexing="ij", sparse=True)
        self.shape = tuple(len(axis) for axis in self.axes)
        self.hu = np.full(self.shape, -1000, np.float32)
        frames = [spine.frames[level] for level in LEVELS] + [segment.frame for segment in spine.sacral]
        depths = [spine.bodies[level].size.depth / 2 + 8.5 for level in LEVELS] + [15.0] * len(spine.sacral)
        middles = np.array([frame.origin for frame in frames])
        self.middle_x, self.middle_y = self._line(middles, 0), self._line(middles, 1)
        self.canal_y = self._line(np.array([f.at(back=d) for f, d in zip(frames, depths, strict=True)]), 1)
        lumbar = middles[: len(LEVELS)]
        self.lumbar_y = self._line(lumbar, 1)
        self.above_t12 = self.z - np.float32(spine.frames["T12"].origin[2])

    def _line(self, places: np.ndarray, axis: int) -> np.ndarray:
        """x or y of a chain of points (n, 3) at every height of the grid: (z, 1, 1)."""
        order = np.argsort(places[:, 2])
        return np.interp(self.axes[0], places[order, 2], places[order, axis])[:, None, None].astype(np.float32)

    def put(self, distance: np.ndarray, hu: np.ndarray | float) -> None:
        """Paint what lies inside a distance, its edge soft over 3 mm."""
        self.hu += smoothstep(0.5 - distance / np.float32(3.0)).astype(np.float32) * (hu - self.hu)


def paint_tissue(canvas: Canvas, patient: Patient, contrast: bool, rng: np.random.Generator) -> None:
    """Fill the canvas with all that is not bone."""
    coarse = Coarse(canvas, patient.spine)
    patches = noise(rng, coarse.shape, 5)
    back = float(np.median(coarse.middle_y)) + 82 + patient.tissue.back_fat / 2
    cavity = _trunk(coarse, patient, back, rng)
    _organs(coarse, patient.spine, cavity, patches)
    gut = noise(rng, coarse.shape, 6)
    _gut(coarse, cavity, gut)
    _muscles(coarse, patient, patches)
    _vessels(coarse, patient.spine, contrast, gut, rng)
    _canal(coarse)
    _swellings(coarse, patient.spine)
    arc = coarse.y - (back + 5 + coarse.x**2 / 900)
    for below in (8, 26):
        coarse.put(np.abs(arc - below) - 2, TABLE)
    grain = noise(rng, coarse.shape, 1.4) * 3.6
    coarse.hu += grain * (coarse.hu > -300)
    _stretch(coarse, canvas)


def _trunk(coarse: Coarse, patient: Patient, back: float, rng: np.random.Generator) -> np.ndarray:
    """Skin, fat and wall of the trunk, lying flat on its back, and lungs; the distance to the abdominal cavity."""
    fat = patient.tissue.back_fat
    half_width, half_depth = rng.uniform(150, 185), rng.uniform(105, 130)
    bend = coarse.middle_y - np.median(coarse.middle_y)
    middle = back - half_depth + 0.5 * bend
    skin = (ellipse(coarse.x, coarse.y - middle, half_width, half_depth) - 1) * half_depth * 0.9
    skin = np.maximum(skin, coarse.y - back - 0.3 * bend + 6)
    coarse.put(skin, 30.0)
    coarse.put(skin + 2.5, -105.0)
    wall = (ellipse(coarse.x, coarse.y - middle + 3, half_width - fat - 4, half_depth - fat * 0.8 - 4) - 1) * 90
    wall = np.maximum(wall, coarse.y - coarse.middle_y - 44)
    cavity = np.maximum(wall + 9, coarse.y - coarse.middle_y - 20)
    coarse.put(wall, MUSCLE)
    coarse.put(cavity, -98.0)
    floor = 5 - coarse.above_t12 - 0.35 * (coarse.y - coarse.middle_y)
    for side in (-1, 1):
        lung = np.maximum(20 - side * (coarse.x - coarse.middle_x), -20 - coarse.y + coarse.middle_y)
        coarse.put(np.maximum(wall + 16, np.maximum(lung, floor)), LUNG)
    return cavity


def _organs(coarse: Coarse, spine: Spine, cavity: np.ndarray, patches: np.ndarray) -> None:
    """Liver on the right, spleen on the left, both kidneys."""
    liver = np.maximum(coarse.x + 25, -coarse.above_t12 - 60)
    coarse.put(np.maximum(cavity + 2 + patches * 2, liver), 55.0)
    spleen = np.maximum(np.maximum(75 - coarse.x, -coarse.above_t12 - 5), 15 - (coarse.y - coarse.middle_y + 40))
    coarse.put(np.maximum(cavity + 2 + patches, spleen), 48.0)
    for side, level in ((-1, "L2"), (1, "L1")):
        centre = spine.frames[level].origin
        across = coarse.x - side * (62 + 0.12 * (centre[2] - coarse.z))
        coarse.put(ellipsoid((across, coarse.y - centre[1], coarse.z - centre[2]), (0, 3, 0), (27, 24, 52)), 32.0)


def _gut(coarse: Coarse, cavity: np.ndarray, gut: np.ndarray) -> None:
    """Bowel below the diaphragm where a noise is high, gas where it is highest."""
    where = np.maximum(cavity + 4, np.maximum(coarse.above_t12 + 50, coarse.y - coarse.middle_y + 42))
    coarse.put(np.maximum(where, (0.5 - gut) * 14), 28.0)
    coarse.put(np.maximum(where, (1.75 - gut) * 14), GAS)


def _muscles(coarse: Coarse, patient: Patient, patches: np.ndarray) -> None:
    """Psoas, quadratus lumborum, erector spinae and multifidus of both sides; the back ones streaked with fat."""
    spine, fat = patient.spine, patient.tissue.muscle_fat
    top, promontory = (float(spine.frames[level].origin[2]) for level in ("L1", "S1"))
    down = np.clip((top - coarse.z) / (top - float(spine.sacral[0].frame.origin[2])), 0, 1)
    pelvis = np.clip((promontory + 20 - coarse.z) / 60, 0, 1)
    psoas_width = 5 + 15 * down
    absent = np.where(coarse.z < top + 10, 0, 50)
    for side in (-1, 1):
        across, along = coarse.x - coarse.middle_x, coarse.y - coarse.canal_y
        psoas = ellipse(
            across - side * (29 + 13 * down + 12 * pelvis), coarse.y - coarse.lumbar_y - 2 + 14 * down + 18 * pelvis,
            psoas_width, 7 + 16 * down,
        )
        coarse.put((psoas - 1) * psoas_width + absent, 54.0)
        quadratus = (ellipse(across - side * 62, coarse.y - coarse.middle_y - 18, 22, 10) - 1) * 10
        coarse.put(np.maximum(quadratus, coarse.z - top) + np.where(coarse.z < promontory + 30, 40, 0), MUSCLE)
        coarse.put((ellipse(across - side * 38, along - 30, 32, 21) - 1) * 21, 45 - 30 * fat + patches * 10 * fat)
        coarse.put((ellipse(across - side * 14, along - 27, 13, 16) - 1) * 13, 32 - 75 * fat + patches * 22 * fat)


def _vessels(coarse: Coarse, spine: Spine, contrast: bool, patches: np.ndarray, rng: np.random.Generator) -> None:
    """Aorta, often calcified, and vena cava; both part below L4."""
    radius = rng.uniform(8.5, 12)
    blood = AORTA_ENHANCED if contrast else AORTA
    parted = np.clip((float(spine.frames["L4"].origin[2]) - coarse.z) / 70, 0, 1) * 38
    narrower = 3.5 * (parted > 4)
    for offset, hu, wide, hardens in ((7, blood, radius, True), (-17, blood * 0.7 + 14, radius + 1, False)):
        for branch in (-1, 1):
            across = coarse.x - coarse.middle_x - offset - branch * parted
            wall = np.hypot(across, coarse.y - coarse.lumbar_y + 18 + wide + 4) - wide + narrower
            coarse.put(wall, hu)
            if hardens and rng.random() < 0.8:
                coarse.hu[(np.abs(wall) < 1.2) & (patches > 0.9)] = CALCIUM


def _canal(coarse: Coarse) -> None:
    """Epidural fat around the thecal sac; the cord makes it a little brighter down to L1."""
    across, along = coarse.x - coarse.middle_x, coarse.y - coarse.canal_y
    coarse.put((ellipse(across, along, 12.5, 9) - 1) * 9, -60.0)
    coarse.put((ellipse(across, along - 0.5, 9.5, 6.8) - 1) * 7, 22.0 + 8 * (coarse.above_t12 > -30))


def _swellings(coarse: Coarse, spine: Spine) -> None:
    """Thickened soft tissue in front of and beside fresh fractures: clinical.md 2.6."""
    for level, body in spine.bodies.items():
        if body.swelling:
            half = (body.size.width / 2 + body.swelling, body.size.depth / 2 + body.swelling, 24)
            local = _local(coarse, spine.frames[level])
            coarse.put(np.maximum(ellipsoid(local, (0, 0, 0), half), local[1] - body.size.depth / 2 + 4), 50.0)


def _local(coarse: Coarse, frame: Frame) -> list[np.ndarray]:
    return frame.to_local((coarse.x, coarse.y, coarse.z))


def _stretch(coarse: Coarse, canvas: Canvas) -> None:
    """Write the coarse grid to the canvas by linear interpolation, some slices at a time."""
    at = [(fine - few[0]) / STEP for fine, few in zip(canvas.axes, coarse.axes, strict=True)]
    plane = lerp(lerp(coarse.hu, at[1], 1), at[2], 2)
    for k in range(0, len(at[0]), 32):
        canvas.hu[k : k + 32] = lerp(plane, at[0][k : k + 32], 0)
