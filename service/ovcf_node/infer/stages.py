"""The stages that a bundle's manifest describes, and the reading of their tables (contract: models/README.md).

Whatever a table lacks or has wrong raises Permanent("bundle_manifest") naming the entry.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovcf_node.errors import Permanent

_POINTS = ("fracture", "superior", "inferior", "anterior", "posterior", "old", "abstain_below")
_TEMPERATURES = ("evidence", "type", "old")
_HEIGHT = ("network", "full_height", "intercept", "network_alone", "intercept_alone")
_RESTORED = ("network", "full_height", "restored_loss", "damage", "intercept")
STATISTICS = ("log_body_cm3", "body_softness", "vertebra_softness", "body_100hu", "body_sd_100hu", "contrast_100hu")
"""What `usual` describes; `usual.statistics` computes them."""
_SPACING_MM = (1.0, 20.0)  # of a network that reads a field: finer would not fit into memory
_LABELS = ("background", "above", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "below")


@dataclass(frozen=True)
class LabelStage:
    """How the label network wants its image: isotropic spacing (mm), window (HU), padding, and its classes in order."""

    spacing_mm: float
    window_hu: tuple[float, float]
    pad_value: float
    multiple_of: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class SegmentStage(LabelStage):
    """The same on the part of the field that holds the label stage's vertebrae and `margin_mm` around them."""

    margin_mm: float


@dataclass(frozen=True)
class Usual:
    """What crops of the calibration look like: mean and inverse covariance (row by row) of `STATISTICS`, and the limit."""

    mean: tuple[float, ...]
    precision: tuple[float, ...]
    limit: float


@dataclass(frozen=True)
class HeightWeight:
    """Weights of a fracture's log-odds, with a height loss and of the picture alone (formula: models/README.md)."""

    network: float
    full_height: float
    intercept: float
    network_alone: float
    intercept_alone: float


@dataclass(frozen=True)
class RestoredWeight:
    """Weights of the same log-odds where the restoring stage speaks too: its height loss, and its damage per 100 HU."""

    network: float
    full_height: float
    restored_loss: float
    damage: float
    intercept: float


@dataclass(frozen=True)
class VertebraStage:
    """How the vertebra network wants its crops, in (w, v, u) order, and how its outputs become calls."""

    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    origin_index: tuple[float, float, float]
    window_hu: tuple[float, float]
    operating_points: Mapping[str, float]
    temperature: Mapping[str, float]
    usual: Usual | None = None
    height: HeightWeight | None = None
    restored: RestoredWeight | None = None


@dataclass(frozen=True)
class RestoreStage:
    """How the restoring network wants its pictures: the vertebra stage's crops, in its own window (HU)."""

    window_hu: tuple[float, float]


