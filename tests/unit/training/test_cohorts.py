"""Cohorts: quotas, patients that are what they are called, and one case through the command line from DICOM to report."""

import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training"))

import assess  # noqa: E402
import calibrate  # noqa: E402
import cases  # noqa: E402
import cohorts  # noqa: E402
import second  # noqa: E402
from ovcf_node.evaluate import Records  # noqa: E402
from ovcf_node.evaluate.study import CASE_MIX  # noqa: E402

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
        ),
        "second": (
            calibrate.FIRST["second"], second.SELECTION, second.EVALUATION, 7_760_000, 7_820_000, 8_395_000, 8_500_000,
            8_600_000, 8_700_000, 8_800_000,
        ),
        "third": (9_000_000, 9_030_000),
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
        records.add({"cohort": "second", "case": name})
    records.add({"cohort": "mine", "case": "other"})
    found = assess.run(BUNDLE, tmp_path, {"second": 5}, jobs=1, minutes=0)
    assert [r["case"] for r in found.rows] == [five[0].name, "other"]
    assert len(Records(tmp_path, BUNDLE).rows) == 3
    assert "second 1 of 5" in assess.unfinished(found, {"second": 5})[0] and not assess.unfinished(found, {"second": 1})


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
