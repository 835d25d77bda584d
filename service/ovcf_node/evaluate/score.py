"""Score one case: read its series as the node would, and put what was said beside what is true. Returns plain JSON."""

import time
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ovcf_node import infer
from ovcf_node.config import Assemble, Infer
from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.domain.levels import GRADED, REPORTED, mask_value
from ovcf_node.domain.volume import Masks
from ovcf_node.errors import Permanent
from ovcf_node.evaluate.mistakes import NEAR_MM, errors
from ovcf_node.evaluate.truth import SERIES, TrueCase, TrueVertebra, read
from ovcf_node.workflow.reading import Read, png_bytes, read_series


def score(folder: Path, bundle: Path, *, threads: int = 2, pictures: Path | None = None) -> dict[str, Any]:
    """Read and score the case in `folder`; writes its summary picture to `pictures` when the case holds an error.

    Raises Permanent for an unreadable truth or a bundle that must not run. A series that cannot be read is a result.
    """
    case = read(folder)
    began = time.perf_counter()
    paths = sorted(p for p in (folder / SERIES).rglob("*") if p.is_file())
    opened = partial(_opened, infer.load_identity(bundle).digest)
    done = read_series(paths, bundle, Assemble(), Infer(threads=threads), load=opened)
    record = compare(case, done, time.perf_counter() - began)
    if pictures is not None and done.picture is not None and errors(record):
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / f"{case.cohort}-{case.name}.png").write_bytes(png_bytes(done.picture))
    return record


@lru_cache(maxsize=1)
def _opened(digest: str, folder: Path, *, providers: tuple[str, ...], threads: int) -> infer.Bundle:
    """The bundle of that digest, opened and tested once for all the cases that a process scores."""
    return infer.load(folder, providers=providers, threads=threads)


def compare(case: TrueCase, done: Read, seconds: float) -> dict[str, Any]:
    """Put a reading beside the truth. Raises Permanent `truth_unreadable` for labels on another grid than the series."""
    findings = done.findings
    if case.labels is not None and done.masks is not None and case.labels.shape != done.masks.shape:
        grids = f"labels of {case.labels.shape} voxels for a series of {done.masks.shape}"
        raise Permanent("truth_unreadable", f"case {case.name}: {grids}")
    said = {v.level: v for v in findings.vertebrae}
    return {
        "case": case.name, "cohort": case.cohort, "variant": case.variant, "named": case.named, "complete": case.complete,
        "facts": case.facts, "bundle": findings.bundle.digest, "seconds": round(seconds, 2), "status": findings.status,
        "reasons": [r.code for r in findings.reasons],
        "fracture": case.fracture, "said_fracture": findings.patient.ovcf, "probability": findings.patient.probability,
        "denis": case.denis, "said_denis": patient_type(findings),
        "numbering_uncertain": findings.numbering_uncertain,
        "vertebrae": [_vertebra(case, v, said, findings, done.masks) for v in case.vertebrae if v.level in REPORTED],
        "others": _elsewhere(case, findings),
    }


def patient_type(findings: Findings) -> str | None:
    """The type said of the patient: that of the most probable fracture; "burst" for a posterior wall, None withheld."""
    broken = [v for v in findings.vertebrae if v.fracture]
    if not broken:
        return None
    worst = max(broken, key=lambda v: v.probability or 0.0)
    return _type(worst)


def _type(said: VertebraFinding) -> str | None:
    if said.abstain is not None and said.abstain.code == "posterior_wall":
        return "burst"
    return said.denis


def _vertebra(
    case: TrueCase, true: TrueVertebra, said: dict[str, VertebraFinding], findings: Findings, masks: Masks | None
) -> dict[str, Any]:
    """One true vertebra T12..S1: what was said under its name, and what was said at its place."""
    named = said.get(true.level)
    here = min(
        (v for v in findings.vertebrae if v.centroid_mm), key=lambda v: _distance(v, true), default=None
    )
    here = here if here is not None and _distance(here, true) <= NEAR_MM else None
    out = {
        **{k: v for k, v in asdict(true).items() if k != "centre_mm"},
        "found": named is not None,
        "distance_mm": round(_distance(named, true), 2) if named is not None and named.centroid_mm else None,
        "said": said_about(named), "place": {"level": here.level, **said_about(here)} if here is not None else None,
    }
    if true.heights_mm and named is not None and true.level in GRADED:
        measured = asdict(named.heights_mm)
        out["height_error_mm"] = {
            k: round(measured[k] - v, 3) for k, v in true.heights_mm.items() if measured.get(k) is not None
        }
    if case.labels is not None and masks is not None:
        out |= overlap(case.labels, masks, mask_value(true.level), case.facts)
    return out


def said_about(vertebra: VertebraFinding | None) -> dict[str, Any]:
    """What was said of one vertebra, as records keep it; empty where it was not found."""
    if vertebra is None:
        return {}
    return {
        "fracture": vertebra.fracture, "probability": vertebra.probability, "denis": _type(vertebra),
        "abstain": vertebra.abstain.code if vertebra.abstain else None, "complete": vertebra.complete,
        "old_deformity": vertebra.old_deformity, "height_loss": vertebra.height_loss,
        "genant": vertebra.genant.grade if vertebra.genant else None,
        "notes": [n.code for n in vertebra.notes],
    }


def _distance(said: VertebraFinding, true: TrueVertebra) -> float:
    return float(np.linalg.norm(np.subtract(said.centroid_mm, true.centre_mm))) if said.centroid_mm else float("inf")


def _elsewhere(case: TrueCase, findings: Findings) -> list[dict[str, Any]]:
    """Vertebrae that were reported where no true one of that name lies."""
    out = []
    for v in findings.vertebrae:
        true = case.find(v.level)
        if v.centroid_mm and (true is None or _distance(v, true) > NEAR_MM):
            out.append({"level": v.level, **said_about(v)})
    return out


def overlap(truth: np.ndarray, masks: Masks, value: int, facts: dict) -> dict[str, float | None]:
    """Dice and mean symmetric surface distance (mm) of one label.

    The distance is None where one of the two is empty, or where the facts do not tell the voxel's size.
    """
    ours = np.zeros(truth.shape, bool)
    box = tuple(slice(o, o + n) for o, n in zip(masks.origin, masks.vertebrae.shape, strict=True))
    ours[box] = masks.vertebrae == value
    theirs = truth == value
    total = int(ours.sum()) + int(theirs.sum())
    if not total:
        return {"dice": None, "surface_mm": None}
    out = {"dice": round(2 * int((ours & theirs).sum()) / total, 4), "surface_mm": None}
    spacing = [facts.get(k) for k in ("step_mm", "row_mm", "column_mm")]
    if ours.any() and theirs.any() and all(spacing):
        out["surface_mm"] = round(_surface_distance(ours, theirs, [float(s) for s in spacing]), 3)
    return out


def _surface_distance(a: np.ndarray, b: np.ndarray, spacing: list[float]) -> float:
    both, = ndimage.find_objects((a | b).view(np.uint8))
    box = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in both)
    a, b = a[box], b[box]
    rim_a, rim_b = (cKDTree(np.argwhere(m & ~ndimage.binary_erosion(m)) * spacing) for m in (a, b))
    distances = np.concatenate([rim_a.query(rim_b.data)[0], rim_b.query(rim_a.data)[0]])
    return float(distances.mean())
