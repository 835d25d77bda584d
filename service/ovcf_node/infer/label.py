"""Name the vertebrae: one sequence over all instances from foot to head, and each one's own frame from the spine curve.

Levels follow each other without repetition; a level may be left out only where the distance leaves room for it. A
sequence that repeats a level (six lumbar vertebrae, T13) or leaves one out without room is tried beside it: if it
fits clearly better, the names stay the regular ones, counted from the sacrum where it is seen, and the numbering is
marked uncertain. Where no sacrum is seen and the network wavers between two numberings, the last ribs decide.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ovcf_node.domain.levels import GRADED, REPORTED
from ovcf_node.domain.volume import Volume
from ovcf_node.infer.bundle import Bundle
from ovcf_node.infer.instances import Instance, Voxels, find_instances
from ovcf_node.infer.norms import NORMS, centre_distance
from ovcf_node.infer.resample import Field, isotropic, padded, window
from ovcf_node.infer.stages import LabelStage

_FLOOR = 0.02  # smallest class probability that counts: one instance, but for the sacrum, must not outvote all others
_SHARED = {"above": 3.0, "below": 2.0}  # classes of several vertebrae: their probability is shared between these
_HEARD_CM3 = 13.0  # of an instance: smaller ones speak more softly
_ORDER = tuple(NORMS)
_SACRAL = ("S1", "below")
_ANCHOR = 6.0  # weight of sacrum against the rest: seen by its own shape, where other names are counted
_DOUBTED = 2.0  # the same where it is asked whether another numbering fits as well
_NO_ROOM = 4.0  # cost (nats) of leaving out a level without room for it
_NO_S1 = 20.0  # the same for S1: with four lumbar vertebrae the others' names do not fit, and its shape does
_TOO_FAR = 3.0  # cost of calling two bodies neighbours that are more than one level apart
_REPEAT = 3.0  # cost of an extra vertebra in the anomalous reading
_NO_SACRUM = 0.5  # cost of starting above the sacrum
_ELSEWHERE = 1e3  # cost of any other name than T12 for the vertebra with the last ribs, where they decide
_ANOMALY_GAIN = 1.0  # how much better (nats) an anomalous sequence must fit to be mentioned: regular spines gain nothing
_MARGIN = 1.8  # nats for each named vertebra; a second-best numbering closer than this makes the numbering uncertain
_BY_RIBS = "counted from the lowest ribs as those of T12: the sacrum is not in the field"
_ROOM = (0.75, 1.38)  # of the patient's own spacing: less has no room for a name left out, more for a vertebra missed


@dataclass(frozen=True)
class Placed:
    """One vertebra with its name: `label` as the bundle calls it, body centre (LPS mm), frame with rows u, v, w."""

    label: str
    instance: Instance
    frame: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        return self.instance.centre


@dataclass(frozen=True)
class Labels:
    """All vertebrae from foot to head and what their names rest on.

    numbers      the instance map on `field`, 0 where none; `voxels` is what the network says there.
    segmented    they are the segment stage's: fine enough for masks.
    """

    vertebrae: tuple[Placed, ...]
    numbering_uncertain: bool
    numbering_basis: str
    field: Field
    numbers: np.ndarray
    voxels: Voxels
    segmented: bool = False

    @property
    def reported(self) -> tuple[Placed, ...]:
        """The vertebrae T12..S1; none where not a single one of T12..L5 convinces.

        A skull or a hip may resemble a vertebra, and a skull base alone resembles a sacrum best.
        """
        found = tuple(v for v in self.vertebrae if v.label in REPORTED)
        return found if any(v.instance.convincing and v.label in GRADED for v in found) else ()


def locate(field: Field, bundle: Bundle) -> Labels:
    """Run the label stage on the whole field and name what it finds."""
    return decode(*answered(field, bundle, "label", bundle.label), bundle.label.labels)


def answered(field: Field, bundle: Bundle, name: str, stage: LabelStage) -> tuple[Voxels, Field]:
    """Run a stage that reads a field; return what it says of every voxel, and the part of the field that it read."""
    image, (start, stop) = _trimmed(window(field.hu, stage.window_hu))
    tensors = padded(image, stage.multiple_of, stage.pad_value)[None, None]
    answer = bundle.run(name, {"image": np.ascontiguousarray(tensors)})
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    part = Field(field.hu[box], field.inside[box], field.point_of(start), field.spacing)
    return Voxels.from_logits(answer["classes"], answer["body"], answer["offset"], part.hu.shape), part


def decode(voxels: Voxels, field: Field, labels: tuple[str, ...]) -> Labels:
    """Turn voxel answers into named vertebrae with frames."""
    instances, numbers = find_instances(voxels, field)
    return Labels(*placed(instances, labels), field, numbers, voxels)


def placed(
    instances: list[Instance], labels: tuple[str, ...], last_rib: int | None = None
) -> tuple[tuple[Placed, ...], bool, str]:
    """Name the instances (foot to head) and give each its frame; the rest as for `name_sequence`."""
    names, uncertain, basis = name_sequence(instances, labels, last_rib)
    frames = frames_along([i.centre for i in instances])
    return tuple(Placed(n, i, f) for n, i, f in zip(names, instances, frames, strict=True)), uncertain, basis


def field_for(volume: Volume, bundle: Bundle) -> Field:
    """Resample a volume to the label stage's grid."""
    return isotropic(volume, bundle.label.spacing_mm)


