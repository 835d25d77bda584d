"""What a target reports: how much it tried, what came of it, and every finding with the bytes that show it."""

import logging
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import structlog


@dataclass
class Tally:
    """Of one target.

    findings  where it went wrong -> the first input that shows it
    notes     figures for people
    """

    name: str
    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def found(self, where: str, data: bytes) -> None:
        """Count a finding; its first input is kept."""
        self.outcomes["finding"] += 1
        self.findings.setdefault(where, data)


def place(error: BaseException) -> str:
    """Return kind and place of an exception, the same for the same defect."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    own = [f for f in traceback.extract_tb(error.__traceback__) if "ovcf_node" in f.filename]
    through = f" through {Path(own[-1].filename).name}:{own[-1].name}" if own else ""
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.name}{through}"


def quiet() -> None:
    """Log nothing: what refuses a million inputs has a million things to say."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def fast_folder() -> str | None:
    """Return a folder in memory, where there is one: what is tried is no disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def memory_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
