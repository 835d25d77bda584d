"""The figures as a page for people: the study's tables with ours beside them, then everything else per cohort."""

from collections.abc import Iterable, Sequence
from typing import Any

from ovcf_node.domain.levels import REPORTED
from ovcf_node.evaluate import study
from ovcf_node.evaluate.geometry import WIDE_MM
from ovcf_node.evaluate.statistics import kappa, wilson

Figures = dict[str, Any]
OTHER_GENERATORS = ("second", "third")
"""Cohorts of the study's case mix made otherwise: the study's tables are printed of them too."""
CARD_BEGINS, CARD_ENDS = "<!-- whole pipeline -->", "<!-- end of whole pipeline -->"


def page(result: dict[str, Any], preface: Sequence[str] = ()) -> str:
    """Return the whole report; `result` is what `run.summarise` builds, `preface` lines of who made the cohorts."""
    bundle, cohorts = result["bundle"], result["cohorts"]
    lines = [
        f"# Evaluation of {bundle['name']} {bundle['version']}", "",
        f"Bundle digest `{bundle['digest'][:16]}`, software {result['software']}, reading code `{result['code'][:16]}` (its "
        "digest: where it is the same, another run reads the same). Every figure comes from reading DICOM "
        "series with the node's own pipeline. **Cohorts of phantoms say nothing certain about patients.** Operating points "
        "are those of the bundle; its model card says how, and after seeing what, they were chosen.", "",
        "Shares show counts and Wilson's 95 % interval; intervals marked *p* come from resampling patients. A patient who "
        "was refused or left undetermined counts as an error (missed when fractured, false alarm when not), unless a row "
        "says *decided only*. Kappa is Cohen's, by Fleiss' bands: below 0.40 poor, above 0.75 excellent. Tables of "
        "vertebrae by level, severity and the like have Wilson's interval, as if each vertebra were its own patient's.", "",
        f"{sum(f['cases'] for f in cohorts.values())} cases took {number(result['minutes'], 1)} minutes of wall clock: "
        "making them (where the run makes them), reading, scoring; a stopped run's stretches are added up.", "",
        *preface,
    ]
    main = cohorts.get("study")
    if main:
        lines += ["## The study's tables, and ours on phantoms of the same case mix", ""]
        lines += [*study_tables(main, "phantoms"), ""]
    lines += ["## All cohorts", "", *_overview(cohorts), ""]
    for name, figures in cohorts.items():
        lines += _cohort(name, figures)
    return "\n".join(lines) + "\n"


def card(result: dict[str, Any], opening: Sequence[str] = ()) -> str:
    """Return the section of a model card that sums the evaluation up, between its marks; `opening` follows the heading."""
    return "\n".join([
        CARD_BEGINS, "## Whole pipeline, from DICOM", "", *opening,
        "Phantom series read by the node's own code (`EVALUATION.md` has everything, with the reference study's tables). "
        "`second` and, where it is read, `third` come from generators that nothing was trained on. Counts and Wilson 95 % "
        "intervals (*p*: resampling patients); refused and undetermined patients count as errors. Phantoms say nothing "
        "certain about patients.", "",
        *_overview(result["cohorts"]), CARD_ENDS,
    ])


def share(x: dict[str, Any] | None, patients: bool = False) -> str:
    """``0.933 (167/179, 0.886-0.961)`` for a cell."""
    if not x or x["value"] is None:
        return "no case"
    text = f"{x['value']:.3f} ({x['hits']}/{x['of']}, {x['low']:.3f}-{x['high']:.3f})"
    by = x.get("by_patient")
    return text + f" *p* {by[0]:.3f}-{by[1]:.3f}" if patients and by else text


def number(x: float | None, digits: int = 3) -> str:
    return "-" if x is None else f"{x:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        "| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(map(str, r)) + " |" for r in rows),
    ]


def _kappa(d: Figures, whose: str = "") -> str:
    return _spanned(d[f"{whose}kappa"], d[f"{whose}kappa_interval"])


def _spanned(x: float | None, span: Sequence[float] | None, digits: int = 3) -> str:
    """A figure with the interval that resampling patients gave it."""
    return number(x, digits) + (f" (*p* {span[0]:.{digits}f}-{span[1]:.{digits}f})" if span else "")


