"""Read single attributes of a dataset without trusting it: absent, empty and malformed values all become "unknown"."""

import math

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from ovcf_node.domain.volume import contrast_stated


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


def image_type(dataset: Dataset) -> tuple[str, ...]:
    """Return the values of Image Type (or Frame Type in a functional group), upper case."""
    value = _value(dataset, "FrameType") or _value(dataset, "ImageType") or ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(v).strip().upper() for v in values)


def contrast_given(dataset: Dataset, administered: str = "") -> bool | None:
    """Tell whether contrast agent was given; None when the header does not say."""
    coded = bool(_value(dataset, "ContrastBolusAgentSequence"))
    return contrast_stated(text(dataset, "ContrastBolusAgent"), administered=administered, coded=coded)


def _value(dataset: Dataset, keyword: str) -> object:
    try:
        return dataset.get(keyword)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, KeyError):
        return None  # pydicom converts on access: a malformed value shows only here


def _finite(value: object) -> float | None:
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
