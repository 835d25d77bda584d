"""A synthetic spine with a plausible reading, as the encoders get it: headers, volume, masks, findings, context.

    case = make_case(folder, orientation="sagittal")
    objects = encode(make_context(), case.headers, case.findings, case.masks, None, Dialect(), case.volume.sources)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ct_series import grid, uid, write_ct, write_enhanced_ct
from ovcf_node.domain.findings import (
    BundleIdentity,
    Evidence,
    Findings,
    Genant,
    HeightLines,
    Heights,
    PatientFinding,
    VertebraFinding,
)
from ovcf_node.domain.identity import ResultIdentity
from ovcf_node.domain.levels import REPORTED, mask_value
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.volume import FrameSource, Masks, Volume
from ovcf_node.report import ResultContext

CENTRE = np.array([3.0, -17.0, 211.0])
PITCH_MM = 24.0  # from one body centre to the next
BROKEN = "L1"


@dataclass(frozen=True)
class Case:
    headers: list[Dataset]
    volume: Volume
    masks: Masks
    findings: Findings


def make_context(**changes: Any) -> ResultContext:
    identity = ResultIdentity(
        installation="site-1", study_instance_uid=uid("study"), series_instance_uid=uid("study", "series"),
        source_digest="a" * 64, software="0.1.0", bundle_digest="b" * 64, settings_digest="c" * 64, revision=1,
        analysis_started_at="2024-03-02T08:30:15",
    )
    started = datetime(2024, 3, 2, 9, 30, 15, 250000, tzinfo=timezone(timedelta(hours=1)))
    return replace(ResultContext(identity, started, institution="Test Hospital"), **changes)


def body_centre(level: str) -> np.ndarray:
    """Return the LPS centre of a synthetic body: a gently curved spine about CENTRE."""
    up = 3 - REPORTED.index(level)
    return CENTRE + np.array([1.5 * up, 0.8 * up * up - 4.0, PITCH_MM * up])


def make_case(
    folder: Path, *, orientation: str = "axial", enhanced: bool = False, spacing: float = 2.0, parts: int = 1,
    shuffle: bool = False, tilt_degrees: float = 0.0, rotation: np.ndarray | None = None, **overrides: Any,
) -> Case:
    """Write the series and return what an assessment of it would hold; `overrides` go to the DICOM writer."""
    extent = {"L": 70.0, "P": 100.0, "S": 200.0}
    axes = {"axial": "SPL", "sagittal": "LSP", "coronal": "PSL"}[orientation]
    shape = tuple(int(extent[a] / spacing) for a in axes)
    affine = grid(
        shape, spacing=(spacing,) * 3, orientation=orientation, tilt_degrees=tilt_degrees, rotation=rotation,
        centre=tuple(CENTRE),
    )
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    hu, masks = _spine(index @ affine[:3, :3].T + affine[:3, 3])
    if enhanced:
        paths = write_enhanced_ct(folder, hu, affine, series="series", parts=parts, shuffle=shuffle, **overrides)
    else:
        paths = write_ct(folder, hu, affine, **overrides)
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    sources = _frame_sources(headers, affine) if enhanced else [FrameSource(str(h.SOPInstanceUID)) for h in headers]
    volume = Volume(hu, affine, tuple(sources), orientation, str(headers[0].get("FrameOfReferenceUID", "")) or None)
    return Case(headers, volume, masks, make_findings())


def _frame_sources(headers: Sequence[Dataset], affine: np.ndarray) -> list[FrameSource]:
    placed = []
    for header in headers:
        for number, frame in enumerate(header.PerFrameFunctionalGroupsSequence, 1):
            position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
            placed.append((float(position @ affine[:3, 0]), FrameSource(str(header.SOPInstanceUID), number)))
    return [source for _, source in sorted(placed, key=lambda pair: pair[0])]


def _spine(points: np.ndarray) -> tuple[np.ndarray, Masks]:
    hu = np.full(points.shape[:3], 40, np.int16)
    vertebrae, fractures = np.zeros(points.shape[:3], np.uint8), np.zeros(points.shape[:3], np.uint8)
    for level in REPORTED:
        x, y, z = np.moveaxis(points - body_centre(level), -1, 0)
        height = 9.0 - (3.0 if level == BROKEN else 0.0) * (y < -4)
        body = ((x / 19) ** 2 + (y / 14) ** 2 < 1) & (np.abs(z) < height)
        arch = (np.abs(x) < 6) & (y > 20) & (y < 38) & (np.abs(z) < 6)
        vertebrae[body | arch] = mask_value(level)
        hu[body | arch] = 180
        if level == BROKEN:
            broken = body & (z > 3) & (y < 4)
            fractures[broken] = mask_value(level)
            hu[broken] = 420
    occupied = np.argwhere(vertebrae)
    low, high = occupied.min(0), occupied.max(0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    origin = (int(low[0]), int(low[1]), int(low[2]))
    return hu, Masks(vertebrae[box].copy(), fractures[box].copy(), origin, vertebrae.shape)


def make_findings(**changes: Any) -> Findings:
    findings = Findings(
        status="assessed",
        patient=PatientFinding(True, 0.97),
        vertebrae=tuple(make_vertebra(level) for level in REPORTED),
        numbering_uncertain=False,
        numbering_basis=None,
        bundle=BundleIdentity("ovcf-reference", "0.1.0", "b" * 64, "research"),
        software="0.1.0",
        series_instance_uid=uid("study", "series"),
    )
    return replace(findings, **changes)


def make_vertebra(level: str, **changes: Any) -> VertebraFinding:
    centre = body_centre(level)
    anterior = 15.8 if level == BROKEN else 23.4
    lines = [
        (tuple(centre + [0, y, height / 2]), tuple(centre + [0, y, -height / 2]))
        for y, height in ((-11.0, anterior), (0.0, 21.0), (11.0, 24.0))
    ]
    vertebra = VertebraFinding(
        level=level, complete=True, fracture=None if level == "S1" else level == BROKEN,
        probability=None if level == "S1" else 0.97 if level == BROKEN else 0.04,
        heights_mm=Heights(anterior, 21.0, 24.0), expected_mm=Heights(23.6, 22.9, 24.1),
        expected_from="T12 and L2", height_loss=0.331 if level == BROKEN else 0.012,
        restored_loss=0.294 if level == BROKEN else 0.021, damage_hu=86.4 if level == BROKEN else 31.7,
        genant=Genant(2 if level == BROKEN else 0, False), mean_hu=118.4, volume_cm3=41.27,
        centroid_mm=tuple(float(c) for c in centre), height_lines_mm=HeightLines(*lines),
        evidence=Evidence(0.93, 0.1, 0.4, 0.02) if level == BROKEN else Evidence(0.02, 0.03, 0.05, 0.01),
        old_deformity=False,
    )
    if level == BROKEN:
        vertebra = replace(vertebra, denis="B", ao="A1", of="OF2", age="recent_features")
    return replace(vertebra, **changes)


def not_assessed(code: str = "missing_slices", detail: str = "3 of 120") -> Findings:
    return Findings(status="not_assessed", reasons=(reason(code, detail),), software="0.1.0")


def withheld() -> Findings:
    """Return a reading of thick slices: labels only, grading withheld."""
    vertebrae = tuple(
        VertebraFinding(level, True, mean_hu=100.0, volume_cm3=40.0, centroid_mm=tuple(map(float, body_centre(level))))
        for level in REPORTED
    )
    return make_findings(
        status="limited", reasons=(reason("grading_withheld", "4.25 mm"),), patient=PatientFinding(),
        vertebrae=vertebrae, numbering_uncertain=True, numbering_basis="S1 not in the field",
    )


def partly_graded() -> Findings:
    """Return a reading without a fracture in T12 to L2; L3 undetermined, L4 cut off, L5 not found."""
    vertebrae = tuple(make_vertebra(v, fracture=False, denis=None, ao=None, of=None) for v in ("T12", "L1", "L2"))
    undetermined = make_vertebra("L3", fracture=None, abstain=ABSTAINED)
    cut = VertebraFinding("L4", False, centroid_mm=tuple(map(float, body_centre("L4"))))
    return make_findings(
        status="limited", reasons=(reason("incomplete_coverage"),), patient=PatientFinding(None, 0.04),
        vertebrae=(*vertebrae, undetermined, cut),
    )


ABSTAINED = Reason("evidence_conflict", "superior and inferior endplate evidence conflict")