def _predictive(x: dict[str, Any] | None) -> str:
    return "-" if x is None else share(x)


def study_tables(ours: Figures, whose: str) -> list[str]:
    """Lines of the study's tables with `ours` beside them; the height rule only where true heights are known.

    whose  what our cases are, such as "phantoms"
    """
    ai, d, r = study.AI, ours["detection"], ours["reader"]
    rows = [
        ("true positive / false negative", f"{ai.tp} / {ai.fn}", f"{d['tp']} / {d['fn']}"),
        ("false positive / true negative", f"{ai.fp} / {ai.tn}", f"{d['fp']} / {d['tn']}"),
        ("sensitivity", _printed(ai.tp, ai.tp + ai.fn), share(d["sensitivity"])),
        ("specificity", _printed(ai.tn, ai.tn + ai.fp), share(d["specificity"])),
        ("accuracy", _printed(ai.tp + ai.tn, 220), share(d["accuracy"])),
        ("PPV", _printed(ai.tp, ai.tp + ai.fp), _predictive(d["ppv"])),
        ("NPV", _printed(ai.tn, ai.tn + ai.fn), _predictive(d["npv"])),
        ("kappa", f"{kappa(ai.table):.3f}", _kappa(d)),
    ]
    lines = ["**Table 1, detection by the AI.** Study: CT against MRI, 220 patients. "
             f"Ours: {whose}.", ""]
    lines += table(("", "study (patients)", f"this bundle ({whose})"), rows)
    if r:
        lines += _height_rule(r)
    return lines + _study_types(ours["types"], whose)


def _height_rule(r: Figures) -> list[str]:
    other = study.CONVENTIONAL
    conventional = [
        ("sensitivity", _printed(other.tp, 179), share(r["rule_sensitivity"])),
        ("specificity", _printed(other.tn, 41), share(r["rule_specificity"])),
        ("accuracy", _printed(other.tp + other.tn, 220) + "; printed 0.869", share(r["rule_accuracy"])),
        ("kappa", f"{kappa(other.table):.3f}", _kappa(r, "rule_")),
    ]
    lines = ["", "**Table 2, conventional reading.** Study: radiologists. Ours: the 20 % height rule with a caliper error "
              "of 6.4 points, a rule with noise and no radiologist; no claim over readers follows.", ""]
    lines += table(("", "study (patients)", "simulated height rule (phantoms)"), conventional)
    lines += ["", "McNemar's test on the same phantoms (patients that only one of the two has right):", ""]
    return lines + table(("", "only bundle", "only rule", "p"), (
        (n, r[n]["only_bundle"], r[n]["only_rule"], f"{r[n]['p']:.2g}") for n in ("accuracy", "sensitivity", "specificity")
    ))


def _study_types(t: Figures, whose: str) -> list[str]:
    typing = study.AI_TYPING
    lines = ["", "**Table 3, Denis types by the AI.** Of called is the study's way of counting; end to end counts the "
             "missed fractures too. The study's 170 typed cases include its 3 false positives, and every false positive of "
             "both its readings was typed D.", ""]
    recall = [f"{n} {a}/{b}" for n, a, b in zip(study.TYPES, study.AI_RIGHT, typing.true, strict=True)]
    lines += table(("", "study (patients)", f"this bundle ({whose})"), (
        ("right of called", _printed(typing.right, typing.total), share(t["of_called"])),
        ("right of detected", _printed(typing.right, study.AI.tp), share(t["of_detected"])),
        ("right of detected and typed", "-", share(t["of_typed"])),
        ("right of all fractures (end to end)", _printed(typing.right, 179), share(t["end_to_end"])),
        ("type withheld, of detected", "-", share(t["withheld"])),
        ("kappa of the types, of called", f"{typing.kappa:.3f}", _spanned(t["kappa_called"], t["kappa_called_interval"])),
        ("kappa of the types, of detected and typed", "-", _spanned(t["kappa_typed"], t["kappa_typed_interval"])),
        ("recall per type", ", ".join(recall), ", ".join(f"{n} {x['hits']}/{x['of']}" for n, x in t["recall"].items())),
        ("false positives typed", "D 3", ", ".join(f"{n} {k}" for n, k in t["false_positives_typed"].items() if k) or "-"),
    ))
    return [*lines, "", *_matrix(t), *_conventional_types(t, whose)]


