"""A simulated day over the real priority: STAT goes first, and a flood of STAT starves nobody.

The queue serves the lowest number first, as `test_scheduler` shows of the real one.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest

from ovcf_node.engine import priority

MIDNIGHT = datetime(2026, 8, 1, tzinfo=UTC)
DAY_S = 86_400
SERVICE_S = 60.0


@dataclass(frozen=True)
class Study:
    arrived_s: float
    stat: bool


def day(studies: Sequence[Study], order: Callable[[Study], int], workers: int = 1) -> dict[bool, list[float]]:
    """Serve every study, one at a time a worker; return the waits in seconds, of routine (False) and STAT (True)."""
    coming = sorted(studies, key=lambda s: s.arrived_s)
    free = [0.0] * workers
    waiting: list[tuple[int, int, Study]] = []
    waits: dict[bool, list[float]] = {False: [], True: []}
    number = 0
    while number < len(coming) or waiting:
        now = heapq.heappop(free)
        if not waiting and coming[number].arrived_s > now:
            now = coming[number].arrived_s
        while number < len(coming) and coming[number].arrived_s <= now:
            heapq.heappush(waiting, (order(coming[number]), number, coming[number]))
            number += 1
        study = heapq.heappop(waiting)[2]
        waits[study.stat].append(now - study.arrived_s)
        heapq.heappush(free, now + SERVICE_S)
    return waits


def real(head_start_min: int = 240) -> Callable[[Study], int]:
    return lambda s: priority(MIDNIGHT + timedelta(seconds=s.arrived_s), stat=s.stat, head_start_min=head_start_min)


def flood() -> list[Study]:
    """A STAT nearly as fast as it can be read, all day, and a routine study every twenty minutes: 104 % load."""
    stats = [Study(at, True) for at in range(0, DAY_S, 61)]
    return stats + [Study(at + 0.5, False) for at in range(0, DAY_S, 1200)]


def test_without_ageing_the_flood_starves_routine_work():
    waits = day(flood(), lambda s: 0 if s.stat else 1)
    assert max(waits[False]) > 12 * 3600


@pytest.mark.parametrize("head_start_min", [60, 240])
def test_a_flood_of_stat_starves_nobody(head_start_min):
    waits = day(flood(), real(head_start_min))
    backlog_s = 3600  # what 104 % load leaves at the end of the day, whoever has to wait for it
    assert max(waits[False]) <= head_start_min * 60 + backlog_s
    assert median(waits[True]) < 3600


def test_on_a_day_with_reserve_stat_waits_for_the_running_study_only():
    chance = random.Random(4)
    studies = [Study(chance.uniform(0, DAY_S), chance.random() < 0.1) for _ in range(1000)]  # 70 % load
    waits = day(studies, real())
    unordered = day(studies, lambda s: 0)
    assert max(waits[True]) < 4 * SERVICE_S and median(waits[True]) < SERVICE_S
    assert max(waits[False]) < 2 * max(unordered[False])


def test_after_an_outage_the_backlog_of_routine_work_drains_while_stat_comes():
    night = [Study(float(at), False) for at in range(0, 8 * 3600, 120)]  # 240 studies arrived while nobody read
    stats = [Study(8 * 3600.0 + at, True) for at in range(0, 8 * 3600, 70)]
    waits = day([*night, *stats, *[Study(8 * 3600.0, True)]], real(), workers=2)
    assert max(waits[False]) < 12 * 3600 and median(waits[True]) < 15 * 60
