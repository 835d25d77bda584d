"""Scoring one case, the figures over records, resuming, and the page: on readings whose every error is planted."""

import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ovcf_node.domain.findings import BundleIdentity, Findings, Genant, Heights, PatientFinding, VertebraFinding
from ovcf_node.domain.levels import GRADED, REPORTED, mask_value
from ovcf_node.domain.reasons import Reason
from ovcf_node.domain.volume import Masks
from ovcf_node.errors import Permanent
from ovcf_node.evaluate import code, figures, markdown, run, statistics, study, truth
from ovcf_node.evaluate.mistakes import contradictions, errors
from ovcf_node.evaluate.reader import reads_fracture
from ovcf_node.evaluate.score import compare, overlap
from ovcf_node.workflow.reading import Read

BUNDLE = Path(__file__).resolve().parents[3] / "models" / "reference"
CENTRES = {level: (0.0, 0.0, 200.0 - 33.0 * i) for i, level in enumerate(REPORTED)}


def true_case(broken: dict[str, str] | None = None, name="one", cohort="study", **other) -> truth.TrueCase:
    broken = broken or {}
    vertebrae = tuple(
        truth.TrueVertebra(
            level, CENTRES[level], level in broken, broken.get(level), False, 0.22 if level in broken else 0.0,
            {"anterior": 25.0, "middle": 24.0, "posterior": 26.0}, None,
        ) for level in REPORTED
    )
    facts = {"slice_mm": 1.0, "step_mm": 1.0, "row_mm": 1.0, "column_mm": 1.0}
    return truth.TrueCase(**{
        "name": name, "cohort": cohort, "vertebrae": vertebrae, "variant": "none", "named": True, "complete": True,
        "facts": facts, "labels": None, **other,
    })


def reading(said: dict[str, str | None] | None = None, *, ovcf="auto", shift=0.0, status="assessed", masks=None) -> Read:
    """A reading that calls the levels in `said` fractured, of that type."""
    said = said or {}
    vertebrae = tuple(
        VertebraFinding(
            level, True, fracture=None if level == "S1" else level in said, probability=None if level == "S1" else
            0.9 if level in said else 0.1, denis=said.get(level), heights_mm=Heights(25.5, 24.0, 26.0),
            abstain=Reason("low_confidence", "x") if level in said and said[level] is None else None,
            centroid_mm=(shift, 0.0, CENTRES[level][2]), height_loss=0.2 if level in said else 0.02,
        ) for level in REPORTED
    ) if status == "assessed" else ()
    patient = PatientFinding(bool(said) if ovcf == "auto" else ovcf, 0.9 if said else 0.1)
    reasons = () if status == "assessed" else (Reason("metal", "metal"),)
    findings = Findings(status, reasons, patient if status == "assessed" else PatientFinding(), vertebrae,
                        numbering_uncertain=False, bundle=BundleIdentity("b", "1", "d", "research"))
    return Read(findings, masks, (), None)


def test_errors_tell_a_vertebra_that_was_missed_from_one_left_open_and_one_not_graded():
    case = true_case({"T12": "B"})
    read = reading()
    unread = replace(read.findings, vertebrae=tuple(v for v in read.findings.vertebrae if v.level != "T12"))
    left_open = replace(read.findings, vertebrae=tuple(
        replace(v, fracture=None) if v.level == "T12" else v for v in read.findings.vertebrae
    ))
    for findings, word in ((read.findings, "missed"), (left_open, "undetermined"), (unread, "not graded")):
        assert f"T12 {word} (B, loss 22%)" in errors(compare(case, replace(read, findings=findings), 1.0))


def test_a_right_reading_has_no_error():
    record = compare(true_case({"L1": "B"}), reading({"L1": "B"}), 1.0)
    assert errors(record) == []
    assert (record["fracture"], record["said_fracture"], record["denis"], record["said_denis"]) == (True, True, "B", "B")
    assert record["vertebrae"][1]["height_error_mm"] == {"anterior": 0.5, "middle": 0.0, "posterior": 0.0}


