"""What a vertebra's heights would be unbroken: the patient's own unfractured neighbours on the norms' level curve.

Every reference within three levels gives the logarithm of measured over normal height; a line through these over the
levels, robust and weighted by nearness (cranial before caudal, as Genant readers choose), is read off at the level in
question. The idea is that of the relative height loss of vertebrae (RHLV) without a generated image: the reference is
the same patient.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ovcf_node.domain.findings import Genant, Heights
from ovcf_node.infer.norms import NORMS

LOSS_OF_A_REFERENCE = 0.20
LEVEL_NORMS = "level norms"  # source of an expectation without references
STANDARD_ERROR = 0.03  # of a height loss against neighbours
STANDARD_ERROR_OF_NORMS = 0.07  # against level norms alone: the spread between people
_THRESHOLDS = (0.20, 0.25, 0.40)
_NEAR_LEVELS = 3
_CAUDAL = 0.7
_SLOPE_RIDGE = 6.0  # keeps the slope near 0 until several references agree on it
_OUTLIER = 0.06  # deviation (log) from which a reference counts less
_LEVELS = tuple(level for level in NORMS if level != "S1")
_POSITIONS = ("anterior", "middle", "posterior")


@dataclass(frozen=True)
class Expectation:
    """Expected heights of one level, the levels they come from and how many (or "level norms", 0), the loss's error."""

    heights: Heights
    source: str
    standard_error: float
    references: int


def expectations(
    measured: Mapping[str, Heights], unbroken: Iterable[str], widths: Mapping[str, float | None]
) -> dict[str, Expectation]:
    """Return the expectation of every measured level T11..L5 (S1 has none: it is not graded).

    `unbroken` are the levels that no other evidence speaks against; those that lost more than 20 % against the others
    leave the references one after the other, worst first. `widths` (mm) scale the norms when no reference is near.
    """
    levels = [level for level in _LEVELS if level in measured and None not in _triple(measured[level])]
    references = [level for level in levels if level in set(unbroken)]
    while len(references) > 1:
        losses = {level: height_loss(measured[level], _expect(level, references, measured, widths).heights)
                  for level in references}
        worst = max(losses, key=lambda level: losses[level])
        if losses[worst] <= LOSS_OF_A_REFERENCE:
            break
        references.remove(worst)
    return {level: _expect(level, references, measured, widths) for level in levels}


def height_loss(measured: Heights, expected: Heights) -> float | None:
    """Largest fraction of height lost (anterior, middle, posterior); 0 where nothing is lost, None where unknown."""
    pairs = [(m, e) for m, e in zip(_triple(measured), _triple(expected), strict=True) if m is not None and e]
    if not pairs:
        return None
    return round(max(0.0, max(1.0 - m / e for m, e in pairs)), 4)


def genant(loss: float | None, standard_error: float) -> Genant | None:
    """Grade a height loss (fraction): half-open bins [20, 25) [25, 40) [40, inf) percent; None where it is unknown.

    `near_boundary` where a threshold lies within one standard error of the loss.
    """
    if loss is None:
        return None
    grade = sum(loss >= threshold for threshold in _THRESHOLDS)
    return Genant(grade, any(abs(loss - threshold) < standard_error for threshold in _THRESHOLDS))


def _expect(
    level: str, references: list[str], measured: Mapping[str, Heights], widths: Mapping[str, float | None]
) -> Expectation:
    rise = {r: _LEVELS.index(r) - _LEVELS.index(level) for r in references}
    near = [r for r in references if 0 < abs(rise[r]) <= _NEAR_LEVELS]
    if not near:
        scale = _scale_from_widths(widths)
        return Expectation(_heights(np.array(NORMS[level].heights) * scale), LEVEL_NORMS, STANDARD_ERROR_OF_NORMS, 0)
    at = np.array([rise[r] for r in near], dtype=float)
    logs = np.log([np.divide(_triple(measured[r]), NORMS[r].heights) for r in near])  # (references, 3)
    weight = 0.6 ** (np.abs(at) - 1) * np.where(at > 0, _CAUDAL, 1.0)
    ratio = _line_at_zero(at, logs, weight)
    expected = _heights(np.exp(ratio) * np.array(NORMS[level].heights))
    return Expectation(expected, ", ".join(near), STANDARD_ERROR, len(near))


def _line_at_zero(at: np.ndarray, logs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Value at 0 of a robust weighted line through (at, logs); one slope for all positions, shrunk towards none."""
    robust = np.ones(len(at))
    value = np.zeros(logs.shape[1])
    for _ in range(5):
        w = weight * robust
        centre = np.average(at, weights=w)
        mean = np.average(logs, axis=0, weights=w)
        slope = np.sum(w * (at - centre) * (logs.mean(axis=1) - mean.mean())) / (
            np.sum(w * (at - centre) ** 2) + _SLOPE_RIDGE
        )
        value = mean - slope * centre
        off = np.abs(logs.mean(axis=1) - (value.mean() + slope * at))
        robust = np.minimum(1.0, _OUTLIER / np.maximum(off, 1e-9)) if len(at) > 2 else robust
    return value


def _scale_from_widths(widths: Mapping[str, float | None]) -> float:
    """Size of this patient against the norm by the widths of bodies, which compression spares; 1 where unknown."""
    ratios = [width / NORMS[level].width for level, width in widths.items() if width and level in _LEVELS]
    return float(np.clip(np.median(ratios), 0.8, 1.25)) if ratios else 1.0


def _triple(heights: Heights) -> tuple[float | None, float | None, float | None]:
    return heights.anterior, heights.middle, heights.posterior


def _heights(values: np.ndarray) -> Heights:
    return Heights(**{name: round(float(value), 2) for name, value in zip(_POSITIONS, values, strict=True)})
