"""Find single vertebrae in a network's answer: voxels vote for their body centre, votes gather into instances.

Votes, not slabs: in a tilted lumbosacral spine one axial slice cuts three vertebrae, and a collapsed body is thinner
than a slab (measured: slabs made the labels worse).
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ovcf_node.infer.resample import Field

_OFFSET_UNIT_MM = 10.0
_CELL_MM = 3.0  # lattice on which votes are counted
_SPREAD_MM = 4.0  # sigma of the vote density
_NEAREST_MM = 10.0  # two centres are never closer: a crushed body with thin discs still keeps 12 mm
_REACH_MM = 18.0  # votes farther from every centre belong to nobody
_LEAST_CM3 = 5.2  # of a vertebra, each voxel weighed by how surely it is one
_LEAST_BODY_CM3 = 0.86
_CONVINCING_CM3 = 15.0  # T12 of a small adult holds 18
_CONVINCING = 0.85
_MOST = 40  # more than a whole spine
_CHAIN_MM = 130.0
_BETWEEN = 1.2  # two neighbours nearer to each other than this (typical gaps) leave no room for one: crushed ones need 1.25
_HALF = 0.5  # of a vertebra: a look that shows less, or twice as much, is not asked for its name
_SAME_MM = 14.0  # two looks mean one vertebra where their centres are nearer than this
_WITHIN_MM = 12.0  # what has its centre nearer to the top or bottom of a look may be cut there
_AT_END = 0.5  # a first or last instance nearer than this (typical gaps) doubles its neighbour


@dataclass(frozen=True)
class Voxels:
    """What the network says of every voxel: class probabilities (C, z, y, x), body probability (z, y, x), offsets."""

    classes: np.ndarray
    body: np.ndarray
    offset_mm: np.ndarray  # (3, z, y, x): x, y, z components

    @staticmethod
    def from_logits(classes: np.ndarray, body: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> "Voxels":
        """Build from the raw tensors, cut to the unpadded `shape`."""
        box = tuple(slice(0, n) for n in shape)
        logits = classes[(0, slice(None), *box)]
        exponent = np.exp(logits - logits.max(axis=0))
        return Voxels(
            exponent / exponent.sum(axis=0), 1.0 / (1.0 + np.exp(-np.clip(body[(0, 0, *box)], -30, 30))),
            offset[(0, slice(None), *box)] * _OFFSET_UNIT_MM,
        )


@dataclass(frozen=True)
class Instance:
    """One vertebra.

    centre     of its body, LPS mm.
    classes    class probabilities over its voxels, background left out.
    cm3        volume of the voxels that spoke for it; `number` is their value in the instance map.
    body_cm3   volume of its body as far as seen; `certainty` is the mean probability of being vertebra at all.
    """

    centre: np.ndarray
    classes: np.ndarray
    cm3: float
    number: int
    body_cm3: float
    certainty: float

    @property
    def convincing(self) -> bool:
        """A body of its own, not a piece of skull or hip that resembles one."""
        return self.body_cm3 >= _CONVINCING_CM3 and self.certainty >= _CONVINCING


def find_instances(voxels: Voxels, field: Field) -> tuple[list[Instance], np.ndarray]:
    """Return the vertebrae from foot to head, and the map (z, y, x) of their numbers, 0 where none."""
    vertebra = 1.0 - voxels.classes[0]
    member = (vertebra > 0.5) & field.inside
    index = np.argwhere(member)
    numbers = np.zeros(field.hu.shape, dtype=np.uint8)
    if not len(index):
        return [], numbers
    points = field.point_of(index)
    body = voxels.body[member]
    weight = vertebra[member] * (0.5 + body)
    votes = points + voxels.offset_mm[:, member].T
    centres = _peaks(votes, weight)
    if not len(centres):
        return [], numbers
    centres, owner = _settle(votes, weight, centres)
    found, voxel_cm3 = [], field.spacing**3 / 1000.0
    for k, centre in enumerate(centres):
        mine = owner == k
        if weight[mine].sum() * voxel_cm3 < _LEAST_CM3 or body[mine].sum() * voxel_cm3 < _LEAST_BODY_CM3:
            owner[mine] = -1
            continue
        found.append(Instance(
            centre, _shares(voxels.classes[:, member][:, mine], weight[mine]), float(mine.sum()) * voxel_cm3, k + 1,
            float((body[mine] > 0.5).sum()) * voxel_cm3, float(vertebra[member][mine].mean()),
        ))
    numbers[member] = (owner + 1).astype(np.uint8)
    kept = _on_the_column(found)
    gone = set(range(1, len(centres) + 1)) - {instance.number for instance in kept}
    if gone:
        numbers[np.isin(numbers, list(gone))] = 0
    return kept, numbers


def joined(voxels: Voxels, field: Field, instances: list[Instance]) -> np.ndarray:
    """Return the map (z, y, x) of the instances' numbers on a field of which `voxels` speaks: each votes for its own."""
    member = (voxels.classes[0] < 0.5) & field.inside
    numbers = np.zeros(field.hu.shape, dtype=np.uint8)
    if member.any() and instances:
        votes = field.point_of(np.argwhere(member)) + voxels.offset_mm[:, member].T
        owner = _nearest(votes, np.array([i.centre for i in instances]))
        numbers[member] = np.array([*(i.number for i in instances), 0], dtype=np.uint8)[owner]  # -1: nobody's
    return numbers