@pytest.mark.parametrize(("case", "read", "words"), [
    (true_case({"L1": "B"}), reading(), "truth fracture, said no fracture"),
    (true_case(), reading({"L2": "D"}), "L2 false fracture (plain)"),
    (true_case({"L1": "B"}), reading({"L1": None}), "truth type B, said withheld"),
    (true_case({"L1": "B"}), reading({"L1": "A"}), "truth type B, said A"),
    (true_case(), reading(shift=13.0), "names: T12, L1"),
    (true_case(), reading(status="not_assessed"), "not_assessed: metal"),
    (true_case(variant="L6"), reading(), "L6: numbering not called uncertain"),
])
def test_every_error_is_named(case, read, words):
    assert words in "; ".join(errors(compare(case, read, 1.0)))


def test_a_wrong_type_is_told_once_and_never_hidden_by_another_vertebra():
    lone = compare(true_case({"L1": "B"}), reading({"L1": "C"}), 1.0)
    assert errors(lone) == ["truth type B, said C"]
    louder = reading({"L1": "C", "L3": "B"})
    vertebrae = tuple(replace(v, probability=0.99) if v.level == "L3" else v for v in louder.findings.vertebrae)
    hidden = compare(true_case({"L1": "B"}), replace(louder, findings=replace(louder.findings, vertebrae=vertebrae)), 1.0)
    assert hidden["said_denis"] == "B", "the patient's type is right by a false alarm"
    assert errors(hidden) == ["L1 type B, said C", "L3 false fracture (plain)"]


def test_a_level_without_an_answer_is_an_error_and_no_contradiction():
    read = reading()
    unread = replace(read.findings, vertebrae=tuple(v for v in read.findings.vertebrae if v.level != "L2"))
    record = compare(true_case(), replace(read, findings=unread), 1.0)
    assert "L2 not graded (plain)" in errors(record) and "L2" not in "; ".join(contradictions(record)[1:])


def test_of_a_cut_field_the_vertebrae_count_that_have_a_truth():
    case = true_case()
    parts = tuple(truth.TrueVertebra("T12", CENTRES["T12"]) if v.level == "T12" else v for v in case.vertebrae)
    case = replace(case, vertebrae=parts, complete=False, facts={**case.facts, "kind": "cut"})
    record = compare(case, reading({"L3": "D"}, ovcf=None), 1.0)
    record["vertebrae"][0]["dice"], record["vertebrae"][1]["dice"] = 0.1, 0.9
    found = figures.summary([record])
    quiet = found["groups"]["kind"]["cut"]["specificity"]
    assert (quiet["hits"], quiet["of"]) == (4, 5)
    assert found["overlap"]["levels"]["T12"]["n"] == 0 and found["overlap"]["levels"]["L1"]["n"] == 1
    assert found["detection"]["tn"] + found["detection"]["fp"] == 0, "the patient has no truth"


def failures(case, read) -> str:
    return "; ".join(w for f in figures.summary([compare(case, read, 1.0)])["failures"] for w in f["what"])


def doubted(read):
    return replace(read, findings=replace(read.findings, numbering_uncertain=True))


def test_doubt_of_a_variant_counts_again_where_the_field_shows_the_ribs():
    def record(variant, width, read):
        case = true_case(variant=variant)
        return compare(replace(case, facts={**case.facts, "field_mm": width}), read, 1.0)

    rows = [record("T13", 149, reading()), record("T13", 150, doubted(reading())), record("lumbarised", 300, reading()),
            record("none", 300, doubted(reading()))]
    found = figures.summary(rows)["labels"]
    every, wide = (found[name] for name in ("uncertain_transitional", "uncertain_variants_wide"))
    assert (every["hits"], every["of"]) == (wide["hits"], wide["of"]) == (1, 2)


