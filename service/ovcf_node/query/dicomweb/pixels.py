"""Pixels of our own results: frames as they are stored, and the summary picture as people's programs show it.

Results are never compressed (`report.write`), so that a frame is a slice of Pixel Data (7FE0,0010).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from ovcf_node.query.dicomweb.answers import Problem
from ovcf_node.storage import atomic

THUMBNAIL = (256, 256)


@dataclass(frozen=True)
class Look:
    """How a picture is wanted: largest columns and rows, quality of a JPEG (1 to 100)."""

    size: tuple[int, int] | None = None
    quality: int = 95


def frames(path: Path, numbers: Sequence[int]) -> list[bytes]:
    """Return frames (from 1) as they are stored, each beginning at a byte (PS3.5 8.1.1, PS3.18 10.4).

    Raises Problem 404 for a frame that is not there, 406 for an instance without pixels.
    """
    dataset = _read(path)
    count = int(dataset.get("NumberOfFrames") or 1)
    if max(numbers) > count:
        raise Problem(404, f"there are {count} frames")
    bits = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated
    return [_bits(dataset.PixelData, (number - 1) * bits, bits) for number in numbers]


def pixel_data(path: Path) -> bytes:
    """Return the whole value of Pixel Data as it is stored. Raises Problem 406 for an instance without pixels."""
    return _read(path).PixelData


def picture(path: Path, kind: str, look: Look) -> bytes:
    """Return a colour picture (Secondary Capture, RGB, one frame) as image/png or image/jpeg. Raises Problem 406."""
    dataset = _read(path)
    if dataset.get("PhotometricInterpretation") != "RGB" or int(dataset.get("NumberOfFrames") or 1) != 1:
        raise Problem(406, "only the summary picture can be rendered; retrieve this instance and show its frames")
    shape = (dataset.Rows, dataset.Columns, 3)
    image = Image.fromarray(np.frombuffer(dataset.PixelData, np.uint8, np.prod(shape)).reshape(shape))
    if look.size:
        image.thumbnail(look.size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if kind == "image/png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=look.quality)
    return buffer.getvalue()


def _read(path: Path) -> Dataset:
    with atomic.storage_errors():
        dataset = dcmread(path)
    if "PixelData" not in dataset:
        raise Problem(406, "this instance has no pixels")
    return dataset


def _bits(data: bytes, first: int, count: int) -> bytes:
    if first % 8 == count % 8 == 0:
        return data[first // 8:(first + count) // 8]
    # Frames of single bits follow each other without padding; the first pixel is the lowest bit of a byte.
    last = first + count
    bits = np.unpackbits(np.frombuffer(data, np.uint8, -(-last // 8) - first // 8, first // 8), bitorder="little")
    return np.packbits(bits[first % 8:first % 8 + count], bitorder="little").tobytes()
