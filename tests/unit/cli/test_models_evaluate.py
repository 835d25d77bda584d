"""`ovcf-node models evaluate`: a folder of cases in, a report out; what was scored once is not read again."""

import json
import shutil

from typer.testing import CliRunner

from ovcf_node.cli import app
from quick_study import label_bundle, write_study


def write_case(folder, **truth):
    """Write a healthy case; where its vertebra lies matters to nothing here."""
    write_study(folder / "ct", folder.name)
    vertebra = {"level": "L1", "centre_mm": [0, 0, 0], "fracture": False}
    (folder / "truth.json").write_text(json.dumps({"cohort": "mine", "vertebrae": [vertebra], **truth}))


def evaluate(*arguments):
    return CliRunner().invoke(app, ["models", "evaluate", *map(str, arguments)])


def test_a_second_run_reads_only_what_is_new(tmp_path):
    bundle, cohort, out = label_bundle(tmp_path / "bundle"), tmp_path / "cohort", tmp_path / "out"
    write_case(cohort / "one", facts={"slice_mm": 4.0})
    first = evaluate(bundle, cohort, "--out", out, "--threads", 1)
    assert first.exit_code == 0, first.output
    assert "1/1 one" in first.stderr and first.stdout == (out / "EVALUATION.md").read_text() + "\n"
    assert "# Evaluation of ovcf-reference" in first.stdout and "| patients (fractured) | 1 (0) |" in first.stdout
    record = (out / "records.jsonl").read_text()
    assert json.loads(record)["status"] == "limited"  # it was read, and its slices are thick

    shutil.rmtree(cohort / "one" / "ct")  # whoever reads it again finds nothing
    write_case(cohort / "two")
    second = evaluate(bundle, cohort, "--out", out, "--threads", 1)
    assert second.exit_code == 0, second.output
    assert (out / "records.jsonl").read_text().startswith(record)
    assert "| patients (fractured) | 2 (0) |" in second.stdout
    assert json.loads((out / "evaluation.json").read_text())["cohorts"]["mine"]["cases"] == 2


def test_what_became_of_a_case_since_it_was_read_is_noticed(tmp_path):
    bundle, cohort, out = label_bundle(tmp_path / "bundle"), tmp_path / "cohort", tmp_path / "out"
    for name in ("one", "two"):
        write_case(cohort / name, complete=False)
    said = lambda: evaluate(bundle, cohort, "--out", out, "--threads", 1).stdout  # noqa: E731
    assert "| patients (fractured) | 2 (0) |" in said()
    truth = cohort / "one" / "truth.json"
    truth.write_text(truth.read_text().replace("false}", "true}"))
    assert "| patients (fractured) | 2 (1) |" in said()
    shutil.rmtree(cohort / "two")
    assert "| patients (fractured) | 1 (1) |" in said()

    write_case(cohort / "elsewhere" / "one")
    twice = evaluate(bundle, cohort, "--out", out)
    assert twice.exit_code == 1 and "case one is there twice in the cohort mine" in twice.stderr


def test_a_case_that_cannot_be_used_is_named(tmp_path):
    bundle, cohort = label_bundle(tmp_path / "bundle"), tmp_path / "cohort"
    cohort.mkdir()
    empty = evaluate(bundle, cohort, "--out", tmp_path / "out")
    assert empty.exit_code == 1 and "no truth.json" in empty.stderr
    write_case(cohort / "one", vertebrae=[{"level": "L1"}])
    wrong = evaluate(bundle, cohort, "--out", tmp_path / "out")
    assert wrong.exit_code == 1 and "case one" in wrong.stderr
    (cohort / "one" / "truth.json").write_text("{")
    torn = evaluate(bundle, cohort, "--out", tmp_path / "out")
    assert torn.exit_code == 1 and "case one" in torn.stderr
