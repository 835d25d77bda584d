"""Check the numbering against what the label network does not count: ribs, and the shape of the lumbosacral junction.

Where the sacrum is seen, names stay as they are; only their certainty and what it rests on may change. A rib at the
vertebra called L1, none at the one called T12 and a short one above it, a rudimentary last rib, a sacralised L5 or a
lumbarised S1 each make the numbering uncertain. A field too narrow to show ribs does not, as long as the names are counted
from the sacrum.

Where it is not seen, the last ribs anchor the count: the names are decided once more with them (`label.name_sequence`), and
are uncertain where the field does not show which ribs are the last.

Thresholds: fitted on phantoms of both generators at seeds that nothing else uses; see `models/training/README.md`.
"""

from dataclasses import replace
from itertools import pairwise
from statistics import mean

import numpy as np

from ovcf_node.domain.volume import Volume
from ovcf_node.infer.label import Labels, Placed, placed, sacrum_seen
from ovcf_node.infer.norms import NORMS, centre_distance
from ovcf_node.infer.ribs import Bony, bony_sides
from ovcf_node.infer.sacrum import disc_below, process_heights

_RIB_MM = 30.0  # longer than any transverse process beyond its first 26 mm
_RIB_REACH_MM = 46.0  # a transverse process of L1 ends at 28 to 44 mm
_STUMP_MM = 14.0  # a rib that the field cuts; a process of L1 is shorter
_EDGE_MM = 8.0  # what reaches so near to the side of the field is cut by it
_BARE_MM = 36.0  # a field that ends nearer beside the body shows no stump
_NEXT_MM = 45.0  # of an average adult: L1 and T12 are 30 mm apart, L1 and T11 58
_LUMBAR_RIB_MM = 22.0  # on both sides; the longer one reaches farther than a process can
_LUMBAR_REACH_MM = 55.0
_SHORT_LAST_MM = (28.0, 53.5)  # a rudimentary last rib; what is shorter may be a process or a hypoplastic rib of T12
_SHORT_ABOVE_MM = 86.5  # the rib above a regular T12 is longer
_BROAD_MM = 15.0  # transverse process of L5 of an average adult, both sides
_DISC_HU = 24.0  # a disc of full depth below S1; 144 of 146 ordinary phantoms stay below 16
_COLUMN = ("T11", "T12", "L1", "L2")

_Sides = tuple[Bony, Bony]


def checked(labels: Labels, volume: Volume, classes: tuple[str, ...]) -> Labels:
    """Return the labels with names, the numbering's certainty and its basis completed by what the CT shows.

    `classes` are the names that the instances' class probabilities stand for.
    """
    if not labels.reported:
        return labels
    sides = _bony(labels.vertebrae, volume)
    counted_up = not {"S1", "below"}.isdisjoint(v.label for v in labels.vertebrae)
    if not counted_up and not sacrum_seen([v.instance for v in labels.vertebrae], classes):
        labels = _anchored(labels, sides, classes)
    ribs = {v.label: sides[k] for k, v in enumerate(labels.vertebrae) if k in sides and v.label in _COLUMN}
    doubts = [*rib_doubts(ribs, _size(labels.vertebrae)), *_sacral_doubts(labels.vertebrae, volume)]
    level, said = last_rib(ribs)
    unsupported = "S1" not in {v.label for v in labels.vertebrae} and level != "T12"
    basis = "; ".join([labels.numbering_basis, said, *doubts])
    uncertain = labels.numbering_uncertain or bool(doubts) or unsupported
    return replace(labels, numbering_basis=basis, numbering_uncertain=uncertain)


def _anchored(labels: Labels, sides: dict[int, _Sides], classes: tuple[str, ...]) -> Labels:
    """The labels decided once more with the lowest ribs, where the field shows that they are."""
    lowest = _lowest_ribs(labels.vertebrae, sides)
    if lowest is None:
        return labels
    vertebrae, uncertain, basis = placed([v.instance for v in labels.vertebrae], classes, lowest)
    return replace(labels, vertebrae=vertebrae, numbering_uncertain=uncertain, numbering_basis=basis)


def _lowest_ribs(vertebrae: tuple[Placed, ...], sides: dict[int, _Sides]) -> int | None:
    """Position of the lowest vertebra with ribs; looked for from above, for kidneys lie below.

    The next one down must be seen to have none, unless the last vertebra of the field is called L1 and has ribs. To agree
    with the names a rib on one side is enough where the field hides the other; to contradict them it takes both.
    """
    called_l1 = {k for k in sides if vertebrae[k].label == "L1"}
    ribbed = {
        k: _bears_lumbar_rib(both) if k in called_l1
        else all(_rib(b) or (vertebrae[k].label == "T12" and _hidden(b)) for b in both) and any(map(_rib, both))
        for k, both in sides.items()
    }
    for k in sorted(sides, reverse=True):
        if ribbed[k] and k - 1 in sides and _bare(sides[k - 1]) and _next(vertebrae, k):
            return k
    return 0 if 0 in called_l1 and ribbed[0] else None


def _next(vertebrae: tuple[Placed, ...], k: int) -> bool:
    """Whether no vertebra was missed between one and the next below it, by their distance."""
    gap = float(np.linalg.norm(vertebrae[k].centre - vertebrae[k - 1].centre))
    return gap < _NEXT_MM * _size(vertebrae)


