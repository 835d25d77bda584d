"""Targets: what the committed evaluation reached is held against them, each the right way round."""

import json
import sys
from copy import deepcopy
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[3] / "models" / "training"
sys.path.insert(0, str(TRAINING))

import targets  # noqa: E402


@pytest.fixture(scope="module")
def committed():
    return json.loads((TRAINING.parent / "reference" / "evaluation.json").read_text())["cohorts"]


def rows_of(page: list[str]) -> dict[str, list[str]]:
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in page if line.startswith("| ")]
    return {name: rest for name, *rest in cells}


def rows(cohorts) -> dict[str, list[str]]:
    return rows_of(targets.lines(cohorts))


def test_reached_is_yes_at_the_target_and_no_beyond(committed):
    study = deepcopy(committed["study"])
    study["detection"]["sensitivity"]["value"] = 0.97
    study["detection"]["specificity"]["value"] = 0.9699
    study["heights"]["all"]["mean_absolute"] = 0.71
    study["abstention"]["not_assessed"]["value"] = 0.02
    study["labels"] |= {"uncertain_lumbosacral": {"hits": 8, "of": 10}, "uncertain_transitional": {"hits": 10, "of": 10}}
    said = rows({"study": study})
    assert said["patients: sensitivity"] == [">= 0.97", "0.970 yes"]
    assert said["patients: specificity"] == [">= 0.97", "0.970 **no**"]
    assert said["height error, mean absolute, mm"] == ["<= 0.7", "0.71 **no**"]
    assert said["patients not assessed, slices <= 3 mm"] == ["<= 0.02", "0.020 yes"]
    assert said["numbering uncertain, transitional"] == [">= 0.9", "0.900 yes"]
    assert not [name for name in said if "worse" in name]  # nobody to compare with


def test_a_cohort_without_such_cases_reaches_and_misses_nothing(committed):
    said = rows({"negatives": committed["negatives"]})
    assert said["patients: sensitivity"][1] == said["Denis type, end to end"][1] == "-"


def test_another_generator_may_be_three_points_worse(committed):
    study, second = deepcopy(committed["study"]), deepcopy(committed["second"])
    for name, first, other in (("sensitivity", 0.98, 0.95), ("specificity", 0.98, 0.94)):
        study["detection"][name]["value"], second["detection"][name]["value"] = first, other
    for cohort, share in ((study, 0.01), (second, 0.05)):
        cohort["abstention"]["undetermined_patients"]["value"] = share
    study["detection"]["kappa"], second["detection"]["kappa"] = 0.90, 0.95
    page = targets.lines({"study": study, "second": second})
    said = rows_of(page[page.index("| points worse than `study` | wanted | second |"):])
    assert said["patients: sensitivity"] == ["<= 3", "3.0 yes"]
    assert said["patients: specificity"] == ["<= 3", "4.0 **no**"]
    assert said["patients undetermined, slices <= 3 mm"] == ["<= 3", "4.0 **no**"]
    assert said["patients: kappa"] == ["<= 3", "-5.0 yes"]
    assert "height error, mean absolute, mm" not in said
