"""Proportions, agreement, paired tests and calibration, with their intervals. Formulas: clinical notes 4.1.

Intervals of proportions are Wilson's; those of vertebra-level figures and of kappa come from resampling patients.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

EXACT_BELOW = 25
"""McNemar's test is the exact binomial one below this many discordant pairs."""


@dataclass(frozen=True)
class Share:
    """A proportion with its counts and a 95 % interval; value and interval are None without observations."""

    hits: int
    of: int
    value: float | None
    low: float | None
    high: float | None


def wilson(hits: int, of: int) -> Share:
    """Return hits / of with Wilson's score interval."""
    if of == 0:
        return Share(0, 0, None, None, None)
    interval = stats.binomtest(int(hits), int(of)).proportion_ci(0.95, method="wilson")
    return Share(int(hits), int(of), hits / of, float(interval.low), float(interval.high))


def kappa(matrix: np.ndarray) -> float | None:
    """Cohen's kappa of a square table of counts; None where it is not defined (empty, or chance agreement is 1)."""
    m = np.asarray(matrix, dtype=float)
    total = m.sum()
    if not total:
        return None
    chance = float(m.sum(axis=0) @ m.sum(axis=1)) / total**2
    return None if chance >= 1.0 else float((np.trace(m) / total - chance) / (1 - chance))


def weighted_kappa(matrix: np.ndarray) -> float | None:
    """Quadratic-weighted kappa of an ordered square table; None where it is not defined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        (value,) = weighted_kappa_of_table(np.asarray(matrix, dtype=float).reshape(1, -1))
    return float(value) if np.isfinite(value) else None


def kappa_error(matrix: np.ndarray) -> float | None:
    """Standard error of kappa, large-sample: sqrt(po (1 - po) / (n (1 - pe)^2))."""
    m = np.asarray(matrix, dtype=float)
    total = m.sum()
    if not total:
        return None
    observed = np.trace(m) / total
    chance = float(m.sum(axis=0) @ m.sum(axis=1)) / total**2
    return None if chance >= 1.0 else float(math.sqrt(observed * (1 - observed) / (total * (1 - chance) ** 2)))


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided p of McNemar's test: pairs that only the first, only the second reader has right."""
    b, c = first_only, second_only
    if b + c == 0:
        return 1.0
    if b + c < EXACT_BELOW:
        return float(stats.binomtest(min(b, c), b + c, 0.5).pvalue)
    return float(stats.chi2.sf((b - c) ** 2 / (b + c), 1))


def chi_square(hits: tuple[int, int], of: tuple[int, int], *, yates: bool = False) -> tuple[float, float]:
    """Pearson's chi-square of two unpaired proportions and its p; with Yates' correction on request."""
    table = np.array([[h, n - h] for h, n in zip(hits, of, strict=True)])
    result = stats.chi2_contingency(table, correction=yates)
    return float(result.statistic), float(result.pvalue)


def clustered(
    counts: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, repeats: int = 2000, seed: int = 1
) -> tuple[float, float] | None:
    """95 % percentile interval of a statistic of summed counts, resampling patients.

    counts     (patients, k); statistic maps (repeats, k) sums to (repeats,) values, NaN where undefined.
    """
    counts = np.asarray(counts, dtype=float)
    if len(counts) < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=repeats)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = statistic(drawn @ counts)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def ratio(sums: np.ndarray) -> np.ndarray:
    """Sum over count, for `clustered`: a share or a mean. Of several such pairs of columns the mean of their ratios."""
    pairs = sums.reshape(len(sums), -1, 2)
    return (pairs[..., 0] / pairs[..., 1]).mean(axis=1)


def kappa_of_table(sums: np.ndarray) -> np.ndarray:
    """Kappa of the square table in each row, for `clustered`."""
    size = math.isqrt(sums.shape[1])
    m = sums.reshape(-1, size, size)
    total = m.sum(axis=(1, 2))
    observed = np.trace(m, axis1=1, axis2=2) / total
    chance = (m.sum(axis=1) * m.sum(axis=2)).sum(axis=1) / total**2
    return (observed - chance) / (1 - chance)


def weighted_kappa_of_table(sums: np.ndarray) -> np.ndarray:
    """Quadratic-weighted kappa of the square table in each row, for `clustered`."""
    size = math.isqrt(sums.shape[1])
    m = sums.reshape(-1, size, size)
    weight = np.subtract.outer(np.arange(size), np.arange(size)) ** 2
    chance = m.sum(axis=2)[:, :, None] * m.sum(axis=1)[:, None, :] / m.sum(axis=(1, 2))[:, None, None]
    return 1 - (weight * m).sum(axis=(1, 2)) / (weight * chance).sum(axis=(1, 2))


def auc(score: np.ndarray, truth: np.ndarray) -> float | None:
    """Area under the ROC curve, ties shared; None when one class is missing."""
    truth = np.asarray(truth, dtype=bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    ranks = stats.rankdata(score)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


@dataclass(frozen=True)
class Calibration:
    """Brier score, expected calibration error, logistic intercept and slope, and (low, high, n, mean said, observed)."""

    brier: float
    ece: float
    intercept: float | None
    slope: float | None
    bins: tuple[tuple[float, float, int, float, float], ...]


def calibration(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> Calibration | None:
    """Return how probabilities agree with what is true, in bins of equal width; None without observations."""
    p, y = np.asarray(probability, dtype=float), np.asarray(truth, dtype=float)
    if not len(p):
        return None
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(p, edges[1:-1]), 0, bins - 1)
    rows, gap = [], 0.0
    for k in range(bins):
        mine = place == k
        if mine.any():
            said, seen = float(p[mine].mean()), float(y[mine].mean())
            rows.append((float(edges[k]), float(edges[k + 1]), int(mine.sum()), said, seen))
            gap += mine.mean() * abs(said - seen)
    intercept, slope = _logistic(p, y) if 0 < y.sum() < len(y) else (None, None)
    return Calibration(float(((p - y) ** 2).mean()), float(gap), intercept, slope, tuple(rows))


def _logistic(p: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of the truth on the logit of the probability; 0 and 1 when calibrated."""
    x = np.log(np.clip(p, 1e-4, 1 - 1e-4) / np.clip(1 - p, 1e-4, 1))

    def loss(w: np.ndarray) -> float:
        z = w[0] + w[1] * x
        return float(np.mean(np.logaddexp(0, z) - y * z) + 1e-6 * w @ w)

    found = optimize.minimize(loss, np.array([0.0, 1.0]), method="BFGS").x
    return float(found[0]), float(found[1])
