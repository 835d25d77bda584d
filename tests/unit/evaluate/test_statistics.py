"""The statistics reproduce the study's own printed tables, and what of those tables is wrong stays wrong."""

import numpy as np
import pytest

from ovcf_node.evaluate import statistics as s
from ovcf_node.evaluate import study


def test_the_studys_detection_figures():
    ai, other = study.AI, study.CONVENTIONAL
    assert s.wilson(ai.tp, 179).value == pytest.approx(study.PRINTED["sensitivity"], abs=5e-5)
    assert s.wilson(ai.tn, 41).value == pytest.approx(study.PRINTED["specificity"], abs=5e-5)
    assert s.wilson(ai.tp + ai.tn, 220).value == pytest.approx(study.PRINTED["accuracy"], abs=5e-5)
    assert s.kappa(ai.table) == pytest.approx(study.PRINTED["kappa"], abs=5e-4)
    assert s.kappa(other.table) == pytest.approx(study.PRINTED["conventional_kappa"], abs=5e-4)


def test_the_studys_chi_squares_hold_and_one_accuracy_does_not():
    assert s.chi_square((205, 189), (220, 220)) == (pytest.approx(6.215, abs=1e-3), pytest.approx(0.0127, abs=1e-4))
    assert s.chi_square((167, 153), (179, 179))[0] == pytest.approx(5.770, abs=1e-3)
    assert s.chi_square((38, 36), (41, 41), yates=True)[0] == pytest.approx(0.139, abs=1e-3)
    printed = study.PRINTED["conventional_accuracy"] * 220
    assert abs(printed - round(printed)) > 0.15  # 86.91 % is no number of 220 patients; 189 are 85.91 %
    assert s.wilson(189, 220).value == pytest.approx(0.8591, abs=5e-5)


def test_the_studys_typing_figures():
    typing = study.AI_TYPING
    assert typing.total == 170 == study.AI.tp + study.AI.fp
    assert sum(typing.true) + typing.false_positives == 170 and sum(study.AI_RIGHT) == typing.right
    assert s.wilson(typing.right, typing.total).value == pytest.approx(study.PRINTED["denis_accuracy"], abs=5e-5)
    assert typing.kappa == pytest.approx(study.PRINTED["denis_kappa"], abs=5e-4)
    assert s.wilson(typing.right, 179).value == pytest.approx(0.844, abs=5e-4)  # end to end, not printed
    called = (typing.total, study.CONVENTIONAL_TYPED_CALLED)
    assert s.chi_square((typing.right, study.CONVENTIONAL_RIGHT), called)[0] == pytest.approx(7.173, abs=2e-3)
    assert study.CONVENTIONAL.tp + study.CONVENTIONAL.fp == study.CONVENTIONAL_TYPED_CALLED
    assert study.CONVENTIONAL_TYPED_PRINTED != study.CONVENTIONAL_TYPED_CALLED


def test_wilson_intervals_of_the_study():
    specificity = s.wilson(38, 41)
    assert (round(specificity.low, 3), round(specificity.high, 3)) == (0.806, 0.975)
    assert s.wilson(0, 0).value is None


def test_kappa_interval_by_resampling_patients_covers_the_large_sample_one():
    ai = study.AI
    rows = np.repeat(np.eye(4, dtype=int)[[0, 1, 2, 3]], [ai.tp, ai.fp, ai.fn, ai.tn], axis=0)
    low, high = s.clustered(rows, s.kappa_of_table)
    assert low == pytest.approx(0.684, abs=0.02) and high == pytest.approx(0.885, abs=0.02)
    assert s.kappa_error(ai.table) == pytest.approx((0.89 - 0.69) / (2 * 1.96), abs=0.004)
    assert s.clustered(rows[:1], s.kappa_of_table) is None


def test_weighted_kappa_forgives_neighbours():
    near, far = np.diag([20, 5, 5, 5]), np.diag([20, 5, 5, 5])
    near[0, 1], far[0, 3] = 4, 4
    assert s.weighted_kappa(np.diag([3, 2, 1, 4])) == pytest.approx(1.0)
    assert s.kappa(near) < s.weighted_kappa(near) and s.weighted_kappa(far) < s.weighted_kappa(near)
    assert s.weighted_kappa(np.array([[10, 0], [0, 10]])) == s.kappa(np.array([[10, 0], [0, 10]]))


def test_mcnemar_is_exact_for_few_pairs():
    assert s.mcnemar(14, 0) == pytest.approx(2 * 0.5**14)
    assert s.mcnemar(0, 0) == 1.0
    assert s.mcnemar(26, 12) == pytest.approx(0.0231, abs=1e-3)  # chi-square (b-c)^2/(b+c) = 5.158


def test_calibration_sees_overconfidence():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 4000)
    true = rng.random(4000) < p
    good = s.calibration(p, true)
    sharp = s.calibration(1 / (1 + ((1 - p) / p) ** 2), true)  # logits doubled
    assert good.ece < 0.03 and good.slope == pytest.approx(1, abs=0.1) and abs(good.intercept) < 0.1
    assert sharp.ece > 0.08 and sharp.slope == pytest.approx(0.5, abs=0.07) and sharp.brier > good.brier
    assert sum(n for _, _, n, _, _ in good.bins) == 4000
    assert s.auc(p, true) > 0.7 and s.auc(p, true | True) is None


def test_clusters_widen_the_interval_of_correlated_vertebrae():
    together = np.array([[6, 6]] * 30 + [[0, 6]] * 10)
    apart = s.wilson(180, 240)
    low, high = s.clustered(together, s.ratio)
    assert high - low > 1.8 * (apart.high - apart.low)


def test_of_several_pairs_of_columns_the_ratios_are_averaged():
    assert s.ratio(np.array([[3.0, 4.0], [1.0, 4.0]])).tolist() == [0.75, 0.25]
    assert s.ratio(np.array([[3.0, 4.0, 1.0, 4.0]])).tolist() == [0.5]


def test_weighted_kappa_of_each_table_is_one_less_observed_over_expected_disagreement():
    # Rows 6, 7, 7 and columns 6, 6, 8 of 20: disagreement 1 * (1 + 1 + 2 + 1) + 4 * 0 = 5, by chance
    # (6 * 6 + 7 * 6 + 7 * 8 + 7 * 6) / 20 + 4 * (6 * 8 + 7 * 6) / 20 = 26.8.
    table, perfect = [[5, 1, 0], [1, 4, 2], [0, 1, 6]], np.diag([3, 4, 5]).tolist()
    said = s.weighted_kappa_of_table(np.array([table, perfect], float).reshape(2, 9))
    assert said.tolist() == pytest.approx([1 - 5 / 26.8, 1.0])
    assert s.weighted_kappa(np.zeros((3, 3))) is None and s.weighted_kappa(np.diag([4, 0, 0])) is None
