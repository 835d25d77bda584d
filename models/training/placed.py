"""Training crops as the node makes them: a patient becomes a series, the node's stages find and place its vertebrae.

Crops that are rendered in their own frame know neither slices nor the errors of the label stage nor how the first crop turns
the second. These do: ``cases.py --bundle FOLDER`` writes them beside the others, in the same format.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

import cohorts
import phantoms
from casefolder import axial, whole_bodies
from networks import EVIDENCE
from ovcf_node import infer
from ovcf_node.domain.volume import FrameSource, Volume
from ovcf_node.infer.resample import Crop, sample_crop
from ovcf_node.infer.resample import crop_grid as node_grid
from ovcf_node.infer.segment import found
from ovcf_node.infer.vertebra import VertebraReading, read_vertebrae
from phantoms.norms import spine_index

LEVELS = ("T11", *cohorts.REPORTED)  # that the node reads
NEAR_MM = 12.0  # a crop that sits farther from every body shows none: not a sample of any
LOOKS = 2  # of a vertebra with a fracture, a healed deformity or a mimic; others have one
PLAIN = 3  # the others of a patient
BODY_MM = 35.0  # from a body's centre to its farthest corner, and a little more
SHIFT_MM, SCALE = 3.0, 0.06


@dataclass(frozen=True)
class Rendered:
    """A patient's series and, voxel by voxel, its truth: row of ``vertebrae`` + 1, body, fracture."""

    volume: Volume
    vertebrae: list
    instance: np.ndarray
    body: np.ndarray
    fracture: np.ndarray
    random: bool


def rendered(seed: int, device: str = "cpu") -> Rendered:
    """A patient with T12..S1 in the field: odd seeds from the study's profile, every other pair of seeds scanned like it."""
    case = phantoms.sample_case(seed, profile="study" if seed % 2 else "training", varied=True)
    acquisition = cohorts.graded_scan(seed) if seed % 4 < 2 else cohorts.graded_scan(seed, "training")
    shown = [v for v in case.vertebrae if v.level in (*cohorts.REPORTED, *cohorts.TRANSITIONAL)]
    centres, rng = np.array([v.centre_mm for v in shown]), np.random.default_rng([seed, 7])
    low, size, pixel = cohorts.field_around(rng, centres, acquisition.slice_mm)
    spacing = (acquisition.slice_mm, pixel, pixel)
    grid = axial(low, spacing, [round(float(a) / b) for a, b in zip(size[::-1], spacing, strict=True)])
    reach = np.hypot(*(centres[:, :2] - low[:2] - size[:2] / 2).T).max() + BODY_MM
    if reach > acquisition.circle * size[:2].max() / 2:  # whoever draws a circle keeps the spine in it
        acquisition = replace(acquisition, circle=0.0)
    made = phantoms.render(case, grid, acquisition, device=device)
    arrays = [x.cpu().numpy() for x in (made.hu, made.instance, made.body, made.fracture)]
    hu = np.clip(np.round(arrays[0]), -1024, 3071).astype(np.int16)
    sources = tuple(FrameSource(str(k)) for k in range(len(hu)))
    volume = Volume(hu, grid.affine, sources, "axial", None)
    return Rendered(
        volume, case.vertebrae, arrays[1].astype(np.int16), arrays[2] > 0, arrays[3] > 0, acquisition.family == "random"
    )


def crops(seed: int, bundle: infer.Bundle, truth, device: str = "cpu") -> list[dict]:
    """Rows of one patient as ``cases.COLUMNS`` names them; ``truth(vertebra)`` gives evidence, type and old deformity."""
    made, rng = rendered(seed, device), np.random.default_rng([seed, 9])
    labels = found(made.volume, bundle)
    readings = [r for r in read_vertebrae(made.volume, bundle, labels, LEVELS) if r.has_body]
    pairs = [(r, k) for r in readings if (k := nearest(made, r)) is not None]
    special = lambda v: v.mimic is not None or v.old_deformity or any(v.evidence[name] for name in EVIDENCE)  # noqa: E731
    plain = [n for n, (_, k) in enumerate(pairs) if not special(made.vertebrae[k])]
    left_out = set(rng.permutation(plain)[PLAIN:].tolist())
    rows = []
    for n, (reading, k) in enumerate(pairs):
        if n in left_out:
            continue
        vertebra = made.vertebrae[k]
        if special(vertebra) and not whole_bodies(made.instance, made.body, k + 1):
            continue  # what it is may lie outside the field
        evidence, kind, old = truth(vertebra)
        for look in range(LOOKS if special(vertebra) else 1):
            crop = reading.crop if look == 0 else moved(made.volume, reading, bundle, rng)
            rows.append({
                "hu": np.clip(np.round(crop.hu), -1024, 3071).astype(np.int16), "masks": masks(made, crop, k),
                "evidence": evidence, "type": kind, "old": old, "mimic": int(vertebra.mimic is not None),
                "level": spine_index(vertebra.level), "loss": vertebra.height_loss, "random": made.random,
            })
    return rows


def nearest(made: Rendered, reading: VertebraReading) -> int | None:
    """The vertebra whose body a crop sits in."""
    gap = [float(np.linalg.norm(np.subtract(v.centre_mm, reading.centre))) for v in made.vertebrae]
    return int(np.argmin(gap)) if min(gap) < NEAR_MM else None


def moved(volume: Volume, reading: VertebraReading, bundle: infer.Bundle, rng: np.random.Generator) -> Crop:
    """Another look, shifted and scaled at random about as far as twice the node's own."""
    stage = bundle.vertebra
    centre = reading.centre + rng.uniform(-SHIFT_MM, SHIFT_MM, 3) @ reading.frame
    spacing = tuple(rng.uniform(1 - SCALE, 1 + SCALE) * np.asarray(stage.spacing_mm))
    return sample_crop(volume, node_grid(centre, reading.frame, spacing, stage.shape, stage.origin_index))


def masks(made: Rendered, crop: Crop, k: int) -> np.ndarray:
    """The truth of vertebra ``k`` on a crop's grid, bits 1 vertebra, 2 body, 4 fracture."""
    own = made.instance == k + 1
    to_volume = np.linalg.inv(made.volume.affine) @ crop.grid.affine
    bits = np.zeros(crop.hu.shape, np.uint8)
    for bit, mask in ((1, own), (2, own & made.body), (4, own & made.fracture)):
        bits |= bit * (ndimage.affine_transform(
            mask.astype(np.float32), to_volume[:3, :3], to_volume[:3, 3], output_shape=crop.hu.shape, order=1, cval=0
        ) >= 0.5).astype(np.uint8)
    return bits
