"""Whole fields as samples: rendered at 3 mm, kept as they are around the spine or averaged to 6 mm."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import phantoms
from networks import LABELS
from phantoms.grids import Grid
from phantoms.norms import count_of
from second import samples as second

LUMBAR_RIBS = 0.04  # share of training fields: more than of people


def numpy(x) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def rounded(hu: np.ndarray) -> np.ndarray:
    return np.clip(np.round(hu), -1100, 3500).astype(np.int16)


def halves(x: np.ndarray) -> np.ndarray:
    """``[2z,2y,2x]`` -> ``[8, z,y,x]``: the eight parts of each voxel."""
    z, y, x2 = (n // 2 for n in x.shape)
    x = x[: 2 * z, : 2 * y, : 2 * x2].reshape(z, 2, y, 2, x2, 2)
    return x.transpose(1, 3, 5, 0, 2, 4).reshape(8, z, y, x2)


def majority(parts: np.ndarray, count: int) -> np.ndarray:
    """Most frequent value (0..count-1) over the first axis; ties go to the larger value (bone over background)."""
    votes = np.stack([(parts == k).sum(0) for k in range(count)])
    return (count - 1 - votes[::-1].argmax(0)).astype(np.uint8)


def rendered_field(seed: int, profile: str = "training", device: str = "cpu", shapes: Path | None = None) -> tuple:
    """One field at 3 mm, its vertebrae, and whether its appearance is of the random family.

    With ``shapes``, three seeds of eight show the label map there instead of an analytic case; a fourth, in the training
    profile, shows an analytic spine with that map around it.
    """
    if shapes and seed % 8 < 3:
        return *phantoms.label_map_case(seed, folder=shapes), True
    if shapes and seed % 8 == 3 and profile == "training":
        return *phantoms.pasted_case(seed, folder=shapes), True
    rng = np.random.default_rng([seed, 1])
    case = phantoms.sample_case(seed, profile=profile)
    if profile == "training" and case.variant == "none" and np.random.default_rng([seed, 2]).random() < LUMBAR_RIBS:
        case = phantoms.with_lumbar_ribs(case)
    grid = phantoms.sample_field(rng, case, 3.0)
    acquisition = phantoms.sample_acquisition(seed, profile=profile)
    return phantoms.render(case, grid, acquisition, device=device), case.shown, acquisition.family == "random"


def field(seed: int, profile: str = "training", device: str = "cpu") -> dict[str, np.ndarray]:
    """One 6 mm field of the case ``seed``."""
    return coarse(*rendered_field(seed, profile, device))


def coarse(rendered, vertebrae, random: bool) -> dict[str, np.ndarray]:
    """A field rendered at 3 mm as a 6 mm sample; `vertebrae` in the order of its instances."""
    grid = rendered.grid
    hu = halves(np.maximum(numpy(rendered.hu).astype(np.float32), -1100)).mean(0)  # padding of -2000 must not darken skin
    labels = majority(halves(numpy(rendered.labels)), len(LABELS))
    instance = majority(halves(numpy(rendered.instance)), int(numpy(rendered.instance).max()) + 1)
    instance = np.where(labels > 0, instance, 0)
    body = np.round(halves(numpy(rendered.body).astype(np.float32)).mean(0) * 255)
    centres = np.stack([(grid.index_of(v.centre_mm) - 0.5) / 2 for v in vertebrae])
    return {
        "hu": np.clip(np.round(hu), -1100, 3500).astype(np.int16),
        "labels": labels.astype(np.uint8),
        "instance": instance.astype(np.uint8),
        "body": body.astype(np.uint8),
        "centres": centres.astype(np.float32),
        "level": np.array([count_of(v.level) for v in vertebrae], np.float32),
        "origin": grid.point_of(np.full(3, 0.5)).astype(np.float32),
        "random": np.uint8(random),
    }


def spine(rendered, vertebrae, random: bool, rng: np.random.Generator) -> dict[str, np.ndarray] | None:
    """The vertebrae of a field rendered at 3 mm and what surrounds them, keys as in `coarse`; None where there are none."""
    labels = numpy(rendered.labels)
    found = np.argwhere(labels > 0)
    if not len(found):
        return None
    margin = np.round(rng.uniform(24.0, 60.0, (2, 3)) / rendered.grid.spacing).astype(int)
    low, high = np.maximum(found.min(0) - margin[0], 0), found.max(0) + 1 + margin[1]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return {
        "hu": rounded(numpy(rendered.hu)[box].astype(np.float32)),
        "labels": labels[box].astype(np.uint8),
        "instance": np.where(labels > 0, numpy(rendered.instance), 0)[box].astype(np.uint8),
        "body": (numpy(rendered.body)[box] > 0).astype(np.uint8) * 255,
        "centres": np.stack([rendered.grid.index_of(v.centre_mm) - low for v in vertebrae]).astype(np.float32),
        "level": np.array([count_of(v.level) for v in vertebrae], np.float32),
        "origin": rendered.grid.point_of(low).astype(np.float32),
        "random": np.uint8(random),
    }


def second_spine(seed: int) -> dict[str, np.ndarray]:
    """A spine at 3 mm as `second.samples.field` paints it, keys as in `coarse`: to be evaluated on, never trained on."""
    patient = second.patient_of(seed)
    how = second.choose_scan(patient, seed, complete=False)
    shape = tuple(int(max(8, 2 * round(s / 6))) for s in np.array(how.shape) * how.spacing)
    painted = second.paint(patient, np.array(how.low), shape, (3.0, 3.0, 3.0), contrast=how.contrast)
    painted = second.expose(painted, how, seed, patient)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = 3.0 * np.eye(3)[::-1], painted.low
    instance = painted.instance.astype(int)
    rendered = SimpleNamespace(
        hu=painted.hu, labels=np.where(instance > 0, np.clip(instance - 9, 1, second.BELOW), 0), instance=instance,
        body=painted.body, grid=Grid(affine, painted.hu.shape),
    )
    vertebrae = [SimpleNamespace(centre_mm=v.centre, level=v.level) for v in patient.vertebrae]
    return spine(rendered, vertebrae, False, np.random.default_rng([seed, 5]))
