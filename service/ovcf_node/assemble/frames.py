"""Describe every frame of an instance by plain facts: single-frame CT, Enhanced CT and Legacy Converted Enhanced CT."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from ovcf_node.assemble.attributes import all_items, contrast_given, image_type, items, number, numbers, text
from ovcf_node.assemble.headers import Header

Vector = tuple[float, float, float]

PHASE_KEYS = (
    "temporal position", "acquisition number", "contrast phase", "cardiac phase", "image type", "kernel",
    "tube voltage", "acquisition time", "instance",
)
"""What tells frames at one position apart, the most telling first; `Frame.phase` has one value for each."""


@dataclass(frozen=True)
class PixelSource:
    """Where and how the stored values of a frame lie.

    offset, length  first byte and size of this frame's native pixel data; None: a decoder must be asked
    padding         smallest and largest stored value that means "no data"
    """

    path: Path
    transfer_syntax_uid: str
    offset: int | None
    length: int | None
    bits_allocated: int
    bits_stored: int
    signed: bool
    padding: tuple[int, int] | None


@dataclass(frozen=True)
class Frame:
    """One image plane; positions and directions are LPS (mm, unit vectors).

    `frame_number` counts from 1 in multi-frame instances and is None in single-frame ones;
    row_cosines point along increasing column index, column_cosines along increasing row index (PS3.3 C.7.6.2.1.1).
    A frame without usable geometry has `position` None.
    """

    sop_instance_uid: str
    series_instance_uid: str
    frame_number: int | None
    position: Vector | None
    row_cosines: Vector
    column_cosines: Vector
    pixel_spacing: tuple[float, float]
    rows: int
    columns: int
    slope: float
    intercept: float
    thickness: float | None
    frame_of_reference_uid: str | None
    stack_id: str
    phase: tuple[str, ...]
    concatenation: tuple[str, int, int | None] | None
    kernel: str | None
    kvp: float | None
    contrast: bool | None
    manufacturer: str | None
    pixels: PixelSource


def frames_of(header: Header) -> list[Frame]:
    """Return the frames of one instance in the order in which they are stored."""
    dataset = header.dataset
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [_frame(header, dataset, _Attributes((dataset,)), None)]
    shared = items(dataset, "SharedFunctionalGroupsSequence") or (Dataset(),)
    return [
        _frame(header, dataset, _Attributes((*_macros(groups), *_macros(shared[0]), dataset)), index)
        for index, groups in enumerate(items(dataset, "PerFrameFunctionalGroupsSequence"), start=1)
    ]


class _Attributes:
    """Look an attribute up where it is said first: the frame's functional groups, the shared ones, the instance."""

    def __init__(self, places: tuple[Dataset, ...]):
        self._places = places

    def find(self, keyword: str) -> Dataset:
        for place in self._places:
            if keyword in place:
                return place
        return self._places[-1]

    def text(self, keyword: str) -> str:
        return text(self.find(keyword), keyword)

    def number(self, keyword: str) -> float | None:
        return number(self.find(keyword), keyword)

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        return numbers(self.find(keyword), keyword, count)


def _macros(groups: Dataset) -> Iterator[Dataset]:
    for found in all_items(groups):
        yield found[0]


