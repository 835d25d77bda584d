"""Figures of the stages apart: what the node would say of each crop."""

import numpy as np
import pytest

pytest.importorskip("torch")

import bundle
import evaluate


def _crops(evidence, kind, true_type):
    """Logits of crops with truth; every mask is perfect."""
    n = len(true_type)
    signs = np.array([[t in (1, 2), t in (1, 3), t == 4, False] for t in true_type], float)
    return {
        "evidence": np.array(evidence, float), "type": np.array(kind, float), "old": np.full((n, 1), -5.0),
        "true_evidence": signs, "true_type": np.array(true_type), "true_old": np.zeros(n), "mimic": np.zeros(n, int),
        "level": np.zeros(n, int), "loss": np.full(n, 0.3),
        **{f"{name}_dice": np.ones(n) for name in ("vertebra", "body", "fracture")},
    }


def test_types_that_the_node_withholds_are_not_counted_as_said():
    sure_b, torn, none = (5, -5, -5, -5), (3, -3, -3, -3), (-5, -5, -5, -5)
    found = evaluate.vertebra_scores(
        _crops([sure_b, torn, none], [(0, 0, 9, 0, 0), (0, 5, 0, 0, 0), (9, 0, 0, 0, 0)], [2, 1, 0]),
        {**bundle.DEFAULT_POINTS, "abstain_below": 0.5}, bundle.DEFAULT_TEMPERATURE, None,
    )
    assert (found["denis_by_mean_of_detected"]["hits"], found["denis_by_mean_of_detected"]["of"]) == (1, 2)
    assert (found["denis_by_mean_of_said"]["hits"], found["denis_by_mean_of_said"]["of"]) == (1, 1)
    assert (found["abstained"]["hits"], found["abstained"]["of"]) == (1, 2)  # signs say B, the direct reading A
    assert (found["sensitivity"]["hits"], found["specificity"]["hits"]) == (2, 1)
