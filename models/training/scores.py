"""Small statistics for evaluation: Wilson intervals, AUC, temperature and operating points."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import rankdata

from bundle import height_features, restored_features, sigmoid, softmax

RIDGE = 0.005  # of `logistic`


def wilson(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion; (0, 1) without observations."""
    if total == 0:
        return 0.0, 1.0
    p, d = hits / total, 1 + z * z / total
    middle = (p + z * z / (2 * total)) / d
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / d
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits, total) -> dict:
    """Counts, proportion (None without observations) and interval, ready for JSON."""
    hits, total = int(hits), int(total)
    low, high = wilson(hits, total)
    value = hits / total if total else None
    return {"hits": hits, "of": total, "value": value, "low": round(low, 4), "high": round(high, 4)}


def show(x: dict) -> str:
    """``0.93 (28/30, .79-.98)`` for a table cell."""
    if x["value"] is None:
        return "no case"
    return f"{x['value']:.3f} ({x['hits']}/{x['of']}, {x['low']:.2f}-{x['high']:.2f})"


def auc(score: np.ndarray, truth: np.ndarray) -> float | None:
    """Area under the ROC curve (Mann-Whitney, ties shared); None when one class is missing."""
    truth = np.asarray(truth, bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    ranks = rankdata(score)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def temperature_binary(logits: np.ndarray, truth: np.ndarray) -> float:
    """Temperature in [0.3, 5] that minimises the binary log loss."""

    def loss(log_t: float) -> float:
        p = np.clip(sigmoid(logits / math.exp(log_t)), 1e-7, 1 - 1e-7)
        return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p)))

    return math.exp(minimize_scalar(loss, bounds=(math.log(0.3), math.log(5)), method="bounded").x)


def temperature_classes(logits: np.ndarray, truth: np.ndarray) -> float:
    """Temperature in [0.3, 5] that minimises the multi-class log loss; logits ``[N,C]``, truth ``[N]``."""

    def loss(log_t: float) -> float:
        p = softmax(logits / math.exp(log_t))[np.arange(len(truth)), truth]
        return float(-np.mean(np.log(np.clip(p, 1e-7, 1))))

    return math.exp(minimize_scalar(loss, bounds=(math.log(0.3), math.log(5)), method="bounded").x)


def height_weight(picture, loss, truth, weight) -> dict[str, float]:
    """How height speaks beside the picture: two weighted logistic regressions, with the loss and without.

    ``picture`` is a probability, ``loss`` a fraction (NaN: unknown, left out of the first), ``truth`` in {0, 1}.
    """
    odds, lack = height_features(picture, loss)
    both, alone = logistic((odds, lack), truth, weight), logistic((odds,), truth, weight)
    names = ("network", "full_height", "intercept")
    return {**dict(zip(names, both, strict=True)), "network_alone": alone[0], "intercept_alone": alone[-1]}


def restored_weight(picture, old, loss, restored_loss, damage_hu, truth, weight) -> dict[str, float]:
    """The same where the restoring stage speaks too: its height loss (fraction) and its damage (HU; NaN: unknown)."""
    features = (*height_features(picture, loss), *restored_features(old, restored_loss, damage_hu))
    names = ("network", "full_height", "restored_loss", "damage", "intercept")
    return dict(zip(names, logistic(features, truth, weight), strict=True))


def logistic(features, truth: np.ndarray, weight: np.ndarray) -> list[float]:
    """Weighted logistic regression: weights of the picture's log-odds (first feature), of what else speaks, the intercept.

    Over rows without NaN. Shrunk towards the picture alone; no weight becomes negative: nothing that is lost or
    damaged makes a fracture less probable.
    """
    known = np.isfinite(np.stack(features)).all(0)
    x = np.stack([*features, np.ones(len(known))], 1)[known]
    y, w = np.asarray(truth, float)[known], weight[known] / weight[known].sum()
    more = len(features) - 1
    start, looseness = np.array([1.0, *[0.0] * more, 0.0]), np.array([1.0, *[100.0] * more, 1.0])

    def cost(b: np.ndarray) -> float:
        z = x @ b
        return float((w * (np.logaddexp(0, z) - y * z)).sum() + RIDGE * ((b - start) ** 2 / looseness).sum())

    best = minimize(cost, start, method="L-BFGS-B", bounds=[(0.1, None), *[(0, None)] * more, (None, None)])
    return [round(float(b), 4) for b in best.x]


def operating_point(
    prob, truth, low: float = 0.2, high: float = 0.8, power: int = 1, weight=None, noise: float = 0.0, among: float = 0.5,
) -> float:
    """Threshold in [low, high] with the best mean of sensitivity and ``specificity ** power``; 0.5 when undecided.

    ``power`` is how many negatives one false alarm spoils: the six graded vertebrae of a patient. Of equally good
    thresholds the quantile ``among``, the middle; with ``noise``, the lowest of those that are no worse than the best by
    more than that: pictures made otherwise than these get lower probabilities, so what cannot be told apart here is decided
    for sensitivity.
    """
    truth = np.asarray(truth, bool)
    if truth.all() or not truth.any():
        return 0.5
    weight = np.ones(len(truth)) if weight is None else weight
    share_of = lambda flags, group: (flags[group] * weight[group]).sum() / weight[group].sum()  # noqa: E731
    grid = np.linspace(low, high, 121)
    value = np.array([0.5 * (share_of(prob >= t, truth) + share_of(prob < t, ~truth) ** power) for t in grid])
    if noise:
        return float(grid[value >= value.max() - noise].min())
    best = grid[value >= value.max() - 1e-9]
    return float(best[np.argmin(abs(best - np.quantile(best, among)))])


def dice(a: np.ndarray, b: np.ndarray) -> float | None:
    """Dice of two boolean arrays; None when both are empty."""
    size = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / size if size else None
