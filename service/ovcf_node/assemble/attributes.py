"""Read single attributes of a dataset without trusting it: absent, empty and malformed values all become "unknown"."""

import math
from collections.abc import Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from ovcf_node.domain.volume import contrast_stated
from ovcf_node.storage.malformed import MALFORMED


def text(dataset: Dataset, keyword: str) -> str:
    """Return the first value as stripped text; "" when absent, empty or malformed."""
    value = _value(dataset, keyword)
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    return "" if value is None else str(value).strip()


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value as a finite number; None when absent, empty or malformed."""
    value = _value(dataset, keyword)
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    return _finite(value)


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return exactly `count` finite values; None when there are not so many."""
    value = _value(dataset, keyword)
    if not isinstance(value, MultiValue | list | tuple) or len(value) != count:
        return None
    found = tuple(_finite(v) for v in value)
    return None if any(v is None for v in found) else found


def of_the_machine(error: Exception) -> bool:
    """Say whether an error is the disk's: pydicom raises OSError, without a number, for malformed values too."""
    return isinstance(error, OSError) and error.errno is not None


def items(dataset: Dataset, keyword: str | BaseTag) -> tuple[Dataset, ...]:
    """Return the items of a sequence; () when absent, empty or malformed."""
    value = _value(dataset, keyword)
    return tuple(value) if isinstance(value, Sequence) else ()


def all_items(dataset: Dataset) -> Iterator[tuple[Dataset, ...]]:
    """Yield the items of every sequence that is there and can be read."""
    for tag in list(dataset.keys()):
        found = items(dataset, tag)
        if found:
            yield found


def image_type(dataset: Dataset) -> tuple[str, ...]:
    """Return the values of Image Type (or Frame Type in a functional group), upper case."""
    value = _value(dataset, "FrameType") or _value(dataset, "ImageType") or ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(v).strip().upper() for v in values)


def contrast_given(dataset: Dataset, administered: str = "") -> bool | None:
    """Tell whether contrast agent was given; None when the header does not say."""
    coded = bool(_value(dataset, "ContrastBolusAgentSequence"))
    return contrast_stated(text(dataset, "ContrastBolusAgent"), administered=administered, coded=coded)


def _value(dataset: Dataset, keyword: str | BaseTag) -> object:
    try:
        found = dataset.get(keyword)
        return found.value if isinstance(found, DataElement) else found
    except MALFORMED as error:
        if of_the_machine(error):
            raise
        return None


def _finite(value: object) -> float | None:
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
