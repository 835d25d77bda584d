"""From records of cases to the figures of one cohort: plain JSON, every share with its counts and interval.

A patient that was refused or left undetermined counts as an error in `detection`: as missed when there is a fracture, as
a false alarm when there is none. `detection_decided` leaves those patients out. Vertebrae are matched by name, and by
place where numbering is not ordinary or names are not certain.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ovcf_node.domain.levels import GRADED
from ovcf_node.evaluate import reader
from ovcf_node.evaluate.geometry import case_by_case, genant, heights, labels, overlaps
from ovcf_node.evaluate.mistakes import errors, said_of
from ovcf_node.evaluate.statistics import (
    Share,
    auc,
    calibration,
    clustered,
    kappa,
    kappa_of_table,
    mcnemar,
    ratio,
    wilson,
)
from ovcf_node.evaluate.study import TYPES

Record = dict[str, Any]
SEVERITY = ((0.0, 0.15), (0.15, 0.20), (0.20, 0.25), (0.25, 0.40), (0.40, 1.0))
FEW = 6
"""Cohorts of at most this many cases are listed vertebra by vertebra."""
THICKNESS = ((0.0, 1.25), (1.25, 2.0), (2.0, 3.0), (3.0, 99.0))
SAID = (*TYPES, "burst", "withheld", "no fracture")
TRUE = (*TYPES, "burst", "none")

def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Return all figures of one cohort."""
    graded = [r for r in records if r["fracture"] is not None]
    return {
        "cases": len(records), "fractured": sum(bool(r["fracture"]) for r in graded),
        "status": dict(Counter(r["status"] for r in records)),
        "refusals": dict(Counter(c for r in records if r["status"] in ("not_assessed", "excluded") for c in r["reasons"])),
        "detection": detection(graded, count_refused=True),
        "detection_decided": detection(graded, count_refused=False),
        "reader": paired(graded),
        "types": types(graded),
        "vertebrae": vertebrae(records),
        "groups": groups(records),
        "calibration": calibrated(records),
        "abstention": abstention(records),
        "labels": labels(records),
        "overlap": overlaps(records),
        "heights": heights(records),
        "genant": genant(records),
        "seconds_median": float(np.median([r["seconds"] for r in records])) if records else None,
        "case_by_case": case_by_case(records) if len(records) <= FEW else [],
        "failures": [{"case": r["case"], "facts": r["facts"], "what": e} for r in records if (e := errors(r))],
    }


def _share(hits: int, of: int) -> dict[str, Any]:
    return asdict(wilson(hits, of))


def detection(records: Sequence[Record], *, count_refused: bool) -> dict[str, Any]:
    """Patient level, any fracture T12..L5: a two-by-two table and what follows from it.

    Where all patients are of one kind, kappa and predictive values would say that and nothing of the bundle: None.
    """
    decided = [r for r in records if count_refused or r["said_fracture"] is not None]
    rows = np.array([_cell(r) for r in decided]).reshape(-1, 4)  # tp, fp, fn, tn
    tp, fp, fn, tn = (int(n) for n in rows.sum(axis=0))
    both = tp + fn > 0 and fp + tn > 0
    return {
        "tp": tp, "fn": fn, "fp": fp, "tn": tn, "left_out": len(records) - len(decided),
        "sensitivity": _share(tp, tp + fn), "specificity": _share(tn, tn + fp), "accuracy": _share(tp + tn, len(decided)),
        "ppv": _share(tp, tp + fp) if both else None, "npv": _share(tn, tn + fn) if both else None,
        **_agreement(rows, both),
    }


def _agreement(rows: np.ndarray, both: bool) -> dict[str, Any]:
    """Kappa over patients (tp, fp, fn, tn) with its interval; None where all of them are of one kind."""
    if not both:
        return {"kappa": None, "kappa_interval": None}
    return {"kappa": kappa(rows.sum(axis=0).reshape(2, 2)), "kappa_interval": clustered(rows, kappa_of_table)}


def _cell(record: Record) -> tuple[int, int, int, int]:
    """Where a patient falls: true positive, false positive, false negative, true negative; undetermined is wrong."""
    truth, said = record["fracture"], record["said_fracture"]
    if truth:
        return (1, 0, 0, 0) if said is True else (0, 0, 1, 0)
    return (0, 0, 0, 1) if said is False else (0, 1, 0, 0)


