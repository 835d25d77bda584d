"""Cohorts: quotas, patients that are what they are called, and one case through the command line from DICOM to report."""

import json
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import assess  # noqa: E402
import calibrate  # noqa: E402
import cases  # noqa: E402
import cohorts  # noqa: E402
import kinds  # noqa: E402
import phantoms  # noqa: E402
import second  # noqa: E402
from ovcf_node.evaluate import Records  # noqa: E402
from ovcf_node.evaluate.study import CASE_MIX  # noqa: E402
from ovcf_node.evaluate.truth import read  # noqa: E402
from phantoms.soft import Capsule  # noqa: E402

BUNDLE = Path(__file__).resolve().parents[3] / "models" / "reference"


def test_quotas_keep_the_mix_and_the_sum():
    assert cohorts.quotas(CASE_MIX, 220) == CASE_MIX
    for n in (5, 22, 60, 61):
        found = cohorts.quotas(CASE_MIX, n)
        assert sum(found.values()) == n and all(abs(found[k] - n * v / 220) < 1 for k, v in CASE_MIX.items())


@pytest.mark.parametrize(("cohort", "n"), [("study", 4), ("natural", 4), ("negatives", 2), ("second", 20), ("third", 20)])
def test_patients_are_deterministic_and_as_many_as_asked(cohort, n):
    found = cohorts.patients(cohort, n)
    assert found == cohorts.patients(cohort, n) and len({p.name for p in found}) == n
    assert min(p.seed for p in found) >= cohorts.FIRST_SEED[cohort]
    if cohort == "natural":
        assert sum(p.kind == "none" for p in found) == 3


def test_the_studys_protocol_is_its_220_patients_of_each_type():
    found = cohorts.patients("study", 220)
    assert Counter(p.kind for p in found) == {"A": 40, "B": 45, "C": 39, "D": 55, "none": 41}
    assert max(p.seed for p in found) < cohorts.FIRST_SEED["study"] + cohorts.SPAN


def test_no_patient_was_looked_at_before_it_is_evaluated():
    taken = {name: (first, first + cohorts.SPAN) for name, first in cohorts.FIRST_SEED.items()}
    for name, (first, beyond) in taken.items():
        seen = [pair[:2] for ranges in cohorts.SEEN.values() for pair in ranges]  # of any generator: one number, one patient
        assert all(first >= end or beyond <= start for start, end in seen), name
        assert all(first >= other[1] or beyond <= other[0] for who, other in taken.items() if who != name), name
    every = sorted(pair for ranges in cohorts.SEEN.values() for pair in ranges)
    assert all(before[1] <= after[0] for before, after in pairwise(every))


def test_all_that_was_trained_calibrated_and_chosen_on_has_been_seen():
    used = {
        "first": (
            *(first for name, first in calibrate.FIRST.items() if name != "second"), cases.HELD, cases.EVALUATION,
            5_760_000, 5_820_000, 5_830_000, 6_595_000, 6_695_000, 6_795_000, 6_900_000, 6_930_000, 6_960_000,
            9_100_000, 9_130_000, 9_160_000, 9_200_000, 9_230_000, 9_260_000, 9_300_000, 9_330_000, 9_360_000,
            9_400_000, 9_430_000, 9_460_000, 9_600_000, 9_630_000, 9_660_000,
            9_800_000, 9_830_000, 9_860_000, 10_000_000, 10_030_000, 10_060_000,
            10_300_000, 10_330_000, 10_360_000, 10_600_000, 10_630_000, 10_660_000,
        ),
        "second": (
            calibrate.FIRST["second"], second.SELECTION, second.EVALUATION, 7_760_000, 7_820_000, 8_395_000, 8_500_000,
            8_600_000, 8_700_000, 8_800_000, 8_900_000, 9_700_000, 9_900_000, 10_100_000, 10_400_000, 10_700_000,
        ),
        "third": (9_000_000, 9_030_000, 9_060_000, 9_530_000, 9_560_000, 10_200_000, 10_500_000, 10_800_000),
    }
    assert used.keys() == cohorts.SEEN.keys()
    for name, seeds in used.items():
        assert all(any(first <= seed < beyond for first, beyond, _ in cohorts.SEEN[name]) for seed in seeds), name


def test_sizes_are_one_number_or_one_for_each_cohort_named():
    assert cohorts.sizes("60") == dict.fromkeys(cohorts.USUAL, 60)
    assert cohorts.sizes("study=220,third=60") == {"study": 220, "third": 60}
    for text in ("", "many", "0", "-3", "study", "study=", "study=220,200", "other=5", "study=1,study=2"):
        with pytest.raises(ValueError, match="not"):
            cohorts.sizes(text)


def test_patients_of_another_size_stay_out_of_the_report(tmp_path):
    five = cohorts.patients("second", 5)
    records = Records(tmp_path, BUNDLE)
    for name in (five[0].name, "D-8000000"):
        records.add({"cohort": "second", "case": name, "bundle": records.digest})
    records.add({"cohort": "mine", "case": "other", "bundle": records.digest})
    found = assess.run(BUNDLE, tmp_path, {"second": 5}, jobs=1, minutes=0)
    assert [r["case"] for r in found.rows] == [five[0].name, "other"]
    assert len(Records(tmp_path, BUNDLE).rows) == 3
    assert "second 1 of 5" in assess.unfinished(found, {"second": 5})[0] and not assess.unfinished(found, {"second": 1})


