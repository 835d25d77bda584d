"""Write one case of a cohort: a DICOM series, truth.json and labels.npz, as `ovcf-node models evaluate` reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from phantoms.dicom import write_series
from phantoms.grids import Grid

REPORTED = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")  # a label map stores 1 + index


def axial(low, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    """The grid whose voxel (0, 0, 0) lies at `low` (LPS mm); spacing and shape z, y, x."""
    affine = np.zeros((4, 4))
    for axis, step in enumerate(spacing):
        affine[2 - axis, axis] = step
    affine[:3, 3], affine[3, 3] = low, 1.0
    return Grid(affine, tuple(int(n) for n in shape))


def write_case(
    folder: Path, hu: np.ndarray, grid: Grid, labels: np.ndarray | None, truth: dict, *, seed: int, thickness: float,
    contrast: str | None = None, kernel: str = "STANDARD", patient: dict | None = None,
) -> Path:
    """Write the case so that a reader never sees half of it.

    hu, labels  (z, y, x), z towards the head; labels uint8 with 1 + index in REPORTED
    truth       cohort, vertebrae, variant, named, complete and facts; the facts of the grid are added here
    """
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    series = {"SliceThickness": f"{thickness:.3f}", "ConvolutionKernel": kernel}
    if contrast and contrast != "none":
        series["ContrastBolusAgent"] = "IODINE"
    write_series(temporary / "ct", hu, grid, patient=patient, series=series, seed=seed)
    step, row, column = (round(float(s), 4) for s in grid.spacing)
    facts = {
        "slice_mm": round(thickness, 3), "step_mm": step, "row_mm": row, "column_mm": column, "slices": int(hu.shape[0]),
        "field_mm": round(column * hu.shape[2]), "contrast": contrast or "none", "kernel": kernel,
    }
    document = {**truth, "facts": {**facts, **truth.get("facts", {})}}
    (temporary / "truth.json").write_text(json.dumps(document, indent=1))
    if labels is not None:
        np.savez_compressed(temporary / "labels.npz", labels=labels.astype(np.uint8))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return folder


def whole_bodies(instance: np.ndarray, body: np.ndarray, number: int) -> bool:
    """Whether a body lies in the field with at least two voxels around it."""
    found = np.argwhere((instance == number) & body)
    return bool(len(found) and (found.min(0) >= 2).all() and (found.max(0) < np.array(body.shape) - 2).all())