def test_numbering_that_is_doubted_or_trusted_wrongly_is_a_failure():
    assert "uncertain" not in failures(true_case(), reading())
    assert failures(true_case(), doubted(reading())) == "numbering called uncertain without a cause"
    assert failures(true_case(variant="lumbarised"), reading()) == "lumbarised: numbering not called uncertain"
    assert failures(true_case(variant="lumbarised"), doubted(reading())) == ""
    assert failures(true_case(variant="sacralised"), doubted(reading(shift=13.0))).startswith("names: T12, L1")


def test_a_cohort_of_extra_vertebrae_alone_has_a_page():
    found = figures.summary([compare(true_case(variant="T13"), doubted(reading()), 1.0)])
    assert found["overlap"]["dice_graded_interval"] is None and found["heights"]["all"]["interval"] is None
    result = {"bundle": {"name": "b", "version": "1", "digest": "d" * 64}, "software": "s", "code": "c", "minutes": None}
    assert "no case" in markdown.page({**result, "cohorts": {"x": found}})


def test_a_whole_vertebra_without_an_answer_and_a_further_type_are_failures():
    read = reading({"L1": "B", "L3": "A"})
    vertebrae = tuple(
        replace(v, fracture=None) if v.level == "L5" else v for v in read.findings.vertebrae if v.level != "T12"
    )
    said = failures(true_case({"L1": "B", "L3": "C"}), replace(read, findings=replace(read.findings, vertebrae=vertebrae)))
    assert "L5 undetermined (plain)" in said and "T12 not graded (plain)" in said
    assert "L3 type C, said A" in said and "L1 type" not in said
    assert failures(true_case({"L1": "B"}), reading({"L1": "A"})) == "truth type B, said A"  # once


def test_names_of_a_cut_field_are_no_failure():
    assert failures(true_case(variant="lumbarised", complete=False), reading()) == ""


def test_a_fracture_at_the_place_under_another_name_is_seen_there():
    case, read = true_case({"L1": "B"}), reading({"L2": "B"})
    moved = tuple(replace(v, centroid_mm=(0.0, 0.0, v.centroid_mm[2] + 33.0)) for v in read.findings.vertebrae)
    record = compare(case, Read(replace(read.findings, vertebrae=moved), None, (), None), 1.0)
    first = next(v for v in record["vertebrae"] if v["level"] == "L1")
    assert first["said"]["fracture"] is False and first["place"]["level"] == "L2" and first["place"]["fracture"] is True
    assert len(record["others"]) == 7


def test_overlap_of_a_shifted_box():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:15, 5:15] = mask_value("L1")
    ours = np.full((10, 10, 10), mask_value("L1"), np.uint8)
    masks = Masks(ours, np.zeros_like(ours), (6, 5, 5), labels.shape)
    found = overlap(labels, masks, mask_value("L1"), {"step_mm": 2.0, "row_mm": 1.0, "column_mm": 1.0})
    assert found["dice"] == pytest.approx(0.9)
    assert 0.3 < found["surface_mm"] < 2.0
    assert overlap(labels, masks, mask_value("L2"), {}) == {"dice": None, "surface_mm": None}


def test_surface_distance_is_the_mean_over_both_surfaces_also_at_the_border():
    """Against every pair of surface voxels."""
    rng = np.random.default_rng(3)
    shape, spacing = (9, 12, 11), np.array([2.5, 0.7, 0.9])
    theirs, ours = (ndimage.gaussian_filter(rng.normal(size=shape), 2) > 0 for _ in range(2))
    assert theirs[0].any() and ours[:, :, -1].any(), "one touches the border"
    rims = [np.argwhere(m & ~ndimage.binary_erosion(np.pad(m, 1))[1:-1, 1:-1, 1:-1]) * spacing for m in (ours, theirs)]
    pairs = np.linalg.norm(rims[0][:, None] - rims[1][None], axis=-1)
    wanted = np.concatenate([pairs.min(0), pairs.min(1)]).mean()
    masks = Masks(ours * np.uint8(mask_value("L3")), np.zeros(shape, np.uint8), (0, 0, 0), shape)
    facts = dict(zip(("step_mm", "row_mm", "column_mm"), spacing.tolist(), strict=True))
    assert overlap(theirs * np.uint8(mask_value("L3")), masks, mask_value("L3"), facts)["surface_mm"] == round(wanted, 3)


