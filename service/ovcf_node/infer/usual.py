"""How far a crop lies from those the vertebra stage was calibrated on: a few plain statistics, one Mahalanobis distance.

A network answers whatever it is shown. The bundle may say what is usual (`[stages.vertebra.usual]`); a vertebra far
outside (another modality's numbers, a picture lost in noise, a mask that dissolves) is then not graded. The limit is wide:
it catches what is no such picture at all, not what is a little different.
"""

import numpy as np
from scipy import ndimage

from ovcf_node.infer.stages import STATISTICS, Usual
from ovcf_node.infer.vertebra import VertebraReading

_AROUND_VOXELS = 2  # how far from the vertebra the tissue around it is taken
_RANGE_HU = (-300.0, 1500.0)


def statistics(reading: VertebraReading) -> np.ndarray:
    """Return the numbers that `STATISTICS` names for one reading, float64.

    Log of the body's volume in cm3; how soft the edges of body and vertebra are (mean p (1 - p) over mean p); mean and
    standard deviation of the CT number in the body, and its mean above the tissue around, in 100 HU.
    """
    hu = np.clip(reading.shown.hu, *_RANGE_HU) / 100.0
    body, vertebra = reading.body > 0.5, reading.vertebra > 0.5
    around = ndimage.binary_dilation(vertebra | body, iterations=_AROUND_VOXELS) & ~(vertebra | body) & reading.crop.inside
    inside = hu[body] if body.any() else np.zeros(1)
    outside = float(hu[around].mean()) if around.any() else 0.0
    volume = max(float(body.sum()) * float(np.prod(reading.crop.grid.spacing)) / 1000.0, 0.1)
    values = (
        np.log(volume), _softness(reading.body), _softness(reading.vertebra),
        inside.mean(), inside.std(), inside.mean() - outside,
    )
    return np.array(values, dtype=float)


def distance(values: np.ndarray, usual: Usual) -> float:
    """Mahalanobis distance of `statistics` from what is usual."""
    off = values - np.array(usual.mean)
    precision = np.array(usual.precision).reshape(len(STATISTICS), len(STATISTICS))
    return float(np.sqrt(max(0.0, off @ precision @ off)))


def is_unusual(reading: VertebraReading, usual: Usual | None) -> bool:
    """Say whether a reading lies beyond the bundle's limit; never where the bundle has none."""
    return usual is not None and distance(statistics(reading), usual) > usual.limit


def _softness(probability: np.ndarray) -> float:
    p = probability.astype(float)
    return float((p * (1 - p)).mean() / max(p.mean(), 1e-6))