def _frame(header: Header, dataset: Dataset, attributes: _Attributes, number_in_instance: int | None) -> Frame:
    orientation = _orthonormal(attributes.numbers("ImageOrientationPatient", 6))
    spacing = attributes.numbers("PixelSpacing", 2)
    position = attributes.numbers("ImagePositionPatient", 3)
    if orientation is None or spacing is None or min(spacing) <= 0:
        position = None
    kernel, kvp = attributes.text("ConvolutionKernel"), attributes.number("KVP")
    return Frame(
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=text(dataset, "SeriesInstanceUID"),
        frame_number=number_in_instance,
        position=position,
        row_cosines=orientation[0] if orientation else (1.0, 0.0, 0.0),
        column_cosines=orientation[1] if orientation else (0.0, 1.0, 0.0),
        pixel_spacing=spacing or (1.0, 1.0),
        rows=int(number(dataset, "Rows") or 0),
        columns=int(number(dataset, "Columns") or 0),
        slope=_or(attributes.number("RescaleSlope"), 1.0),
        intercept=_or(attributes.number("RescaleIntercept"), 0.0),
        thickness=_positive(attributes.number("SliceThickness")),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID") or None,
        stack_id=attributes.text("StackID"),
        phase=_phase(dataset, attributes, kernel, number_in_instance),
        concatenation=_concatenation(dataset),
        kernel=kernel or None,
        kvp=kvp,
        contrast=contrast_given(dataset, attributes.text("ContrastBolusAgentAdministered")),
        manufacturer=text(dataset, "Manufacturer") or None,
        pixels=_pixel_source(header, number_in_instance),
    )


def _phase(dataset: Dataset, attributes: _Attributes, kernel: str, number_in_instance: int | None) -> tuple[str, ...]:
    type_place = attributes.find("FrameType" if number_in_instance else "ImageType")
    return (
        attributes.text("TemporalPositionIndex") or attributes.text("TemporalPositionIdentifier"),
        attributes.text("FrameAcquisitionNumber") or attributes.text("AcquisitionNumber"),
        "/".join(attributes.text(k) for k in ("ContrastBolusAgent", "ContrastBolusAgentPhase", "AcquisitionContrast")),
        attributes.text("NominalPercentageOfCardiacPhase"),
        "/".join(image_type(type_place)),
        kernel,
        attributes.text("KVP"),
        attributes.text("FrameAcquisitionDateTime") or attributes.text("AcquisitionDateTime")
        or attributes.text("AcquisitionTime"),
        text(dataset, "SOPInstanceUID") if number_in_instance and "ConcatenationUID" not in dataset else "",
    )


def _concatenation(dataset: Dataset) -> tuple[str, int, int | None] | None:
    uid, part = text(dataset, "ConcatenationUID"), number(dataset, "InConcatenationNumber")
    if not uid or part is None:
        return None
    total = number(dataset, "InConcatenationTotalNumber")
    return uid, int(part), int(total) if total else None


def _pixel_source(header: Header, number_in_instance: int | None) -> PixelSource:
    dataset = header.dataset
    allocated = int(number(dataset, "BitsAllocated") or 16)
    stored = int(number(dataset, "BitsStored") or allocated)
    high_bit = number(dataset, "HighBit")
    signed = number(dataset, "PixelRepresentation") == 1
    length = int((number(dataset, "Rows") or 0) * (number(dataset, "Columns") or 0)) * (allocated // 8)
    plain = header.pixel_offset is not None and allocated == 16 and high_bit in (None, stored - 1)
    return PixelSource(
        path=header.path,
        transfer_syntax_uid=header.transfer_syntax_uid,
        offset=header.pixel_offset + ((number_in_instance or 1) - 1) * length if plain else None,
        length=length if plain else None,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=signed,
        padding=_padding(dataset, allocated, signed),
    )


def _padding(dataset: Dataset, bits_allocated: int, signed: bool) -> tuple[int, int] | None:
    value = number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _or(number(dataset, "PixelPaddingRangeLimit"), value)
    # Writers confuse US and SS here (63536 for -2000): fold into the range of the stored values.
    size = 1 << bits_allocated
    folded = [(int(v) + size // 2) % size - size // 2 if signed else int(v) % size for v in (value, limit)]
    return min(folded), max(folded)


def _orthonormal(values: tuple[float, ...] | None) -> tuple[Vector, Vector] | None:
    if values is None:
        return None
    row, column = values[:3], values[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if not all(0.9 < length < 1.1 for length in lengths):
        return None
    row, column = tuple(v / lengths[0] for v in row), tuple(v / lengths[1] for v in column)
    skew = sum(a * b for a, b in zip(row, column, strict=True))
    return (row, column) if abs(skew) < 0.01 else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