def paired(records: Sequence[Record]) -> dict[str, Any] | None:
    """McNemar's test against the simulated height rule on the same patients (`reader`)."""
    both = [(r, said) for r in records if (said := reader.reads_fracture(r)) is not None]
    if not both:
        return None
    ours = np.array([r["said_fracture"] is r["fracture"] for r, _ in both])
    theirs = np.array([said is r["fracture"] for r, said in both])
    truth = np.array([bool(r["fracture"]) for r, _ in both])
    said = np.array([s for _, s in both])
    out: dict[str, Any] = {
        "rule_sensitivity": _share(int((said & truth).sum()), int(truth.sum())),
        "rule_specificity": _share(int((~said & ~truth).sum()), int((~truth).sum())),
        "rule_accuracy": _share(int(theirs.sum()), len(theirs)),
    }
    cells = np.stack([said & truth, said & ~truth, ~said & truth, ~said & ~truth], axis=1).astype(int)
    out |= {f"rule_{name}": value for name, value in _agreement(cells, bool(truth.any() and not truth.all())).items()}
    for name, group in (("accuracy", truth | True), ("sensitivity", truth), ("specificity", ~truth)):
        only_ours, only_rule = int((ours & ~theirs & group).sum()), int((theirs & ~ours & group).sum())
        out[name] = {"only_bundle": only_ours, "only_rule": only_rule, "p": mcnemar(only_ours, only_rule)}
    return out


def types(records: Sequence[Record]) -> dict[str, Any]:
    """Denis types of patients: of the detected (the study's way), end to end, and the whole table."""
    table = np.zeros((len(SAID), len(TRUE)), int)
    detected, right, truths, cells, called = [], [], [], [], []
    for r in records:
        if r["fracture"] and r["denis"] is None:
            continue  # a fracture of unknown type
        true = r["denis"] or "none"
        said = (r["said_denis"] or "withheld") if r["said_fracture"] else "no fracture"
        table[SAID.index(said), TRUE.index(true)] += 1
        if said != "no fracture":  # seven classes: the six that are said, and none
            called.append(np.eye(49)[7 * SAID.index(said) + (6 if true == "none" else SAID.index(true))])
        if true in TYPES:
            truths.append(true)
            detected.append(r["said_fracture"] is True)
            right.append(r["said_fracture"] is True and r["said_denis"] == true)
            if said in TYPES:
                cells.append(np.eye(16)[4 * TYPES.index(said) + TYPES.index(true)])
    found, correct = int(sum(detected)), int(sum(right))
    typed = table[:4, :4]
    withheld = int(table[SAID.index("withheld"), :4].sum())
    return {
        "table": table.tolist(), "said": SAID, "true": TRUE,
        "of_called": _share(correct, int(table[:6].sum())),  # the study's way: its false positives are called too
        "of_detected": _share(correct, found), "end_to_end": _share(correct, len(truths)),
        "of_typed": _share(int(np.trace(typed)), int(typed.sum())), "withheld": _share(withheld, found),
        "kappa_typed": kappa(typed), "kappa_typed_interval": clustered(np.array(cells), kappa_of_table),
        # The study's way: false positives are called too, and what is withheld or called burst is not right.
        "kappa_called": kappa(np.sum(called, axis=0).reshape(7, 7)) if called else None,
        "kappa_called_interval": clustered(np.array(called), kappa_of_table),
        "false_positives_typed": {t: int(table[SAID.index(t), TRUE.index("none")]) for t in SAID[:6]},
        "recall": {t: _share(int(table[i, i]), int(table[:6, i].sum())) for i, t in enumerate(TYPES)},
        "precision": {t: _share(int(table[i, i]), int(table[i].sum())) for i, t in enumerate(TYPES)},
    }


def _graded(records: Iterable[Record]) -> list[tuple[int, Record, dict]]:
    """Return (patient number, record, vertebra) of every true vertebra T12..L5 with a known truth; `said_of` decides."""
    return [
        (n, r, {**v, "said": said_of(r, v)}) for n, r in enumerate(records) for v in r["vertebrae"]
        if v["level"] in GRADED and v["fracture"] is not None
    ]


def _clustered_share(rows: Sequence[tuple[int, bool]], patients: int) -> dict[str, Any]:
    """A share over vertebrae: Wilson, and an interval from resampling patients."""
    counts = np.zeros((patients, 2))
    for patient, hit in rows:
        counts[patient] += (hit, 1)
    simple: Share = wilson(int(counts[:, 0].sum()), int(counts[:, 1].sum()))
    return {**asdict(simple), "by_patient": clustered(counts[counts[:, 1] > 0], ratio)}