def sacrum_seen(instances: list[Instance], labels: tuple[str, ...]) -> bool:
    """Whether the network takes any instance for a part of the sacrum."""
    sacral = [k for k, name in enumerate(labels) if name in _SACRAL]
    return any(i.classes[sacral].sum() >= 0.5 for i in instances)


def name_sequence(
    instances: list[Instance], labels: tuple[str, ...], last_rib: int | None = None
) -> tuple[list[str], bool, str]:
    """Name instances (foot to head); return names, whether the numbering is uncertain, and what it rests on.

    `last_rib` is the position of the instance with the lowest ribs, for fields without a sacrum. They are T12's in nine
    patients of ten (the tenth has none there, or a pair more): more than a network that wavers can say, and less than one
    that does not. Names it wavers about move to them by one level and stay uncertain; where both agree, a second numbering
    that fits almost as well is no doubt.
    """
    if not instances:
        return [], True, "no vertebra found"
    evidence, doubted = (_evidence(instances, labels, anchor) for anchor in (_ANCHOR, _DOUBTED))
    gaps = [float(np.linalg.norm(b.centre - a.centre)) for a, b in pairwise(instances)]
    path, cost = _best_path(evidence, gaps, labels, anomalies=False)
    _, free_cost = _best_path(evidence, gaps, labels, anomalies=True)
    names = [labels[state] for state in path]
    share = {name: i.classes[labels.index(name)] for name, i in zip(names, instances, strict=True)}
    sacrum = "S1" in share and share["S1"] + instances[names.index("S1")].classes[labels.index("below")] >= 0.5
    junction = share.get("T12", 0.0) >= 0.5 and max(share.get("T11", 0.0), share.get("above", 0.0)) >= 0.5
    anomalous = cost - free_cost > _ANOMALY_GAIN
    uneven = _spacing_contradicts(names, gaps)
    wavers = _margin(path, doubted, gaps, labels) / max(1, sum(name in NORMS for name in names)) < _MARGIN
    ribs = None if last_rib is None else names[last_rib]
    if wavers and ribs in ("T11", "L1"):
        evidence[last_rib, [name != "T12" for name in labels]] = -_ELSEWHERE
        moved = [labels[state] for state in _best_path(evidence, gaps, labels, anomalies=False)[0]]
        if not any(name in _SACRAL for name in moved):
            return moved, True, f"{_BY_RIBS}; the model would rather shift it by one level"
    basis = next(words for holds, words in (
        (sacrum, "counted up from the sacrum, assuming five lumbar vertebrae"),
        (junction, "counted down from T11/T12 as the model recognises them: the sacrum is not in the field"),
        (ribs == "T12", _BY_RIBS),
        (True, "appearance of single vertebrae only: neither sacrum nor thoracolumbar junction recognised"),
    ) if holds)
    doubt = next((words for holds, words in (
        (anomalous, "; the appearance suggests transitional anatomy (a supernumerary or missing vertebra)"),
        (uneven, "; the spacing contradicts the names: a vertebra may have been missed"),
        (wavers and ribs != "T12", "; numbering shifted by one level fits almost as well"),
    ) if holds), "")
    uncertain = doubt or ribs == "T11" or not (sacrum or junction or ribs == "T12")
    return names, bool(uncertain), basis + doubt


def frames_along(centres: list[np.ndarray]) -> list[np.ndarray]:
    """Frame (rows u, v, w) per body centre (foot to head): w along the curve, u as near to patient left as may be."""
    if not centres:
        return []
    points = np.array(centres, dtype=float)
    if len(points) == 1:
        tangents = np.array([[0.0, 0.0, 1.0]])
    else:
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        tangents = np.gradient(points, arc, axis=0, edge_order=2 if len(points) > 2 else 1)
    return [frame_from(tangent) for tangent in tangents]


def frame_from(w: np.ndarray, u: np.ndarray | None = None) -> np.ndarray:
    """Orthonormal right-handed frame (rows u, v, w) with the given w and as near as possible to `u` (patient left)."""
    w = np.asarray(w, dtype=float) / np.linalg.norm(w)
    left = np.array([1.0, 0.0, 0.0]) if u is None else np.asarray(u, dtype=float)
    left = left - (left @ w) * w
    if np.linalg.norm(left) < 0.1:  # a curve that runs left to right is no spine; any frame will do
        left = np.cross([0.0, 1.0, 0.0], w)
    left = left / np.linalg.norm(left)
    return np.array([left, np.cross(w, left), w])