def _conventional_types(t: Figures, whose: str) -> list[str]:
    """Table 4; what stands beside it is the bundle's reading once more, there being no other of ours."""
    right, called, other = study.CONVENTIONAL_RIGHT, study.CONVENTIONAL_TYPED_CALLED, study.CONVENTIONAL
    lines = ["", "**Table 4, Denis types by conventional reading.** Study: radiologists. No column is simulated: a height "
             "rule names no type, and one that did would be made up; beside the radiologists stands what the bundle reached "
             "in Table 3. The study's matrix sums to 156 of 158 called cases; its own chi-square fits 123/158, and its "
             "printed kappa 0.711 follows from no completion of the matrix (0.707-0.708; 0.720 as printed).", ""]
    return lines + table(("", "study (patients)", f"this bundle, from Table 3 ({whose})"), (
        ("right of called", _printed(right, called), share(t["of_called"])),
        ("right of detected", _printed(right, other.tp), share(t["of_detected"])),
        ("right of all fractures (end to end)", _printed(right, other.tp + other.fn), share(t["end_to_end"])),
        ("kappa of the types, of called", f"printed {study.PRINTED['conventional_denis_kappa']:.3f}",
         _spanned(t["kappa_called"], t["kappa_called_interval"])),
    ))


def _printed(hits: int, of: int) -> str:
    x = wilson(hits, of)
    return f"{x.value:.3f} ({hits}/{of}, {x.low:.3f}-{x.high:.3f})"


def _matrix(t: Figures) -> list[str]:
    return table(("said \\ true", *t["true"]), ((name, *row) for name, row in zip(t["said"], t["table"], strict=True)))


def _overview(cohorts: dict[str, Figures]) -> list[str]:
    picks = (
        ("patients (fractured)", lambda f: f"{f['cases']} ({f['fractured']})"),
        ("sensitivity", lambda f: share(f["detection"]["sensitivity"])),
        ("specificity", lambda f: share(f["detection"]["specificity"])),
        ("sensitivity, decided only", lambda f: share(f["detection_decided"]["sensitivity"])),
        ("specificity, decided only", lambda f: share(f["detection_decided"]["specificity"])),
        ("kappa", lambda f: _kappa(f["detection"])),
        ("PPV at this mix", lambda f: _predictive(f["detection"]["ppv"])),
        ("NPV at this mix", lambda f: _predictive(f["detection"]["npv"])),
        ("Denis of detected", lambda f: share(f["types"]["of_detected"])),
        ("Denis end to end", lambda f: share(f["types"]["end_to_end"])),
        ("vertebrae: sensitivity", lambda f: share(f["vertebrae"]["sensitivity"], True)),
        ("vertebrae: specificity", lambda f: share(f["vertebrae"]["specificity"], True)),
        ("vertebrae named right", lambda f: share(f["labels"]["vertebrae"])),
        ("every name right, patients without an extra or missing vertebra", lambda f: share(f["labels"]["patients"])),
        ("numbering uncertain, ordinary", lambda f: share(f["labels"]["uncertain_normal"])),
        ("numbering uncertain, sacralised or lumbarised", lambda f: share(f["labels"]["uncertain_lumbosacral"])),
        ("numbering uncertain, extra or missing vertebra or ribs", lambda f: share(f["labels"]["uncertain_transitional"])),
        (f"numbering uncertain, any of these variants in a field from {WIDE_MM:g} mm wide",
         lambda f: share(f["labels"]["uncertain_variants_wide"])),
        ("Dice T12-L5", lambda f: _spanned(f["overlap"]["dice_graded"], f["overlap"]["dice_graded_interval"])),
        ("Dice S1", lambda f: _spanned(f["overlap"]["dice_s1"], f["overlap"]["dice_s1_interval"])),
        ("height error, mean absolute, mm", lambda f: _spanned(
            f["heights"]["all"].get("mean_absolute"), f["heights"]["all"]["interval"], 2)),
        ("Genant grade, weighted kappa", lambda f: _spanned(f["genant"]["weighted_kappa"], f["genant"]["interval"])),
        ("height loss error, points", lambda f: number(f["heights"]["loss_points"].get("mean_absolute"), 1)),
        ("not assessed, slices <= 3 mm", lambda f: share(f["abstention"]["not_assessed"])),
        ("patients undetermined", lambda f: share(f["abstention"]["undetermined_patients"])),
        ("vertebrae undetermined", lambda f: share(f["abstention"]["undetermined_vertebrae"])),
        ("type withheld, of detected vertebrae", lambda f: share(f["abstention"]["type_withheld"])),
        ("seconds a case without opening the bundle, median", lambda f: number(f["seconds_median"], 1)),
    )
    return table(("", *cohorts), ((text, *(pick(f) for f in cohorts.values())) for text, pick in picks))


