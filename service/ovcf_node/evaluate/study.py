"""The reference study's printed tables (220 patients, CT against MRI), and what of them can be recomputed.

Three printed figures do not follow from the tables (clinical notes 4.2): the conventional accuracy 86.91 % (189/220 is
85.91 %), the conventional Denis matrix (156 cases where 158 were called), and its kappa 0.711. Every false positive of
both readings was typed D, and the AI's 170 typed cases include its 3 false positives.
"""

from dataclasses import dataclass

import numpy as np

TYPES = ("A", "B", "C", "D")
CASE_MIX = {"A": 40, "B": 45, "C": 39, "D": 55, "none": 41}
NATURAL_MIX = {"A": 0.16, "B": 0.62, "C": 0.06, "D": 0.15}
"""Shares among fractures in Denis 1983 (they sum to 0.99; the rest goes to B)."""


@dataclass(frozen=True)
class Detection:
    """A two-by-two table against MRI."""

    tp: int
    fn: int
    fp: int
    tn: int

    @property
    def table(self) -> np.ndarray:
        """Rows: said yes, no; columns: is, is not."""
        return np.array([[self.tp, self.fp], [self.fn, self.tn]])


@dataclass(frozen=True)
class Typing:
    """What is printed of a Denis matrix: its margins and its diagonal. `said` per type called, `true` per MRI type."""

    said: tuple[int, int, int, int]
    true: tuple[int, int, int, int]
    right: int
    false_positives: int

    @property
    def total(self) -> int:
        return sum(self.said)

    @property
    def kappa(self) -> float:
        """Kappa needs the margins and the diagonal only; the column of false positives has no row of its own."""
        chance = float(np.dot(self.said, self.true)) / self.total**2
        return (self.right / self.total - chance) / (1 - chance)


AI = Detection(167, 12, 3, 38)
CONVENTIONAL = Detection(153, 26, 5, 36)
AI_TYPING = Typing((39, 43, 44, 44), (40, 45, 39, 43), 151, 3)
AI_RIGHT = (36, 40, 36, 39)
CONVENTIONAL_TYPED_PRINTED, CONVENTIONAL_TYPED_CALLED, CONVENTIONAL_RIGHT = 156, 158, 123
PRINTED = {
    "sensitivity": 0.9330, "specificity": 0.9268, "accuracy": 0.9318, "kappa": 0.793, "denis_accuracy": 0.8882,
    "denis_kappa": 0.852, "conventional_accuracy": 0.8691, "conventional_kappa": 0.612, "conventional_denis_kappa": 0.711,
}
CALIPER_SD = 0.064
"""SD of one reader's height loss, from published limits of agreement of +-12.5 points (clinical notes 1.6)."""
