"""What a C-FIND, C-GET or C-MOVE identifier asks for: level and keys, checked as PS3.4 C.4.1.2.1 and C.4.2.2.1 want it.

Error comments name attributes, never values.
"""

from dataclasses import dataclass

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from ovcf_node.errors import Refused
from ovcf_node.ledger.catalogue import KEYS, Level

MISMATCH = 0xA900
"""Identifier does not match SOP Class."""
UNABLE = 0xC000
"""Unable to process."""

_LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}
_CONTROL = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "RetrieveAETitle"})
_UNIQUE = {
    Level.PATIENT: "PatientID", Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID",
    Level.INSTANCE: "SOPInstanceUID",
}


@dataclass(frozen=True)
class Asked:
    """Level and keys of an identifier; `keys` as the catalogue takes them.

    all_matched  False: some key has a value that nothing is matched with; it is ignored, and the responses say so
    """

    level: Level
    keys: dict[str, str]
    all_matched: bool = True


def asked_of_find(identifier: Dataset, patient_root: bool) -> Asked:
    """Return what a C-FIND asks. Raises Refused: 0xA900 for the level, 0xC000 for a missing unique key above it."""
    level = _level(identifier, patient_root)
    keys = {}
    for keyword in KEYS:
        value = _value(identifier, keyword)
        if value:
            keys[keyword] = value
    for above in _levels_above(level, patient_root):
        _require_single(keys, above)
    return Asked(level, keys, not _ignored(identifier))


def asked_of_retrieve(identifier: Dataset, patient_root: bool) -> Asked:
    """Return what a C-GET or C-MOVE names: unique keys only, several at its level but PATIENT. Raises Refused as above."""
    level = _level(identifier, patient_root)
    named = {}
    for keyword in _UNIQUE.values():
        value = _value(identifier, keyword)
        if value:
            named[keyword] = value
    if level is Level.PATIENT:
        _require_single(named, level)
    elif not named.get(_UNIQUE[level], "").strip("\\ "):
        raise Refused(UNABLE, "missing_key", f"{_UNIQUE[level]} is missing")
    for above in _levels_above(level, patient_root):
        _require_single(named, above)
    keys = {keyword: value for at, keyword in _UNIQUE.items() if at <= level and (value := named.get(keyword))}
    issuer = _value(identifier, "IssuerOfPatientID")
    return Asked(level, keys | {"IssuerOfPatientID": issuer} if issuer else keys)


def unique_key(level: Level) -> str:
    """Return the keyword of the unique key of a level (PS3.4 C.6.1.1)."""
    return _UNIQUE[level]


def level_name(level: Level) -> str:
    """Return a level as Query/Retrieve Level (0008,0052) writes it."""
    return "IMAGE" if level is Level.INSTANCE else level.name


def _level(identifier: Dataset, patient_root: bool) -> Level:
    text = _text(identifier["QueryRetrieveLevel"]) if "QueryRetrieveLevel" in identifier else ""
    level = _LEVELS.get(text.strip())
    if level is None or (level is Level.PATIENT and not patient_root):
        raise Refused(MISMATCH, "level", "QueryRetrieveLevel is missing or not of this SOP class")
    return level


def _levels_above(level: Level, patient_root: bool) -> list[Level]:
    return [above for above in Level if above < level and (patient_root or above is not Level.PATIENT)]


def _require_single(keys: dict[str, str], level: Level) -> None:
    value = keys.get(_UNIQUE[level], "").strip(" \x00")
    if not value or any(character in value for character in "*?\\"):
        raise Refused(UNABLE, "missing_key", f"{_UNIQUE[level]} must have one value")


def _ignored(identifier: Dataset, path: str = "") -> bool:
    """Say whether an identifier has a value that is not matched."""
    for element in identifier:
        keyword = f"{path}{element.keyword}"
        if element.VR == "SQ":
            if any(_ignored(item, f"{keyword}.") for item in element.value or ()):
                return True
        elif keyword not in KEYS and keyword not in _CONTROL and not element.is_empty:
            return True
    return False


def _value(identifier: Dataset, path: str) -> str:
    """Return a key's value as DICOM writes it; empty where it is absent, or of a sequence without items."""
    sequence, _, keyword = path.rpartition(".")
    if sequence:
        if sequence not in identifier or identifier[sequence].VR != "SQ" or not identifier[sequence].value:
            return ""
        identifier = identifier[sequence].value[0]
    return _text(identifier[keyword]) if keyword in identifier else ""


def _text(element: DataElement) -> str:
    value = element.value
    if value is None or (element.VR == "SQ" and not value):
        return ""
    if element.VR == "SQ" or isinstance(value, bytes):
        raise Refused(MISMATCH, "wrong_vr", f"{element.keyword} has another VR")
    return "\\".join(str(part) for part in value) if isinstance(value, MultiValue) else str(value)
