"""Pictures that are no CT of a vertebra, made from vertebrae of the calibration: what the limit of the usual must refuse.

Wrong numbers (another zero, ten times the scale, reversed, drowned in noise, noise alone, a constant, air) and right ones of
another place. Volume and reading alone decide what they are.

Tried and left out, since the statistics hardly tell them from vertebrae (distances of 3 to 15 with bundle 0.7.0): vertebrae
upside down, back to front, lying or on their side, a tenth of the CT number, and a picture windowed to 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ovcf_node.domain.volume import Volume
from ovcf_node.infer import Bundle
from ovcf_node.infer.resample import AIR_HU, Crop, crop_grid, sample_crop
from ovcf_node.infer.usual import statistics
from ovcf_node.infer.vertebra import VertebraReading, crop_answer, own_masks

AWAY_MM = 70.0  # to the left, front and back: no vertebra reaches there
SOFT_TISSUE_HU = 40.0


def pictures(volume: Volume, reading: VertebraReading, bundle: Bundle) -> Iterator[tuple[str, Crop]]:
    """Kind and crop of every foreign picture made from one vertebra."""
    hu, stage = reading.crop.hu, bundle.vertebra
    noise = np.random.default_rng(0).normal(size=hu.shape)
    for kind, numbers in {
        "raised": hu + 1000.0, "lowered": hu - 1000.0, "tenfold": 10.0 * hu, "reversed": -hu, "drowned": hu + 600.0 * noise,
        "noise": 400.0 * noise, "constant": np.full_like(hu, SOFT_TISSUE_HU), "air": np.full_like(hu, AIR_HU),
    }.items():
        yield kind, replace(reading.crop, hu=numbers.astype(np.float32))
    u, v, _ = reading.frame
    for kind, step in (("flank", u), ("belly", -v), ("back", v)):
        centre = reading.centre + AWAY_MM * step
        yield kind, sample_crop(volume, crop_grid(centre, reading.frame, stage.spacing_mm, stage.shape, stage.origin_index))


def rows(volume: Volume, reading: VertebraReading, bundle: Bundle) -> Iterator[dict]:
    """Kind and statistics of those in which the vertebra stage sees a body: the others are not graded anyway."""
    for kind, crop in pictures(volume, reading, bundle):
        whole, body = own_masks(crop_answer(bundle, crop.hu), crop.inside)
        seen = replace(reading, crop=crop, vertebra=whole, body=body)
        if seen.has_body:
            yield {"kind": kind, "statistics": statistics(seen).tolist()}
