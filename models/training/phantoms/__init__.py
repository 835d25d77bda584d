"""Analytic CT phantoms of the thoracolumbar spine with recent osteoporotic compression fractures.

A `Case` is a patient described by smooth functions of patient space (LPS, mm); `render` samples it on any grid, so a
scanner's axial series, a coarse 6 mm field and an oriented vertebra crop are views of the same anatomy. Everything is
deterministic by seed. `evidence`, `denis` and the fracture region refer to recent structural failure; healed
deformities carry `old_deformity`. A case with posterior-wall evidence keeps its S/I letter in `denis`: whether that is
still a compression fracture is the reader's rule.
"""

from .acquisition import Acquisition, clean_acquisition, padded, sample_acquisition
from .additions import with_lumbar_ribs
from .case import sample_case
from .dicom import write_series
from .grids import Grid, axial_grid, crop_grid, sample_field
from .labelmaps import LabelledCentre, label_map_case
from .norms import LABELS, LEVELS, label_index
from .pairs import Pair, leaning, render_pair, render_scanned_pair
from .pasted import pasted_case
from .patient import Case, VertebraTruth, healthy_twin
from .render import Rendered, render, render_crop
from .scanned import render_scanned, sample_pose, sample_scanned

__all__ = [
    "LABELS",
    "LEVELS",
    "Acquisition",
    "Case",
    "Grid",
    "LabelledCentre",
    "Pair",
    "Rendered",
    "VertebraTruth",
    "axial_grid",
    "clean_acquisition",
    "crop_grid",
    "healthy_twin",
    "label_index",
    "label_map_case",
    "leaning",
    "padded",
    "pasted_case",
    "render",
    "render_crop",
    "render_pair",
    "render_scanned",
    "render_scanned_pair",
    "sample_acquisition",
    "sample_case",
    "sample_field",
    "sample_pose",
    "sample_scanned",
    "with_lumbar_ribs",
    "write_series",
]