def found_again(finer: list[Instance], field: Field, coarse: list[Instance], whole: Field) -> list[Instance]:
    """Return the vertebrae of two looks from foot to head: the finer one's where its `field` shows them whole.

    Where vertebrae are broken or the picture is strange the coarser look, at the `whole` field, takes two for one or sees
    none (measured on phantoms of both generators: the finer one missed one vertebra in 84, the coarser six). Should the
    finer one see fewer, the coarser one's stand. Numbers are given anew.
    """
    low, high = _inner(field, whole)
    kept = [i for i in finer if low <= i.centre[2] <= high]
    at_end = [i for i in finer if not low <= i.centre[2] <= high]
    rivals = [i for i in coarse if low <= i.centre[2] <= high and _apart(i, at_end)]
    if len(rivals) > len(kept):
        kept = coarse
    else:
        kept = kept + [i for i in coarse if not low <= i.centre[2] <= high and _apart(i, kept)]
    kept = sorted(kept, key=lambda i: i.centre[2])
    return [replace(instance, number=k) for k, instance in enumerate(kept, 1)]


def _inner(field: Field, whole: Field) -> tuple[float, float]:
    """Between which LPS z (mm) a part of the whole field shows vertebrae no worse than the whole does."""
    (low, high), (least, most) = ((f.origin[2], f.origin[2] + (len(f.hu) - 1) * f.spacing) for f in (field, whole))
    return (
        low + _WITHIN_MM if low > least + whole.spacing else -np.inf,
        high - _WITHIN_MM if high < most - whole.spacing else np.inf,
    )


def _apart(instance: Instance, others: list[Instance]) -> bool:
    return all(np.linalg.norm(instance.centre - other.centre) >= _SAME_MM for other in others)


def described(instances: list[Instance], looks: list[tuple[Voxels, np.ndarray, Field]]) -> list[Instance]:
    """Return the instances with what all looks (voxels, map of the numbers, field) together say of their classes.

    A look that gives an instance less than half or more than twice what it was found with, at the end of its part of the
    field or because it takes two for one, is not asked.
    """
    weights = [(1.0 - voxels.classes[0]) * (0.5 + voxels.body) for voxels, _, _ in looks]
    found = []
    for instance in instances:
        seen = [numbers == instance.number for _, numbers, _ in looks]
        cm3 = [mine.sum() * field.spacing**3 / 1000.0 for mine, (_, _, field) in zip(seen, looks, strict=True)]
        asked = [k for k, volume in enumerate(cm3) if _HALF <= volume / instance.cm3 <= 1.0 / _HALF]
        shares = [_shares(looks[k][0].classes[:, seen[k]], weights[k][seen[k]]) for k in asked]
        found.append(replace(instance, classes=np.mean(shares, axis=0)) if shares else instance)
    return found


