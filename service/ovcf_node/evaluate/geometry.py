"""Figures of names, masks and heights over records: what of a reading has a place or a length."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.evaluate.mistakes import right_name, said_of
from ovcf_node.evaluate.statistics import clustered, ratio, weighted_kappa, weighted_kappa_of_table, wilson
from ovcf_node.evaluate.truth import NORMAL

Record = dict[str, Any]
GENANT = (0.20, 0.25, 0.40)
"""Height losses at which grades 1, 2 and 3 begin (half-open, clinical notes 2.2)."""
WIDE_MM = 150.0
"""A field so wide shows the last ribs, and so what they say of the count; a narrower one may not."""


def _share(hits: int, of: int) -> dict[str, Any]:
    return asdict(wilson(hits, of))


def labels(records: Sequence[Record]) -> dict[str, Any]:
    """Names: of vertebrae, of patients with all of T12..S1 right, and the numbering flag."""
    whole = [r for r in records if r["named"] and r["complete"] and r["variant"] in NORMAL]
    odd = [r for r in records if r["variant"] not in NORMAL]
    wide = [r for r in (*whole, *odd) if r["variant"] != "none" and (r["facts"].get("field_mm") or 0) >= WIDE_MM]
    per = {level: [right_name(v) for r in whole for v in r["vertebrae"] if v["level"] == level] for level in REPORTED}
    every = [hit for hits in per.values() for hit in hits]
    flags = {
        kind: [bool(r["numbering_uncertain"]) for r in whole
               if r["status"] in ("assessed", "limited") and (r["variant"] == "none") == (kind == "normal")]
        for kind in ("normal", "lumbosacral")
    }
    return {
        "vertebrae": _share(sum(every), len(every)),
        "patients": _share(sum(all(right_name(v) for v in r["vertebrae"]) for r in whole), len(whole)),
        "by_level": {level: _share(sum(hits), len(hits)) for level, hits in per.items()},
        **{f"uncertain_{kind}": _share(sum(said), len(said)) for kind, said in flags.items()},
        "uncertain_transitional": _share(sum(bool(r["numbering_uncertain"]) for r in odd), len(odd)),
        "uncertain_variants_wide": _share(sum(bool(r["numbering_uncertain"]) for r in wide), len(wide)),
        "places_of_unnamed": _share(
            sum(v["place"] is not None for r in records if not r["named"] for v in r["vertebrae"]),
            sum(len(r["vertebrae"]) for r in records if not r["named"])),
    }


def overlaps(records: Sequence[Record]) -> dict[str, Any]:
    """Dice and mean surface distance per level of read cases with ordinary names; a level missed there is a Dice of 0.

    Refused cases have no masks to compare: `figures.abstention` counts them. Of a cut field only what has a truth counts.
    Intervals come from resampling patients.
    """
    whole = [r for r in records if r["variant"] in NORMAL]
    out: dict[str, Any] = {}
    for level in REPORTED:
        mine = [v for r in whole for v in r["vertebrae"] if v["level"] == level and _whole(r, v)]
        dice = [x for r in whole for x in _dices(r, level)]
        gaps = [v["surface_mm"] for v in mine if v.get("surface_mm") is not None]
        out[level] = {
            "n": len(dice), "dice": float(np.mean(dice)) if dice else None,
            "dice_p5": float(np.percentile(dice, 5)) if dice else None,
            "surface_mm": float(np.mean(gaps)) if gaps else None,
        }
    graded = [out[level]["dice"] for level in GRADED if out[level]["dice"] is not None]
    sums = np.array([[_sum(_dices(r, level)) for level in REPORTED] for r in whole]).reshape(len(whole), 2 * len(REPORTED))
    return {
        "levels": out, "dice_graded": float(np.mean(graded)) if graded else None, "dice_s1": out["S1"]["dice"],
        "dice_graded_interval": _interval(sums[:, :-2]), "dice_s1_interval": _interval(sums[:, -2:]),
    }


def _dices(record: Record, level: str) -> list[float]:
    mine = (v for v in record["vertebrae"] if v["level"] == level and _whole(record, v))
    return [v["dice"] for v in mine if v.get("dice") is not None]


def _whole(record: Record, row: dict[str, Any]) -> bool:
    """Whether a body lies in the field: where not all do, those whose truth is known (or all, where none is)."""
    return record["complete"] or row["fracture"] is not None or all(v["fracture"] is None for v in record["vertebrae"])


def _interval(sums: np.ndarray) -> tuple[float, float] | None:
    """Of the mean ratio of (sum, count) columns, a row a patient; those who count nowhere are left out."""
    return clustered(sums[sums[:, 1::2].any(axis=1)], ratio)


def _sum(values: Sequence[float]) -> tuple[float, int]:
    return float(np.sum(values)), len(values)


def case_by_case(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What was said at the place of every true vertebra, whatever it was called."""
    return [
        {
            "case": r["case"], "level": v["level"], "fracture": v["fracture"], "seen": v["place"] is not None,
            "said": (v["place"] or {}).get("fracture"), "probability": (v["place"] or {}).get("probability"),
            "named_right": right_name(v), "dice": v.get("dice"), "surface_mm": v.get("surface_mm"),
        } for r in records for v in r["vertebrae"]
    ]


def heights(records: Sequence[Record]) -> dict[str, Any]:
    """Errors of heights (mm) and of height loss (points) of rightly named vertebrae; the interval resamples patients."""
    named = [[v for v in r["vertebrae"] if right_name(v)] for r in records if r["variant"] in NORMAL]
    rows = [v for mine in named for v in mine]
    out: dict[str, Any] = {}
    for position in ("anterior", "middle", "posterior"):
        found = np.array([v["height_error_mm"][position] for v in rows if position in v.get("height_error_mm", {})])
        out[position] = _errors(found)
    out["all"] = _errors(np.array([e for v in rows for e in v.get("height_error_mm", {}).values()]))
    sums = [_sum([abs(e) for v in mine for e in v.get("height_error_mm", {}).values()]) for mine in named]
    out["all"]["interval"] = _interval(np.array(sums).reshape(len(sums), 2))
    pairs = [(v["said"]["height_loss"], v["height_loss"]) for v in rows
             if v["said"].get("height_loss") is not None and v["height_loss"] is not None]
    lost = np.array([100 * (a - b) for a, b in pairs])
    out["loss_points"] = _errors(lost)
    out["loss_points_lost_10_percent"] = _errors(np.array([100 * (a - b) for a, b in pairs if b >= 0.1]))
    return out


def genant(records: Sequence[Record]) -> dict[str, Any]:
    """Genant grades, said (rows) against the true height loss (columns), T12..L5; quadratic-weighted kappa."""
    tables = np.zeros((len(records), 4, 4), int)
    for table, r in zip(tables, records, strict=True):
        for v in r["vertebrae"]:
            said = said_of(r, v).get("genant")
            if v["level"] in GRADED and said is not None and v["height_loss"] is not None:
                table[said, int(np.searchsorted(GENANT, v["height_loss"], side="right"))] += 1
    table = tables.sum(axis=0)
    return {
        "table": table.tolist(), "weighted_kappa": weighted_kappa(table),
        "interval": clustered(tables.reshape(len(records), 16), weighted_kappa_of_table),
    }


def _errors(values: np.ndarray) -> dict[str, Any]:
    if not len(values):
        return {"n": 0}
    bias, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return {
        "n": len(values), "mean_absolute": float(np.abs(values).mean()), "median_absolute": float(np.median(np.abs(values))),
        "bias": bias, "limits_of_agreement": [bias - 1.96 * sd, bias + 1.96 * sd],
    }