@pytest.mark.slow
def test_negatives_are_of_every_kind_without_a_fracture():
    found = cohorts.patients("negatives", len(cohorts.NEGATIVES))
    assert sorted(p.kind for p in found) == sorted(cohorts.NEGATIVES)
    assert not any(v.fracture for p in found for v in phantoms.sample_case(p.seed).vertebrae)


@pytest.mark.slow
def test_patients_to_calibrate_on_stay_what_they_were():
    found = cohorts.patients("negatives", 20, calibrate.FIRST["negatives"], cohorts.OF_BODIES)
    assert sorted(p.seed - 5_700_000 for p in found) == [
        0, 2, 4, 5, 6, 7, 10, 11, 12, 13, 23, 27, 28, 30, 31, 34, 39, 84, 86, 171]


def test_what_lies_around_the_bodies_is_told_by_its_measure():
    straight, scan = phantoms.sample_case(0, profile="demo"), phantoms.clean_acquisition()
    low, size = np.array([-150.0, -150, -200]), np.array([300.0, 300, 500])
    done_to = {"cut", "lumbar_rib"}  # what can be done to anyone of ordinary anatomy
    assert kinds.around(straight, scan, low, size) == {"padding", *done_to} and kinds.cobb(straight) < 1
    assert kinds.around(straight, scan, low, size * (0.5, 1, 1)) == done_to, "a circle in a narrow field takes the spine"
    assert kinds.around(replace(straight, variant="L6"), scan, low, size) == {"padding"}
    frames = {v.level: (v.frame[0], v.frame[1], (0.1 * k, 0.0, 1.0)) for k, v in enumerate(straight.vertebrae)}
    curved = replace(straight, vertebrae=tuple(replace(v, frame=frames[v.level]) for v in straight.vertebrae))
    assert "scoliosis" in kinds.around(curved, scan, low, size)
    bright = replace(scan, contrast="arterial", edge=0.5)
    assert "sharp_contrast" in kinds.around(straight, bright, low, size) and "sharp_contrast" not in kinds.around(
        straight, replace(bright, edge=0.0), low, size)
    worn = replace(straight, discs=tuple((1.0, height * 0.6) for _, height in straight.discs))
    assert {"discs", "vacuum"} <= kinds.around(worn, scan, low, size)
    clip = Capsule("metal", (0.0, 0.0, 0.0), (0.0, 2.0, 0.0), 0.5, 0.5)
    clipped = replace(straight, additions=replace(straight.additions, last=(clip,)))
    assert "clips" in kinds.around(clipped, scan, low, size)
    assert "clips" not in kinds.around(clipped, scan, low + 400, size), "outside the field"


@pytest.mark.slow
def test_of_a_cut_field_only_what_lies_in_it_wholly_has_a_truth(tmp_path):
    patient = cohorts.Patient("negatives", "cut", 9_500_003)
    case = read(cohorts.make(patient, tmp_path / "cut"))
    known = [v.level for v in case.vertebrae if v.fracture is not None]
    assert not case.complete and case.fracture is None and 3 <= len(known) < 7
    assert {v.level for v in case.vertebrae} >= set(cohorts.REPORTED)
    assert all(v.heights_mm for v in case.vertebrae if v.level in known)


def test_a_patient_with_ribs_at_l1_keeps_the_names_and_is_told_apart():
    case = phantoms.sample_case(9_500_005)
    ribbed = kinds.grown("lumbar_rib", case)
    assert kinds.grown("cut", case) is case and ribbed.variant == "lumbar_rib"
    assert [v.level for v in ribbed.vertebrae] == [v.level for v in case.vertebrae]
    new = ribbed.additions.bones[len(case.additions.bones) :]
    l1 = np.array(case.find("L1").centre_mm)
    assert 1 <= len(new) <= 2 and all(np.linalg.norm(np.array(group.parts[0].a) - l1) < 45 for group in new)


@pytest.mark.slow
def test_a_padded_series_has_its_circle(tmp_path):
    folder = cohorts.make(cohorts.Patient("negatives", "padding", 9_500_004), tmp_path / "padding")
    image = pydicom.dcmread(next((folder / "ct").iterdir()))
    corner = image.pixel_array[0, 0] * float(image.RescaleSlope) + float(image.RescaleIntercept)
    assert corner in (-1024, -2000) and read(folder).complete


@pytest.mark.slow
@pytest.mark.parametrize("cohort", ["second", "third"])
def test_one_patient_from_dicom_to_record_leaves_no_files(tmp_path, cohort):
    seed = {"second": 8_500_000, "third": 9_500_000}[cohort]  # the cohorts' own are read once a bundle is chosen
    patient = next(p for p in cohorts.patients(cohort, 5, seed) if p.kind == "B")
    record = assess.one(patient, BUNDLE, tmp_path)
    assert record["cohort"] == cohort and record["fracture"] is True and record["denis"] == "B"
    assert record["complete"] and [v["level"] for v in record["vertebrae"]] == list(cohorts.REPORTED)
    # Whatever the bundle calls them: vertebrae are found where truth says they are, and masks lie on the truth's grid.
    assert sum(v["place"] is not None for v in record["vertebrae"]) >= 4
    assert all("dice" in v for v in record["vertebrae"])
    assert not list((tmp_path / "cases" / cohort).iterdir())
    json.dumps(record)
