"""Read single attributes of a dataset without trusting it: absent, empty and malformed values all become "unknown"."""

import math

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_NO_CONTRAST = {"NONE", "NO", "NO CONTRAST", "WITHOUT", "WITHOUT CONTRAST", "W/O", "WO", "NATIVE", "NON CONTRAST", "0"}


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
    """Tell whether contrast agent was given.

    True   an agent is named (0018,0010), (0018,0012), or administered YES (0018,9342)
    False  the header says so in words, or administered NO
    None   nothing is said: scanners leave the attributes out without contrast, anonymisers blank them with it
    """
    if administered in ("YES", "NO"):
        return administered == "YES"
    agent = text(dataset, "ContrastBolusAgent").upper()
    if agent:
        return agent not in _NO_CONTRAST
    return True if _value(dataset, "ContrastBolusAgentSequence") else None


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
