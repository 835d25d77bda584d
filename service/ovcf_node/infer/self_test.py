"""The picture that every stage of a bundle is asked about first: CT in, a few numbers out (contract: models/README.md).

It is computed, so no file can be lost, and goes through the same resampling and windows as a patient's: a bundle whose
window, spacing or crop is not what its networks were trained with answers otherwise, and is refused.
"""

import numpy as np

from ovcf_node.domain.volume import OUTSIDE_HU, FrameSource, Volume
from ovcf_node.infer.resample import context_grid, crop_grid, isotropic, padded, sample_crop, window
from ovcf_node.infer.stages import LabelStage, RestoreStage, VertebraStage

_STEP_MM, _SHAPE = (2.0, 1.5, 1.5), (48, 64, 64)
_CENTRE = np.array([4.0, -3.0, 2.0])  # LPS mm of the middle body
_PLACES = (  # fractions of an answer's z, y, x (w, v, u): the middle body, its two plates, the body above, its two sides
    (0.50, 0.40, 0.50), (0.38, 0.40, 0.50), (0.62, 0.40, 0.50), (0.83, 0.40, 0.50), (0.50, 0.34, 0.38), (0.50, 0.36, 0.62))
_LEAST_SD = 0.5  # an output that is a single number has no spread


def volume() -> Volume:
    """Return three bodies with cortex and marrow in soft tissue, fat and air, under gantry tilt, padded at one side."""
    index = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in _SHAPE), indexing="ij"), -1)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0.15, 1, 0], [1, 0, 0]]) * _STEP_MM  # columns: slice, row, column
    point = index @ affine[:3, :3].T
    x, y, z = np.moveaxis(point - _CENTRE, -1, 0)
    hu = np.where(np.hypot(x / 46, y / 44) < 1, 40.0, -110.0) + 15 * np.sin(0.35 * x) * np.cos(0.21 * z)
    hu[np.hypot(x / 52, y / 50) > 1] = -1000
    for middle, half in ((-33, 12), (0, 10), (33, 13)):  # the one between is lower
        depth = np.maximum(np.hypot(x / 21, y / 15) - 1, np.abs(z - middle) / half - 1)
        marrow = 130 + 40 * np.sin(0.8 * z) * np.sin(0.5 * y)
        hu = np.where(depth < 0, np.where(depth > -0.15, 650.0, marrow), hu)
    hu = np.round(hu).astype(np.int16)
    hu[:, :, -3:] = OUTSIDE_HU
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(_SHAPE) - 1) / 2)
    return Volume(hu, affine, tuple(FrameSource(str(k)) for k in range(len(hu))), "axial", None)


def field_tensors(stage: LabelStage) -> dict[str, np.ndarray]:
    """Return what a stage that reads a field gets of the picture: ``image`` float32 [1, 1, Z, Y, X]."""
    image = window(isotropic(volume(), stage.spacing_mm).hu, stage.window_hu)
    return {"image": padded(image, stage.multiple_of, stage.pad_value)[None, None]}


def crop_tensors(stage: VertebraStage, restore: RestoreStage | None = None) -> dict[str, np.ndarray]:
    """Return what the vertebra stage, or `restore`, gets of the middle body: float32 [1, 1, w, v, u] each."""
    turn = np.radians(7.0)
    v, w = np.array([0.0, np.cos(turn), np.sin(turn)]), np.array([0.0, -np.sin(turn), np.cos(turn)])
    grid = crop_grid(_CENTRE, np.stack([np.array([1.0, 0.0, 0.0]), v, w]), stage.spacing_mm, stage.shape, stage.origin_index)
    picture, limits = volume(), (restore or stage).window_hu
    tensors = {"crop": window(sample_crop(picture, grid).hu, limits)}
    if restore:
        tensors["context"] = window(sample_crop(picture, context_grid(grid)).hu, limits)
        region = np.zeros(stage.shape, np.float32)
        region[tuple(slice(n // 4, 3 * n // 4) for n in stage.shape)] = 1
        tensors["region"] = region
    return {name: np.ascontiguousarray(tensor)[None, None] for name, tensor in tensors.items()}


def numbers(tensor: np.ndarray) -> list[float]:
    """Return what a manifest promises of an answer: mean, standard deviation, and up to six values.

    Of a map [1, C, z, y, x] they lie in and around the bodies, each in another channel; of other answers they are the first.
    """
    answer = np.asarray(tensor, np.float64)
    values = answer.ravel()[: len(_PLACES)]
    if answer.ndim == 5:
        channels = (k * answer.shape[1] // len(_PLACES) for k in range(len(_PLACES)))
        where = ((np.array(place) * answer.shape[2:]).astype(int) for place in _PLACES)
        values = [answer[0, channel, z, y, x] for channel, (z, y, x) in zip(channels, where, strict=True)]
    return [round(float(n), 6) for n in (answer.mean(), answer.std(), *values)]


def misses(found: list[float], promised: list[float]) -> np.ndarray:
    """Return how far `numbers` are off the promised ones, in the output's promised standard deviation (at least 0.5)."""
    wanted = np.asarray(promised, dtype=np.float64)
    return np.abs(np.asarray(found)[: len(wanted)] - wanted) / max(_LEAST_SD, *wanted[1:2])
