"""What each crop shows, drawn before it is painted so that the mix holds for every stretch of crops."""

from dataclasses import dataclass, field

import numpy as np

from .anatomy import LEVELS
from .grid import chance, pick

TYPES = ("A", "B", "C", "D")
MIMICS = (
    "waist", "notch", "spur", "wavy", "lip", "fish", "wedge", "short", "schmorl", "limbus", "scheuermann", "cupid",
    "osteophyte", "bridge", "modic", "arrest", "haemangioma", "island", "lytic", "basivertebral",
)  # fmt: skip
# Front walls and even hollows are what networks take for fractures most: they come twice in each round.
HARD = ("waist", "notch", "spur", "wavy", "lip", "fish", "wedge", "schmorl")
_DECK = ("A",) * 7 + ("B",) * 7 + ("C",) * 7 + ("D",) * 6 + ("old",) * 7 + ("mimic",) * 15 + ("plain",) * 11


@dataclass
class Plan:
    """One crop: ``kind`` is A-D, "old", "plain" or a name of MIMICS; ``extras`` are unflagged side findings."""

    kind: str
    level: str
    marrow: float  # HU of spongy bone
    loss: float  # wanted largest height loss, fraction
    evidence: list[bool]  # superior plate, inferior plate, front wall, back wall recently broken
    random: bool
    cement: bool
    extras: list[str] = field(default_factory=list)

    @property
    def broken(self):
        """Whether the vertebra is recently fractured."""
        return self.kind in TYPES

    @property
    def mimic(self):
        """Whether a whole vertebra imitates a fracture."""
        return self.kind in MIMICS or (self.kind == "plain" and self.cement)


def kind_list(seed, count):
    """Kinds of the first ``count`` crops of ``seed``: shuffled rounds of 60, mimics dealt in turn."""
    rng = np.random.default_rng([seed, 60001])
    out, hand = [], []
    while len(out) < count:
        for card in rng.permutation(_DECK):
            if card == "mimic":
                if not hand:
                    hand = list(rng.permutation(MIMICS)) + list(rng.permutation(HARD))
                card = hand.pop(0)
            out.append(str(card))
    return out[:count]


def severity(rng):
    """Height loss of a recent fracture: 10 to 60 %, mild most often; less is not called one in this project."""
    low, high = pick(rng, {(0.10, 0.25): 66, (0.25, 0.40): 22, (0.40, 0.60): 12})
    return rng.uniform(low, high)


def draw(rng, kind):
    """Plan of one crop of ``kind``."""
    broken = kind in TYPES
    level = pick(rng, dict(zip(LEVELS, (9, 17, 22, 17, 13, 11, 8, 0 if broken else 3), strict=True)))
    # Fractures of every kind of bone, frail bone more often; whole bone spans the same range, so it is no proof.
    marrow = float(np.clip(rng.normal(105 if broken or kind == "old" else 120, 50), 30, 250))
    if kind == "fish":
        marrow = rng.uniform(25, 90)
    loss, evidence = 0.0, [False] * 4
    if broken:
        loss = severity(rng)
        evidence = [kind in "AB", kind in "AC", kind == "D" or chance(rng, 0.55), chance(rng, 0.10)]
        if kind == "D":  # both plates stay whole, so the front cannot sink far
            loss = min(loss, rng.uniform(0.10, 0.35))
    elif kind == "old":
        loss = float(np.clip(rng.gamma(3.0, 0.08), 0.10, 0.50))
    extras = []
    for name, p in (("schmorl", 0.06), ("osteophyte", 0.14), ("haemangioma", 0.03), ("spur", 0.07), ("modic", 0.06),
                    ("island", 0.03), ("arrest", 0.03), ("wavy", 0.05), ("notch", 0.06), ("bridge", 0.03),
                    ("basivertebral", 0.06), ("lip", 0.06), ("limbus", 0.02)):  # fmt: skip
        if chance(rng, p if kind != "plain" else 0.0):
            extras.append(name)
    return Plan(kind, level, marrow, loss, evidence, chance(rng, 1 / 3), chance(rng, 0.04), extras)