def vertebrae(records: Sequence[Record]) -> dict[str, Any]:
    """Vertebra level over T12..L5: a vertebra that was not found or left undetermined counts as wrong."""
    rows, patients = _graded(records), len(records)
    broken = [(n, v["said"].get("fracture") is True) for n, _, v in rows if v["fracture"]]
    sound = [(n, v["said"].get("fracture") is False) for n, _, v in rows if not v["fracture"]]
    alarms = sum(v["said"].get("fracture") is True for _, _, v in rows if not v["fracture"])
    typed = [v for _, _, v in rows if v["fracture"] and v["denis"] in TYPES and v["said"].get("fracture") is True]
    return {
        "sensitivity": _clustered_share(broken, patients), "specificity": _clustered_share(sound, patients),
        "false_alarms_per_patient": alarms / patients if patients else None,
        "type_of_detected": _share(sum(v["said"]["denis"] == v["denis"] for v in typed), len(typed)),
    }


def groups(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Sensitivity and specificity of vertebrae by level, severity, scan, mimic, variant and a cohort's own `kind`s."""
    rows = _graded(records)

    def split(key: Callable[[Record, dict], str | None]) -> dict[str, Any]:
        found: dict[str, list[dict]] = defaultdict(list)
        for _, r, v in rows:
            name = key(r, v)
            if name is not None:
                found[name].append(v)
        return {
            name: {
                "sensitivity": _share(sum(v["said"].get("fracture") is True for v in mine if v["fracture"]),
                                      sum(bool(v["fracture"]) for v in mine)),
                "specificity": _share(sum(v["said"].get("fracture") is False for v in mine if not v["fracture"]),
                                      sum(not v["fracture"] for v in mine)),
            } for name, mine in sorted(found.items())
        }

    def severity(_: Record, v: dict) -> str | None:
        return _bin(v["height_loss"], SEVERITY, 100, "% loss") if v["fracture"] else None

    def shape(_: Record, v: dict) -> str | None:
        return None if v["fracture"] else "old deformity" if v["old_deformity"] else v["mimic"] or "plain"

    return {
        "level": split(lambda r, v: v["level"]), "severity": split(severity), "type": split(lambda r, v: v["denis"]),
        "slices": split(lambda r, v: _bin(r["facts"].get("slice_mm"), THICKNESS, 1, "mm")),
        "negatives": split(shape), "variant": split(lambda r, v: r["variant"]),
        "contrast": split(lambda r, v: r["facts"].get("contrast")), "kernel": split(lambda r, v: r["facts"].get("kernel")),
        "kind": split(lambda r, v: r["facts"].get("kind")),
    }


def _bin(value: float | None, edges: Sequence[tuple[float, float]], scale: float, unit: str) -> str | None:
    if value is None:
        return None
    low, high = next((e for e in edges if e[0] <= value < e[1]), edges[-1]) if unit != "mm" else next(
        (e for e in edges if e[0] < value <= e[1]), edges[-1])
    return f"{low * scale:g}-{high * scale:g} {unit}"


def calibrated(records: Sequence[Record]) -> dict[str, Any] | None:
    """Vertebra probabilities against truth."""
    rows = [v for _, _, v in _graded(records) if v["said"].get("probability") is not None]
    said, truth = np.array([v["said"]["probability"] for v in rows]), np.array([bool(v["fracture"]) for v in rows])
    found = calibration(said, truth)
    return None if found is None else {**asdict(found), "auc": auc(said, truth), "vertebrae": len(rows)}


def abstention(records: Sequence[Record]) -> dict[str, Any]:
    """How often nothing was said: patients not assessed or undetermined, vertebrae undetermined, types withheld."""
    thin = [r for r in records if r["facts"].get("slice_mm") is not None and r["facts"]["slice_mm"] <= 3.0]
    known = [r for r in thin if r["fracture"] is not None]
    rows = [v for _, _, v in _graded(thin)]
    broken = [v for v in rows if v["said"].get("fracture") is True]
    return {
        "not_assessed": _share(sum(r["status"] in ("not_assessed", "excluded") for r in thin), len(thin)),
        "undetermined_patients": _share(
            sum(r["said_fracture"] is None and r["status"] in ("assessed", "limited") for r in known), len(known)),
        "undetermined_vertebrae": _share(sum(v["said"].get("fracture") is None for v in rows), len(rows)),
        "type_withheld": _share(sum(v["said"]["denis"] is None for v in broken), len(broken)),
        "why": dict(Counter(v["said"]["abstain"] for v in rows if v["said"].get("abstain"))),
    }
