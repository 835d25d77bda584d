"""Make one volume of a judged stack: HU in an array, and the affine that places every voxel in the patient (LPS)."""

import numpy as np

from ovcf_node.assemble.completeness import Verdict, distinct
from ovcf_node.assemble.frames import Frame
from ovcf_node.assemble.geometry import Grid, fit
from ovcf_node.assemble.pixels import read_hu
from ovcf_node.assemble.stacks import Stack
from ovcf_node.domain.volume import OUTSIDE_HU, Acquisition, FrameSource, Volume
from ovcf_node.errors import Permanent

_MOST_SLICES = 2000  # a regularised grid never grows beyond this


def build(judged: Verdict | Stack, *, regularise: bool = False) -> Volume:
    """Return the volume of a stack; slices run along +S, +L or +P.

    regularise  also make a volume of positions that are no even grid (gaps, uneven spacing, one of several frames at a
                position), by linear interpolation between neighbours: good enough to see what is in the field, never to
                measure in.

    Raises Permanent `unreadable_pixels`, or `no_geometry`, `orientation`, `uneven_spacing`, `missing_slices`,
    `mixed_geometry` when the stack has no grid and `regularise` was not asked for.
    """
    grid = _grid(judged)
    orientation = grid.orientation
    if orientation is None:
        raise Permanent("orientation", "neither axial, sagittal nor coronal")
    if not regularise:
        _check(grid)
    first = grid.frames[0]
    hu = np.empty((len(grid.frames), first.rows, first.columns), np.int16)
    read_hu(grid.frames, hu)
    affine, frames = grid.affine, grid.frames
    if regularise and not (grid.even and grid.straight and not grid.missing):
        hu, affine, frames = _regular(grid, hu)
    return Volume(
        hu=hu,
        affine=affine,
        sources=tuple(FrameSource(frame.sop_instance_uid, frame.frame_number) for frame in frames),
        orientation=orientation,
        frame_of_reference_uid=first.frame_of_reference_uid,
        acquisition=acquisition_of(grid.frames),
    )


def acquisition_of(frames: tuple[Frame, ...]) -> Acquisition:
    """Return the facts the frames agree on; contrast counts when any frame has it."""
    thickness = [frame.thickness for frame in frames if frame.thickness]
    voltages = {frame.kvp for frame in frames}
    contrasts = {frame.contrast for frame in frames}
    return Acquisition(
        slice_thickness_mm=max(thickness) if thickness else None,
        kvp=voltages.pop() if len(voltages) == 1 else None,
        contrast=True if True in contrasts else None if None in contrasts else False,
        kernel=frames[0].kernel,
        manufacturer=frames[0].manufacturer,
    )


def _grid(judged: Verdict | Stack) -> Grid:
    if isinstance(judged, Verdict) and judged.grid is not None:
        return judged.grid
    stack = judged.stack if isinstance(judged, Verdict) else judged
    if stack is None or not stack.has_geometry:
        raise Permanent("no_geometry", "no usable slice positions")
    return fit(distinct(stack.frames)[0])


def _check(grid: Grid) -> None:
    if not grid.even:
        raise Permanent("uneven_spacing", grid.gaps_in_words)
    if not grid.straight:
        raise Permanent("mixed_geometry", "slices are shifted against each other")
    if grid.missing:
        raise Permanent("missing_slices", f"{grid.missing} slices")


def _regular(grid: Grid, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[Frame, ...]]:
    """Interpolate linearly along the line of origins to planes at the median spacing."""
    positions = np.array([frame.position for frame in grid.frames], float)
    normal = np.cross(grid.affine[:3, 1], grid.affine[:3, 2])
    normal *= np.sign(normal @ (positions[-1] - positions[0])) / np.linalg.norm(normal)
    depth = (positions - positions[0]) @ normal
    spacing = max(float(np.median(np.diff(depth))), depth[-1] / (_MOST_SLICES - 1))
    wanted = np.arange(int(depth[-1] / spacing + 1e-3) + 1) * spacing
    before = np.clip(np.searchsorted(depth, wanted, side="right") - 1, 0, len(depth) - 2)
    share = (wanted - depth[before]) / (depth[before + 1] - depth[before])
    regular = np.empty((len(wanted), *hu.shape[1:]), np.int16)
    for plane, index, weight in zip(regular, before, share, strict=True):
        low, high = hu[index], hu[index + 1]
        plane[...] = np.rint(low * np.float32(1 - weight) + high * np.float32(weight))
        np.copyto(plane, OUTSIDE_HU, where=(low == OUTSIDE_HU) | (high == OUTSIDE_HU))
    slope, origin = (np.polyfit(depth, positions, 1) if len(depth) > 1 else (normal, positions[0]))
    affine = grid.affine
    affine[:3, 0], affine[:3, 3] = slope * spacing, origin
    nearest = before + (share > 0.5)
    return regular, affine, tuple(grid.frames[i] for i in nearest)
