"""The scanner: choose slices, field and kernel, paint the patient, then blur, sharpen and add noise slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from .bones import paint_discs, paint_vertebrae
from .canvas import Canvas
from .patient import Patient
from .pelvis import paint_ilium, paint_sacrum
from .ribs import paint_ribs
from .tissue import paint_tissue

THICKNESSES = (0.7, 0.8, 0.9, 1.0, 1.0, 1.0, 1.0, 1.25, 1.25, 1.25, 1.5, 1.5, 2.0, 3.0)  # mm, as often as listed
WITH_CONTRAST = 0.2
PROFILE = 0.3  # of the thickness: sigma by which a slice also sees its neighbours


@dataclass(frozen=True)
class Kernel:
    """In-plane sigma (mm), sharpening, noise at 1 mm (least, most HU), cut of its spectrum (per mm), how often."""

    blur: float
    sharpen: float
    noise: tuple[float, float]
    cut: float
    share: float


KERNELS = {
    "soft": Kernel(0.62, 0.0, (12, 22), 0.33, 0.35),
    "standard": Kernel(0.50, 0.0, (18, 34), 0.45, 0.40),
    "bone": Kernel(0.34, 0.55, (38, 65), 0.75, 0.25),
}


@dataclass(frozen=True)
class Scan:
    """A series to be made.

    thickness, pixel  mm; slices are as far apart as they are thick
    contrast          "arterial" or "none"
    noise             standard deviation in the middle of the trunk, HU
    low               LPS mm of the middle of the first voxel
    shape             z, y, x voxels
    """

    thickness: float
    kernel: str
    contrast: str
    noise: float
    pixel: float
    low: tuple[float, float, float]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """What was scanned and what is where, all (z, y, x): z towards the head, y towards the back, x towards the left.

    hu        int16
    low       LPS mm of the middle of the first voxel
    spacing   z, y, x mm
    instance  uint8: 1 + index in `patient.vertebrae`, body and arch, 0 elsewhere
    body      whether a voxel lies in a vertebral body
    """

    hu: np.ndarray
    low: tuple[float, float, float]
    spacing: tuple[float, float, float]
    instance: np.ndarray
    body: np.ndarray


def choose_scan(patient: Patient, seed: int) -> Scan:
    """A series from above T10 to the lower sacrum with a field of 235 to 275 mm."""
    rng = np.random.default_rng([seed, 2])
    spine = patient.spine
    thickness = float(rng.choice(THICKNESSES))
    kernel = str(rng.choice(list(KERNELS), p=[kernel.share for kernel in KERNELS.values()]))
    noise = rng.uniform(*KERNELS[kernel].noise) * thickness**-0.4
    pixel = round(float(rng.uniform(0.66, 0.88)), 4)
    side = int(rng.uniform(235, 275) / pixel)
    top = spine.frames["T10"].origin[2] + rng.uniform(12, 25)
    bottom = spine.sacral[1].frame.origin[2] - rng.uniform(8, 25)
    middle = rng.uniform(-6, 6), spine.frames["L3"].origin[1] - rng.uniform(8, 26)
    corner = (float(m) - (side - 1) / 2 * pixel for m in middle)
    return Scan(
        thickness, kernel, "arterial" if rng.random() < WITH_CONTRAST else "none", float(noise), pixel,
        (*corner, float(bottom + thickness / 2)), (int((top - bottom) / thickness), side, side),
    )


def scan(patient: Patient, how: Scan, seed: int) -> Picture:
    """Scan a patient; `seed` decides grain, soft tissue and noise."""
    rng = np.random.default_rng([seed, 3])
    spacing = (how.thickness, how.pixel, how.pixel)
    canvas = Canvas(np.array(how.low), spacing, how.shape, rng)
    paint_tissue(canvas, patient, how.contrast != "none", rng)
    paint_discs(canvas, patient.spine)
    paint_vertebrae(canvas, patient)
    paint_sacrum(canvas, patient)
    paint_ilium(canvas, patient)
    paint_ribs(canvas, patient)
    return Picture(_acquire(canvas, how, rng), how.low, spacing, canvas.instance, canvas.body)


def _acquire(canvas: Canvas, how: Scan, rng: np.random.Generator) -> np.ndarray:
    """The slices (z, y, x) as int16 HU. Averaging first spares blurring every sub-slice: both are linear."""
    kernel = KERNELS[how.kernel]
    out = np.empty(how.shape, np.int16)
    grain = _noise_slices(how, rng)
    for k in range(how.shape[0]):
        image = ndimage.gaussian_filter(_slice(canvas, how, k), kernel.blur / how.pixel, truncate=3)
        if kernel.sharpen:
            image += kernel.sharpen * (image - ndimage.gaussian_filter(image, 1.0 / how.pixel, truncate=3))
        pelvis = 1.25 if how.low[2] + k * how.thickness < 10 else 1.0  # wider there: more photons are lost
        out[k] = np.clip(np.rint(image + pelvis * next(grain)), -1024, 3071).astype(np.int16)
    return out


def _slice(canvas: Canvas, how: Scan, number: int) -> np.ndarray:
    """One slice before blurring: sub-slices weighted by the slice profile."""
    parts, around = canvas.parts, int(np.ceil(2 * PROFILE * canvas.parts))
    first, last = number * parts - around, (number + 1) * parts + around
    kept = np.arange(max(0, first), min(len(canvas.hu), last))
    box = np.zeros(parts + 2 * around)
    box[around : around + parts] = 1
    weights = ndimage.gaussian_filter1d(box, PROFILE * parts, mode="constant")[kept - first]
    return np.tensordot((weights / weights.sum()).astype(np.float32), canvas.hu[kept[0] : kept[-1] + 1], 1)


def _noise_slices(how: Scan, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless noise images (y, x), HU: a ramp's spectrum cut by the kernel, stronger amid, shared between thin slices."""
    rows, columns = how.shape[1:]
    size = 2 * fft.next_fast_len((max(rows, columns) + 1) // 2, real=True)
    frequency = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None]) / how.pixel
    spectrum = (np.sqrt(frequency + 0.015) * np.exp(-((frequency / KERNELS[how.kernel].cut) ** 2))).astype(np.float32)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    amid = (1.15 - 0.35 * (x**2 + y**2)).astype(np.float32)
    before = None
    while True:
        white = rng.standard_normal((size, size), dtype=np.float32)
        image = fft.irfft2(fft.rfft2(white) * spectrum, s=(size, size))[:rows, :columns]
        image *= how.noise / image.std()
        shared = image if before is None or how.thickness >= 1.3 else 0.85 * image + 0.53 * before
        before = image
        yield shared * amid
