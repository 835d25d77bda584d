"""Coded concepts: lengths of the standard, full coverage of the domain, unknown never Absent."""

import pytest
from highdicom.color import CIELabColor
from pydicom.sr.coding import Code

from ovcf_node.domain.denis import TABLE
from ovcf_node.domain.levels import REPORTED
from ovcf_node.report import codes
from ovcf_node.report.measurements import MEASUREMENTS


def every_code() -> list[Code]:
    found = [value for value in vars(codes).values() if isinstance(value, Code)]
    for table in (codes.LEVELS, codes.DENIS_TYPES, codes.GENANT_GRADES, codes.AGES, codes.STATUSES, codes.SUMMARIES):
        found += table.values()
    found += [codes.ao_type(row.ao) for row in TABLE.values() if row.ao]
    found += [codes.of_type(row.of) for row in TABLE.values() if row.of]
    return found + [m.concept for m in MEASUREMENTS] + [m.unit for m in MEASUREMENTS]


def test_lengths():
    too_long = [c for c in every_code() if len(c.value) > 16 or len(c.meaning) > 64 or not c.meaning]
    assert too_long == []


def test_one_code_has_one_meaning():
    meanings: dict[tuple[str, str], set[str]] = {}
    for code in every_code():
        meanings.setdefault((code.scheme_designator, code.value), set()).add(code.meaning)
    assert {key: found for key, found in meanings.items() if len(found) > 1} == {}


def test_private_designator_is_declarable():
    assert codes.SCHEME.startswith("99")
    assert codes.coding_scheme(codes.SCHEME).CodingSchemeName


@pytest.mark.parametrize(("value", "meaning"), [(True, "Present"), (False, "Absent"), (None, "Undetermined")])
def test_presence(value: bool | None, meaning: str):
    assert codes.presence(value).meaning == meaning


@pytest.mark.parametrize(("value", "meaning"), [(True, "Yes"), (False, "No"), (None, "Undetermined")])
def test_yes_no(value: bool | None, meaning: str):
    assert codes.yes_no(value).meaning == meaning


def test_grades_meet_without_a_gap():
    assert codes.GENANT_GRADES[2].meaning.endswith("25 to 40 %)")
    assert codes.GENANT_GRADES[3].meaning.endswith("40 % or more)")


def test_every_level_has_a_code_and_a_colour():
    assert tuple(codes.LEVELS) == tuple(codes.LEVEL_RGB) == REPORTED


def test_every_denis_type_is_called_a_compression_type():
    assert set(codes.DENIS_TYPES) == {row.denis for row in TABLE.values() if row.denis}
    assert all(code.meaning.startswith("Denis compression type ") for code in codes.DENIS_TYPES.values())


def test_display_colour_of_l1():
    assert CIELabColor.from_rgb(*codes.LEVEL_RGB["L1"]).value == (45761, 29808, 23959)
