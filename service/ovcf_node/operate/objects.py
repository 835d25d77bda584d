"""What the pages take from DICOM files: who the patient is, and what the stored report says in words.

Files are read when somebody who may see them looks; nothing of it is kept but in this process's memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset, dcmread

from ovcf_node.storage.malformed import MALFORMED

_PATIENT = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyDate", "StudyTime", "StudyDescription",
)
_IMPRESSION, _QUALITY_FINDING = "121073", "111052"  # DCM


@dataclass(frozen=True)
class Identity:
    """The patient and study as a header states them; empty where it does not."""

    name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""
    study_date: str = ""
    description: str = ""


def identity_of(path: Path) -> Identity | None:
    """Return whom an instance is about; None for a file that is gone or cannot be read."""
    try:
        return _identity_of(path)
    except MALFORMED:
        return None  # and not kept: the file may come back, the machine may be short of descriptors just now


@lru_cache(maxsize=4096)
def _identity_of(path: Path) -> Identity:
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(_PATIENT))
    issuer = str(header.get("IssuerOfPatientID") or "")
    patient_id = str(header.get("PatientID") or "")
    return Identity(
        name=_person(str(header.get("PatientName") or "")),
        patient_id=f"{patient_id} ({issuer})" if issuer else patient_id,
        birth_date=_date(str(header.get("PatientBirthDate") or "")), sex=str(header.get("PatientSex") or ""),
        accession_number=str(header.get("AccessionNumber") or ""),
        study_date=_date(str(header.get("StudyDate") or "")), description=str(header.get("StudyDescription") or ""),
    )


@dataclass(frozen=True)
class Words:
    """What a report says: its impression, and its limitations."""

    impression: str
    limits: tuple[str, ...]


def words_of(path: Path) -> Words | None:
    """Return the words of a stored report, so that the page says what the PACS was told; None if it cannot be read."""
    try:
        return _words_of(path)
    except MALFORMED:
        return None  # and not kept, as above


@lru_cache(maxsize=512)
def _words_of(path: Path) -> Words:
    report = dcmread(path)
    texts = [
        (item.ConceptNameCodeSequence[0].CodeValue, str(item.TextValue))
        for item in _items(report) if item.get("ValueType") == "TEXT"
    ]
    told = {value: text for value, text in reversed(texts)}
    study_level = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375"]
    limits = [str(item.TextValue) for item in (study_level[0].ContentSequence if study_level else [])
              if item.ConceptNameCodeSequence[0].CodeValue == _QUALITY_FINDING]
    return Words(told.get(_IMPRESSION, ""), tuple(limits))


def _items(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from _items(child)


def _person(name: str) -> str:
    """Return a person name for people: "Family, Given (other script)" (PS3.5 6.2.1)."""
    groups = [", ".join(part.strip() for part in group.split("^") if part.strip()) for group in name.split("=")]
    first, *others = [group for group in groups if group] or [""]
    return f"{first} ({', '.join(others)})" if others else first


def person(name: str) -> str:
    """Return a signed-in person's name as "Given Family"."""
    family, _, given = name.partition("^")
    return " ".join(part for part in (*given.split("^"), family) if part)


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else text
