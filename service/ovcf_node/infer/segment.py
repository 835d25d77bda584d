"""Look once more at the spine that the label stage has found, on a finer grid.

Vertebrae are found anew there; beyond the finer field the label stage's stay. Which voxel belongs to which vertebra, and
how surely, is this stage's to say; the names rest on the classes of both. A bundle without this stage is read with the
label stage's own vertebrae and map.
"""

import numpy as np

from ovcf_node.domain.levels import REPORTED
from ovcf_node.domain.volume import Volume
from ovcf_node.infer.bundle import Bundle
from ovcf_node.infer.instances import described, find_instances, found_again, joined
from ovcf_node.infer.label import Labels, answered, field_for, locate, placed
from ovcf_node.infer.resample import isotropic, part_of


def found(volume: Volume, bundle: Bundle) -> Labels:
    """Return the vertebrae of a volume by every stage of the bundle that finds and names them."""
    labels = locate(field_for(volume, bundle), bundle)
    return mapped(labels, volume, bundle) if bundle.has("segment") and labels.reported else labels


def mapped(labels: Labels, volume: Volume, bundle: Bundle) -> Labels:
    """Return the vertebrae of both stages, with the segment stage's map of T12..S1 and what surrounds them.

    The bundle must have the stage.
    """
    stage = bundle.segment
    part = part_of(volume, *_around(labels, stage.margin_mm))
    voxels, field = answered(isotropic(part, stage.spacing_mm), bundle, "segment", stage)
    instances = found_again(find_instances(voxels, field)[0], field, [v.instance for v in labels.vertebrae])
    looks = [(v, joined(v, f, instances), f) for v, f in ((labels.voxels, labels.field), (voxels, field))]
    return Labels(*placed(described(instances, looks), stage.labels), field, looks[1][1], voxels, segmented=True)


def _around(labels: Labels, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest LPS corner of the reported vertebrae and `margin_mm` around them."""
    reported = [v.instance.number for v in labels.vertebrae if v.label in REPORTED]
    points = labels.field.point_of(np.argwhere(np.isin(labels.numbers, reported)))
    return points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
