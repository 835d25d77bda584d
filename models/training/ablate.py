"""What the restoring stage adds: the probability of a fracture with and without it, and how well it knows heights.

``python models/training/ablate.py --bundle DIR/bundle --work DIR [--sheet FILE]``

Takes the pairs of ``pairs.py``: a logistic regression is fitted on ``DIR/held`` and the first half of ``DIR/second``
(selection seeds), and scored on ``DIR/test`` and on the other half. Crops are read as the node reads them, but alone:
one look a vertebra, frames near the truth, neighbours' heights true up to the error of measuring. Writes
``DIR/ablation.json`` (its markdown goes into the model card) and, with ``--sheet``, a picture of some restorations.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.optimize import minimize

import bundle
from networks import CROP_ORIGIN, CROP_SPACING
from ovcf_node.domain.findings import Heights
from ovcf_node.infer import bundle as bundles
from ovcf_node.infer import restore
from ovcf_node.infer.expected import height_loss
from ovcf_node.infer.morphometry import measure
from ovcf_node.infer.resample import Crop, crop_grid
from ovcf_node.infer.vertebra import crop_answer
from pairs import MEASURED_ERROR_MM
from phantoms.pictures import grey
from scores import auc

SPECIFICITY = 0.95  # at which sensitivities are compared
ABOUT = (
    "What restoring adds, on crops near the truth, one look each; neighbours' heights are ideal here (true, with "
    f"{MEASURED_ERROR_MM} mm of error). Logistic regressions fitted on {{}} other vertebrae of both generators; the second "
    "generator's seeds are its selection seeds."
)
GEOMETRY, ALL = "network + neighbours' height loss", "network + all three"
SETS = {  # name: columns of the features that the regression sees
    "network alone": ("logit",),
    GEOMETRY: ("logit", "loss"),
    "network + restored loss + damage": ("logit", "restored_loss", "damage"),
    ALL: ("logit", "loss", "restored_loss", "damage"),
    "restored loss + damage alone": ("restored_loss", "damage"),
}


def crop_of(hu: np.ndarray) -> Crop:
    grid = crop_grid(np.zeros(3), np.eye(3), CROP_SPACING, hu.shape, CROP_ORIGIN)
    return Crop(grid, hu.astype(np.float32), hu > -1024)


def read(path: Path, node: bundles.Bundle, temperature: dict[str, float]) -> list[dict]:
    """Features and truths of the vertebrae of one file."""
    with np.load(path) as data:
        sample = {k: data[k] for k in data.files}
    rows = []
    for k in range(len(sample["type"])):
        crop = crop_of(sample["seen"][k])
        out = crop_answer(node, crop.hu)
        body = bundle.sigmoid(out["body"][0, 0])
        whole = bundle.sigmoid(out["vertebra"][0, 0])
        if (body > 0.5).sum() < 400:
            continue
        seen = measure(crop, whole, body).heights
        if None in (seen.anterior, seen.middle, seen.posterior):
            continue
        expected = Heights(*map(float, sample["expected"][k]))
        region = restore.region_of(body, expected, crop.grid.spacing)
        around = sample["context"][k]
        context = Crop(restore.context_grid(crop.grid), around.astype(np.float32), around > -1024)
        answer = node.run("restore", restore.tensors(crop, context, region, node.restore.window_hu))
        made = restore.compared(crop, seen, answer["restored"][0, 0], answer["body"][0, 0], node.restore.window_hu)
        p = bundle.probabilities(out["evidence"], out["type"], out["old"], temperature)["fracture"][0]
        truth, healthy = (Heights(*map(float, sample[n][k])) for n in ("heights", "healthy_heights"))
        rows.append({
            "file": path.name, "row": k, "made": made, "crop": crop, "healthy": sample["healthy"][k],
            "fracture": bool(sample["evidence"][k, :3].any()), "old": bool(sample["old"][k]),
            "mimic": bool(sample["mimic"][k]), "logit": float(np.log(p / (1 - p))), "loss": height_loss(seen, expected),
            "restored_loss": made.loss, "damage": None if made.score is None else made.score / 100,
            "true_loss": height_loss(truth, healthy),
            "restored_mm": _mm(made.heights, healthy), "expected_mm": _mm(expected, healthy),
        })
    return [r for r in rows if None not in (r["loss"], r["restored_loss"], r["damage"], r["restored_mm"])]


def _mm(found: Heights, true: Heights) -> float | None:
    """Mean absolute difference of the three heights."""
    pairs = [(a, b) for a, b in zip(_three(found), _three(true), strict=True)]
    return None if any(a is None for a, _ in pairs) else float(np.mean([abs(a - b) for a, b in pairs]))


def _three(heights: Heights) -> tuple:
    return heights.anterior, heights.middle, heights.posterior


def columns(rows: list[dict], names: tuple[str, ...]) -> np.ndarray:
    return np.array([[r[n] for n in names] for r in rows], float)


def fitted(x: np.ndarray, y: np.ndarray, ridge: float = 0.01):
    """Logistic regression with a small ridge on standardised features; returns the function that scores rows."""
    mean, spread = x.mean(0), x.std(0) + 1e-9
    weight = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean()))

    def loss(b):
        z = (x - mean) / spread @ b[1:] + b[0]
        return float(np.mean(weight * np.logaddexp(0, np.where(y, -z, z))) + ridge * (b[1:] ** 2).sum())

    b = minimize(loss, np.zeros(x.shape[1] + 1), method="BFGS").x
    return lambda new: (new - mean) / spread @ b[1:] + b[0]


def sensitivity(score: np.ndarray, truth: np.ndarray) -> float:
    """Sensitivity at the threshold that keeps `SPECIFICITY` of these negatives."""
    return float((score[truth] > np.quantile(score[~truth], SPECIFICITY)).mean())


def ablation(fit: list[dict], groups: dict[str, list[dict]], draws: int = 400) -> tuple[dict, list[str]]:
    """AUC and sensitivity of each feature set on each group, with the bootstrap interval of the gain over the network."""
    y = np.array([r["fracture"] for r in fit])
    models = {name: fitted(columns(fit, names), y) for name, names in SETS.items()}
    result, lines = {}, []
    for group, rows in groups.items():
        truth = np.array([r["fracture"] for r in rows])
        old = sum(r["old"] for r in rows)
        lines += ["", f"{group}: {int(truth.sum())} fractured, {int((~truth).sum())} not ({old} healed deformities)", "",
                  f"| evidence | AUC | gain in AUC (95 % bootstrap) | sensitivity at {SPECIFICITY:.0%} specificity |",
                  "|---|---|---|---|"]
        base = models["network alone"](columns(rows, SETS["network alone"]))
        rng = np.random.default_rng(1)
        resampled = [rng.integers(0, len(rows), len(rows)) for _ in range(draws)]
        for name, names in SETS.items():
            score = models[name](columns(rows, names))
            gains = [auc(score[i], truth[i]) - auc(base[i], truth[i]) for i in resampled if 0 < truth[i].sum() < len(i)]
            low, high = np.quantile(gains, [0.025, 0.975])
            figure = {"auc": auc(score, truth), "low": low, "high": high, "sensitivity": sensitivity(score, truth)}
            result.setdefault(group, {})[name] = figure
            gain = "" if name == "network alone" else f"{figure['auc'] - auc(base, truth):+.3f} ({low:+.3f} to {high:+.3f})"
            lines.append(f"| {name} | {figure['auc']:.3f} | {gain} | {figure['sensitivity']:.3f} |")
        with_it, without = (models[n](columns(rows, SETS[n])) for n in (ALL, GEOMETRY))
        gains = [auc(with_it[i], truth[i]) - auc(without[i], truth[i]) for i in resampled if 0 < truth[i].sum() < len(i)]
        low, high = np.quantile(gains, [0.025, 0.975])
        more = auc(with_it, truth) - auc(without, truth)
        figure = f"{more:+.3f} AUC ({low:+.3f} to {high:+.3f})"
        lines += ["", f"What restoring adds to network and neighbours' height loss: {figure}."]
    return result, lines


def heights(groups: dict[str, list[dict]]) -> list[str]:
    """Error of the undamaged heights and of the height loss: restored against expected of the neighbours."""
    lines = ["", "| mean absolute error | undamaged heights, mm: neighbours | restored | height loss, points: neighbours | "
             "restored |", "|---|---|---|---|---|"]
    for group, rows in groups.items():
        for name, hurt in (("damaged", True), ("whole", False)):
            mine = [r for r in rows if (r["fracture"] or r["old"]) == hurt]
            if not mine:
                continue
            mm = [np.mean([r[k] for r in mine]) for k in ("expected_mm", "restored_mm")]
            points = [100 * np.mean([abs(r[k] - r["true_loss"]) for r in mine]) for k in ("loss", "restored_loss")]
            cells = f"{mm[0]:.2f} | {mm[1]:.2f} | {points[0]:.1f} | {points[1]:.1f}"
            lines.append(f"| {group}, {name} ({len(mine)}) | {cells} |")
    return lines


def sheet(rows: list[dict], path: Path) -> None:
    """Seen, restored, truly undamaged and damage map of some damaged vertebrae, mid-sagittal, and of one whole one."""
    picked = sorted((r for r in rows if r["fracture"] or r["old"]), key=lambda r: -r["true_loss"])
    picked = picked[:: max(1, len(picked) // 6)][:6] + [r for r in rows if not (r["fracture"] or r["old"])][:2]
    tile, columns_ = (56 * 4, 72 * 5), 4
    canvas = Image.new("RGB", (columns_ * tile[1], len(picked) * tile[0]))
    draw = ImageDraw.Draw(canvas)
    for n, r in enumerate(picked):
        u = 15
        pictures = [r["crop"].hu[:, :, u], r["made"].hu[:, :, u], r["healthy"][:, :, u].astype(float)]
        tiles = [np.repeat(grey(p)[..., None], 3, 2) for p in pictures]
        heat = tiles[0].astype(float)
        share = np.clip(r["made"].damage[:, :, u] / 300, 0, 1)[..., None]
        tiles.append((heat * (1 - share) + share * np.array([255, 60, 0])).astype(np.uint8))
        rim = r["made"].body[:, :, u] > 0.5
        edge = rim ^ np.roll(rim, 1, 0) | rim ^ np.roll(rim, 1, 1)
        tiles[1][edge] = [60, 200, 60]
        for c, image in enumerate(tiles):
            big = Image.fromarray(image[::-1]).resize((tile[1], tile[0]), Image.BILINEAR)
            canvas.paste(big, (c * tile[1], n * tile[0]))
        kind = "fracture" if r["fracture"] else "healed" if r["old"] else "whole"
        losses = f"true loss {r['true_loss']:.0%}, restored {r['restored_loss']:.0%}"
        text = f"{kind}: {losses}, damage {100 * r['damage']:.0f} HU"
        draw.text((4, n * tile[0] + 4), text, fill=(255, 255, 0))
    for c, text in enumerate(("seen", "restored, its body", "truth", "damage map")):
        draw.text((c * tile[1] + 4, 18), text, fill=(255, 255, 0))
    canvas.save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sheet", type=Path)
    a = parser.parse_args()
    node = bundles.load(a.bundle, threads=1)
    temperature = bundle.read(a.bundle)["stages"]["vertebra"]["temperature"]
    sets = {}
    for name in ("held", "test", "second"):
        files = sorted((a.work / name / "pairs").glob("*.npz"))
        sets[name] = [r for path in files for r in read(path, node, temperature)]
        if not sets[name]:
            raise SystemExit(f"{a.work / name} holds no pairs: python pairs.py --work {a.work} --{name} --count 24")
    names = sorted({r["file"] for r in sets["second"]})
    first = set(names[: len(names) // 2])
    fit = sets["held"] + [r for r in sets["second"] if r["file"] in first]
    groups = {"own generator": sets["test"], "second generator": [r for r in sets["second"] if r["file"] not in first]}
    result, lines = ablation(fit, groups)
    lines += heights(groups)
    if a.sheet:
        sheet(sets["test"], a.sheet)
    text = "\n".join([ABOUT.format(len(fit)), *lines])
    (a.work / "ablation.json").write_text(json.dumps({"figures": result, "fit": len(fit), "markdown": text}, indent=1))
    print(text)


if __name__ == "__main__":
    main()
