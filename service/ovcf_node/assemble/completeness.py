"""Judge one stack: can a volume be made of it, what limits the reading, and what is missing?"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovcf_node.assemble.frames import Frame
from ovcf_node.assemble.geometry import MAX_OBLIQUE_DEGREES, SAME_POSITION_MM, Grid, fit, in_order, orientation_of
from ovcf_node.assemble.pixels import content
from ovcf_node.assemble.stacks import Stack
from ovcf_node.config import Assemble
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.errors import Permanent

ELIGIBLE, EXCLUDED, INCOMPLETE, NOT_ASSESSED = "eligible", "excluded", "incomplete", "not_assessed"

_MIN_HEIGHT_MM = 30.0  # along the patient: a lumbar vertebra with its endplates
_MIN_WIDTH_MM = 20.0  # across: half a vertebral body
_ROUNDING_MM = 0.005


@dataclass(frozen=True)
class Verdict:
    """What became of a stack.

    kind              eligible | excluded | incomplete | not_assessed
    reason            the coded reason unless eligible
    limits            what the reader of an eligible stack must know
    withhold_grading  segment and label only
    stack             the frames without duplicates; None when no stack could be formed
    grid              their fitted grid; None without geometry
    instances         how many instances or frames the verdict is about
    """

    kind: str
    reason: Reason | None = None
    limits: tuple[Reason, ...] = ()
    withhold_grading: bool = False
    stack: Stack | None = None
    grid: Grid | None = None
    instances: int = 0


def judge(stack: Stack, rules: Assemble) -> Verdict:
    """Judge one stack by geometry; reads pixel data only to compare frames at the same position."""
    count = len(stack.frames)
    if not stack.has_geometry:
        return Verdict(NOT_ASSESSED, reason("no_geometry"), stack=stack, instances=count)
    if orientation_of(stack.frames[0]) is None:
        return Verdict(EXCLUDED, reason("orientation"), stack=stack, instances=count)
    frames, conflicts = distinct(stack.frames)
    stack = Stack(frames, stack.missing_parts)
    grid = fit(frames)
    kind, why = _fault(stack, grid, conflicts)
    if why:
        return Verdict(kind, why, stack=stack, grid=grid, instances=count)
    limits, withhold = _limits(stack, grid, rules)
    return Verdict(ELIGIBLE, None, limits, withhold, stack, grid, count)


def judge_together(verdicts: Sequence[Verdict]) -> Reason | None:
    """Return mixed_geometry when stacks of one series are short alone but not together (a block of slices per disc)."""
    short = [v for v in verdicts if v.reason and v.reason.code == "too_short" and v.grid and v.stack]
    heights: dict[str, list[float]] = {}
    for verdict in short:
        heights.setdefault(verdict.stack.series_instance_uid, []).append(verdict.grid.spacing_mm * verdict.instances)
    several = max((h for h in heights.values() if sum(h) >= 2 * _MIN_HEIGHT_MM and len(h) > 1), key=sum, default=None)
    return reason("mixed_geometry", f"{len(several)} short stacks") if several else None


def _fault(stack: Stack, grid: Grid, conflicts: int) -> tuple[str, Reason | None]:
    across, deep, height = grid.extent_mm
    if grid.tilt_degrees > MAX_OBLIQUE_DEGREES:
        return EXCLUDED, reason("orientation", "slices are stepped along their own plane")
    if height < _MIN_HEIGHT_MM or min(across, deep) < _MIN_WIDTH_MM:
        return EXCLUDED, reason("too_short", f"{across:.0f} x {deep:.0f} x {height:.0f} mm")
    if conflicts:
        return NOT_ASSESSED, reason("duplicate_positions", f"{conflicts} positions")
    if stack.missing_parts:
        return INCOMPLETE, reason("missing_slices", f"{stack.missing_parts} parts of a concatenation")
    if not grid.even:
        return NOT_ASSESSED, reason("uneven_spacing", grid.gaps_in_words)
    if not grid.straight:
        return NOT_ASSESSED, reason("mixed_geometry", "slices are shifted against each other")
    if grid.missing:
        return INCOMPLETE, reason("missing_slices", f"{grid.missing} of {int(grid.places[-1]) + 1}")
    return ELIGIBLE, None


def _limits(stack: Stack, grid: Grid, rules: Assemble) -> tuple[tuple[Reason, ...], bool]:
    """Return the limits of an eligible stack and whether grading is withheld.

    The coarsest direction decides: in sagittal and coronal reformats of thick slices it lies in the plane.
    """
    stated = [frame.thickness for frame in stack.frames if frame.thickness]
    pixels = [size for frame in stack.frames for size in frame.pixel_spacing]
    coarsest = max(grid.spacing_mm, *stated, *pixels) - _ROUNDING_MM
    detail = (
        f"spacing {grid.spacing_mm:.2f} mm, thickness {f'{max(stated):.2f} mm' if stated else 'unknown'}, "
        f"pixels {max(pixels):.2f} mm"
    )
    limits: list[Reason] = []
    if len(stated) < len(stack.frames):
        limits.append(reason("thickness_unknown"))
    withhold = coarsest > rules.limited_mm
    if withhold:
        limits.append(reason("grading_withheld", detail))
    elif coarsest > rules.full_mm:
        limits.append(reason("thick_slices", detail))
    if grid.deviation_mm > grid.tolerance_mm / 2:
        limits.append(reason("irregular_positions", f"up to {grid.deviation_mm:.2f} mm"))
    if stack.frame_of_reference_uid is None:
        limits.append(reason("no_frame_of_reference"))
    return tuple(limits), withhold


def distinct(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], int]:
    """Keep one frame per position, in order; count the positions whose frames differ in content."""
    ordered, found = in_order(frames)
    groups = [[ordered[0]]]
    for frame, gap in zip(ordered[1:], np.diff(found), strict=True):
        if gap < SAME_POSITION_MM:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    conflicts = sum(len({_content(frame) for frame in group}) > 1 for group in groups if len(group) > 1)
    return tuple(group[0] for group in groups), conflicts


def _content(frame: Frame) -> object:
    try:
        return frame.position, hashlib.sha256(content(frame)).digest()
    except Permanent:
        return frame.sop_instance_uid  # what cannot be decoded equals nothing