def cohort():
    plan = [({"L1": "B"}, {"L1": "B"}), ({"L2": "A"}, {"L2": "B"}), ({"T12": "D"}, None), ({}, None), ({}, {"L4": "D"})]
    rows = [compare(true_case(t, name=f"c{i}"), reading(s), 2.0) for i, (t, s) in enumerate(plan)]
    rows.append(compare(true_case({"L3": "C"}, name="refused"), reading(status="not_assessed"), 2.0))
    rows.append(compare(true_case(name="unsure"), reading(ovcf=None), 2.0))
    return rows


def test_refused_and_undetermined_patients_are_errors_in_the_main_table():
    found = figures.summary(cohort())
    main, decided = found["detection"], found["detection_decided"]
    assert (main["tp"], main["fn"], main["fp"], main["tn"]) == (2, 2, 2, 1)
    assert (decided["tp"], decided["fn"], decided["fp"], decided["tn"], decided["left_out"]) == (2, 1, 1, 1, 2)
    assert found["types"]["of_detected"]["hits"] == 1 and found["types"]["of_detected"]["of"] == 2
    assert found["types"]["end_to_end"]["of"] == 4
    assert found["types"]["false_positives_typed"]["D"] == 1
    assert found["labels"]["patients"]["hits"] == 6 and found["labels"]["patients"]["of"] == 7
    assert found["abstention"]["not_assessed"]["hits"] == 1 and found["abstention"]["undetermined_patients"]["hits"] == 1
    assert {f["case"] for f in found["failures"]} == {"c1", "c2", "c4", "refused", "unsure"}
    assert found["heights"]["anterior"]["mean_absolute"] == pytest.approx(0.5)


def test_the_page_puts_the_study_beside_ours():
    result = {"bundle": {"name": "b", "version": "1", "digest": "d" * 64, "status": "research"}, "software": "s",
              "code": "c" * 64, "minutes": None,
              "cohorts": {"study": figures.summary(cohort()), "second": figures.summary(cohort()[:3])}}
    page = markdown.page(result)
    assert "right of all fractures (end to end) | 0.687 (123/179" in page
    for words in ("phantoms", "0.933 (167/179, 0.886-0.961)", "0.500 (2/4", "every false positive of", "no radiologist"):
        assert words in page
    assert "nothing certain about patients" in page


def test_patients_of_one_kind_have_no_kappa_and_no_predictive_value():
    sound = [r for r in cohort() if not r["fracture"]]
    found = figures.summary(sound)["detection"]
    assert (found["fp"], found["tn"]) == (2, 1) and found["specificity"]["of"] == 3
    assert (found["kappa"], found["kappa_interval"], found["ppv"], found["npv"]) == (None, None, None, None)
    assert figures.paired(sound)["rule_kappa"] is None
    result = {"bundle": {"name": "b", "version": "1", "digest": "d" * 64, "status": "research"}, "software": "s",
              "code": "c" * 64, "minutes": None, "cohorts": {"negatives": figures.summary(sound)}}
    page = markdown.page(result)
    assert "| kappa | - |" in page and "| PPV at this mix | - |" in page and "| NPV at this mix | - |" in page


