"""Look at the vertebrae that the label stage has found once more, on a finer grid around the spine only.

Places stay the label stage's. Which voxel belongs to which vertebra, and how surely, is this stage's to say; the names
rest on both stages' classes. A bundle without this stage is read with the label stage's own map and names.
"""

from dataclasses import replace

import numpy as np

from ovcf_node.domain.levels import REPORTED
from ovcf_node.domain.volume import Volume
from ovcf_node.infer.bundle import Bundle
from ovcf_node.infer.instances import joined, seen_again
from ovcf_node.infer.label import Labels, answered, name_sequence
from ovcf_node.infer.resample import isotropic, part_of


def mapped(labels: Labels, volume: Volume, bundle: Bundle) -> Labels:
    """Return the labels with the segment stage's map of T12..S1 and what surrounds them, and the names of both stages.

    The bundle must have the stage.
    """
    stage = bundle.segment
    part = part_of(volume, *_around(labels, stage.margin_mm))
    voxels, field = answered(isotropic(part, stage.spacing_mm), bundle, "segment", stage)
    found = [v.instance for v in labels.vertebrae]
    numbers = joined(voxels, field, found)
    finer = (labels.field.spacing / field.spacing) ** 3
    names, uncertain, basis = name_sequence(seen_again(voxels, numbers, finer, found), stage.labels)
    return replace(
        labels, vertebrae=tuple(replace(v, label=name) for v, name in zip(labels.vertebrae, names, strict=True)),
        numbering_uncertain=uncertain, numbering_basis=basis, field=field, numbers=numbers,
        probability=1.0 - voxels.classes[0],
    )


def _around(labels: Labels, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest LPS corner of the reported vertebrae and `margin_mm` around them."""
    reported = [v.instance.number for v in labels.vertebrae if v.label in REPORTED]
    points = labels.field.point_of(np.argwhere(np.isin(labels.numbers, reported)))
    return points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
