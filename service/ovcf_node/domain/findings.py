"""What one reading says: the value behind findings.json, the SR, the SEGs and the picture.

Unknown is None, never 0 and never False. Positions are LPS mm of the source's frame of reference.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ovcf_node.domain.reasons import Reason

SCHEMA_VERSION = "1"

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Evidence:
    """Calibrated probabilities of the four structural signs; None where the bundle or the series cannot say."""

    superior: float | None = None
    inferior: float | None = None
    anterior: float | None = None
    posterior: float | None = None


@dataclass(frozen=True)
class Heights:
    """Endplate to endplate, mm: at 80 % of the half-depth anterior and posterior of the body centre, and at mid-depth."""

    anterior: float | None = None
    middle: float | None = None
    posterior: float | None = None


@dataclass(frozen=True)
class Genant:
    """Semi-quantitative grade of the largest height loss; `near_boundary` when the measurement error spans two grades."""

    grade: int
    near_boundary: bool


@dataclass(frozen=True)
class HeightLines:
    """The two end points (superior, inferior; LPS mm) of each measured height, for pictures and checks."""

    anterior: tuple[Point, Point] | None = None
    middle: tuple[Point, Point] | None = None
    posterior: tuple[Point, Point] | None = None


@dataclass(frozen=True)
class VertebraFinding:
    """The reading of one vertebra (T12..S1). `complete` is None where its body was not measured."""

    level: str
    complete: bool | None
    fracture: bool | None = None
    probability: float | None = None
    evidence: Evidence = Evidence()
    denis: str | None = None
    ao: str | None = None
    of: str | None = None
    abstain: Reason | None = None
    age: str | None = None  # "recent_features" | "old" | "indeterminate"
    old_deformity: bool | None = None
    heights_mm: Heights = Heights()
    expected_mm: Heights = Heights()
    expected_from: str | None = None
    height_loss: float | None = None
    genant: Genant | None = None
    restored_loss: float | None = None  # height_loss against the bundle's painted, undamaged vertebra
    damage_hu: float | None = None  # mean difference between picture and painted vertebra
    mean_hu: float | None = None
    volume_cm3: float | None = None
    centroid_mm: Point | None = None
    height_lines_mm: HeightLines = HeightLines()
    notes: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class PatientFinding:
    """`ovcf` is None unless every level T12 to L5 was graded, or a fracture was found; `probability` is the largest."""

    ovcf: bool | None = None
    probability: float | None = None


@dataclass(frozen=True)
class BundleIdentity:
    """Which models read the series."""

    name: str
    version: str
    digest: str
    status: str

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Findings:
    """One reading of one series."""

    status: str  # "assessed" | "limited" | "not_assessed" | "excluded"
    reasons: tuple[Reason, ...] = ()
    patient: PatientFinding = PatientFinding()
    vertebrae: tuple[VertebraFinding, ...] = ()
    numbering_uncertain: bool | None = None
    numbering_basis: str | None = None
    bundle: BundleIdentity | None = None
    software: str = ""
    series_instance_uid: str = ""
    timings_s: dict[str, float] = field(default_factory=dict)
    schema: str = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the document that `findings.schema.json` describes."""
        return asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Findings":
        """Rebuild a reading from `to_json`'s document; the inverse up to tuples and lists."""
        return _findings(document)


def _reason(value: dict | None) -> Reason | None:
    return Reason(**value) if value else None


def _line(value: Any) -> tuple[Point, Point] | None:
    return (tuple(value[0]), tuple(value[1])) if value else None


def _vertebra(value: dict[str, Any]) -> VertebraFinding:
    plain = {f.name: value.get(f.name) for f in fields(VertebraFinding)}
    plain |= {
        "evidence": Evidence(**value["evidence"]),
        "abstain": _reason(value["abstain"]),
        "heights_mm": Heights(**value["heights_mm"]),
        "expected_mm": Heights(**value["expected_mm"]),
        "genant": Genant(**value["genant"]) if value["genant"] else None,
        "centroid_mm": tuple(value["centroid_mm"]) if value["centroid_mm"] else None,
        "height_lines_mm": HeightLines(**{k: _line(v) for k, v in value["height_lines_mm"].items()}),
        "notes": tuple(_reason(n) for n in value["notes"]),
    }
    return VertebraFinding(**plain)


def _findings(value: dict[str, Any]) -> Findings:
    return Findings(
        status=value["status"],
        reasons=tuple(_reason(r) for r in value["reasons"]),
        patient=PatientFinding(**value["patient"]),
        vertebrae=tuple(_vertebra(v) for v in value["vertebrae"]),
        numbering_uncertain=value["numbering_uncertain"],
        numbering_basis=value["numbering_basis"],
        bundle=BundleIdentity(**value["bundle"]) if value["bundle"] else None,
        software=value["software"],
        series_instance_uid=value["series_instance_uid"],
        timings_s=dict(value["timings_s"]),
        schema=value["schema"],
    )