def test_the_kappa_of_the_types_counts_what_the_study_counts():
    said = [({"L1": "A"}, {"L1": "A"}), ({"L1": "B"}, {"L1": "B"}), ({"L1": "C"}, {"L1": None}), ({"L1": "D"}, {"L1": "B"}),
            ({}, {"L1": "D"}), ({}, {}), ({"L1": "A"}, {})]
    found = figures.types([compare(true_case(true, name=str(n)), reading(read), 1.0) for n, (true, read) in enumerate(said)])
    # Called: said A, B, withheld, B, D; true A, B, C, D, none. Two of five agree, by chance (1 + 2 + 1) / 25.
    assert found["kappa_called"] == pytest.approx((0.4 - 0.16) / (1 - 0.16))
    # Detected and typed: said A, B, B; true A, B, D.
    assert found["kappa_typed"] == pytest.approx((2 / 3 - 3 / 9) / (1 - 3 / 9))
    assert study.AI_TYPING.kappa == pytest.approx(0.852, abs=1e-3)


def test_a_cohort_counted_by_hand():
    """Eight patients: right, wrong type, type withheld, missed; quiet, false alarm, left open; refused."""
    cases = [
        ({"L1": "B"}, reading({"L1": "B"})), ({"L1": "B"}, reading({"L1": "A"})), ({"L2": "C"}, reading({"L2": None})),
        ({"L3": "D"}, reading()), ({}, reading()), ({}, reading({"L2": "D"})), ({}, reading(ovcf=None)),
        ({"T12": "A"}, reading(status="not_assessed")),
    ]
    found = figures.summary([compare(true_case(true, name=str(n)), read, 1.0) for n, (true, read) in enumerate(cases)])
    counted = lambda group, *names: [(found[group][n]["hits"], found[group][n]["of"]) for n in names]  # noqa: E731
    assert [found["detection"][n] for n in ("tp", "fn", "fp", "tn")] == [3, 2, 2, 1]
    assert [found["detection_decided"][n] for n in ("tp", "fn", "fp", "tn", "left_out")] == [3, 1, 1, 1, 2]
    assert found["detection"]["kappa"] == pytest.approx((4 / 8 - 34 / 64) / (1 - 34 / 64))
    assert counted("types", "of_called", "of_detected", "end_to_end", "of_typed", "withheld") == [
        (1, 4), (1, 3), (1, 5), (1, 2), (1, 3)]
    assert [(found["types"]["recall"][n]["hits"], found["types"]["recall"][n]["of"]) for n in "ABCD"] == [
        (0, 0), (1, 2), (0, 1), (0, 0)]
    assert [(found["types"]["precision"][n]["hits"], found["types"]["precision"][n]["of"]) for n in "ABCD"] == [
        (0, 1), (1, 1), (0, 0), (0, 1)]
    assert counted("vertebrae", "sensitivity", "specificity", "type_of_detected") == [(3, 5), (37, 43), (1, 3)]
    assert found["vertebrae"]["false_alarms_per_patient"] == 1 / 8
    assert counted("abstention", "not_assessed", "undetermined_patients", "undetermined_vertebrae", "type_withheld") == [
        (1, 8), (1, 8), (6, 48), (1, 4)]
    assert [b[2:] for b in found["calibration"]["bins"]] == [
        (38, pytest.approx(0.1), 1 / 38), (4, pytest.approx(0.9), 3 / 4)]
    assert found["calibration"]["brier"] == pytest.approx((37 * 0.01 + 0.81 + 3 * 0.01 + 0.81) / 42)
    heights = found["heights"]["all"]  # 126 heights, a third of them 0.5 mm too high
    spread = 1.96 * np.sqrt((0.25 / 3 - 1 / 36) * 126 / 125)
    assert heights["mean_absolute"] == heights["bias"] == pytest.approx(1 / 6)
    assert heights["limits_of_agreement"] == pytest.approx([1 / 6 - spread, 1 / 6 + spread])
    # Said 20 % of three that lost 22, and of one that lost nothing; 2 % of one that lost 22 and of 44 that lost nothing.
    assert found["heights"]["loss_points"]["mean_absolute"] == pytest.approx((3 * 2 + 20 + 20 + 44 * 2) / 49)
    assert found["heights"]["loss_points_lost_10_percent"]["mean_absolute"] == pytest.approx((3 * 2 + 20) / 4)


