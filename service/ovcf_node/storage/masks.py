"""Masks of a volume as a compressed NumPy archive."""

import io
import zipfile
import zlib

import numpy as np

from ovcf_node.domain.volume import Masks
from ovcf_node.errors import Permanent


def to_bytes(masks: Masks) -> bytes:
    """Return the archive: uint8 `vertebrae` and `fractures`, int64 `origin` and `shape` (slice, row, column)."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        vertebrae=masks.vertebrae,
        fractures=masks.fractures,
        origin=np.asarray(masks.origin, np.int64),
        shape=np.asarray(masks.shape, np.int64),
    )
    return buffer.getvalue()


def from_bytes(data: bytes) -> Masks:
    """Return the masks of an archive. Raises Permanent (`masks_unreadable`) for anything that is not one."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            vertebrae, fractures, origin, shape = (archive[n] for n in ("vertebrae", "fractures", "origin", "shape"))
    except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise Permanent("masks_unreadable", type(error).__name__) from error
    masks = Masks(vertebrae, fractures, _triple(origin), _triple(shape))
    inside = all(o >= 0 and o + n <= s for o, n, s in zip(masks.origin, vertebrae.shape, masks.shape, strict=True))
    if vertebrae.shape != fractures.shape or not inside:
        raise Permanent("masks_unreadable", "the box does not lie in the volume")
    return masks


def _triple(values: np.ndarray) -> tuple[int, int, int]:
    if values.shape != (3,):
        raise Permanent("masks_unreadable", "origin and shape need three values")
    return int(values[0]), int(values[1]), int(values[2])
