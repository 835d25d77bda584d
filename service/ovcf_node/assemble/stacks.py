"""Sort the frames of a series into stacks: planes that belong to one grid in space, of one acquisition and phase."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ovcf_node.assemble.frames import PHASE_KEYS, Frame, frames_of
from ovcf_node.assemble.headers import Header

_PARALLEL = math.cos(math.radians(0.25))  # headers round cosines; real differences of orientation are larger
_SAME_SPACING = 1e-3  # relative
_SAME_POSITION_MM = 0.01


@dataclass(frozen=True)
class Stack:
    """Frames of one grid, in no particular order.

    missing_parts  instances of a concatenation (PS3.3 C.7.6.16.2.2.4) that are known to exist and are not here
    """

    frames: tuple[Frame, ...]
    missing_parts: int = 0

    @property
    def series_instance_uid(self) -> str:
        return self.frames[0].series_instance_uid

    @property
    def frame_of_reference_uid(self) -> str | None:
        return self.frames[0].frame_of_reference_uid

    @property
    def has_geometry(self) -> bool:
        return all(frame.position is not None for frame in self.frames)


def split(headers: Iterable[Header]) -> list[Stack]:
    """Group the frames of one or more series into stacks.

    By series, frame of reference, matrix, pixel spacing, orientation and Stack ID; where the same positions repeat, by
    what tells the repetitions apart (temporal position, acquisition, contrast phase, kernel ...). The same SOP Instance
    UID twice counts once.
    """
    unique = {header.sop_instance_uid: header for header in reversed(list(headers))}
    frames = [frame for header in reversed(unique.values()) for frame in frames_of(header)]
    groups = [part for group in _same_grid(frames) for part in _separate_phases(group)]
    return [Stack(tuple(group), _missing_parts(group)) for group in groups]


def depths(frames: Sequence[Frame]) -> list[float]:
    """Return the position of each frame along the normal of the first (mm)."""
    normal = cross(frames[0].row_cosines, frames[0].column_cosines)
    return [sum(a * b for a, b in zip(frame.position or (0.0, 0.0, 0.0), normal, strict=True)) for frame in frames]


def cross(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Return the vector product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _same_grid(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[tuple, list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        matrix = (frame.rows, frame.columns, frame.position is not None)
        key = (frame.series_instance_uid, frame.frame_of_reference_uid, frame.stack_id, *matrix)
        for group in groups[key]:
            if _parallel(group[0], frame):
                group.append(frame)
                break
        else:
            groups[key].append([frame])
    return list(itertools.chain.from_iterable(groups.values()))


def _parallel(a: Frame, b: Frame) -> bool:
    return (
        all(abs(x - y) <= _SAME_SPACING * x for x, y in zip(a.pixel_spacing, b.pixel_spacing, strict=True))
        and _cosine(a.row_cosines, b.row_cosines) >= _PARALLEL
        and _cosine(a.column_cosines, b.column_cosines) >= _PARALLEL
    )


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _separate_phases(group: list[Frame]) -> list[list[Frame]]:
    """Split a group whose positions repeat by the attribute that explains the repetition with the fewest parts."""
    if len(group) < 2 or group[0].position is None:
        return [group]
    repeated = repetition(group)
    if repeated == 1 and not _interleaved(group):
        return [group]
    best: list[list[Frame]] | None = None
    for keys in (*((i,) for i in range(len(PHASE_KEYS))), *itertools.combinations(range(len(PHASE_KEYS)), 2)):
        parts = _by(group, keys)
        # Phases are about as many as repetitions; a scanner that numbers every rotation must not be shattered by it.
        if not 1 < len(parts) <= 2 * repeated or max(map(repetition, parts)) > 1 or any(map(_interleaved, parts)):
            continue
        if best is None or len(parts) < len(best):
            best = parts
    return best or [group]


def _by(group: Sequence[Frame], keys: tuple[int, ...]) -> list[list[Frame]]:
    parts: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
    for frame in group:
        parts[tuple(frame.phase[key] for key in keys)].append(frame)
    return list(parts.values())


def repetition(frames: Sequence[Frame]) -> int:
    """Return how many frames share a position at most."""
    ordered = sorted(depths(frames))
    most = run = 1
    for before, after in itertools.pairwise(ordered):
        run = run + 1 if after - before < _SAME_POSITION_MM else 1
        most = max(most, run)
    return most


def _interleaved(frames: Sequence[Frame]) -> bool:
    """Tell whether two gaps alternate regularly: two phases whose positions lie between each other."""
    ordered = sorted(depths(frames))
    gaps = [after - before for before, after in itertools.pairwise(ordered)]
    if len(gaps) < 5:
        return False
    even, odd = Counter(round(g, 1) for g in gaps[::2]), Counter(round(g, 1) for g in gaps[1::2])
    (first, many), (second, more) = even.most_common(1)[0], odd.most_common(1)[0]
    return abs(first - second) > 0.15 and many + more >= 0.8 * len(gaps)


def _missing_parts(group: Sequence[Frame]) -> int:
    totals: dict[str, int] = {}
    present: dict[str, set[int]] = defaultdict(set)
    for frame in group:
        if frame.concatenation:
            uid, part, total = frame.concatenation
            present[uid].add(part)
            totals[uid] = max(totals.get(uid, 0), total or 0, part)
    return sum(total - len(present[uid]) for uid, total in totals.items())
