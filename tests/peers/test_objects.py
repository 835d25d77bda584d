"""Every kind of result object against DCMTK and dicom3tools: valid IODs, and reports that read with names and values."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_peers import program
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict
from ovcf_node.domain.findings import Findings, PatientFinding
from ovcf_node.domain.identity import ROLES, Dialect
from ovcf_node.report import SecondReport, encode, render_summary, to_bytes
from result_cases import Case, make_case, make_context, make_findings, not_assessed, partly_graded, withheld

pytestmark = pytest.mark.peer


def errors(path: Path) -> list[str]:
    run = subprocess.run([program("dciodvfy"), path], capture_output=True, timeout=120, check=False)
    return [line for line in (run.stdout + run.stderr).decode(errors="replace").splitlines() if line.startswith("Error")]


def write(
    folder: Path, case: Case, findings: Findings, dialect: Dialect, roles: tuple[str, ...] = ROLES,
) -> dict[str, Path]:
    assessed = findings.status != "not_assessed"
    masks = case.masks if assessed else None
    picture = render_summary(case.volume, findings, masks) if assessed and "summary" in roles else None
    paths = {}
    for encoded in encode(make_context(), case.headers, findings, masks, picture, dialect, case.volume.sources, roles):
        paths[encoded.role] = folder / f"{encoded.role}.dcm"
        paths[encoded.role].write_bytes(to_bytes(encoded.dataset))
    return paths


SOURCES = {
    "axial": {},
    "sagittal": {"orientation": "sagittal"},
    "gantry tilt": {"tilt_degrees": 15.0},
    "enhanced": {"enhanced": True, "shuffle": True},
    "concatenation": {"enhanced": True, "parts": 2},
    "no type 2 attribute": dict.fromkeys(
        ("AccessionNumber", "StudyID", "PatientBirthDate", "PatientSex", "PatientName", "StudyDate", "StudyTime",
         "SliceThickness", "Manufacturer", "SpecificCharacterSet")
    ),
    "Cyrillic": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг"},
}
READINGS = {
    "fracture": (make_findings(), 4),
    "clear": (make_findings(patient=PatientFinding(False, 0.1), vertebrae=make_findings().vertebrae[2:]), 3),
    "grading withheld": (withheld(), 3),
    "partly graded": (partly_graded(), 3),
    "not assessed": (not_assessed(), 1),
}


@pytest.mark.parametrize("name", SOURCES)
def test_no_errors_whatever_the_source(name: str, tmp_path: Path):
    case = make_case(tmp_path / "ct", spacing=3.0, **SOURCES[name])
    case = replace(case, findings=make_findings(vertebrae=case.findings.vertebrae[:3]))
    paths = write(tmp_path, case, case.findings, Dialect())
    assert len(paths) == 4
    assert {role: errors(path) for role, path in paths.items()} == {role: [] for role in paths}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("ct"), spacing=3.0)


@pytest.mark.parametrize("name", READINGS)
def test_no_errors_whatever_the_reading(name: str, case: Case, tmp_path: Path):
    findings, expected = READINGS[name]
    paths = write(tmp_path, case, findings, Dialect())
    assert len(paths) == expected
    assert {role: errors(path) for role, path in paths.items()} == {role: [] for role in paths}


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("dialect", [Dialect("88.33", "ohif-text"), Dialect("88.22")], ids=lambda d: d.key)
def test_no_errors_in_an_old_dialect(name: str, dialect: Dialect, case: Case, tmp_path: Path):
    paths = write(tmp_path, case, READINGS[name][0], dialect, roles=("sr",))
    assert {role: errors(path) for role, path in paths.items()} == {role: [] for role in paths}


@pytest.mark.parametrize("dialect", [Dialect(), Dialect("88.33", "ohif-text"), Dialect("88.22")], ids=lambda d: d.key)
def test_no_errors_in_a_second_reading(dialect: Dialect, case: Case, tmp_path: Path):
    said = SecondReading("anna", "Bergmann^Anna", 1_710_000_000.0, (
        Assessment("L1", Verdict.CORRECTED, "L2"), Assessment("L2", Verdict.REJECTED),
    ))
    before = ("1.2.3", "2.25.5", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.6")
    context = make_context(second=SecondReport(said, 2, {}), predecessors=(before,))
    [encoded] = encode(context, case.headers, case.findings, case.masks, None, dialect, case.volume.sources, ("sr",))
    (tmp_path / "sr.dcm").write_bytes(to_bytes(encoded.dataset))
    assert errors(tmp_path / "sr.dcm") == []
    html = tmp_path / "sr.html"
    subprocess.run([program("dsr2html"), tmp_path / "sr.dcm", html], check=True, timeout=60)
    assert "Bergmann" in html.read_text() and "Finding rejected by the reader" in html.read_text()


NAMED = {
    "Anterior vertebral body height": "15.8", "Largest vertebral body height loss": "33",
    "Attenuation Coefficient": "118", "Denis compression type": "Denis compression type B: superior endplate",
}


@pytest.mark.parametrize("dialect", [Dialect(), Dialect("88.33", "ohif-text"), Dialect("88.22")], ids=lambda d: d.key)
def test_dsrdump_and_dsr2html_show_names_with_values(dialect: Dialect, case: Case, tmp_path: Path):
    path = write(tmp_path, case, case.findings, dialect, roles=("sr",))["sr"]
    dumped = subprocess.run([program("dsrdump"), path], capture_output=True, text=True, check=True, timeout=60).stdout
    html = tmp_path / "sr.html"
    subprocess.run([program("dsr2html"), path, html], check=True, timeout=60)
    shown = re.sub(r"<[^>]+>|\s+|&nbsp;", " ", html.read_text())
    for name, value in NAMED.items():
        assert re.search(rf'"{re.escape(name)}"\)=[^\n]*"{re.escape(value)}', dumped), name
        assert re.search(rf"{re.escape(name)} *: *{re.escape(value)}", re.sub(" +", " ", shown)), name
