"""Scores a bundle's stages with onnxruntime on phantom cases that were never trained on.

``python models/training/evaluate.py --bundle models/reference --cases 40 [--profile study] [--out DIR]``
``python models/training/evaluate.py --bundle models/reference --samples FOLDER --name second --out DIR``

Label stage: whole fields at 6 mm; a vertebra counts as right when its body centre, voted by the voxels that carry its
name, lies within 12 mm of the truth. Vertebra stage: crops at frames jittered by up to 4 mm and 6 degrees, as an
imperfect first stage places them. This is not the pipeline from DICOM: stages are scored apart. Writes
``evaluation.json`` (with the markdown that the model card shows); ``--samples`` scores rendered ones instead (the second
generator's) and writes ``evaluation_NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import bundle
import cases
from networks import EVIDENCE, LABELS, TYPES
from ovcf_node.infer.resample import window
from pool import Pool, field_tensors
from scores import auc, dice, share, show

LEVELS = LABELS[2:10]
NEAR = 12.0  # mm


def label_case(sess, sample: dict, spacing: float = bundle.LABEL_SPACING) -> dict:
    """Per level: distance of the voted centre (mm) or None, and the body dice, of one cached field of ``spacing`` mm.

    A spine at 3 mm is read by the segment stage, whose outputs are the label stage's.
    """
    image, finer = field_tensors(sample, None, spacing=spacing)[0], (bundle.LABEL_SPACING / spacing) ** 3  # voxels at 6 mm
    out = bundle.run(sess, "label", image.numpy())
    z, y, x = sample["labels"].shape
    kind = out["classes"][0].argmax(0)[:z, :y, :x]
    solid = (out["body"][0, 0] > 0)[:z, :y, :x]
    offset = out["offset"][0].transpose(1, 2, 3, 0)[:z, :y, :x, ::-1] * (10 / spacing)
    truth_body = sample["body"] >= 128
    inside = np.array(sample["labels"].shape) - 1
    rows = []
    for index, level in enumerate(LEVELS, start=2):
        own = sample["labels"] == index
        if not own.any():
            rows.append({"level": level, "present": False, "claimed": int((kind == index).sum()) >= 40 * finer})
            continue
        centre = sample["centres"][int(np.bincount(sample["instance"][own]).argmax()) - 1]
        where = np.argwhere(truth_body & own)
        whole = len(where) > 30 * finer and (where.min(0) > 0).all() and (where.max(0) < inside).all()
        found = np.argwhere((kind == index) & solid)
        distance = None
        if len(found) >= 8 * finer:
            votes = found + offset[tuple(found.T)]
            distance = float(np.linalg.norm(np.median(votes, axis=0) - centre) * spacing)
        rows.append(
            {"level": level, "present": True, "whole": bool(whole), "distance": distance, "dice": dice(kind == index, own)}
        )
    return {"levels": rows, "body": dice(solid, truth_body)}


def label_scores(results: list[dict]) -> dict:
    """Accuracy by level and by case, centre error, dice."""
    whole = [r for c in results for r in c["levels"] if r["present"] and r["whole"]]
    right = [r["distance"] is not None and r["distance"] <= NEAR for r in whole]
    per_case = [
        [r["distance"] is not None and r["distance"] <= NEAR for r in c["levels"] if r["present"] and r["whole"]]
        for c in results
    ]
    errors = [r["distance"] for r in whole if r["distance"] is not None]
    absent = [r for c in results for r in c["levels"] if not r["present"]]
    mean = lambda v: round(float(np.mean(v)), 3) if len(v) else None  # noqa: E731
    by_level = {}
    for level in LEVELS:
        mine = [r for r in whole if r["level"] == level]
        hits = sum(r["distance"] is not None and r["distance"] <= NEAR for r in mine)
        by_level[level] = {"right": share(hits, len(mine)), "dice": mean([r["dice"] for r in mine if r["dice"] is not None])}
    return {
        "vertebrae": share(sum(right), len(right)),
        "cases_all_right": share(sum(map(all, filter(None, per_case))), sum(map(bool, per_case))),
        "absent_claimed": share(sum(r["claimed"] for r in absent), len(absent)),
        "centre_error_mm": round(float(np.median(errors)), 2) if errors else None,
        "body_dice": mean([c["body"] for c in results if c["body"] is not None]),
        "levels": by_level,
    }


def read_crops(sess, sample: dict, batch: int = 8) -> dict[str, np.ndarray]:
    """Raw outputs of every crop of a file; masks as booleans."""
    rows = []
    images = window(sample["hu"].astype(np.float32), bundle.VERTEBRA_WINDOW)[:, None]
    for k in range(0, len(images), batch):
        out = bundle.run(sess, "vertebra", images[k : k + batch])
        rows.append({n: (v[:, 0] > 0 if v.ndim == 5 else v) for n, v in out.items()})
    return {n: np.concatenate([r[n] for r in rows]) for n in rows[0]}


def gather(sess, samples) -> dict[str, np.ndarray]:
    """Logits, truths and per-crop dice over many crop files."""
    rows: dict[str, list] = {}
    for sample in samples:
        out = read_crops(sess, sample)
        for k in range(len(sample["type"])):
            masks = [(sample["masks"][k] & bit) > 0 for bit in (1, 2, 4)]
            values = {
                **{n: out[n][k] for n in ("evidence", "type", "old")},
                "true_evidence": sample["evidence"][k],
                "true_type": sample["type"][k],
                "true_old": sample["old"][k],
                "mimic": sample["mimic"][k],
                "level": sample["level"][k],
                "loss": sample["loss"][k],
            }
            for name, mask in zip(("vertebra", "body", "fracture"), masks, strict=True):
                value = dice(out[name][k], mask) if mask.any() else None
                values[f"{name}_dice"] = np.nan if value is None else value
            for name, value in values.items():
                rows.setdefault(name, []).append(value)
    return {n: np.stack(v) for n, v in rows.items()}


def vertebra_scores(g: dict[str, np.ndarray], points: dict, temperature: dict, height: dict | None) -> dict:
    """Vertebra-level figures at the bundle's operating points; denominators keep abstentions where nothing else is said.

    A crop alone has no neighbours: the fracture is what `height` makes of the picture without a loss.
    """
    p = bundle.probabilities(g["evidence"], g["type"], g["old"], temperature)
    truth = g["true_evidence"][:, :3].any(1)
    if height:
        p["fracture"] = bundle.weighed(p["fracture"], p["old"], np.full(len(truth), np.nan), height)
    called = p["fracture"] >= points["fracture"]
    burst = g["true_evidence"][:, 3] > 0
    wanted = np.array([TYPES[t] for t in g["true_type"]], object)
    wanted[burst & (g["true_evidence"][:, :2].any(1))] = "burst"
    rule = np.array([bundle.denis(e, points) for e in p["evidence"]])
    direct = np.array(TYPES)[p["type"].argmax(1)]
    said = bundle.types_said(p, points)
    withheld = np.array([word is None for word in said], bool)
    compression = truth & (wanted != "burst")
    hit = compression & called
    small = compression & (g["loss"] < 0.2)
    old = g["true_old"] > 0
    out = {
        "sensitivity": share((truth & called).sum(), truth.sum()),
        "specificity": share((~truth & ~called).sum(), (~truth).sum()),
        "auc": auc(p["fracture"], truth),
        "sensitivity_mild": share((small & called).sum(), small.sum()),
        "specificity_mimics": share((~truth & ~called & (g["mimic"] > 0)).sum(), (~truth & (g["mimic"] > 0)).sum()),
        "specificity_old": share((~truth & ~called & old).sum(), (~truth & old).sum()),
        "denis_by_rule_of_detected": share((hit & (rule == wanted)).sum(), hit.sum()),
        "denis_direct_of_detected": share((hit & (direct == wanted)).sum(), hit.sum()),
        "denis_by_mean_of_detected": share((hit & (said == wanted)).sum(), hit.sum()),
        "denis_by_mean_of_said": share((hit & (said == wanted)).sum(), (hit & ~withheld).sum()),
        "denis_by_rule_of_all": share((hit & (rule == wanted)).sum(), compression.sum()),
        "abstained": share((called & withheld).sum(), called.sum()),
    }
    for k, name in enumerate(EVIDENCE):
        t, c = g["true_evidence"][:, k] > 0, p["evidence"][:, k] >= points[name]
        out[name] = {
            "sensitivity": share((t & c).sum(), t.sum()),
            "specificity": share((~t & ~c).sum(), (~t).sum()),
            "auc": auc(p["evidence"][:, k], t),
        }
    c = p["old"] >= points["old"]
    out["old"] = {
        "sensitivity": share((old & c).sum(), old.sum()),
        "specificity": share((~old & ~c).sum(), (~old).sum()),
        "auc": auc(p["old"], old),
    }
    for name in ("vertebra", "body", "fracture"):
        value = g[f"{name}_dice"]
        out[f"{name}_dice"] = round(float(np.nanmean(value)), 3) if np.isfinite(value).any() else None
    kinds = ("none", "A", "B", "C", "D", "burst")
    out["confusion"] = {t: {r: int(((wanted == t) & (rule == r)).sum()) for r in kinds} for t in kinds}
    return out


def markdown(result: dict) -> str:
    """The tables of the model card."""
    a, b = result["label"], result["vertebra"]
    source = f"{result['cases']} phantom cases, profile `{result['profile']}`, seeds from {result['first_seed']} "
    lines = [
        source + "(never trained on); counts and Wilson 95 % intervals; stages scored apart, not end to end.",
        "",
    ]
    if a:
        lines += [
            "| label stage (6 mm) | |",
            "|---|---|",
            f"| vertebra named right, centre within {NEAR:.0f} mm | {show(a['vertebrae'])} |",
            f"| cases with every name right | {show(a['cases_all_right'])} |",
            f"| absent level claimed | {show(a['absent_claimed'])} |",
            f"| centre error, median | {a['centre_error_mm']} mm |",
            f"| body dice at 6 mm | {a['body_dice']} |",
            *(f"| {k}: right; dice | {show(v['right'])}; {v['dice']} |" for k, v in a["levels"].items()),
            "",
        ]
    if b:
        number = lambda x: "no case" if x is None else f"{x:.3f}"  # noqa: E731
        named = {
            "sensitivity": "fracture, sensitivity",
            "specificity": "fracture, specificity",
            "sensitivity_mild": "sensitivity below 20 % height loss",
            "specificity_mimics": "specificity among mimics",
            "specificity_old": "specificity among old deformities",
            "denis_by_rule_of_detected": "Denis type by rule, of detected",
            "denis_direct_of_detected": "Denis type by direct head, of detected",
            "denis_by_mean_of_detected": "Denis type as the node says it, of detected",
            "denis_by_mean_of_said": "Denis type as the node says it, of those it does not withhold",
            "denis_by_rule_of_all": "Denis type by rule, of all fractures",
            "abstained": "would withhold the type, of called",
        }
        lines += ["| vertebra stage (jittered crops, T11-S1) | |", "|---|---|", f"| fracture, AUC | {number(b['auc'])} |"]
        lines += [f"| {text} | {show(b[key])} |" for key, text in named.items()]
        for name in (*EVIDENCE, "old"):
            v = b[name]
            cells = "; ".join((show(v["sensitivity"]), show(v["specificity"]), number(v["auc"])))
            lines.append(f"| {name}: sensitivity; specificity; AUC | {cells} |")
        lines += [
            f"| dice vertebra / body / fracture region | {b['vertebra_dice']} / {b['body_dice']} / {b['fracture_dice']} |",
            "",
            "Type by rule (columns) against truth (rows):",
            "",
            "| | " + " | ".join(b["confusion"]) + " |",
            "|---" * (len(b["confusion"]) + 1) + "|",
        ]
        lines += [f"| {t} | " + " | ".join(map(str, row.values())) + " |" for t, row in b["confusion"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--profile", default="study")
    parser.add_argument("--out", type=Path, help="folder for evaluation.json")
    parser.add_argument("--cache", type=Path, help="keep rendered cases here; a later run of the same profile reads them")
    parser.add_argument("--samples", type=Path, metavar="FOLDER", help="score FOLDER/fields and FOLDER/crops")
    parser.add_argument("--name", default="samples", help="what to call them")
    a = parser.parse_args()
    settings = bundle.read(a.bundle)["stages"]
    label, vertebra = (bundle.session(a.bundle / settings[k]["file"]) for k in ("label", "vertebra"))
    began, labels, files = time.time(), [], []
    if a.samples:
        fields, crops = (Pool(a.samples / kind, 10_000) for kind in ("fields", "crops"))
        labels = [label_case(label, s) for s in fields.samples.values()]
        files = list(crops.samples.values())
        first = min(int(Path(name).stem) for name in (*fields.names, *crops.names))
    for k in range(0 if a.samples else a.cases):
        seed = cases.EVALUATION + k
        labels.append(label_case(label, cases.rendered(a.cache, a.profile, seed, "fields")))
        files.append(cases.rendered(a.cache, a.profile, seed, "crops"))
        print(f"case {k + 1} of {a.cases}, {time.time() - began:.0f} s", flush=True)
    stage = settings["vertebra"]
    result = {
        "cases": max(len(labels), len(files)),
        "profile": a.name if a.samples else a.profile,
        "first_seed": first if a.samples else cases.EVALUATION,
        "label": label_scores(labels) if labels else None,
        "vertebra": vertebra_scores(
            gather(vertebra, files), stage["operating_points"], stage["temperature"], stage.get("height")
        ) if files else None,
    }
    result["markdown"] = markdown(result)
    if a.out:
        name = f"evaluation_{a.name}.json" if a.samples else "evaluation.json"
        (a.out / name).write_text(json.dumps(result, indent=1))
    print(result["markdown"])


if __name__ == "__main__":
    main()
