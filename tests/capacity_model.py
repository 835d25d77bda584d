"""From what one study costs to studies an hour: what each part allows, and how workers get on that share processors.

The limits alone are too good: they add up only if nobody ever waits for a processor that another one has. `steady_rate` lets
workers and everything beside them share the processors as the kernel does, moment by moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_ROUNDS = 60
_TURNS = 20  # of a reading between one thread and several; with as many, when each is does not matter


@dataclass(frozen=True)
class Cost:
    """What one study takes, measured alone: processor seconds beyond those of an idle node, seconds, bytes.

    lead_s         from its first image to the begin of its reading: transfer, quiet period, judging
    reading_s      a worker is taken by it and by nothing else
    reading_cpu_s  of that worker and its child meanwhile
    stand_in_cpu_s of scanner and PACS, which a hospital does not run here
    idle_worker, idle_rest  processors that a worker and the rest of the node use when nothing happens: they look for work
    others         processors that other programs kept busy meanwhile
    """

    lead_s: float
    reading_s: float
    reading_cpu_s: float
    receiver_cpu_s: float
    judging_cpu_s: float
    sender_cpu_s: float
    sender_s: float
    database_cpu_s: float
    stand_in_cpu_s: float
    commits: float
    stored_bytes: float
    idle_worker: float
    idle_rest: float
    others: float

    @property
    def beside_cpu_s(self) -> float:
        """Processor seconds of the node beside the reading."""
        return self.receiver_cpu_s + self.judging_cpu_s + self.sender_cpu_s + self.database_cpu_s


@dataclass(frozen=True)
class Machine:
    """What there is: processors that others leave, bytes and durable commits a second, and how the node is configured.

    crowding  processor time of a reading beside another one, against one alone: they share cache and memory
    threads   of one inference
    poll_s    interval at which a free worker looks for the next study
    """

    processors: float
    disk: float
    commits: float
    crowding: float
    threads: int
    poll_s: float


@dataclass(frozen=True)
class Phase:
    """Seconds that something takes alone, and the processors it fills meanwhile; 0 is waiting, which nobody slows down."""

    seconds: float
    width: float


def phases(cost: Cost, machine: Machine, *, crowded: bool) -> list[Phase]:
    """Return a worker's round: a look for work, then a reading that goes to and fro between one thread and all of them.

    How much of each follows from its seconds and its processor seconds; what is left is waiting, for the disk for example.
    """
    busy, seconds, threads = cost.reading_cpu_s, cost.reading_s, machine.threads
    parallel = max(0.0, (busy - seconds) / (threads - 1)) if threads > 1 else 0.0
    parallel = min(parallel, seconds)
    single = max(0.0, min(seconds - parallel, busy - threads * parallel))
    waiting = seconds - parallel - single + machine.poll_s / 2
    more = (machine.crowding if crowded else 1.0) / _TURNS
    return [Phase(waiting, 0.0), *(Phase(single * more, 1.0), Phase(parallel * more, float(threads))) * _TURNS]


def steady_rate(reading: Sequence[Phase], beside_cpu_s: float, workers: int, processors: float) -> float:
    """Return studies a second of workers that never wait for one, while what is beside each study is done by one thread.

    Threads that want a processor get equal shares of those there are, and none gets more than one.
    """
    begun = [Phase(phase.seconds * (number + 1) / workers, phase.width)  # not in step
             for number in range(workers) for phase in reading[:1]]
    running = [[phase.seconds, phase.width, number] for number, phase in enumerate(begun)]
    at, beside, ends, now = [0] * workers, [], [], 0.0
    while len(ends) < _ROUNDS * workers:
        wanted = sum(width for _, width, _ in running) + len(beside)
        share = min(1.0, processors / wanted) if wanted else 1.0
        paces = [share if width else 1.0 for _, width, _ in running]
        step = min([left / pace for (left, _, _), pace in zip(running, paces, strict=True)]
                   + [left / share for left in beside])
        now += step
        beside = [left - step * share for left in beside if left - step * share > 1e-9]
        for entry, pace in zip(running, paces, strict=True):
            entry[0] -= step * pace
            if entry[0] <= 1e-9:
                number = entry[2]
                at[number] = (at[number] + 1) % len(reading)
                entry[0], entry[1] = reading[at[number]].seconds, reading[at[number]].width
                if at[number] == 0:
                    ends.append(now)
                    beside.append(beside_cpu_s)
    half = len(ends) // 2
    return (len(ends) - 1 - half) / (ends[-1] - ends[half])


def limits(cost: Cost, machine: Machine, workers: int, *, stand_ins: bool = False) -> dict[str, float]:
    """Return studies an hour that each part allows by itself: one receiver, one sender, one database, so many workers."""
    beside = cost.beside_cpu_s + (cost.stand_in_cpu_s if stand_ins else 0.0)
    more = machine.crowding if workers > 1 else 1.0
    return {"workers": 3600 * workers / (cost.reading_s + machine.poll_s / 2),
            "processors": 3600 * _left(cost, machine, workers) / (cost.reading_cpu_s * more + beside),
            } | _elsewhere(cost, machine)


def together(cost: Cost, machine: Machine, workers: int, *, stand_ins: bool = False) -> tuple[float, str]:
    """Return studies an hour with everything on one machine, and what saturates first."""
    beside = cost.beside_cpu_s + (cost.stand_in_cpu_s if stand_ins else 0.0)
    left = _left(cost, machine, workers)
    rate = 3600 * steady_rate(phases(cost, machine, crowded=workers > 1), beside, workers, left)
    found = limits(cost, machine, workers, stand_ins=stand_ins)
    return min([rate, *found.values()]), _first(found)


def apart(cost: Cost, machine: Machine, workers: int) -> tuple[float, str]:
    """Return the same with such a machine for each worker and another one for all the rest."""
    one = 3600 * steady_rate(phases(cost, machine, crowded=False), 0.0, 1, machine.processors - cost.idle_worker)
    found = {"workers": one * workers, "processors": 3600 * (machine.processors - cost.idle_rest) / cost.beside_cpu_s}
    found |= _elsewhere(cost, machine)
    return min(found.values()), _first(found)


def _left(cost: Cost, machine: Machine, workers: int) -> float:
    """Return the processors that are left beside looking for work; a tenth of one at least."""
    return max(0.1, machine.processors - cost.idle_rest - cost.idle_worker * workers)


def _elsewhere(cost: Cost, machine: Machine) -> dict[str, float]:
    return {part: 3600 * rate for part, rate in {
        "one receiver": 1 / cost.receiver_cpu_s,  # Python: one process, one processor
        "one sender": 1 / cost.sender_s,
        "disk": machine.disk / cost.stored_bytes,
        "database": machine.commits / cost.commits,
    }.items()}


def _first(found: dict[str, float]) -> str:
    return min(found, key=found.__getitem__)