def _cohort(name: str, f: Figures) -> list[str]:
    lines = [f"## Cohort `{name}`", "", *_case_by_case(f["case_by_case"])]
    if f["refusals"]:
        lines += ["Refused: " + ", ".join(f"{k} {n}" for k, n in f["refusals"].items()) + ".", ""]
    for title, rows in f["groups"].items():
        if len(rows) > 1:
            lines += [*table((f"vertebrae by {title}", "sensitivity", "specificity"), (
                (k, share(v["sensitivity"]), share(v["specificity"])) for k, v in rows.items())), ""]
    levels = f["overlap"]["levels"]
    lines += [*table(("level", "named right", "Dice", "Dice, 5th percentile", "surface distance, mm"), (
        (k, share(f["labels"]["by_level"][k]), number(levels[k]["dice"]), number(levels[k]["dice_p5"]),
         number(levels[k]["surface_mm"], 2)) for k in REPORTED)), ""]
    lines += [*table(("error", "n", "mean absolute", "median absolute", "bias", "limits of agreement"), (
        (k, v["n"], number(v["mean_absolute"], 2), number(v["median_absolute"], 2), number(v["bias"], 2),
         " to ".join(number(x, 2) for x in v["limits_of_agreement"]))
        for k, v in f["heights"].items() if v["n"])), ""]
    if f["calibration"]:
        c = f["calibration"]
        lines += [f"Calibration of the vertebra's fracture probability: Brier {c['brier']:.4f}, ECE {c['ece']:.4f}, AUC "
                  f"{number(c['auc'])}, intercept {number(c['intercept'], 2)}, slope {number(c['slope'], 2)} "
                  f"({c['vertebrae']} vertebrae).", ""]
        lines += [*table(("said between", "vertebrae", "mean said", "observed"), (
            (f"{a:.1f}-{b:.1f}", n, number(s), number(o)) for a, b, n, s, o in c["bins"])), ""]
    why = f["abstention"]["why"]
    if why:
        lines += ["Reasons to abstain (vertebrae): " + ", ".join(f"{k} {n}" for k, n in sorted(why.items())) + ".", ""]
    if name in OTHER_GENERATORS:
        lines += [*study_tables(f, f"phantoms of the {name} generator"), ""]
    elif name != "study":
        lines += ["Denis types of patients:", "", *_matrix(f["types"]), ""]
    return lines + _failures(f["failures"])


def _case_by_case(rows: list[dict[str, Any]]) -> list[str]:
    """Every vertebra of a small cohort."""
    if not rows:
        return []
    said = {True: "fracture", False: "no fracture", None: "undetermined"}
    head = ("case", "level", "truth", "said at its place", "probability", "named right", "Dice", "surface, mm")
    return [*table(head, (
        (r["case"], r["level"], said[r["fracture"]], said[r["said"]] if r["seen"] else "not seen",
         number(r["probability"], 2), "yes" if r["named_right"] else "no", number(r["dice"]), number(r["surface_mm"], 2))
        for r in rows
    )), ""]


def _failures(failures: list[dict[str, Any]]) -> list[str]:
    if not failures:
        return ["No case with an error.", ""]
    rows = ((x["case"], f"{x['facts'].get('slice_mm', '-')} mm", "; ".join(x["what"])) for x in failures)
    about = "Cases with any error (`models evaluate` leaves pictures of those that were read in its `pictures/`):"
    return [about, "", *table(("case", "slices", "what"), rows), ""]
