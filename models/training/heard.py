"""What height loss and the restoring stage add to the picture, on whole patients as the node reads them.

``calibrate.py`` puts the table into ``calibration.json``. Weights are fitted on four fifths of the patients and scored on
the rest, in turn, so that a weight that only fits noise loses. ``ablate.py`` asks the same of single crops with ideal
neighbours.
"""

from __future__ import annotations

import numpy as np

from bundle import height_features, restored_features, sigmoid
from scores import auc, logistic

FOLDS = 5
DRAWS = 400  # of the bootstrap over patients
BASE, ALL = "picture + height loss", "picture + height loss + restored loss + damage"
SETS = {  # name: which of (picture, height loss, restored loss, damage)
    "picture": (0,),
    BASE: (0, 1),
    "picture + restored loss + damage": (0, 2, 3),
    ALL: (0, 1, 2, 3),
}


def scored(features: np.ndarray, truth: np.ndarray, weight: np.ndarray, patient: np.ndarray) -> dict[str, np.ndarray]:
    """Probability of a fracture by each set, from weights that were fitted without the patient; ``features [4,N]``."""
    fold = np.unique(patient, return_inverse=True)[1] % FOLDS
    out = {name: np.zeros(len(truth)) for name in SETS}
    for name, chosen in SETS.items():
        x = features[list(chosen)]
        for k in range(FOLDS):
            fit, rest = fold != k, fold == k
            *slopes, intercept = logistic(x[:, fit], truth[fit], weight[fit])
            out[name][rest] = sigmoid(slopes @ x[:, rest] + intercept)
    return out


def log_loss(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(np.where(truth, p, 1 - p), 1e-4, 1))


def column(rows: list[dict], name: str) -> np.ndarray:
    """A measurement of every vertebra of ``calibrate.looks``, NaN where there is none."""
    return np.array([np.nan if r.get(name) is None else r[name] for r in rows], float)


def table(rows: list[dict], p: dict[str, np.ndarray], truth: np.ndarray, weight: np.ndarray) -> str:
    """Markdown over the ``rows`` that have every measurement; ``p`` holds the picture's ``fracture`` and ``old``."""
    features = np.stack([
        *height_features(p["fracture"], column(rows, "measured_loss")),
        *restored_features(p["old"], column(rows, "restored_loss"), column(rows, "damage_hu")),
    ])
    known = np.isfinite(features).all(0)
    second, patient = np.array([r["cohort"] == "second" for r in rows]), np.array([r["case"] for r in rows])
    features, truth, weight, second, patient = (x[..., known] for x in (features, truth, weight, second, patient))
    said = scored(features, truth, weight, patient)
    lines = [f"| generator | evidence | AUC | log loss | gain over {BASE} (95 % over patients) |", "|---|---|---|---|---|"]
    rng = np.random.default_rng(1)
    for generator, group in (("own", ~second), ("second", second)):
        if not truth[group].any() or truth[group].all():
            continue
        cases = np.unique(patient[group], return_inverse=True)[1]
        for name, given in said.items():
            mine = log_loss(given[group], truth[group])
            gained = log_loss(said[BASE][group], truth[group]) - mine
            sums, counts = np.bincount(cases, gained), np.bincount(cases)
            drawn = rng.integers(0, len(sums), (DRAWS, len(sums)))
            low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
            gain = "" if name == BASE else f"{gained.mean():+.4f} ({low:+.4f} to {high:+.4f})"
            lines.append(f"| {generator} | {name} | {auc(given[group], truth[group]):.4f} | {mine.mean():.4f} | {gain} |")
    return "\n".join(lines)
