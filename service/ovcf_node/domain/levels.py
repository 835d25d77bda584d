"""The vertebral levels this node reports, grades and paints."""

REPORTED: tuple[str, ...] = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")
"""Levels in reports, head to foot. A mask stores `1 + REPORTED.index(level)`; 0 is background."""

GRADED: tuple[str, ...] = REPORTED[:-1]
"""Levels whose fractures are graded. S1 is segmented and labelled; a sacral fracture is another disease."""


def mask_value(level: str) -> int:
    """Return the value that stands for `level` in a mask (1..7)."""
    return 1 + REPORTED.index(level)
