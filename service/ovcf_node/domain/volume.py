"""A CT volume in patient space and the masks that belong to it."""

from dataclasses import dataclass, field

import numpy as np

OUTSIDE_HU = -2048
"""Value of voxels outside the reconstructed field (PixelPaddingValue and its GE relatives)."""

_NO_CONTRAST = {"NONE", "NO", "NO CONTRAST", "WITHOUT", "WITHOUT CONTRAST", "W/O", "WO", "NATIVE", "NON CONTRAST", "0"}


def contrast_stated(agent: str, *, administered: str = "", coded: bool = False) -> bool | None:
    """Tell from a header whether contrast agent was given.

    agent         (0018,0010), free text; administered (0018,9342); coded: (0018,0012) has an item
    True          an agent is named, or administered YES
    False         the header says so in words, or administered NO
    None          nothing is said: scanners leave the attributes out without contrast, anonymisers blank them with it
    """
    if administered in ("YES", "NO"):
        return administered == "YES"
    if agent.strip():
        return agent.strip().upper() not in _NO_CONTRAST
    return True if coded else None


@dataclass(frozen=True)
class FrameSource:
    """Where a slice came from; `frame_number` counts from 1 in multi-frame instances and is None in single-frame ones."""

    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True)
class Acquisition:
    """The facts of the acquisition that decide how a reading may be used. Unknown is None."""

    slice_thickness_mm: float | None = None
    kvp: float | None = None
    contrast: bool | None = None
    kernel: str | None = None
    manufacturer: str | None = None


@dataclass(frozen=True)
class Volume:
    """One CT volume.

    hu      int16 (slices, rows, columns), Hounsfield units; `OUTSIDE_HU` outside the field.
    affine  4x4 float64: (slice, row, column, 1) index of a voxel centre -> LPS mm. Its first column is the step from one
            slice to the next; under gantry tilt it is not perpendicular to the slice (a sheared grid, kept as such).
    sources one per slice, in array order. Slices run along +S for axial, +L for sagittal, +P for coronal stacks.
    """

    hu: np.ndarray
    affine: np.ndarray
    sources: tuple[FrameSource, ...]
    orientation: str  # "axial" | "sagittal" | "coronal"
    frame_of_reference_uid: str | None
    acquisition: Acquisition = field(default_factory=Acquisition)

    @property
    def step_mm(self) -> tuple[float, float, float]:
        """Distance between neighbours along (slice, row, column); for tilted stacks along the slanted step."""
        return tuple(float(np.linalg.norm(self.affine[:3, i])) for i in range(3))

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between slice planes along their normal."""
        normal = np.cross(self.affine[:3, 1], self.affine[:3, 2])
        return float(abs(self.affine[:3, 0] @ normal) / np.linalg.norm(normal))


@dataclass(frozen=True)
class Masks:
    """Masks on the grid of a volume, cut to the box that holds anything.

    vertebrae, fractures  uint8 arrays of the box's shape; values are `levels.mask_value(level)`, 0 is background.
    origin                index (slice, row, column) of the box's first voxel in the volume.
    shape                 (slices, rows, columns) of the volume.
    """

    vertebrae: np.ndarray
    fractures: np.ndarray
    origin: tuple[int, int, int]
    shape: tuple[int, int, int]
