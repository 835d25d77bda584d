"""The one table of per-vertebra measurements: the SR, the picture's table and the tests iterate it.

To report another measurement, add a row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pydicom.sr.coding import Code

from ovcf_node.domain.findings import VertebraFinding
from ovcf_node.report import codes

MILLIMETER = Code("mm", "UCUM", "mm")
PERCENT = Code("%", "UCUM", "Percent")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
CUBIC_CENTIMETER = Code("cm3", "UCUM", "cubic centimeter")
MEAN = Code("373098007", "SCT", "Mean")  # CID 7464
VOXEL_SUM = Code("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474

UNKNOWN = "-"

Getter = Callable[[VertebraFinding], float | None]


@dataclass(frozen=True)
class Measurement:
    """One row.

    get         value in findings' unit, or None where unknown
    factor      findings' unit -> `unit` (fractions become percent)
    decimals    what the measurement error justifies
    site        topographical modifier of the finding site (CID 2)
    column      heading in the picture's table; None leaves it out of the picture
    """

    concept: Code
    unit: Code
    get: Getter
    decimals: int
    factor: float = 1.0
    site: Code | None = None
    derivation: Code | None = None
    method: Code | None = None
    column: str | None = None

    def value(self, vertebra: VertebraFinding) -> float | None:
        """Return the rounded value in `unit`; None where it is unknown (never 0)."""
        return self.convert(self.get(vertebra))

    def convert(self, raw: float | None) -> float | None:
        """Return a value in findings' unit rounded in `unit`."""
        if raw is None or not math.isfinite(raw):
            return None
        rounded = round(float(raw) * self.factor, self.decimals) + 0.0
        return int(rounded) if self.decimals == 0 else rounded

    def text(self, vertebra: VertebraFinding) -> str:
        """Return the value for a table cell; UNKNOWN where there is none."""
        value = self.value(vertebra)
        return UNKNOWN if value is None else f"{value:.{self.decimals}f}"


def _own(value: str, meaning: str) -> Code:
    return Code(value, codes.SCHEME, meaning)


def _height(part: str, label: str, short: str, site: Code) -> tuple[Measurement, Measurement]:
    return (
        Measurement(
            _own(f"VBH-{short}", f"{label} vertebral body height"), MILLIMETER,
            lambda v: getattr(v.heights_mm, part), 1, site=site, column=f"H {short.lower()}\nmm",
        ),
        Measurement(
            _own(f"VBH-{short}-EXP", f"Expected {label.lower()} vertebral body height"), MILLIMETER,
            lambda v: getattr(v.expected_mm, part), 1,
        ),
    )


def _probability(short: str, meaning: str, get: Getter, column: str | None = None) -> Measurement:
    return Measurement(_own(f"P-{short}", meaning), PERCENT, get, 0, factor=100.0, column=column)


PROBABILITY = _probability("VCF", "Probability of vertebral fracture", lambda v: v.probability, column="Prob.\n%")
HIGHEST_PROBABILITY = _own("P-VCF-MAX", "Highest probability of vertebral fracture of any level")

MEASUREMENTS: tuple[Measurement, ...] = (
    PROBABILITY,
    *_height("anterior", "Anterior", "ANT", codes.ANTERIOR),
    *_height("middle", "Middle", "MID", codes.CENTRAL),
    *_height("posterior", "Posterior", "POST", codes.POSTERIOR),
    Measurement(
        _own("VBH-LOSS", "Largest vertebral body height loss"), PERCENT, lambda v: v.height_loss, 0, factor=100.0,
        column="Loss\n%",
    ),
    Measurement(
        _own("VBH-LOSS-RST", "Largest vertebral body height loss against restored body"), PERCENT,
        lambda v: v.restored_loss, 0, factor=100.0,
    ),
    Measurement(
        _own("DAMAGE", "Mean attenuation difference from restored vertebral body"), HOUNSFIELD_UNIT,
        lambda v: v.damage_hu, 0,
    ),
    Measurement(
        Code("112031", "DCM", "Attenuation Coefficient"), HOUNSFIELD_UNIT, lambda v: v.mean_hu, 0, derivation=MEAN,
        column="Mean\nHU",
    ),
    Measurement(
        Code("118565006", "SCT", "Volume"), CUBIC_CENTIMETER, lambda v: v.volume_cm3, 1, method=VOXEL_SUM,
    ),
    _probability("SUPERIOR", "Probability of superior endplate break", lambda v: v.evidence.superior),
    _probability("INFERIOR", "Probability of inferior endplate break", lambda v: v.evidence.inferior),
    _probability("ANTERIOR", "Probability of anterior cortex buckling", lambda v: v.evidence.anterior),
    _probability("POSTERIOR", "Probability of posterior wall involvement", lambda v: v.evidence.posterior),
)
