"""The one table of measurements: units, rounding, unknown stays unknown."""

from ovcf_node.domain.findings import VertebraFinding
from ovcf_node.report.measurements import MEASUREMENTS, PROBABILITY, UNKNOWN
from result_cases import make_vertebra


def by_code(value: str):
    return next(m for m in MEASUREMENTS if m.concept.value == value)


def test_concepts_differ():
    assert len({(m.concept.scheme_designator, m.concept.value) for m in MEASUREMENTS}) == len(MEASUREMENTS)


def test_values_of_a_fracture():
    vertebra = make_vertebra("L1")
    values = {m.concept.value: m.value(vertebra) for m in MEASUREMENTS}
    assert values == {
        "P-VCF": 97, "VBH-ANT": 15.8, "VBH-ANT-EXP": 23.6, "VBH-MID": 21.0, "VBH-MID-EXP": 22.9, "VBH-POST": 24.0,
        "VBH-POST-EXP": 24.1, "VBH-LOSS": 33, "VBH-LOSS-RST": 29, "DAMAGE": 86, "112031": 118, "118565006": 41.3,
        "P-SUPERIOR": 93, "P-INFERIOR": 10, "P-ANTERIOR": 40, "P-POSTERIOR": 2,
    }


def test_unknown_is_never_zero():
    unknown = VertebraFinding("L1", True)
    assert {m.value(unknown) for m in MEASUREMENTS} == {None}
    assert {m.text(unknown) for m in MEASUREMENTS} == {UNKNOWN}


def test_not_a_number_is_unknown():
    assert by_code("112031").value(make_vertebra("L2", mean_hu=float("nan"))) is None


def test_no_negative_zero():
    assert str(by_code("112031").value(make_vertebra("L2", mean_hu=-0.2))) == "0"


def test_zero_is_known():
    assert PROBABILITY.text(make_vertebra("L2", probability=0.0)) == "0"
