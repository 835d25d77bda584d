"""Masks -> two BINARY Segmentation instances: vertebrae, and the fracture regions inside them (PS3.3 A.51).

Two instances because a fracture region overlaps its vertebra: disjoint segments can be fed as one label array (a
fraction of the memory of one array per segment) and every viewer draws them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.domain.identity import Dialect
from ovcf_node.domain.levels import REPORTED, mask_value
from ovcf_node.domain.volume import Masks
from ovcf_node.report import codes
from ovcf_node.report.context import Algorithm, ResultContext
from ovcf_node.report.header import BODY_PART, finish, series_arguments
from ovcf_node.report.source import Source

SOP_CLASS_UID = SegmentationStorage


@dataclass(frozen=True)
class Segment:
    """One segment: `tracking` is its tracking identifier, in the SR too ("L1", "L1 fracture")."""

    number: int
    level: str
    tracking: str
    category: Code
    type: Code
    region: Code
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class SegmentPlan:
    """Which segments the two instances have; known before a pixel is encoded, so that the SR can refer to them."""

    vertebrae: tuple[Segment, ...] = ()
    fractures: tuple[Segment, ...] = ()

    def of_role(self, role: str) -> tuple[Segment, ...]:
        return self.vertebrae if role == "seg_vertebrae" else self.fractures


def plan_segments(findings: Findings, masks: Masks | None, source: Source) -> SegmentPlan:
    """Return a segment for every level with voxels, and one per fracture that was found and has voxels.

    Without a frame of reference no Segmentation can exist: the plan is empty.
    """
    if masks is None or not source.slices or findings.status not in ("assessed", "limited"):
        return SegmentPlan()
    found = {v.level: v for v in findings.vertebrae}
    drawn = [level for level in REPORTED if level in found and (masks.vertebrae == mask_value(level)).any()]
    broken = [
        level for level in REPORTED
        if level in found and found[level].fracture and (masks.fractures == mask_value(level)).any()
    ]
    return SegmentPlan(
        tuple(_vertebra(number, level) for number, level in enumerate(drawn, 1)),
        tuple(_fracture(number, found[level]) for number, level in enumerate(broken, 1)),
    )


def _vertebra(number: int, level: str) -> Segment:
    code = codes.LEVELS[level]
    region = codes.SACRUM if level == "S1" else codes.SPINE
    return Segment(number, level, level, codes.ANATOMICAL_STRUCTURE, code, region, codes.LEVEL_RGB[level])


def _fracture(number: int, vertebra: VertebraFinding) -> Segment:
    return Segment(
        number, vertebra.level, fracture_tracking(vertebra.level), codes.ABNORMAL_STRUCTURE,
        codes.fracture_type(vertebra), codes.LEVELS[vertebra.level], codes.FRACTURE_RGB,
    )


def fracture_tracking(level: str) -> str:
    return f"{level} fracture"


_TEXTS: dict[str, tuple[str, str, str]] = {  # role -> series description, content label (CS), content description
    "seg_vertebrae": ("Vertebrae T12-S1 (SEG)", "OVCF_VERTEBRAE", "Vertebrae T12 to S1"),
    "seg_fractures": ("Fracture regions (SEG)", "OVCF_FRACTURES", "Suspected vertebral fracture regions"),
}


def encode_segmentation(
    role: str, context: ResultContext, source: Source, masks: Masks, segments: Sequence[Segment], algorithm: Algorithm,
) -> Dataset:
    """Return the Segmentation of one role ("seg_vertebrae" | "seg_fractures"); frames without a voxel are left out."""
    region = masks.vertebrae if role == "seg_vertebrae" else masks.fractures
    first, labels = label_planes(region, masks, segments)
    series_text, content_label, content_text = _TEXTS[role]
    dialect = Dialect()  # segmentations are the same in every dialect
    uids = (context.identity.series_uid(role, dialect), context.identity.sop_instance_uid(role, dialect))
    dataset = Segmentation(
        source_images=source.slices[first:first + len(labels)],
        pixel_array=labels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(segment, context, algorithm) for segment in segments],
        content_label=content_label,
        content_description=content_text,
        content_creator_name=None,
        omit_empty_frames=True,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=context.series_description(series_text),
        **series_arguments(context, source, role, uids),
    )
    dataset.copy_patient_and_study_information(source.header)
    dataset.BodyPartExamined = BODY_PART
    _restore_references(dataset, source)
    finish(dataset, context, source, algorithm)
    return dataset


def label_planes(region: np.ndarray, masks: Masks, segments: Sequence[Segment]) -> tuple[int, np.ndarray]:
    """Return the first slice that holds a segment, and the label planes from there to the last one that does.

    region  uint8 array of the box's shape with mask values; planes are uint8 (slices, rows, columns) at full size with
            segment numbers, 0 where no segment is.
    """
    number_of = np.zeros(256, np.uint8)
    for segment in segments:
        number_of[mask_value(segment.level)] = segment.number
    numbered = number_of[region]
    occupied = np.flatnonzero(numbered.any(axis=(1, 2)))
    numbered = numbered[occupied[0]:occupied[-1] + 1]
    planes = np.zeros((len(numbered), *masks.shape[1:]), np.uint8)
    row, column = masks.origin[1:]
    planes[:, row:row + numbered.shape[1], column:column + numbered.shape[2]] = numbered
    return masks.origin[0] + int(occupied[0]), planes


def _describe(segment: Segment, context: ResultContext, algorithm: Algorithm) -> SegmentDescription:
    identification = AlgorithmIdentificationSequence(
        name=algorithm.name, version=algorithm.version, source=algorithm.manufacturer,
        family=codes.ARTIFICIAL_INTELLIGENCE, parameters={"bundle_sha256": context.identity.bundle_digest or "none"},
    )
    return SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.tracking,
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=identification,
        tracking_id=segment.tracking,
        tracking_uid=context.identity.tracking_uid(segment.tracking),
        anatomic_regions=[segment.region],
        display_color=CIELabColor.from_rgb(*segment.rgb),
    )


def _restore_references(dataset: Dataset, source: Source) -> None:
    """Name the real source instances and frames where highdicom named the slices that stand for them."""
    origin = source.origin
    classes = {str(i.SOPInstanceUID): i.SOPClassUID for i in source.instances}
    items = [
        item for frame in dataset.PerFrameFunctionalGroupsSequence for derivation in frame.DerivationImageSequence
        for item in derivation.SourceImageSequence
    ]
    for item in {id(item): item for item in items}.values():  # frames of one slice share their item
        real = origin[str(item.ReferencedSOPInstanceUID)]
        item.ReferencedSOPInstanceUID = real.sop_instance_uid
        item.ReferencedSOPClassUID = classes[real.sop_instance_uid]
        if real.frame_number is not None:
            item.ReferencedFrameNumber = real.frame_number
    used = dict.fromkeys(origin[str(i.ReferencedSOPInstanceUID)].sop_instance_uid for i in dataset.SourceImageSequence)
    references = []
    for uid in used:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = classes[uid], uid
        references.append(reference)
    series = Dataset()
    series.SeriesInstanceUID = source.header.SeriesInstanceUID
    series.ReferencedInstanceSequence = references
    dataset.SourceImageSequence = references
    dataset.ReferencedSeriesSequence = [series]
