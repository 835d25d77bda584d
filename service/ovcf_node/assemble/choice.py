"""Choose one of several readable series of a study, and one of several stacks of a series."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ovcf_node.assemble.completeness import Verdict
from ovcf_node.assemble.volume import acquisition_of

Kernel = Literal["bone", "standard", "lung", "unknown"]

_KERNELS: tuple[tuple[re.Pattern[str], Kernel], ...] = tuple((re.compile(p, re.IGNORECASE), kind) for p, kind in (
    # GE: names
    (r"(HD )?(BONE|EDGE|ULTRA|DETAIL)", "bone"),
    (r"(HD )?LUNG", "lung"),
    (r"(HD )?(STANDARD|STND|STD|SOFT|CHEST)", "standard"),
    # Siemens: family, sharpness; Bl is the lung family, 50 and above is sharp
    (r"Bl\d\d", "lung"),
    (r"(B|H|U|T|J|I|Br|Bv|Hr|Hc|Hv|Qr|Ur|Ub|D)[5-9]\d", "bone"),
    (r"(B|H|U|T|J|I|Br|Bv|Bf|Hr|Hc|Hv|Hf|Qr|Qf|Ur|Ub|D)[0-4]\d", "standard"),
    # Canon and Toshiba: FC numbers
    (r"FC(3[0-9]|8[0-2])", "bone"),
    (r"FC(5[0-9]|8[3-9])", "lung"),
    (r"FC[0-4]\d", "standard"),
    # Philips: letters, smooth to sharp
    (r"Y?L$", "lung"),
    (r"(Y|E|U|I)?[D-G]$|Y[A-C]$", "bone"),
    (r"(U|S|I|E)?[A-C]$", "standard"),
))


@dataclass(frozen=True)
class Candidate:
    """The facts that the choice is made by. Lengths in mm; unknown is None."""

    series_instance_uid: str
    orientation: str
    spacing_mm: float
    thickness_mm: float | None = None
    kernel: str | None = None
    contrast: bool | None = None
    coverage_mm: float = 0.0
    pixel_mm: float = 0.0


def candidate(verdict: Verdict) -> Candidate:
    """Return the facts of an eligible stack."""
    grid = verdict.grid
    facts = acquisition_of(grid.frames)
    return Candidate(
        verdict.stack.series_instance_uid, grid.orientation, grid.spacing_mm, facts.slice_thickness_mm, facts.kernel,
        facts.contrast, grid.extent_mm[2], max(size for frame in grid.frames for size in frame.pixel_spacing),
    )


def kernel_kind(name: str | None) -> Kernel:
    """Class a reconstruction kernel by its maker's naming (GE, Siemens, Canon, Philips)."""
    return next((kind for pattern, kind in _KERNELS if pattern.match((name or "").strip())), "unknown")


def rank(candidates: Sequence[Candidate], prefer_kernel: Literal["bone", "standard"] = "bone") -> tuple[int, ...]:
    """Return the indices of the candidates, best first.

    Thinnest (to 0.1 mm, the larger of spacing and thickness; in reformats also of the pixels, because the slices they
    were made from lie there), then kernel, without contrast before unknown before with,
    axial before sagittal before coronal, more coverage along the patient, and the UID so that ties never change.
    """
    second: Kernel = "standard" if prefer_kernel == "bone" else "bone"
    kernels = {prefer_kernel: 0, second: 1, "unknown": 2, "lung": 3}

    def key(index: int) -> tuple:
        c = candidates[index]
        return (
            round(max(c.spacing_mm, c.thickness_mm or 0.0, 0.0 if c.orientation == "axial" else c.pixel_mm), 1),
            kernels[kernel_kind(c.kernel)],
            (False, None, True).index(c.contrast),
            ("axial", "sagittal", "coronal").index(c.orientation),
            -round(c.coverage_mm),
            c.series_instance_uid,
            index,
        )

    return tuple(sorted(range(len(candidates)), key=key))


def choose(candidates: Sequence[Candidate], prefer_kernel: Literal["bone", "standard"] = "bone") -> Candidate:
    """Return the best candidate; raises ValueError when there is none."""
    if not candidates:
        raise ValueError("nothing to choose from")
    return candidates[rank(candidates, prefer_kernel)[0]]
