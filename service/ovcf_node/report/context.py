"""What a result is encoded from besides the reading itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ovcf_node.domain.assessments import SecondReading
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.identity import Dialect, ResultIdentity, uid_from

PRODUCT = "ovcf-node"
SERIES_NUMBERS: dict[str, int] = {"seg_vertebrae": 9001, "seg_fractures": 9002, "summary": 9003, "sr": 9004}

Predecessor = tuple[str, str, str, str]
"""(Study Instance UID, Series Instance UID, SOP Class UID, SOP Instance UID) of a report that this one supersedes."""


@dataclass(frozen=True)
class SecondReport:
    """What makes a report the second reading of stored findings.

    revision       number of the revision that reports; the identity's own is that of the reading
    segmentations  role -> SOP Instance UID of the objects that the reading left; made by whatever version it was
    """

    reading: SecondReading
    revision: int
    segmentations: Mapping[str, str]


@dataclass(frozen=True)
class ResultContext:
    """Identity and circumstances of one result; everything that must not change when it is encoded again.

    analysis_started_at  timezone-aware; the date and time in every object (IHE AIR: start of the analysis) but in a
                         second reading, which states its own time
    institution          InstitutionName of the contributing equipment; empty leaves it out
    predecessors         reports of earlier revisions (Predecessor Documents Sequence)
    second               what a reader said of the findings; None for the reading itself
    shadow               made in shadow mode: every series says so in its description
    """

    identity: ResultIdentity
    analysis_started_at: datetime
    institution: str = ""
    predecessors: tuple[Predecessor, ...] = ()
    second: SecondReport | None = None
    shadow: bool = False

    def __post_init__(self) -> None:
        if self.analysis_started_at.tzinfo is None:
            raise ValueError("analysis_started_at needs a time zone")

    @property
    def instance_number(self) -> int:
        """Revisions share a series; the newest has the highest number, which is the one viewers show."""
        return max(1, self.second.revision if self.second else self.identity.revision)

    @property
    def content_at(self) -> datetime:
        """When what the object says was said, timezone-aware."""
        return datetime.fromtimestamp(self.second.reading.at, UTC) if self.second else self.analysis_started_at

    def report_uid(self, dialect: Dialect) -> str:
        identity = self.identity
        if self.second:
            said_at = self.content_at.isoformat()
            identity = replace(identity, revision=self.second.revision, analysis_started_at=said_at)
        return identity.sop_instance_uid("sr", dialect)

    def segmentation_uid(self, role: str) -> str:
        """Return the SOP Instance UID of the segmentation that a report refers to."""
        made = self.second.segmentations.get(role) if self.second else None
        return made or self.identity.sop_instance_uid(role, Dialect())

    def series_description(self, text: str) -> str:
        return f"{'SHADOW ' if self.shadow else ''}RESEARCH AI {text}"


@dataclass(frozen=True)
class Algorithm:
    """Who read the series, told the same way in SR, SEG and Contributing Equipment (IHE AIR Table 6.5.3.1-1)."""

    manufacturer: str
    name: str
    version: str
    device_uid: str


def algorithm_of(findings: Findings) -> Algorithm:
    """Return the algorithm behind a reading; its Device UID changes with the models and with the software."""
    bundle = findings.bundle
    if bundle is None:  # not assessed before any model was loaded
        return Algorithm(PRODUCT, PRODUCT, findings.software or "unknown", uid_from("device", findings.software))
    device_uid = uid_from("device", bundle.digest, findings.software)
    return Algorithm(PRODUCT, bundle.name[:64], bundle.version[:64], device_uid)
