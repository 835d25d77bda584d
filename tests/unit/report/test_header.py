"""What all objects share: identity and character set of the source, time zone, equipment; no identity in warnings."""

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ovcf_node.domain.identity import Dialect
from ovcf_node.report import encode, to_bytes
from result_cases import Case, make_case, make_context, make_findings

PICTURE = np.zeros((20, 30, 3), np.uint8)
IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
            "StudyTime", "ReferringPhysicianName", "StudyDescription", "IssuerOfPatientID")


def written(case: Case, context=None) -> dict[str, Dataset]:
    objects = encode(
        context or make_context(), case.headers, case.findings, case.masks, PICTURE, Dialect(), case.volume.sources,
    )
    return {o.role: pydicom.dcmread(BytesIO(to_bytes(o.dataset))) for o in objects}


def small(folder: Path, **overrides) -> Case:
    case = make_case(folder, spacing=4.0, **overrides)
    return replace(case, findings=make_findings(vertebrae=case.findings.vertebrae[:2]))


CHARACTER_SETS = {
    "Latin 1": ("ISO_IR 100", "Müller^Jörg"),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг"),
    "UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    "GB18030": ("GB18030", "Wang^XiaoDong=王^小东"),
    "Japanese with escapes": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Korean with escapes": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
}


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_character_set_and_name_are_kept(name: str, tmp_path: Path):
    character_set, patient = CHARACTER_SETS[name]
    case = small(tmp_path, SpecificCharacterSet=character_set, PatientName=patient)
    source = pydicom.dcmread(tmp_path / "IM0000.dcm")
    for dataset in written(case).values():
        assert dataset.SpecificCharacterSet == source.SpecificCharacterSet
        assert str(dataset.PatientName) == patient
        assert dataset.PatientName.original_string == source.PatientName.original_string


def test_undeclared_bytes_are_kept_and_declared(tmp_path: Path):
    case = small(tmp_path, SpecificCharacterSet=None, PatientName=b"M\xfcller^J")
    for dataset in written(case).values():
        assert dataset.SpecificCharacterSet == "ISO_IR 100"
        assert dataset.PatientName.original_string == b"M\xfcller^J"


def test_no_character_set_is_stated_for_plain_text(tmp_path: Path):
    for dataset in written(small(tmp_path, SpecificCharacterSet=None)).values():
        assert "SpecificCharacterSet" not in dataset


@pytest.mark.parametrize(("character_set", "patient"), [
    ("ISO_IR 144", "Люкceмбypг"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("ISO_IR 6", "Single"),
], ids=["Cyrillic", "Japanese", "default repertoire"])
def test_institution_is_folded_where_the_source_cannot_spell_it(tmp_path: Path, character_set, patient):
    case = small(tmp_path, SpecificCharacterSet=character_set, PatientName=patient)
    for dataset in written(case, make_context(institution="Hôpital Saint-Antoine")).values():
        assert dataset.ContributingEquipmentSequence[-1].InstitutionName == "Hopital Saint-Antoine"


def test_identity_is_the_sources_even_where_it_is_odd(tmp_path: Path):
    odd = {"PatientName": "Single", "PatientSex": "O", "StudyTime": "1015", "IssuerOfPatientID": "HOSPITAL"}
    case = small(tmp_path, **odd)
    for dataset in written(case).values():
        for keyword in IDENTITY:
            assert dataset.get(keyword) == case.headers[0].get(keyword), keyword


def test_missing_identity_becomes_empty(tmp_path: Path):
    missing = ("AccessionNumber", "StudyID", "PatientBirthDate", "PatientSex", "PatientName", "StudyDate", "StudyTime",
               "ReferringPhysicianName", "PositionReferenceIndicator", "Manufacturer")
    for dataset in written(small(tmp_path, **dict.fromkeys(missing))).values():
        assert all(dataset[keyword].is_empty for keyword in missing[:-2])


def test_no_warning_holds_identity(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    case = small(tmp_path, PatientName="Verysecretname", PatientID="secret-4711")
    with warnings.catch_warnings(record=True) as caught, caplog.at_level("INFO"):
        warnings.simplefilter("always")
        written(case)
    told = " ".join([*(str(w.message) for w in caught), caplog.text]).lower()
    assert "secret" not in told


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the system's local time be five hours behind UTC, four from 10 March 2024, 07:00 UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("new_york")
@pytest.mark.parametrize(
    ("stated", "content_time", "offset"),
    [(None, "033015.250000", "-0500"), ("nonsense", "033015.250000", "-0500"), ("+0530", "140015.250000", "+0530"),
     ("-1300", "033015.250000", "-0500"), ("+1400", "223015.250000", "+1400"), ("-0330", "050015.250000", "-0330")],
)
def test_times_are_in_the_sources_zone_or_else_local(tmp_path: Path, stated: str | None, content_time: str, offset: str):
    case = small(tmp_path)
    if stated:
        case.headers[0].TimezoneOffsetFromUTC = stated
    for dataset in written(case).values():
        assert (dataset.ContentTime, dataset.TimezoneOffsetFromUTC) == (content_time, offset)


@pytest.mark.usefixtures("new_york")
@pytest.mark.parametrize(("study_date", "offset", "content_time"), [
    ("20240102", "-0500", "203000.000000"), ("20240630", "-0400", "213000.000000"), ("", "-0400", "213000.000000"),
])
def test_local_time_is_that_of_the_study_whenever_it_is_read(
    tmp_path: Path, study_date: str, offset: str, content_time: str
):
    summer = make_context(analysis_started_at=datetime(2024, 7, 2, 1, 30, tzinfo=UTC))
    case = small(tmp_path)
    case.headers[0].StudyDate = study_date
    for dataset in written(case, summer).values():
        assert dataset.TimezoneOffsetFromUTC == offset
        assert (dataset.ContentDate, dataset.ContentTime) == ("20240701", content_time)


def test_algorithm_is_named_the_same_way_everywhere(case: Case):
    objects = written(case)
    [device] = {d.ContributingEquipmentSequence[-1].DeviceUID for d in objects.values()}
    for dataset in objects.values():
        scanner, algorithm = dataset.ContributingEquipmentSequence
        assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert (algorithm.ManufacturerModelName, algorithm.SoftwareVersions) == ("ovcf-reference", "0.1.0")
    observer = {i.ConceptNameCodeSequence[0].CodeValue: i for i in objects["sr"].ContentSequence}
    assert device == observer["121012"].UID
    assert observer["121015"].TextValue == "ovcf-reference"


def test_device_uid_changes_with_the_models(case: Case):
    other = make_findings(bundle=replace(case.findings.bundle, digest="f" * 64))
    uids = {
        written(replace(case, findings=f))["sr"].ContributingEquipmentSequence[-1].DeviceUID
        for f in (case.findings, other)
    }
    assert len(uids) == 2
