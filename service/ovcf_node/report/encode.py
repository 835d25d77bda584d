"""One reading -> its DICOM objects in one dialect: SEG, SEG, picture, SR; each passes `lint` or none is returned."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from ovcf_node.domain.findings import Findings
from ovcf_node.domain.identity import ROLES, Dialect
from ovcf_node.domain.volume import FrameSource, Masks
from ovcf_node.errors import Permanent
from ovcf_node.report.context import ResultContext, algorithm_of
from ovcf_node.report.lint import lint
from ovcf_node.report.segmentation import SegmentPlan, encode_segmentation, plan_segments
from ovcf_node.report.source import source_of
from ovcf_node.report.structured_report import encode_report
from ovcf_node.report.summary_image import encode_summary


@dataclass(frozen=True)
class EncodedObject:
    """One object of a result; `role` is one of `identity.ROLES`."""

    role: str
    dataset: Dataset
    sop_instance_uid: str


def encode(
    context: ResultContext, headers: Sequence[Dataset], findings: Findings, masks: Masks | None,
    summary_rgb: np.ndarray | None, dialect: Dialect, sources: Sequence[FrameSource],
    roles: Collection[str] = ROLES,
) -> list[EncodedObject]:
    """Return the objects of one reading in the order in which they are sent.

    headers      source datasets without pixel data: one per slice, or those of the multi-frame instances
    masks        on the grid of the volume; None where nothing was segmented
    summary_rgb  the picture of `render_summary`, uint8 (rows, columns, 3); None: no picture
    sources      `Volume.sources`: slice k of `masks` is frame k here; only looked at where there are masks
    roles        which objects are wanted. The SR's content never depends on it: its UID does not either.
    A reading that was not assessed gives only the SR; without a fracture there is no "seg_fractures"; without a Frame
    of Reference UID no Segmentation can exist. Raises Permanent("lint") naming every rule that an object breaks.
    """
    if findings.status == "excluded":
        raise Permanent("encode", "an excluded series has no result objects")
    segmented = masks is not None and findings.status in ("assessed", "limited")
    source = source_of(headers, sources if segmented else ())
    algorithm = algorithm_of(findings)
    plan = plan_segments(findings, masks, source)
    encoded: list[EncodedObject] = []
    for role in ROLES:
        if role not in roles:
            continue
        if role == "sr":
            dataset = encode_report(context, source, findings, plan, algorithm, dialect)
        elif role == "summary" and summary_rgb is not None and findings.status != "not_assessed":
            dataset = encode_summary(context, source, summary_rgb, algorithm)
        elif role != "summary" and plan.of_role(role) and masks is not None:
            dataset = encode_segmentation(role, context, source, masks, plan.of_role(role), algorithm)
        else:
            continue
        _check(role, dataset, dialect, _segment_numbers(context, plan))
        encoded.append(EncodedObject(role, dataset, str(dataset.SOPInstanceUID)))
    return encoded


def _segment_numbers(context: ResultContext, plan: SegmentPlan) -> dict[str, set[int]]:
    return {
        context.segmentation_uid(role): {s.number for s in plan.of_role(role)}
        for role in ("seg_vertebrae", "seg_fractures")
    }


def _check(role: str, dataset: Dataset, dialect: Dialect, segments: dict[str, set[int]]) -> None:
    violations = lint(dataset, dialect, segments)
    if violations:
        raise Permanent("lint", f"{role}: {'; '.join(sorted(set(violations)))}")