def section(table: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a table within a table."""
    value = table.get(key)
    if not isinstance(value, dict):
        raise Permanent("bundle_manifest", f"bundle.toml lacks the table {key}")
    return value


def text(table: dict[str, Any], key: str) -> str:
    """Return a text that is not empty."""
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise Permanent("bundle_manifest", f"bundle.toml lacks the text {key}")
    return value


def numbers(table: dict[str, Any], key: str, count: int) -> tuple[float, ...]:
    """Return so many numbers."""
    value = table.get(key)
    ok = isinstance(value, list) and len(value) == count and all(map(_is_number, value))
    if not ok:
        raise Permanent("bundle_manifest", f"{key} must be a list of {count} numbers, is {value!r}")
    return tuple(float(n) for n in value)


def named(table: dict[str, Any], key: str, names: Sequence[str]) -> dict[str, float]:
    """Return a table of numbers that has all `names`."""
    values = section(table, key)
    missing = [name for name in names if not _is_number(values.get(name))]
    if missing:
        raise Permanent("bundle_manifest", f"{key} lacks {', '.join(missing)}")
    return {name: float(values[name]) for name in names}


def positive(table: dict[str, Any], key: str) -> float:
    """Return a number above 0."""
    value = table.get(key)
    if not _is_number(value) or value <= 0:
        raise Permanent("bundle_manifest", f"{key} must be a number above 0, is {value!r}")
    return float(value)


def label_stage(table: dict[str, Any]) -> LabelStage:
    """Read the label stage's table."""
    return LabelStage(*_field(table))


def segment_stage(table: dict[str, Any], label: LabelStage) -> SegmentStage:
    """Read the segment stage's table; its classes are averaged with those of the label stage, and must be the same."""
    stage = SegmentStage(*_field(table), positive(table, "margin_mm"))
    if stage.labels != label.labels:
        raise Permanent("bundle_manifest", f"stage segment: labels must be those of stage label; they are {stage.labels}")
    return stage


def _field(table: dict[str, Any]) -> tuple:
    """Spacing, window, padding and classes of a network that reads a field."""
    labels = table.get("labels")
    if not isinstance(labels, list) or labels[1:] == [] or labels != [n for n in _LABELS if n == _LABELS[0] or n in labels]:
        wrong = f"labels must be background and then levels from head to foot, of {_LABELS}; is {labels!r}"
        raise Permanent("bundle_manifest", wrong)
    multiple, spacing, pad = positive(table, "multiple_of"), positive(table, "spacing_mm"), table.get("pad_value", -1.0)
    if multiple != int(multiple) or not _SPACING_MM[0] <= spacing <= _SPACING_MM[1] or not _is_number(pad):
        wrong = f"multiple_of must be whole, spacing_mm within {_SPACING_MM}, pad_value a number"
        raise Permanent("bundle_manifest", f"{wrong}; they are {multiple}, {spacing}, {pad!r}")
    return spacing, _window(table), float(pad), int(multiple), tuple(labels)


def _window(table: dict[str, Any]) -> tuple[float, float]:
    low, high = numbers(table, "window_hu", 2)
    if low >= high:
        raise Permanent("bundle_manifest", f"window_hu must rise, is [{low}, {high}]")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def vertebra_stage(table: dict[str, Any]) -> VertebraStage:
    """Read the vertebra stage's table."""
    if "restored" in table and "height" not in table:
        raise Permanent("bundle_manifest", "stage vertebra: the table restored needs the table height beside it")
    return VertebraStage(
        numbers(table, "spacing_mm", 3), tuple(int(n) for n in numbers(table, "shape", 3)),
        numbers(table, "origin_index", 3), _window(table),
        _points(table), _temperatures(table),
        _usual(section(table, "usual")) if "usual" in table else None,
        HeightWeight(**_weights(table, "height", _HEIGHT)) if "height" in table else None,
        RestoredWeight(**_weights(table, "restored", _RESTORED)) if "restored" in table else None,
    )


def _points(table: dict[str, Any]) -> dict[str, float]:
    """Return probabilities; a point that none of them reaches would call every vertebra whole."""
    points = named(table, "operating_points", _POINTS)
    for name, point in points.items():
        if not 0 < point < 1:
            raise Permanent("bundle_manifest", f"operating_points: each lies between 0 and 1; {name} is {point}")
    return points


def _temperatures(table: dict[str, Any]) -> dict[str, float]:
    return {name: positive(section(table, "temperature"), name) for name in _TEMPERATURES}


def _weights(table: dict[str, Any], key: str, names: Sequence[str]) -> dict[str, float]:
    """Return weights of log-odds: what speaks may be weak or silent, and never speaks the other way."""
    if "loss" in section(table, key):
        raise Permanent("bundle_manifest", f"{key}: loss is of an older formula; calibrate the bundle for full_height")
    values = named(table, key, names)
    for name, value in values.items():
        if (value < 0 and not name.startswith("intercept")) or (value == 0 and name.startswith("network")):
            raise Permanent("bundle_manifest", f"{key}: network weighs more than 0, no other less; {name} is {value}")
    return values


def _usual(table: dict[str, Any]) -> Usual:
    if tuple(table.get("statistics", ())) != STATISTICS:
        raise Permanent("bundle_manifest", f"usual.statistics must be {list(STATISTICS)}, is {table.get('statistics')!r}")
    count = len(STATISTICS)
    return Usual(numbers(table, "mean", count), numbers(table, "precision", count**2), positive(table, "limit"))


def restore_stage(table: dict[str, Any], vertebra: VertebraStage | None) -> RestoreStage:
    """Read the restoring stage's table; it works on the crops of `vertebra`."""
    if vertebra is None:
        raise Permanent("bundle_manifest", "stage restore needs the crops of stage vertebra, which is absent")
    return RestoreStage(_window(table))