def _shares(classes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean class probabilities (C) of voxels (C, n) without the background, which keeps its place as 0."""
    rest = classes[1:] @ weight
    return np.concatenate([[0.0], rest / rest.sum()])


def _peaks(votes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Local maxima of the vote density, strongest first."""
    low = votes.min(axis=0) - 3 * _SPREAD_MM
    cell = np.round((votes - low) / _CELL_MM).astype(int)
    shape = cell.max(axis=0) + 1 + int(3 * _SPREAD_MM / _CELL_MM)
    density = np.bincount(np.ravel_multi_index(cell.T, shape), weights=weight, minlength=int(np.prod(shape)))
    density = ndimage.gaussian_filter(density.reshape(shape).astype(np.float32), _SPREAD_MM / _CELL_MM, mode="constant")
    reach = int(np.floor(_NEAREST_MM / _CELL_MM))
    ball = np.sum((np.indices((2 * reach + 1,) * 3) - reach) ** 2, axis=0) <= reach**2
    top = density == ndimage.maximum_filter(density, footprint=ball, mode="constant")
    at = np.argwhere(top & (density > 0.02 * density.max()))
    best_first = np.argsort(-density[tuple(at.T)], kind="stable")[:_MOST]
    return at[best_first] * _CELL_MM + low


def _settle(votes: np.ndarray, weight: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move each centre to the mean of the votes near it; join centres that meet. Return centres and votes' owners."""
    for _ in range(3):
        owner = _nearest(votes, centres)
        moved = []
        for k, centre in enumerate(centres):
            near = (owner == k) & (np.linalg.norm(votes - centre, axis=1) < _NEAREST_MM)
            moved.append(np.average(votes[near], axis=0, weights=weight[near]) if near.any() else centre)
        kept: list[np.ndarray] = []
        for centre in moved:  # strongest first: the weaker of two that meet goes
            if all(np.linalg.norm(centre - other) >= _NEAREST_MM for other in kept):
                kept.append(centre)
        centres = np.array(kept)
    return centres, _nearest(votes, centres)


def _nearest(votes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the centre each vote belongs to, -1 where none is within reach."""
    _, owner = cKDTree(centres).query(votes, distance_upper_bound=_REACH_MM)
    return np.where(owner < len(centres), owner, -1)


def _on_the_column(instances: list[Instance]) -> list[Instance]:
    """Keep the path of vertebrae that holds most volume, without what stands between two bodies or doubles one."""
    ordered = sorted(instances, key=lambda instance: instance.centre[2])
    paths: list[tuple[float, list[Instance]]] = []
    for upper in ordered:
        below = [path for path in paths if _follows(path[1][-1], upper)]
        held, path = max(below, key=lambda path: path[0], default=(0.0, []))
        paths.append((held + upper.cm3, [*path, upper]))
    kept = max(paths, key=lambda path: path[0], default=(0.0, []))[1]
    while (doubled := _doubled(kept)) is not None:
        del kept[doubled]
    return kept


def _follows(lower: Instance, upper: Instance) -> bool:
    """One can be above the other in one spine, though up to three between them were missed; hips and ribs cannot."""
    left, back, up = np.abs(upper.centre - lower.centre)
    distance = float(np.linalg.norm(upper.centre - lower.centre))
    return distance < _CHAIN_MM and left < 12.0 + 0.45 * distance and back < 12.0 + 0.75 * distance and up > 0.3 * distance


def _doubled(instances: list[Instance]) -> int | None:
    """Position of an instance that stands between two bodies or doubles one: too near to be the next vertebra."""
    gaps = np.array([np.linalg.norm(b.centre - a.centre) for a, b in pairwise(instances)])
    weakest = sorted(range(len(instances)), key=lambda k: instances[k].cm3)
    for k in weakest:
        before, after = gaps[max(0, k - 4) : max(0, k - 1)], gaps[k + 1 : k + 4]
        around = np.concatenate([before, after])  # gaps that the instance has no part in
        if not len(around):
            continue
        typical = float(np.median(around))
        own = gaps[max(0, k - 1) : k + 1]
        between = len(own) == 2 and own.sum() < _BETWEEN * typical
        at_end = len(own) == 1 and own[0] < _AT_END * typical
        if between or at_end:
            return k
    return None
