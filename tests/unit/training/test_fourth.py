"""Crops of the fourth painter: same seed, same crop; the mix; truth and masks agree; the policy of what counts holds."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import cases
import fourth
from phantoms.norms import LEVELS

COUNT = 36


@pytest.fixture(scope="module")
def made():
    return cases.fourth_crops(7, COUNT)


def test_same_seed_same_crops_however_many(made):
    again = cases.fourth_crops(7, 2)
    assert all(np.array_equal(value, made[key][:2]) for key, value in again.items())
    assert not np.array_equal(fourth.crops(8, 1)["hu"], again["hu"][:1])


def test_samples_have_the_form_of_the_other_sources(made):
    assert set(made) == set(cases.COLUMNS)
    assert made["hu"].dtype == np.int16 and made["hu"].shape == (COUNT, 56, 72, 32)
    assert made["hu"].min() >= -1024 and made["hu"].max() <= 3071
    assert {LEVELS[k] for k in made["level"]} <= set(fourth.LEVELS)


def test_every_type_and_mimic_is_drawn(made):
    assert {*made["type"]} == {0, 1, 2, 3, 4}
    assert 0.3 <= (made["type"] > 0).mean() <= 0.6 and made["old"].any() and made["mimic"].any()
    assert set(fourth.kinds(7, 120)) == {"A", "B", "C", "D", "old", "plain", *fourth.MIMICS}


def test_type_and_signs_agree_and_nothing_is_two_things(made):
    by_plates = {(1, 1): 1, (1, 0): 2, (0, 1): 3}
    for signs, kind, old, mimic, level in zip(
        made["evidence"], made["type"], made["old"], made["mimic"], made["level"], strict=True
    ):
        up, low, front, back = (int(x) for x in signs)
        assert kind == by_plates.get((up, low), 4 if front else 0)
        assert int(kind > 0) + int(old) + int(mimic) <= 1
        assert kind or not back
        assert not (kind and LEVELS[level] == "S1")


def test_masks_and_loss_agree_with_the_truth(made):
    for bits, kind, loss, old in zip(made["masks"], made["type"], made["loss"], made["old"], strict=True):
        vertebra, body, broken = (bits & bit > 0 for bit in (1, 2, 4))
        assert not (body & ~vertebra).any() and not (broken & ~body).any()
        assert 500 < body.sum() < 16000 and (vertebra & ~body).sum() > 200
        off = (np.argwhere(body).mean(0) - [27.5, 24, 15.5]) * [1, 1.25, 3]
        assert np.abs(off).max() < 14
        assert broken.any() == (kind > 0)
        assert loss == 0 if not (kind or old) else loss > 0.05


def test_cement_is_mostly_shown_as_the_node_shows_it():
    body = np.zeros((6, 56, 72, 32), bool)
    body[:, 15:41, 10:38, 8:24] = True
    hu = np.where(body, 150, 40).astype(np.int16)
    hu[1:, 23:33, 20:28, 14:18] = 1900
    sample = {"hu": hu, "masks": np.where(body, 3, 0).astype(np.uint8)}
    shown = cases.refilled(sample, np.random.default_rng(1))["hu"]
    filled = [k for k in range(6) if shown[k].max() < 400]
    assert 2 <= len(filled) <= 5 and 0 in filled
    assert all(np.array_equal(shown[k], hu[k]) for k in range(6) if k == 0 or k not in filled)
    assert (sample["hu"] == hu).all() and hu.max() == 1900
