"""One stored object as one row: the query attributes in columns, its header as DICOM JSON (PS3.18 Annex F).

The header holds every element but pixel data, of which only the VR stays, so that a reader can add where the bytes are. In
JSON all text is Unicode; the character set of the object itself is a column, for those who must be answered in it.
"""

import json
import re
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

_PIXEL_DATA_GROUP = 0x7FE0
_CHARACTER_SET = "00080005"
_ABRIDGED_ABOVE = 4096
"""Size of one element in JSON above which only the complete header has it: evidence and frames of hundreds of images."""
_COLUMN_LIMIT = 256  # longer than any VR that is matched allows; an index cannot hold just anything
_COMBINING_ACCENTS = re.compile("[\u0300-\u036f]")


@dataclass(frozen=True)
class Entry:
    """The row of one object, without its key; `values` by column."""

    sop_instance_uid: str
    values: Mapping[str, Any]


def entry_of(dataset: Dataset) -> Entry:
    """Return the row of an object as it is stored. The dataset stays as it is."""
    character_set = dataset.get("SpecificCharacterSet") or ""
    if not isinstance(character_set, str):
        character_set = "\\".join(character_set)
    header = header_json(dataset)
    left_out = [tag for tag, element in header.items() if len(json.dumps(element)) > _ABRIDGED_ABOVE]
    short = {tag: element for tag, element in header.items() if tag not in left_out}
    name = str(dataset.get("PatientName") or "").split("=")
    alphabetic, ideographic, phonetic = (fold(group) or None for group in (name + ["", ""])[:3])
    concept, template = _first(dataset, "ConceptNameCodeSequence"), _first(dataset, "ContentTemplateSequence")
    values = {
        "patient_id": _text(dataset, "PatientID") or "",
        "issuer_of_patient_id": _text(dataset, "IssuerOfPatientID") or "",
        "patient_name": alphabetic, "patient_name_ideographic": ideographic, "patient_name_phonetic": phonetic,
        "patient_birth_date": _date(dataset, "PatientBirthDate"),
        "patient_sex": _text(dataset, "PatientSex"),
        "study_instance_uid": str(dataset.StudyInstanceUID),
        "study_date": _date(dataset, "StudyDate"), "study_time": _time(dataset, "StudyTime"),
        "accession_number": _text(dataset, "AccessionNumber"),
        "study_id": _text(dataset, "StudyID"),
        "study_description": _text(dataset, "StudyDescription"),
        "referring_physician_name": fold(str(dataset.get("ReferringPhysicianName") or "").split("=")[0]) or None,
        "series_instance_uid": str(dataset.SeriesInstanceUID),
        "series_number": _integer(dataset, "SeriesNumber"),
        "modality": _text(dataset, "Modality"),
        "series_date": _date(dataset, "SeriesDate"), "series_time": _time(dataset, "SeriesTime"),
        "series_description": _text(dataset, "SeriesDescription"),
        "body_part_examined": _text(dataset, "BodyPartExamined"),
        "sop_instance_uid": str(dataset.SOPInstanceUID),
        "sop_class_uid": str(dataset.SOPClassUID),
        "instance_number": _integer(dataset, "InstanceNumber"),
        "content_date": _date(dataset, "ContentDate"), "content_time": _time(dataset, "ContentTime"),
        "completion_flag": _text(dataset, "CompletionFlag"),
        "verification_flag": _text(dataset, "VerificationFlag"),
        "concept_name_code_value": _text(concept, "CodeValue"),
        "concept_name_coding_scheme": _text(concept, "CodingSchemeDesignator"),
        "template_identifier": _text(template, "TemplateIdentifier"),
        "character_set": character_set,
        "attributes": json.dumps({"attributes": short, "left_out": left_out}, separators=(",", ":")),
        "header": zlib.compress(json.dumps(header, separators=(",", ":")).encode()),
        "withdrawn": False,
    }
    return Entry(str(dataset.SOPInstanceUID), values)


def header_json(dataset: Dataset) -> dict[str, Any]:
    """Return the DICOM JSON model of a dataset without bulk data.

    Pixel data keep their VR alone, and so does what a scanner wrote that is no value of its VR: it was copied into the
    object as it is, and must not keep the answer from leaving.
    """
    header: dict[str, Any] = {}
    for number in sorted(dataset.keys()):
        tag, vr = f"{number:08X}", dataset.get_item(number).VR
        if number.group == _PIXEL_DATA_GROUP:
            header[tag] = {"vr": vr}
            continue
        try:
            header[tag] = dataset[number].to_json_dict(None, 0)
            json.dumps(header[tag], allow_nan=False)  # "NaN" is a DS to Python, and no number to JSON
        except (ValueError, TypeError, ArithmeticError):
            header[tag] = {"vr": vr}
    if _CHARACTER_SET in header:
        header[_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return header


def read_header(data: bytes) -> dict[str, Any]:
    """Return the header of a row."""
    return json.loads(zlib.decompress(data))


def fold(text: str) -> str:
    """Return one group of a person's name without case, accents and empty last components (PS3.4 C.2.2.2.1)."""
    accentless = _COMBINING_ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    components = [" ".join(part.split()) for part in unicodedata.normalize("NFKC", accentless).split("^")]
    return _storable("^".join(components).rstrip("^"))


def full_time(text: str, *, last: str = "0") -> str | None:
    """Return a TM as HHMMSS.FFFFFF, the missing digits being those of its first moment, or of its last (`last="9"`)."""
    found = re.fullmatch(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", text.strip())
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    most = "59" if last == "9" else "00"
    return f"{hour}{minute or most}{second or most}.{(fraction or '').ljust(6, last)}"


def _storable(text: str) -> str:
    # PostgreSQL refuses NUL, and text that was decoded wrongly may hold half characters.
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:_COLUMN_LIMIT]


def _text(dataset: Dataset, keyword: str) -> str | None:
    value = dataset.get(keyword)
    if value is None:
        return None
    text = value if isinstance(value, str) else "\\".join(map(str, value)) if isinstance(value, list) else str(value)
    return _storable(text.strip()) or None


def _date(dataset: Dataset, keyword: str) -> str | None:
    text = (_text(dataset, keyword) or "").replace(".", "")
    return text if re.fullmatch(r"\d{8}", text) else None


def _time(dataset: Dataset, keyword: str) -> str | None:
    return full_time(_text(dataset, keyword) or "")


def _integer(dataset: Dataset, keyword: str) -> int | None:
    text = _text(dataset, keyword) or ""
    return int(text) if re.fullmatch(r"[+-]?\d{1,9}", text) else None


def _first(dataset: Dataset, keyword: str) -> Dataset:
    items = dataset.get(keyword)
    return items[0] if items else Dataset()
