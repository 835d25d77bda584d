"""Find the vertebrae: the label stage in the whole field, and the segment stage once more, on a finer grid around the spine.

Vertebrae are found anew there; where the finer field does not show them whole, or shows fewer, the label stage's stay.
Which voxel belongs to which vertebra, and how surely, is the finer stage's to say; the names rest on the classes of both. A
bundle without this stage is read with the label stage's own vertebrae and map.
"""

from collections.abc import Callable

import numpy as np

from ovcf_node.domain.levels import REPORTED
from ovcf_node.domain.volume import Volume
from ovcf_node.infer.bundle import Bundle
from ovcf_node.infer.instances import described, find_instances, found_again, joined
from ovcf_node.infer.label import Labels, answered, field_for, locate, placed
from ovcf_node.infer.resample import isotropic, part_of


def found(
    volume: Volume, bundle: Bundle, done: Callable[[str, float], None] = lambda step, fraction: None
) -> Labels:
    """Return the vertebrae of a volume by every stage of the bundle that finds and names them.

    `done` is called after each step, with the part of a reading that is then behind.
    """
    whole = field_for(volume, bundle)
    done("resample", 0.15)
    labels = locate(whole, bundle)
    done("label", 0.4)
    if bundle.has("segment") and labels.reported:
        again = mapped(labels, volume, bundle)
        done("segment", 0.45)
        labels = again if again.reported else labels  # a spine that was seen is never taken back in silence
    return labels


def mapped(labels: Labels, volume: Volume, bundle: Bundle) -> Labels:
    """Return the vertebrae of both stages, with the segment stage's map of T12..S1 and what surrounds them.

    The bundle must have the stage.
    """
    stage = bundle.segment
    part = part_of(volume, *_around(labels, stage.margin_mm))
    voxels, field = answered(isotropic(part, stage.spacing_mm), bundle, "segment", stage)
    coarse = [v.instance for v in labels.vertebrae]
    instances = found_again(find_instances(voxels, field)[0], field, coarse, labels.field)
    looks = [(v, joined(v, f, instances), f) for v, f in ((labels.voxels, labels.field), (voxels, field))]
    return Labels(*placed(described(instances, looks), stage.labels), field, looks[1][1], voxels, segmented=True)


def _around(labels: Labels, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest LPS corner of the reported vertebrae and `margin_mm` around them."""
    reported = [v.instance.number for v in labels.vertebrae if v.label in REPORTED]
    points = labels.field.point_of(np.argwhere(np.isin(labels.numbers, reported)))
    return points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
