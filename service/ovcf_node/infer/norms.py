"""Adult mean heights and widths of the vertebral bodies, mm: references, never a diagnosis.

Mixed-sex means as CT measures them (clinical notes 3.2; Panjabi-type values, L5 from ijssurgery 11003); about 7 %
standard deviation between people, so they carry the shape of the level curve and a scale from the patient's own
vertebrae.
"""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class LevelNorm:
    """Anterior, middle and posterior height, mean width of the body, and the disc below (middle), mm."""

    anterior: float
    middle: float
    posterior: float
    width: float
    disc_below: float

    @property
    def heights(self) -> tuple[float, float, float]:
        return self.anterior, self.middle, self.posterior


NORMS: dict[str, LevelNorm] = {
    "T11": LevelNorm(21.5, 21.3, 23.0, 37.0, 5.5),
    "T12": LevelNorm(23.5, 23.2, 25.0, 40.5, 6.5),
    "L1": LevelNorm(25.0, 24.5, 26.3, 42.3, 8.3),
    "L2": LevelNorm(26.2, 25.4, 26.8, 44.1, 9.3),
    "L3": LevelNorm(27.0, 25.9, 26.9, 46.1, 10.3),
    "L4": LevelNorm(27.3, 25.9, 26.3, 48.1, 11.3),
    "L5": LevelNorm(29.5, 26.2, 25.8, 48.4, 10.3),
    "S1": LevelNorm(30.0, 29.0, 25.0, 44.0, 2.3),
}

_ORDER = tuple(NORMS)


def centre_distance(upper: str, lower: str) -> float:
    """Expected distance (mm) between the body centres of two levels, one or more levels apart."""
    first, last = _ORDER.index(upper), _ORDER.index(lower)
    total = 0.0
    for a, b in pairwise(_ORDER[first : last + 1]):
        total += NORMS[a].middle / 2 + NORMS[a].disc_below + NORMS[b].middle / 2
    return total
