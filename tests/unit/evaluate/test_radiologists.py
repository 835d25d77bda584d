"""Shadow results beside radiologists' findings: the table is read as documented, counted like every other cohort."""

from dataclasses import replace

import pytest

from ovcf_node.domain.findings import Findings, PatientFinding, VertebraFinding
from ovcf_node.domain.levels import GRADED
from ovcf_node.errors import Permanent
from ovcf_node.evaluate.radiologists import page, read_table, record


def said(broken: dict[str, str | None] | None = None, *, status="assessed", ovcf: bool | None = None) -> Findings:
    broken = broken or {}
    return Findings(
        status=status, patient=PatientFinding(bool(broken) if status == "assessed" and ovcf is None else ovcf),
        vertebrae=tuple(VertebraFinding(level, True, level in broken, 0.9, denis=broken.get(level)) for level in GRADED)
        if status == "assessed" else (),
    )


def table(folder, text: str):
    path = folder / "truth.csv"
    path.write_text(text, encoding="utf-8-sig")
    return read_table(path)


TABLE = """Accession_Number;level;fracture;type
A1;L1;yes;B
A1;L3;no;
A2;L2;yes;a
A2;T11;yes;
A3;;no;
A4;;yes;C
A5;L4;unknown;
"""


def test_the_table_is_read_as_documented(tmp_path):
    one, two, three, four, five = table(tmp_path, TABLE)
    assert (one.line, one.accession_number, one.fracture, one.denis) == (2, "A1", True, "B")
    assert (one.of("L1"), one.of("L3"), one.of("L5"), one.type_of("L1")) == (True, False, False, "B")
    assert (two.denis, two.of("T12")) == ("A", False)
    assert (three.fracture, three.of("L1")) == (False, False)
    assert (four.fracture, four.denis, four.of("L1")) == (True, "C", None)
    assert (five.fracture, five.of("L4")) == (None, None)
    assert "A1" not in repr(one)


@pytest.mark.parametrize(("text", "words"), [
    ("level,fracture\nL1,yes\n", "columns needed"),
    ("accession_number,level,fracture\nA1,first,yes\nA1,L1,maybe\n,L1,yes\n", "line 2: level"),
    ("accession_number,level,fracture,type\nA1,L1,yes,E\n", "line 2: type"),
])
def test_every_wrong_line_is_named_at_once(tmp_path, text, words):
    with pytest.raises(Permanent, match=words) as caught:
        table(tmp_path, text)
    assert caught.value.code == "truth_unreadable" and "A1" not in caught.value.text
    assert "maybe" not in text or all(f"line {n}" in caught.value.text for n in (2, 3, 4))


def test_a_whole_level_outside_the_field_is_no_difference(tmp_path):
    findings = said({"L1": "B"})
    without = replace(findings, vertebrae=tuple(v for v in findings.vertebrae if v.level != "T12"))
    text = page([record(table(tmp_path, TABLE)[0], without)], {}, ["reference 1"])
    assert "The two differ nowhere." in text


def test_the_page_counts_and_names_lines_only(tmp_path):
    studies = table(tmp_path, TABLE)[:4]
    findings = [said({"L1": "B"}), said({"L2": "B"}), said({"L5": "D"}), said(status="not_assessed")]
    text = page([record(*pair) for pair in zip(studies, findings, strict=True)], {"unknown here": [9]}, ["reference 1"])
    assert "0.667 (2/3" in text  # sensitivity: the refused patient counts as missed
    assert "0.000 (0/1" in text  # specificity
    assert "0.500 (1/2" in text  # types of detected
    assert "Not compared, unknown here: line 9." in text and "0.933 (167/179, 0.886-0.961)" in text
    assert "| line 6 | truth no fracture, said fracture; L5 false fracture (plain) |" in text
    assert "phantom" not in text and "A1" not in text


def test_lines_of_one_study_are_one_patient_however_they_name_it(tmp_path):
    text = "study_instance_uid,accession_number,level,fracture,type\n1.2.3,A1,L1,yes,B\n,A1,L2,no,\n1.2.3,,L3,no,\n"
    [study] = table(tmp_path, text)
    assert (study.study_instance_uid, study.accession_number, len(study.said)) == ("1.2.3", "A1", 3)


def test_a_level_that_is_answered_twice_and_otherwise_is_refused(tmp_path):
    with pytest.raises(Permanent, match="line 3: L1 is answered otherwise"):
        table(tmp_path, "accession_number,level,fracture\nA1,L1,no\nA1,L1,yes\n")


def test_an_accession_number_of_two_studies_joins_neither(tmp_path):
    text = "study_instance_uid,accession_number,level,fracture\n1.2.3,A1,L1,yes\n1.2.4,A1,L1,no\n,A1,L2,yes\n"
    assert [len(study.said) for study in table(tmp_path, text)] == [1, 1, 1]
