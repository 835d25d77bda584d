"""Read the pixel data of frames as Hounsfield units: native frames straight from the file, others through a decoder.

Native little and big endian frames of 16 bits allocated are read at their offset into one plane that stays in the
processor's cache, and converted from there into the caller's array: nothing of a volume's size is ever copied.
"""

import os
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.pixels import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from ovcf_node.assemble.frames import Frame, PixelSource
from ovcf_node.domain.volume import OUTSIDE_HU
from ovcf_node.errors import Permanent, Transient

_BELOW_AIR_HU = -1900  # air is -1000 and noise does not reach here: GE's undeclared -2000 and -3024 do
_TISSUE_HU = (-900, 4000)  # a declared padding value in here is a mistake of the writer
_JPEG_12_BIT = frozenset({"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"})
# Five decoders raise whatever their parser meets in hostile bytes; each of these means "this file cannot be decoded",
# which is an answer (`unreadable_pixels`). RuntimeError takes in what pydicom raises for a coding that no decoder here
# knows. MemoryError and OSError are not in it: a retry can help there.
_DECODER_FAULTS = (
    ArithmeticError, AttributeError, BufferError, EOFError, LookupError, RuntimeError, TypeError, ValueError, struct.error,
)


def read_hu(frames: Sequence[Frame], out: np.ndarray) -> None:
    """Fill `out`, int16 (frames, rows, columns), with HU; padding becomes `OUTSIDE_HU`.

    Raises Permanent `unreadable_pixels` when a frame cannot be decoded or is cut short, Transient `io_error` when the
    file cannot be read.
    """
    encoded: dict[Path, list[int]] = defaultdict(list)
    raw = np.empty(out.shape[1:], np.int16)
    for index, frame in enumerate(frames):
        if frame.pixels.offset is None:
            encoded[frame.pixels.path].append(index)
        else:
            _read_native(frame.pixels, raw, index)
            _to_hu(raw, frame, out[index])
    for path, members in encoded.items():
        _decode(path, frames, members, out)


def content(frame: Frame) -> bytes:
    """Return the HU of one frame as bytes, to compare frames by."""
    plane = np.empty((1, frame.rows, frame.columns), np.int16)
    read_hu([frame], plane)
    return plane.tobytes()


def _read_native(source: PixelSource, plane: np.ndarray, index: int) -> None:
    try:
        descriptor = os.open(source.path, os.O_RDONLY)
        try:
            count = os.preadv(descriptor, [memoryview(plane).cast("B")], source.offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Transient("io_error", f"slice {index + 1}: {error.strerror}") from error
    if count != source.length:
        raise Permanent("unreadable_pixels", f"slice {index + 1}: {count} of {source.length} bytes of pixel data")
    if source.transfer_syntax_uid == ExplicitVRBigEndian:
        plane.byteswap(inplace=True)


def _decode(path: Path, frames: Sequence[Frame], members: list[int], out: np.ndarray) -> None:
    wanted = [(frames[index].frame_number or 1) - 1 for index in members]
    try:
        planes = _planes(path, frames[members[0]], wanted)
        for index, plane in zip(members, planes, strict=True):
            if plane.shape != out.shape[1:]:
                raise ValueError(f"shape {plane.shape} instead of {out.shape[1:]}")
            if plane.dtype.itemsize > 2:
                raise ValueError("more than 16 bits allocated")
            signed = frames[index].pixels.signed
            raw = plane.astype(np.int16 if signed else np.uint16, casting="unsafe").view(np.int16)
            _to_hu(raw, frames[index], out[index])
    except OSError as error:
        raise Transient("io_error", f"slice {members[0] + 1}: {error.strerror}") from error
    except _DECODER_FAULTS as error:
        # The decoder's own words may quote the header: only the kind of error goes on.
        raise Permanent("unreadable_pixels", f"slice {members[0] + 1} and on: {type(error).__name__}") from error


def _planes(path: Path, frame: Frame, wanted: list[int]) -> Iterator[np.ndarray]:
    source = frame.pixels
    if source.transfer_syntax_uid in _JPEG_12_BIT and source.bits_stored > 8:
        return iter(_planes_by_gdcm(path, frame)[wanted])
    if source.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:  # pydicom cannot find frames in a deflated file
        return iter_pixels(dcmread(path), indices=wanted, raw=True)
    return iter_pixels(path, indices=wanted, raw=True)


def _planes_by_gdcm(path: Path, frame: Frame) -> np.ndarray:
    """Decode lossy JPEG of 12 bits, which pydicom leaves out although GDCM reads it."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError("GDCM cannot read the image")
    buffer = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(buffer, np.int16 if frame.pixels.signed else np.uint16).reshape(-1, frame.rows, frame.columns)


def _to_hu(raw: np.ndarray, frame: Frame, plane: np.ndarray) -> None:
    """Turn stored values into HU; `raw` is int16 that holds the stored 16 bits and is used up, `plane` takes the HU."""
    source = frame.pixels
    stored = raw if source.signed else raw.view(np.uint16)
    outside = _declared_padding(stored, frame)
    if outside is not None:
        stored[outside] = 0
    _keep_bits(raw, stored, source)
    low, high = int(stored.min()), int(stored.max())
    whole = frame.slope == 1.0 and frame.intercept.is_integer()
    if whole and low + frame.intercept >= -32768 and high + frame.intercept <= 32767:
        np.add(raw, np.int64(frame.intercept).astype(np.int16), out=plane)  # modulo 2^16: right for unsigned too
    else:
        values = np.multiply(stored, frame.slope, dtype=np.float32)
        values += np.float32(frame.intercept)
        plane[...] = np.clip(np.rint(values, out=values), -32768, 32767, out=values)
    if outside is not None:
        plane[outside] = OUTSIDE_HU
    if int(plane.min()) <= _BELOW_AIR_HU:
        plane[plane <= _BELOW_AIR_HU] = OUTSIDE_HU


def _declared_padding(stored: np.ndarray, frame: Frame) -> np.ndarray | None:
    if frame.pixels.padding is None:
        return None
    low, high = frame.pixels.padding
    if any(_TISSUE_HU[0] <= value * frame.slope + frame.intercept <= _TISSUE_HU[1] for value in (low, high)):
        return None
    outside = stored == low if low == high else (stored >= low) & (stored <= high)
    return outside if outside.any() else None


def _keep_bits(raw: np.ndarray, stored: np.ndarray, source: PixelSource) -> None:
    spare = 16 - source.bits_stored
    if spare <= 0:
        return
    if source.signed:  # sign-extend
        np.left_shift(raw, spare, out=raw)
        np.right_shift(raw, spare, out=raw)
    elif int(stored.max()) >> source.bits_stored:  # old overlays live in the spare bits
        np.bitwise_and(stored, np.uint16((1 << source.bits_stored) - 1), out=stored)