def test_intervals_and_percentiles_are_those_they_are_called():
    low, high = statistics.clustered(np.array([(k % 2, 1) for k in range(100)]), statistics.ratio)
    assert (low, high) == (pytest.approx(0.40, abs=0.012), pytest.approx(0.60, abs=0.012))  # 0.5 -+ 1.96 x 0.05
    rows = [compare(true_case(name=str(n)), reading(), 1.0) for n in range(21)]
    for n, row in enumerate(rows):
        row["vertebrae"][1] |= {"dice": 0.80 + 0.01 * n, "surface_mm": 1.0}
    found = figures.summary(rows)["overlap"]["levels"]["L1"]
    assert (found["n"], found["dice"], found["dice_p5"]) == (21, pytest.approx(0.90), pytest.approx(0.81))


def test_genant_grades_stand_where_they_belong():
    case, read = true_case({"L1": "B"}), reading({"L1": "B"})
    vertebrae = tuple(replace(v, genant=Genant(2, False) if v.level == "L1" else Genant(0, False))
                      for v in read.findings.vertebrae)
    found = figures.summary([compare(case, replace(read, findings=replace(read.findings, vertebrae=vertebrae)), 1.0)])
    assert found["genant"]["table"] == [[5, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]  # said 2 of a loss of 22 %


def test_the_simulated_reader_has_a_kappa(monkeypatch):
    rows = cohort()
    said = [True, True, True, False, True, False, False]  # 3 of 4 fractures, 2 of 3 others
    monkeypatch.setattr(figures.reader, "reads_fracture", lambda r: said[[x["case"] for x in rows].index(r["case"])])
    found = figures.paired(rows)
    assert (found["rule_sensitivity"]["hits"], found["rule_specificity"]["hits"]) == (3, 2)
    assert found["rule_kappa"] == pytest.approx((5 / 7 - 25 / 49) / (1 - 25 / 49))
    assert f"| kappa | 0.612 | {found['rule_kappa']:.3f} (*p* " in "\n".join(markdown.study_tables(
        figures.summary(rows), "phantoms"))


def test_the_simulated_reader_follows_the_height_rule():
    flat = compare(true_case(name="flat"), reading(), 1.0)
    crushed = compare(true_case({"L2": "A"}, name="crushed"), reading(), 1.0)
    for row in crushed["vertebrae"]:
        if row["level"] == "L2":
            row["heights_mm"] = {"anterior": 12.0, "middle": 12.0, "posterior": 20.0}
    assert reads_fracture(flat) is reads_fracture(flat)  # one patient, one answer
    assert reads_fracture(crushed) is True
    assert reads_fracture({**flat, "vertebrae": []}) is None


def test_records_resume_and_refuse_another_bundle(tmp_path):
    records = run.Records(tmp_path, BUNDLE)
    for row in cohort()[:2]:
        records.add({**row, "bundle": records.digest})
    with records.path.open("a") as stream:
        stream.write('{"case": "torn')
    again = run.Records(tmp_path, BUNDLE)
    assert [r["case"] for r in again.rows] == ["c0", "c1"] and ("study", "c1") in again.done
    again.add({**cohort()[2], "bundle": again.digest})
    assert [r["case"] for r in run.Records(tmp_path, BUNDLE).rows] == ["c0", "c1", "c2"]
    result = run.write_report(again, BUNDLE, tmp_path, lambda result: [f"{result['cohorts']['study']['cases']} in front"])
    assert json.loads((tmp_path / "evaluation.json").read_text())["cohorts"]["study"]["cases"] == 3
    assert result["cohorts"]["study"]["fractured"] == 3 and "Table 1" in (tmp_path / "EVALUATION.md").read_text()
    assert "3 in front" in (tmp_path / "EVALUATION.md").read_text().partition("Table 1")[0]
    other = records.path.read_text().replace(records.digest, "0" * 64)
    records.path.write_text(other)
    with pytest.raises(Permanent, match="another bundle"):
        run.Records(tmp_path, BUNDLE)


def test_a_bundle_that_changes_meanwhile_ends_the_run(tmp_path):
    records = run.Records(tmp_path, BUNDLE)
    with pytest.raises(Permanent, match="now than when"):
        records.add({**cohort()[0], "bundle": "0" * 64})
    assert not records.path.exists()


def test_a_bundle_is_opened_once_for_all_cases(tmp_path, monkeypatch):
    opened, given, scoring = [], [], import_module("ovcf_node.evaluate.score")
    monkeypatch.setattr("ovcf_node.infer.load", lambda folder, **options: opened.append(folder) or object())
    monkeypatch.setattr(scoring, "read", lambda folder: true_case())
    (tmp_path / "bundle.toml").write_text(manifest := (BUNDLE / "bundle.toml").read_text())

    def reads(paths, folder, rules, inference, *, load):
        given.append(load(folder, providers=inference.providers, threads=inference.threads))
        return reading()

    monkeypatch.setattr(scoring, "read_series", reads)
    for _ in range(2):
        scoring.score(tmp_path, tmp_path)
    assert len(opened) == 1 and given[0] is given[1]
    (tmp_path / "bundle.toml").write_text(manifest + "# another\n")
    scoring.score(tmp_path, tmp_path)
    assert len(opened) == 2 and given[2] is not given[0]


def test_records_of_other_code_are_made_again(tmp_path, monkeypatch):
    records = run.Records(tmp_path, BUNDLE)
    for row in cohort()[:2]:
        records.add({**row, "bundle": records.digest})
    lines = records.path.read_text().splitlines()
    before_there_was_one = {name: value for name, value in json.loads(lines[0]).items() if name != "code"}
    records.path.write_text("".join(line + "\n" for line in (json.dumps(before_there_was_one), lines[1])))
    assert run.Records(tmp_path, BUNDLE).done == {("study", "c1")}
    monkeypatch.setattr(code, "digest", lambda: "f" * 64)
    again = run.Records(tmp_path, BUNDLE)
    assert not again.rows and not again.done and again.outdated == 2
    again.add({**cohort()[0], "bundle": again.digest})
    kept = [json.loads(line) for line in again.path.read_text().splitlines()]
    assert [row["case"] for row in kept] == ["c0", "c1", "c0"] and kept[-1]["code"] == "f" * 64
    assert [row["case"] for row in run.Records(tmp_path, BUNDLE).rows] == ["c0"]
    result = run.write_report(again, BUNDLE, tmp_path)
    assert result["code"] == "f" * 64 and result["cohorts"]["study"]["cases"] == 1
    assert "reading code `ffffffffffffffff`" in (tmp_path / "EVALUATION.md").read_text()


def test_the_digest_of_the_code_is_that_of_what_reads(tmp_path):
    package = Path(shutil.copytree(Path(code.__file__).parents[1], tmp_path / "package"))
    assert code.digest_of(package) == code.digest()
    (package / "report" / "wording.py").write_text("# says nothing of a reading\n")
    assert code.digest_of(package) == code.digest()
    with (package / "infer" / "usual.py").open("a") as stream:
        stream.write("# another word\n")
    assert code.digest_of(package) != code.digest()


def test_the_wall_clock_is_the_sum_over_runs(tmp_path, monkeypatch):
    clock = iter([0.0, 60.0, 90.0, 1000.0, 1030.0])  # a run with two cases, later one with a third
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))
    first = run.Records(tmp_path, BUNDLE)
    for row in cohort()[:2]:
        first.add({**row, "bundle": first.digest})
    again = run.Records(tmp_path, BUNDLE)
    again.add({**cohort()[2], "bundle": again.digest})
    assert run.write_report(again, BUNDLE, tmp_path)["minutes"] == pytest.approx(2.0)
    assert "3 cases took 2.0 minutes of wall clock" in (tmp_path / "EVALUATION.md").read_text()


