"""From the four evidence booleans to a class: the one table (`clinical` notes 2.4; Denis 1983, AOSpine, OF of the DGOU).

S superior endplate broken, I inferior endplate broken, N anterior cortex buckled, P posterior wall involved by at least
one fifth. Letters always mean the Denis *compression* type; burst fractures have letters of their own.

A class that these four signs cannot tell is None: with both endplates broken AO is A2 (split, pincer) or A1; with the
anterior cortex alone AO is A0 or A1, and OF 1 or 2 depends on a deformation.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FractureClass:
    """What one combination of evidence is called; None where it is no compression fracture or cannot be told."""

    fracture: bool
    denis: str | None
    ao: str | None
    of: str | None
    review: str | None = None


TYPES: dict[str, str] = {
    "A": "both endplates", "B": "superior endplate", "C": "inferior endplate", "D": "anterior cortex buckled",
}
"""The compression types in words."""

_NONE = FractureClass(False, None, None, None)

TABLE: dict[tuple[bool, bool, bool, bool], FractureClass] = {
    # S, I, N, P
    (False, False, False, False): _NONE,
    (True, True, False, False): FractureClass(True, "A", None, "OF4"),
    (True, True, True, False): FractureClass(True, "A", None, "OF4"),
    (True, False, False, False): FractureClass(True, "B", "A1", "OF2"),
    (True, False, True, False): FractureClass(True, "B", "A1", "OF2"),
    (False, True, False, False): FractureClass(True, "C", "A1", "OF2"),
    (False, True, True, False): FractureClass(True, "C", "A1", "OF2"),
    (False, False, True, False): FractureClass(True, "D", None, None),
    (True, False, False, True): FractureClass(True, None, "A3", "OF3", "posterior wall involved: not compression"),
    (True, False, True, True): FractureClass(True, None, "A3", "OF3", "posterior wall involved: not compression"),
    (False, True, False, True): FractureClass(True, None, "A3", "OF3", "posterior wall involved: not compression"),
    (False, True, True, True): FractureClass(True, None, "A3", "OF3", "posterior wall involved: not compression"),
    (True, True, False, True): FractureClass(True, None, "A4", "OF4", "posterior wall involved: not compression"),
    (True, True, True, True): FractureClass(True, None, "A4", "OF4", "posterior wall involved: not compression"),
    (False, False, False, True): FractureClass(True, None, None, None, "isolated posterior wall finding"),
    (False, False, True, True): FractureClass(True, None, None, None, "posterior wall involved without endplate break"),
}


def classify(*, superior: bool, inferior: bool, anterior: bool, posterior: bool) -> FractureClass:
    """Return the class of one vertebra; total over all sixteen combinations."""
    return TABLE[superior, inferior, anterior, posterior]