def rib_doubts(ribs: dict[str, _Sides], size: float = 1.0) -> list[str]:
    """What the bony sides of T11, T12 and L1, as they are called, say against the count; `size` 1 is an average adult."""
    found = []
    if "L1" in ribs and _bears_lumbar_rib(ribs["L1"]):
        found.append("a rib at the vertebra called L1")
    if "T12" in ribs and "T11" in ribs:
        above, last = ribs["T11"], ribs["T12"]
        if _ribless(last) and (_ribless(above) or (_whole(above) and _ends_early(above, size))):
            found.append("no rib at the vertebra called T12")
        elif _rudimentary(last, size) and _ends_early(above, size):
            found.append("the last ribs are rudimentary: an extra vertebra with ribs is possible")
    return found


def last_rib(ribs: dict[str, _Sides]) -> tuple[str | None, str]:
    """Which vertebra bears the last rib, and in words; None where the field does not show it, or not what is below it."""
    if "L1" in ribs and _bears_lumbar_rib(ribs["L1"]):
        return "L1", "last ribs seen at the vertebra called L1"
    if "T12" in ribs and "L1" in ribs and _bears(ribs["T12"]):
        return "T12", "last ribs seen at the vertebra called T12"
    if "T12" in ribs and "T11" in ribs and _bears(ribs["T11"]) and not _bears(ribs["T12"]):
        return "T11", "last ribs seen at the vertebra called T11: T12 has hypoplastic ribs, or the names are one level off"
    return None, "ribs not seen far enough to check the count"


def _bony(vertebrae: tuple[Placed, ...], volume: Volume) -> dict[int, _Sides]:
    """Bony sides by position, of what is called T11 to L2 and one more at either end, which may be miscalled."""
    wanted = [k for k, v in enumerate(vertebrae) if v.label in _COLUMN]
    if not wanted:
        return {}
    first = max(0, wanted[0] - 1)
    column = vertebrae[first : wanted[-1] + 2]
    sides = bony_sides(volume, [v.centre for v in column], [v.frame for v in column])
    return dict(enumerate(sides, first))


def _rib(side: Bony) -> bool:
    """As long as no process is, or run into the side of the field: bone that ends above or below may be anything."""
    if side.cut and side.reach >= side.seen - _EDGE_MM:
        return side.length >= _STUMP_MM
    return side.length >= _RIB_MM and side.reach >= _RIB_REACH_MM


def _hidden(side: Bony) -> bool:
    """Whether the field ends before a rib could be told from a process."""
    return side.cut or side.seen < _RIB_REACH_MM


def _bears(sides: _Sides) -> bool:
    return any(
        (b.length >= _RIB_MM and b.reach >= _RIB_REACH_MM) or (b.cut and b.length >= _STUMP_MM) for b in sides
    )


def _bears_lumbar_rib(sides: _Sides) -> bool:
    """On both sides: on one alone, an enhanced organ that touches a transverse process looks the same."""
    return (
        all(b.length >= _LUMBAR_RIB_MM and b.reach >= _RIB_REACH_MM for b in sides)
        and max(b.reach for b in sides) >= _LUMBAR_REACH_MM
    )


def _bare(sides: _Sides) -> bool:
    """Neither side has a rib, or has the stump of one where the field cuts it."""
    return not any(map(_rib, sides)) and all(b.seen >= _BARE_MM for b in sides)


def _ribless(sides: _Sides) -> bool:
    """Both sides end within the field, where transverse processes end."""
    return all(not b.cut and b.length < _RIB_MM and b.seen >= _RIB_REACH_MM for b in sides)


def _whole(sides: _Sides) -> bool:
    return not any(b.cut for b in sides)


def _ends_early(sides: _Sides, size: float) -> bool:
    """Neither rib is seen to be as long as those of T11 are, and at least one is seen to end."""
    ended = any(not b.cut and b.seen >= _RIB_REACH_MM for b in sides)
    return ended and max(b.length for b in sides) < _SHORT_ABOVE_MM * size


def _rudimentary(sides: _Sides, size: float) -> bool:
    whole = [b.length for b in sides if not b.cut]
    return bool(whole) and _SHORT_LAST_MM[0] * size <= mean(whole) <= _SHORT_LAST_MM[1] * size


def _size(vertebrae: tuple[Placed, ...]) -> float:
    """The patient's size relative to an average adult, by the spacing of the bodies."""
    ratios = [
        float(np.linalg.norm(high.centre - low.centre)) / centre_distance(high.label, low.label)
        for low, high in pairwise(vertebrae) if low.label in NORMS and high.label in NORMS
    ]
    return float(np.clip(np.median(ratios), 0.8, 1.25)) if ratios else 1.0


def _sacral_doubts(vertebrae: tuple[Placed, ...], volume: Volume) -> list[str]:
    by_name = {v.label: v for v in vertebrae}
    found = []
    if "L5" in by_name and "S1" in by_name:
        heights = process_heights(volume, by_name["L5"].centre, by_name["L5"].frame)
        if heights is not None and min(heights) >= _BROAD_MM * _size(vertebrae):
            found.append("L5 has broad transverse processes as when sacralised")
    if "S1" in by_name:
        at = [v.label for v in vertebrae].index("S1")  # foot to head
        below = vertebrae[at - 1].centre if at else None
        if disc_below(volume, by_name["S1"].centre, by_name["S1"].frame, below) >= _DISC_HU:
            found.append("a disc below S1 as when lumbarised")
    return found
