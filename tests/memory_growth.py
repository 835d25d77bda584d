"""How the memory of processes grows, from samples of their resident memory.

Between two jobs the C library now and then keeps tens of megabytes that the next one uses again, and within a job everything
is in use: a line through all samples shows that and no growth. What is never given back is the least of a stretch of time in
which several jobs ended: of one child that read 60 studies it was 203.5 MB in the first third and 203.6 MB in the others,
where a line through all samples rose by 4 MB/min. A line is laid through these floors of every life of the processes, each
with a level of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Sample = tuple[float, float]
"""Time, seconds; resident memory, megabytes."""


@dataclass(frozen=True)
class Growth:
    """Megabytes a minute with the standard error, and from how many floors of how many lives."""

    slope: float
    error: float
    floors: int
    lives: int


def growth(lives: Sequence[Sequence[Sample]], *, warm_s: float, window_s: float) -> Growth | None:
    """Return the common slope of lives behind their warming up; None where they leave too little to say."""
    floors = [found for life in lives if len(found := _floors(life, warm_s, window_s)) > 1]
    freedom = sum(map(len, floors)) - len(floors) - 1
    if freedom < 1:
        return None
    centred = [(at - sum(a for a, _ in life) / len(life), mb - sum(m for _, m in life) / len(life))
               for life in floors for at, mb in life]
    spread = sum(at * at for at, _ in centred)
    slope = sum(at * mb for at, mb in centred) / spread
    rest = sum((mb - slope * at) ** 2 for at, mb in centred)
    return Growth(slope * 60, 60 * math.sqrt(rest / freedom / spread), sum(map(len, floors)), len(floors))


def _floors(life: Sequence[Sample], warm_s: float, window_s: float) -> list[Sample]:
    """Return the least of each whole window behind the warming up, at the middle of its window."""
    begin = life[0][0] + warm_s
    count = int((life[-1][0] - begin) // window_s)
    windows: list[list[float]] = [[] for _ in range(max(0, count))]
    for at, mb in life:
        number = math.floor((at - begin) / window_s)
        if 0 <= number < count:
            windows[number].append(mb)
    return [(begin + (number + 0.5) * window_s, min(mbs)) for number, mbs in enumerate(windows) if mbs]
