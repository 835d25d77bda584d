"""What a reader says of the findings of a reading (IHE AIRA's idea: accept, modify, reject), and who said it when."""

from dataclasses import dataclass
from enum import StrEnum

from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.domain.levels import REPORTED


class Verdict(StrEnum):
    """A reader's answer to one finding."""

    ACCEPTED = "accepted"
    """The finding is right."""
    CORRECTED = "corrected"
    """The finding is right, but of another level."""
    REJECTED = "rejected"
    """The finding is wrong."""


@dataclass(frozen=True)
class Assessment:
    """The verdict on the finding of one level; raises ValueError for what cannot be said."""

    level: str
    verdict: Verdict
    corrected_level: str | None = None

    def __post_init__(self) -> None:
        if self.level not in REPORTED:
            raise ValueError("unknown level")
        if (self.verdict is Verdict.CORRECTED) != (self.corrected_level is not None):
            raise ValueError("a corrected level belongs to the verdict 'corrected', and only to it")
        if self.corrected_level is not None and (
            self.corrected_level not in REPORTED or self.corrected_level == self.level
        ):
            raise ValueError("the corrected level must be another level")


@dataclass(frozen=True)
class SecondReading:
    """Everything one reader said of one reading at one time.

    reader  account; name  person name as DICOM writes it (PS3.5 6.2.1, family^given); at  seconds since the epoch
    """

    reader: str
    name: str
    at: float
    assessments: tuple[Assessment, ...]

    def of(self, level: str) -> Assessment | None:
        """Return what was said of a level, if anything."""
        return next((a for a in self.assessments if a.level == level), None)


def assessable(findings: Findings) -> list[VertebraFinding]:
    """Return the findings a reader can agree or disagree with: those that give an answer, yes or no."""
    return [v for v in findings.vertebrae if v.fracture is not None]