def _trimmed(image: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Cut planes that hold nothing but the lowest value: air around the patient costs time and says nothing."""
    filled = image > -1.0
    start, stop = np.zeros(3, dtype=int), np.array(image.shape)
    for axis in range(3):
        held = np.flatnonzero(filled.any(axis=tuple(a for a in range(3) if a != axis)))
        if len(held):
            start[axis], stop[axis] = held[0], held[-1] + 1
    return image[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))], (start, stop)


def _evidence(instances: list[Instance], labels: tuple[str, ...], weight: float) -> np.ndarray:
    """Log evidence (instances, classes): a small piece speaks softly, the sacrum with `weight`."""
    share = np.array([i.classes for i in instances])
    voice = np.array([min(1.0, i.cm3 / _HEARD_CM3) for i in instances])
    sacral = np.array([name in _SACRAL for name in labels])
    sacrum = share[:, sacral].sum(axis=1, keepdims=True)
    anchor = np.log(np.maximum(np.where(sacral, sacrum, 1.0 - sacrum), _FLOOR))
    single = share / np.array([_SHARED.get(name, 1.0) for name in labels])
    return (np.log(np.maximum(single, _FLOOR)) + weight * anchor) * voice[:, None]


def _best_path(
    evidence: np.ndarray, gaps: list[float], labels: tuple[str, ...], *, anomalies: bool
) -> tuple[list[int], float]:
    """Viterbi from foot to head over the classes (index falls towards the head); return states and total cost."""
    count, size = evidence.shape
    start = np.array([0.0 if name in ("S1", "below") else _NO_SACRUM for name in labels])
    cost = start - evidence[0]
    cost[0] = np.inf
    back = np.zeros((count, size), dtype=int)
    for k in range(1, count):
        step = np.array([[_step(a, b, gaps[k - 1], labels, anomalies) for b in range(size)] for a in range(size)])
        total = cost[:, None] + step
        back[k] = np.argmin(total, axis=0)
        cost = total[back[k], np.arange(size)] - evidence[k]
    path = [int(np.argmin(cost))]
    for k in range(count - 1, 0, -1):
        path.append(int(back[k, path[-1]]))
    return path[::-1], float(cost.min())


def _step(lower: int, upper: int, gap: float, labels: tuple[str, ...], anomalies: bool) -> float:
    """Cost of class `upper` directly above class `lower` at a distance of `gap` mm."""
    if lower == 0 or upper == 0:
        return np.inf
    if lower == upper:
        if labels[lower] in ("above", "below"):
            return 0.0
        return _REPEAT if anomalies else np.inf
    rise = lower - upper
    if rise < 1 or rise > 3:
        return np.inf
    names = labels[upper], labels[lower]
    if names[1] == "below" and rise > 1 and gap < _ROOM[1] * centre_distance("L5", "S1"):
        return _NO_S1
    if not all(name in NORMS for name in names):
        return 0.0 if rise == 1 else _NO_ROOM * (rise - 1)
    ratio = gap / centre_distance(*names)
    if rise == 1:
        return _TOO_FAR if ratio > 1.6 else 0.0
    if ratio > 0.75:
        return 0.5 * (rise - 1)
    return _NO_ROOM * (rise - 1) if anomalies or ratio > 0.6 else np.inf


def _spacing_contradicts(names: list[str], gaps: list[float]) -> bool:
    """Whether the spacing, against this patient's own, has no room for a name left out or room for a vertebra missed."""
    known = [
        (_ORDER.index(low) - _ORDER.index(high), gap / centre_distance(high, low))
        for low, high, gap in zip(names, names[1:], gaps, strict=False) if low in NORMS and high in NORMS
    ]
    usual = [ratio for rise, ratio in known if rise == 1]
    if not usual:
        return False
    least, most = _ROOM[0] * np.median(usual), _ROOM[1] * np.median(usual)
    return any(ratio < least if rise > 1 else ratio > most for rise, ratio in known)


def _margin(path: list[int], evidence: np.ndarray, gaps: list[float], labels: tuple[str, ...]) -> float:
    """How much more the best numbering costs that names no instance of T11..S1 as `path` does; below 0 if it costs less."""
    own, other = np.full_like(evidence, -1e6), evidence.copy()
    for k, state in enumerate(path):
        own[k, state] = evidence[k, state]
        if labels[state] in NORMS:
            other[k, state] = -1e3
    (_, best), (_, cost) = (_best_path(e, gaps, labels, anomalies=False) for e in (other, own))
    return best - cost
