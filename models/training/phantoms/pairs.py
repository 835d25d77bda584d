"""The same vertebra damaged and undamaged: one patient, frame, scan and noise; only the vertebra and its discs differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .acquisition import Acquisition
from .grids import Grid
from .patient import Case, healthy_twin
from .render import render
from .scanned import Scanned, render_scanned
from .shape import Damage
from .spine import rotation, wedge_degrees

Tensor = torch.Tensor


@dataclass(frozen=True)
class Pair:
    """HU (float32) and the vertebra's own masks (bool) on one grid, as it is seen and undamaged.

    `fracture` is the region of a recent fracture: empty in healed deformities and whole vertebrae.
    """

    seen: Tensor
    healthy: Tensor
    whole: Tensor
    body: Tensor
    healthy_body: Tensor
    fracture: Tensor


def render_pair(case: Case, index: int, grid: Grid, acq: Acquisition, *, device: str = "cpu") -> Pair:
    """Vertebra `index` of a case and of its healthy twin, everything else (neighbours, poses, noise) the same.

    A vertebra that is neither fractured nor an old deformity is its own twin, uneven as it may be.
    """
    seen = render(case, grid, acq, device=device)
    own = seen.instance == index + 1
    if not (case.vertebrae[index].fracture or case.vertebrae[index].old_deformity):
        return Pair(seen.hu, seen.hu, own, own & seen.body, own & seen.body, own & seen.fracture)
    healthy = render(healthy_twin(case, index), grid, acq, device=device)
    whole = (healthy.instance == index + 1) & healthy.body
    return Pair(seen.hu, healthy.hu, own, own & seen.body, whole, own & seen.fracture)


def render_scanned_pair(vertebra: Scanned, grid: Grid, acq: Acquisition, seed: int) -> Pair:
    """The same of a real shape; `seed` draws tissues and noise of both."""
    seen = render_scanned(vertebra, grid, acq, np.random.default_rng(seed))
    region = seen[3] if vertebra.denis and seen[3] is not None else torch.zeros_like(seen[1])
    if not (vertebra.denis or vertebra.old_deformity):
        return Pair(seen[0], seen[0], seen[1], seen[2], seen[2], region)
    twin = replace(vertebra, body=replace(vertebra.body, damage=Damage()))
    healthy = render_scanned(twin, grid, acq, np.random.default_rng(seed))
    return Pair(seen[0], healthy[0], seen[1], seen[2], healthy[2], region)


def leaning(frame: np.ndarray, vertebra, share: float) -> np.ndarray:
    """`frame` tipped forward by `share` of the half wedge that damage adds: a reader's frame follows the seen plates."""
    return rotation(share * wedge_degrees(vertebra.body), 0.0, 0.0) @ frame