def test_truth_that_cannot_be_read_names_the_case(tmp_path):
    with pytest.raises(Permanent, match="no truth"):
        truth.cases(tmp_path)
    case = tmp_path / "case7"
    case.mkdir()
    vertebra = {"level": "L1", "centre_mm": [0, 1, 2], "fracture": True, "denis": "B"}
    for text in ("{", '{"vertebrae": [{"level": "L1"}]}', json.dumps({"vertebrae": [{**vertebra, "denis": "E"}]})):
        (case / "truth.json").write_text(text)
        with pytest.raises(Permanent, match="case7"):
            truth.read(case)
    (case / "truth.json").write_text(json.dumps({"vertebrae": [vertebra]}))
    read = truth.read(case)
    assert read.fracture is True and read.denis == "B" and read.labels is None and read.cohort == tmp_path.name


def test_the_studys_case_mix_sums_to_its_patients():
    assert sum(study.CASE_MIX.values()) == study.AI.table.sum() == 220


def test_the_card_holds_the_summary_between_its_marks():
    result = {"bundle": {"name": "b", "version": "1", "digest": "d" * 64, "status": "research"}, "software": "s",
              "code": "c" * 64, "cohorts": {"study": figures.summary(cohort())}}
    text = markdown.card(result)
    assert text.startswith(markdown.CARD_BEGINS) and text.endswith(markdown.CARD_ENDS) and "0.500 (2/4" in text


