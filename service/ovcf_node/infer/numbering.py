"""Check the numbering against what the label network does not count: ribs, and the shape of the lumbosacral junction.

Names stay as they are; only their certainty and what it rests on may change. A rib at the vertebra called L1, none at the
one called T12 and a short one above it, a rudimentary last rib, a sacralised L5 or a lumbarised S1 each make the
numbering uncertain. A field too narrow to show ribs does not, as long as the names are counted from the sacrum.

Thresholds: fitted on phantoms of both generators at seeds that nothing else uses; see `models/training/README.md`.
"""

from dataclasses import replace
from itertools import pairwise
from statistics import mean

import numpy as np

from ovcf_node.domain.volume import Volume
from ovcf_node.infer.label import Labels, Placed
from ovcf_node.infer.norms import NORMS, centre_distance
from ovcf_node.infer.ribs import Bony, bony_sides
from ovcf_node.infer.sacrum import disc_below, process_heights

_RIB_MM = 30.0  # longer than any transverse process beyond its first 26 mm
_RIB_REACH_MM = 46.0  # a transverse process of L1 ends at 28 to 44 mm
_STUMP_MM = 14.0  # a rib that the field cuts; a process of L1 is shorter, one of L2 is not asked
_LUMBAR_RIB_MM = 22.0  # on both sides; the longer one reaches farther than a process can
_LUMBAR_REACH_MM = 55.0
_SHORT_LAST_MM = (28.0, 53.5)  # a rudimentary last rib; what is shorter may be a process or a hypoplastic rib of T12
_SHORT_ABOVE_MM = 86.5  # the rib above a regular T12 is longer
_BROAD_MM = 15.0  # transverse process of L5 of an average adult, both sides
_DISC_HU = 24.0  # a disc of full depth below S1; 144 of 146 ordinary phantoms stay below 16
_COLUMN = ("T11", "T12", "L1", "L2")

_Sides = tuple[Bony, Bony]


def checked(labels: Labels, volume: Volume) -> Labels:
    """Return the labels with the numbering's certainty and basis completed by what the CT shows."""
    if not labels.reported:
        return labels
    ribs = _ribs(labels.vertebrae, volume)
    doubts = [*rib_doubts(ribs, _size(labels.vertebrae)), *_sacral_doubts(labels.vertebrae, volume)]
    last = last_rib(ribs)
    named = {v.label for v in labels.vertebrae}
    unsupported = "S1" not in named and last is None
    basis = "; ".join([labels.numbering_basis, last or "ribs not seen far enough to check the count", *doubts])
    uncertain = labels.numbering_uncertain or bool(doubts) or unsupported
    return replace(labels, numbering_basis=basis, numbering_uncertain=uncertain)


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


def last_rib(ribs: dict[str, _Sides]) -> str | None:
    """In words, which vertebra bears the last rib; None where the field does not show it."""
    if "L1" in ribs and _bears_lumbar_rib(ribs["L1"]):
        return "last ribs seen at the vertebra called L1"
    level = next((level for level in ("T12", "T11") if level in ribs and _bears(ribs[level])), None)
    other = ": T12 has hypoplastic ribs, or the names are one level off" if level == "T11" and "T12" in ribs else ""
    return level and f"last ribs seen at the vertebra called {level}{other}"


def _ribs(vertebrae: tuple[Placed, ...], volume: Volume) -> dict[str, _Sides]:
    """Bony sides by name; one vertebra more at either end is looked at, so that each gets its own only."""
    wanted = [k for k, v in enumerate(vertebrae) if v.label in _COLUMN]
    if not wanted:
        return {}
    column = vertebrae[max(0, wanted[0] - 1) : wanted[-1] + 2]
    sides = bony_sides(volume, [v.centre for v in column], [v.frame for v in column])
    return {v.label: both for v, both in zip(column, sides, strict=True) if v.label in _COLUMN}


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
