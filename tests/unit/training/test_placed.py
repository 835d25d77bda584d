"""Crops cut by the node's own stages are training samples like the others: same format, truth of the vertebra they show."""

from pathlib import Path

import numpy as np
import pytest

from ovcf_node import infer

pytest.importorskip("torch")
pytest.importorskip("onnx")

import cases
import phantoms
import placed
from networks import CROP_SPACING
from phantoms.grids import CROP_ORIGIN, CROP_SHAPE
from phantoms.norms import spine_index

REFERENCE = Path(__file__).resolve().parents[3] / "models" / "reference"
SEED = 3_000_011


@pytest.fixture(scope="module")
def rows():
    return placed.crops(SEED, infer.load(REFERENCE), cases.truth)


def test_rows_stack_as_the_other_crops(rows):
    sample = cases.stacked({k: [row[k] for row in rows] for k in cases.COLUMNS})
    assert set(sample) == set(cases.COLUMNS)
    assert sample["hu"].shape == sample["masks"].shape == (len(rows), *CROP_SHAPE)
    assert -1024 <= sample["hu"].min() < sample["hu"].max() <= 3071


def test_a_body_sits_where_the_node_aims(rows):
    whole = 0
    for row in rows:
        body = np.argwhere(row["masks"] & 2)
        if len(body) < 2000 or (body == 0).any() or (body == np.array(CROP_SHAPE) - 1).any():
            continue  # cut by the field
        off = (body.mean(0) - CROP_ORIGIN) * CROP_SPACING
        assert np.abs(off).max() < 8
        whole += 1
    assert whole >= 3


def test_masks_nest_and_lie_on_bone(rows):
    for row in rows:
        vertebra, body, fracture = (row["masks"] & bit > 0 for bit in (1, 2, 4))
        assert not (body & ~vertebra).any()
        assert not (fracture & ~vertebra).any()
        assert row["hu"][vertebra].mean() > row["hu"][~vertebra].mean()


def test_every_sample_is_another_and_of_a_level_that_the_node_reads(rows):
    assert len({row["hu"].tobytes() for row in rows}) == len(rows)
    assert {row["level"] for row in rows} <= {spine_index(level) for level in placed.LEVELS}


def test_truth_is_that_of_the_patient(rows):
    case = phantoms.sample_case(SEED, profile="study", varied=True)  # as crops to train on are
    known = {spine_index(v.level): cases.truth(v) for v in case.vertebrae}
    assert any(any(row["evidence"]) or row["mimic"] or row["old"] for row in rows)
    for row in rows:
        assert (row["evidence"], row["type"], row["old"]) == known[row["level"]]


def test_a_producer_with_a_bundle_places_every_third_patient(rows, tmp_path):
    assert SEED % 3 == 2
    cases.produce(tmp_path, "crops", 5, 1, held=False, start=SEED, bundle=REFERENCE)
    with np.load(tmp_path / "crops" / f"{SEED}.npz") as sample:
        assert len(sample["hu"]) == len(rows)
        off = np.abs(sample["hu"].astype(float) - np.stack([row["hu"] for row in rows]))
        assert off.mean() < 2  # HU; another number of threads adds up in another order
