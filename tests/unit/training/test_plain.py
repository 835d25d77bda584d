"""Crops of plain vertebrae: same seed, same crop; truth and masks agree; the policy of what counts holds."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import cases
from phantoms import plain
from phantoms.undated import UNDATED


def test_same_seed_same_crop():
    first, second = plain.crop(7), plain.crop(7)
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert first[0].shape == (56, 72, 32) and not np.array_equal(first[0], plain.crop(8)[0])


def test_samples_have_the_form_of_the_other_sources():
    sample = plain.crops(3, count=6)
    assert set(sample) == set(cases.COLUMNS)
    assert sample["hu"].dtype == np.int16 and sample["hu"].shape == (6, 56, 72, 32)
    for k in range(6):
        vertebra, body, region = (sample["masks"][k] & bit > 0 for bit in (1, 2, 4))
        assert body.sum() > 1500 and not (body & ~vertebra).any() and not (region & ~body).any()
        assert region.any() == bool(sample["evidence"][k].any())
        assert (sample["type"][k] > 0) == bool(sample["evidence"][k].any())
        assert not (sample["old"][k] and sample["evidence"][k].any())


def test_what_shows_no_break_counts_from_the_policys_loss():
    plans = [plain.plan(np.random.default_rng(k)) for k in range(600)]
    broken = [p for p in plans if any(p.signs)]
    assert {p.kind for p in plans} == set(plain.KINDS) and {p.type for p in broken} == {1, 2, 3, 4}
    assert all(p.loss >= min(UNDATED.values()) for p in broken if not p.break_seen)
    hollow, others = ([p.loss for p in plans if p.mimic and (p.mimic == "biconcave") is even] for even in (True, False))
    assert 0.15 < max(hollow) <= plain.DISH and max(others) <= 0.12
    bowls = [p.loss for p in plans if "both" in p.lost]
    assert bowls and max(bowls) < UNDATED["biconcave"]


def test_a_buckled_wall_does_not_name_the_type():
    plans = [plain.plan(np.random.default_rng(k)) for k in range(900)]
    for kind in "ABC":
        mine = [p for p in plans if p.kind == kind and p.break_seen]
        assert 0.2 < np.mean([p.signs[2] == 1 and p.buckle > 0 for p in mine]) < 0.6
    assert not any(p.buckle for p in plans if p.kind == "old" or (any(p.signs) and not p.break_seen))


def test_a_lost_height_is_seen_in_the_mask():
    rng = np.random.default_rng(1)
    tall, flat = plain.Plan("L2", "plain", 20, 15, np.array([26.0, 26, 26]), 3, 0, 0), None
    flat = plain.Plan(**{**vars(tall), "lost": {"top": np.array([8.0, 2, 0, 0.5, 1.5, 0.0])}})
    q = np.linspace(-0.9, 0.9, 19)
    heights = [np.subtract(*plain._plates(p, q, np.zeros(19), rng)[:2]) for p in (tall, flat)]
    assert heights[0].mean() - heights[1].mean() == pytest.approx(8.0, abs=0.5)
