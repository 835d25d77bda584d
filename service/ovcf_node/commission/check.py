"""One thing that was tried, and how it ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ovcf_node.errors import OvcfError

Say = Callable[[str], None]
"""Told what is going on, in words."""


class Outcome(StrEnum):
    """How a check ended; only `FAIL` makes a commissioning fail."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    FAIL = "fail"
    NOT_CONFIGURED = "not configured"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Check:
    """`found` is what was seen, in words; `advice` what to do about it, or what its absence means; `seconds` it took."""

    group: str
    name: str
    outcome: Outcome
    found: str
    advice: str = ""
    seconds: float | None = None


def tried(group: str, name: str, action: Callable[[], str], advice: str) -> Check:
    """Try something that returns what it saw; an error of ours is a failure with its words, and `advice` beside it."""
    begin = time.monotonic()
    try:
        found = action()
    except OvcfError as error:
        return Check(group, name, Outcome.FAIL, str(error), advice, time.monotonic() - begin)
    return Check(group, name, Outcome.PASS, found, seconds=time.monotonic() - begin)
