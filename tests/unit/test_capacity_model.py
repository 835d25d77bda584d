"""The model behind `make capacity` gives what can be worked out by hand, and never more than any limit."""

from dataclasses import replace

import pytest

from capacity_model import Cost, Machine, Phase, limits, phases, steady_rate, together

COST = Cost(
    lead_s=7.0, reading_s=3.6, reading_cpu_s=4.8, receiver_cpu_s=0.6, judging_cpu_s=0.5, sender_cpu_s=0.3, sender_s=0.3,
    database_cpu_s=0.4, stand_in_cpu_s=0.4, commits=250, stored_bytes=66e6, idle_worker=0.0, idle_rest=0.0, others=0.0,
)
MACHINE = Machine(processors=2.0, disk=600e6, commits=4700, crowding=1.0, threads=2, poll_s=0.2)


@pytest.mark.parametrize(("reading", "beside", "workers", "processors", "seconds"), [
    ([Phase(3.0, 1)], 0.0, 1, 2.0, 3.0),
    ([Phase(1.0, 0), Phase(2.0, 1)], 0.0, 1, 2.0, 3.0),
    ([Phase(1.0, 0), Phase(2.0, 1)], 0.0, 2, 2.0, 1.5),
    ([Phase(3.0, 2)], 0.0, 2, 2.0, 3.0),  # two share what one filled
    ([Phase(3.0, 2)], 0.0, 1, 1.0, 6.0),
    ([Phase(3.0, 1)], 1.0, 1, 2.0, 3.0),  # what is beside has a processor for itself
    ([Phase(3.0, 1)], 2.0, 1, 1.0, 5.0),
])
def test_what_can_be_worked_out_by_hand(reading, beside, workers, processors, seconds):
    assert steady_rate(reading, beside, workers, processors) == pytest.approx(1 / seconds, rel=0.03)


def test_a_reading_alone_takes_what_was_measured():
    made = phases(COST, MACHINE, crowded=False)
    assert sum(p.seconds for p in made) == pytest.approx(COST.reading_s + 0.1)
    assert sum(p.seconds * p.width for p in made) == pytest.approx(COST.reading_cpu_s)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("change", [{}, {"reading_cpu_s": 2.0}, {"reading_cpu_s": 7.4}, {"sender_s": 9.0}])
def test_no_more_than_any_part_allows(workers, change):
    cost = replace(COST, **change)
    rate, first = together(cost, MACHINE, workers)
    found = limits(cost, MACHINE, workers)
    assert rate <= min(found.values()) * 1.001 and found[first] == min(found.values())
    assert rate > 0.6 * min(found.values())


def test_who_shares_the_processors_makes_it_less():
    alone, shared = together(COST, MACHINE, 1)[0], together(COST, MACHINE, 1, stand_ins=True)[0]
    assert shared < alone < limits(COST, MACHINE, 1)["workers"]
    assert together(COST, replace(MACHINE, crowding=1.2), 2)[0] < together(COST, MACHINE, 2)[0]
    looking = replace(COST, idle_worker=0.1, idle_rest=0.1)
    assert together(looking, MACHINE, 4)[0] < together(looking, MACHINE, 2)[0] < together(COST, MACHINE, 2)[0]