def truth_of(tmp_path, *vertebrae, **case):
    folder = tmp_path / "case"
    folder.mkdir(exist_ok=True)
    rows = [{"centre_mm": [0, 0, 0], "fracture": False, **v} for v in vertebrae]
    (folder / "truth.json").write_text(json.dumps({"vertebrae": rows, **case}))
    return truth.read(folder)


@pytest.mark.parametrize("wrong", [
    {"level": "l1"}, {"level": "L1", "fracture": "no"}, {"level": "L1", "old_deformity": "x"},
    {"level": "L1", "height_loss": -0.01}, {"level": "L1", "height_loss": 20}, {"level": "L1", "denis": "b"},
    {"level": "L1", "heights_mm": {"anterior": 20.0}},
    {"level": "L1", "heights_mm": {"anterior": 20.0, "middle": None, "posterior": 20.0}},
])
def test_a_truth_that_means_nothing_is_refused_with_its_name(tmp_path, wrong):
    with pytest.raises(Permanent, match="case case"):
        truth_of(tmp_path, wrong)
    with pytest.raises(Permanent, match="each once"):
        truth_of(tmp_path)


def test_a_patient_is_whole_only_where_every_level_is_known_to_be(tmp_path):
    levels = [{"level": level} for level in GRADED]
    assert truth_of(tmp_path, {"level": "T11", "fracture": True}, *levels, {"level": "S1"}).fracture is False
    assert truth_of(tmp_path, *levels, {"level": "S1", "fracture": None}, variant="sacralised").fracture is False
    assert truth_of(tmp_path, *levels[:-1]).fracture is None
    assert truth_of(tmp_path, *levels[:-1], complete=False).fracture is False
    assert truth_of(tmp_path, *levels[:-1], {"level": "L5", "fracture": None}).fracture is None
    assert truth_of(tmp_path, {"level": "L1", "fracture": True}, {"level": "L5", "fracture": None}).fracture is True
    assert truth_of(tmp_path, *levels, {"level": "L6", "fracture": True}, variant="L6").fracture is True


def test_labels_on_another_grid_are_an_error_that_names_the_case():
    masks = Masks(np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), (0, 0, 0), (20, 20, 20))
    with pytest.raises(Permanent, match="case one: labels of"):
        compare(true_case(labels=np.zeros((20, 20, 10), np.uint8)), reading(masks=masks), 1.0)
