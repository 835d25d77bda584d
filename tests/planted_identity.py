"""A patient whose every word can be found again: marks for all text and date elements, and a search for them in anything.

A mark is `zq` and eight hexadecimal digits that stand for what was planted, so that a leak names its source and no escaping,
character set or change of case hides it. Dates lie in the nineteenth century and are searched in every usual form; the
ideographs of the name are searched in the encodings and escapes of logs, pages and addresses. Times of day are not planted:
six digits are no proof of anything.
"""

import re
import zlib
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import quote

from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.sequence import Sequence

IDEOGRAPHS = "秘鹤"
_VRS = ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "UR", "DA", "DT")
_GROUPS = (0x0008, 0x0010, 0x0032, 0x0038, 0x0040)
"""Identification, patient, request, visit, procedure: every text and date in them is planted."""
_ALSO = ("ProtocolName", "DeviceSerialNumber", "StudyID", "ImageComments", "TextComments", "ReasonForStudy")
_KEPT = ("TimezoneOffsetFromUTC",)  # a text that is read as a number
_FIRST_DATE = date(1871, 1, 5)

_planted: dict[str, str] = {}
_dates: dict[date, str] = {}


def mark(what: str) -> str:
    """Return the mark that stands for `what`, ten characters."""
    made = f"zq{zlib.crc32(what.encode()):08x}"
    _planted[made] = what
    return made


def _day(what: str) -> date:
    found = next((day for day, known in _dates.items() if known == what), None)
    if found is None:
        found = _FIRST_DATE + timedelta(days=len(_dates))
        _dates[found] = what
    return found


def _value(vr: str, keyword: str) -> str:
    if vr == "DA":
        return f"{_day(keyword):%Y%m%d}"
    if vr == "DT":
        return f"{_day(keyword):%Y%m%d}101112"
    if keyword == "PatientName":
        return f"{mark(keyword)}^Planted={IDEOGRAPHS}^小东"
    return f"{mark(keyword)}^Planted" if vr == "PN" else mark(keyword)


def plant(paths: Iterable[Path], **others: str) -> None:
    """Write marks into every text and date of these files, into private elements and nested items; `others` last."""
    for path in paths:
        dataset = dcmread(path)
        dataset.SpecificCharacterSet = "GB18030"
        for tag, vr, keyword in _elements():
            dataset.add_new(tag, vr, _value(vr, keyword))
        for group in (0x0009, 0x0011, 0x0029):
            block = dataset.private_block(group, mark("private creator"), create=True)
            block.add_new(1, "LO", mark("private text"))
            block.add_new(2, "DA", f"{_day('private date'):%Y%m%d}")
        dataset.RequestAttributesSequence = Sequence([
            _item(AccessionNumber="item's accession", RequestedProcedureDescription="item's procedure"),
        ])
        dataset.OtherPatientIDsSequence = Sequence([_item(PatientID="other id", IssuerOfPatientID="other issuer")])
        for keyword, value in others.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def _elements() -> list[tuple[int, str, str]]:
    also = {tag_for_keyword(keyword) for keyword in _ALSO}
    return [
        (tag, vr, keyword) for tag, (vr, _, _, _, keyword) in sorted(DicomDictionary.items())
        if (tag >> 16 in _GROUPS or tag in also) and vr in _VRS and keyword not in ("", *_KEPT)
    ]


def _item(**elements: str) -> Dataset:
    item = Dataset()
    for keyword, what in elements.items():
        setattr(item, keyword, mark(what))
    return item


def leaks(data: bytes, uids: Iterable[str] = ()) -> list[str]:
    """Return what of everything planted so far, and which of these UIDs, can be read in `data`; sorted, named."""
    text = data.lower()
    found = {_planted.get(hit.decode(), hit.decode()) for hit in re.findall(rb"zq[0-9a-f]{8}", text)}
    found |= {f"{what} ({form.decode()})" for day, what in _dates.items() for form in _forms_of(day) if form in text}
    found |= {f"ideographs as {form!r}" for form in _forms_of_ideographs() if form in text}
    return sorted(found | {f"UID {uid}" for uid in uids if uid.encode() in text})


def _forms_of(day: date) -> list[bytes]:
    texts = (f"{day:%Y%m%d}", f"{day:%Y-%m-%d}", f"{day:%d.%m.%Y}", f"{day:%Y/%m/%d}", f"{day.year}, {day.month}, {day.day}")
    return [text.encode() for text in texts]


def _forms_of_ideographs() -> set[bytes]:
    forms = {IDEOGRAPHS.encode("unicode_escape")}
    for encoding in ("utf-8", "gb18030", "utf-16-le", "utf-16-be"):
        raw = IDEOGRAPHS.encode(encoding)
        forms |= {raw, raw.decode("latin-1").encode(), quote(raw).encode(), repr(raw)[2:-1].encode()}
    forms |= {"".join(f"&#{ord(c)};" for c in IDEOGRAPHS).encode(), "".join(f"&#x{ord(c):x};" for c in IDEOGRAPHS).encode()}
    return {form.lower() for form in forms}


def every_form() -> list[bytes]:
    """Return everything that `leaks` must find, for the proof that it does."""
    marks = [form for made in _planted for form in (made.encode(), made.upper().encode())]
    return [*marks, *(form for day in _dates for form in _forms_of(day)), *_forms_of_ideographs()]
