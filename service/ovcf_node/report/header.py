"""Attributes that every result object shares, and the freezing of everything that would differ from run to run.

highdicom stamps the clock and random UIDs; a result encoded twice must be the same bytes, because PACS differ in what
they do with one SOP Instance UID and two contents.
"""

import unicodedata
from datetime import datetime, timedelta, timezone

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ovcf_node.domain.identity import uid_from
from ovcf_node.report import codes
from ovcf_node.report.context import PRODUCT, SERIES_NUMBERS, Algorithm, ResultContext
from ovcf_node.report.source import Source

BODY_PART = "SPINE"  # an unpaired region: makes Laterality unnecessary (PS3.3 C.7.3.1)


def plain(text: str, limit: int | None = None) -> str:
    """Return text in the default repertoire (ISO_IR 6), which every Specific Character Set contains."""
    folded = unicodedata.normalize("NFKD", text.replace("–", "-").replace("≥", ">=").replace("≤", "<="))
    ascii_text = folded.encode("ascii", "ignore").decode().replace("\\", "/")
    return ascii_text[:limit]


def long_string(text: str) -> str:
    """Return text that fits LO: default repertoire, one value, 64 characters."""
    return plain(" ".join(text.split()), 64)


def series_arguments(context: ResultContext, source: Source, role: str, uids: tuple[str, str]) -> dict:
    """Return the arguments that every highdicom constructor takes; `uids` are (series, SOP instance)."""
    moment = local_time(context.content_at, source)
    return {
        "series_instance_uid": uids[0],
        "series_number": SERIES_NUMBERS[role],
        "sop_instance_uid": uids[1],
        "instance_number": context.instance_number,
        "manufacturer": PRODUCT,
        "manufacturer_model_name": PRODUCT,
        "device_serial_number": long_string(context.identity.installation),
        "software_versions": long_string(context.identity.software) or "unknown",
        "specific_character_set": None,
        "content_date": moment.date(),
        "content_time": moment.time(),
    }


def local_time(moment: datetime, source: Source) -> datetime:
    """Return a moment in the time zone of the source, because one object states one offset for all (PS3.3 C.12.1.1.8).

    A source that states none was written in local time: the offset of this system (TZ) when the study began holds, else the
    copied study times would be declared to be another zone's, or another season's.
    """
    offset = source_offset(source)
    return moment.astimezone(_zone_of_the_study(source) if offset is None else timezone(offset))


def _zone_of_the_study(source: Source) -> timezone | None:
    """The local offset at study date and time; None (that of the moment itself) where these cannot be read."""
    date, clock = (str(source.header.get(keyword) or "") for keyword in ("StudyDate", "StudyTime"))
    try:
        began = datetime.strptime(date[:8] + clock.partition(".")[0].ljust(6, "0"), "%Y%m%d%H%M%S")
        return timezone(began.astimezone().utcoffset())
    except (ValueError, OverflowError, OSError):
        return None


def source_offset(source: Source) -> timedelta | None:
    """Return the source's Timezone Offset From UTC; None where it states none or nonsense."""
    text = str(source.header.get("TimezoneOffsetFromUTC", "")).strip()
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdigit():
        return None
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:])) * (-1 if text[0] == "-" else 1)
    return offset if timedelta(hours=-12) <= offset <= timedelta(hours=14) else None  # PS3.3 C.12.1.1.8


def finish(dataset: Dataset, context: ResultContext, source: Source, algorithm: Algorithm) -> None:
    """Add in place what highdicom cannot set, and freeze what it takes from the clock or at random."""
    moment = local_time(context.content_at, source)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    dataset.TimezoneOffsetFromUTC = moment.strftime("%z")[:5]
    dataset.InstanceCreatorUID = uid_from("installation", context.identity.installation)
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time
    analysed = local_time(context.analysis_started_at, source).strftime("%Y%m%d%H%M%S.%f")
    equipment = [_acquisition_equipment(source.header), _algorithm_equipment(context, algorithm, analysed)]
    dataset.ContributingEquipmentSequence = [item for item in equipment if item is not None]
    for item in dataset.get("DimensionOrganizationSequence", []):
        item.DimensionOrganizationUID = uid_from("dimension organization", dataset.SOPInstanceUID)
    for item in dataset.get("DimensionIndexSequence", []):
        item.DimensionOrganizationUID = uid_from("dimension organization", dataset.SOPInstanceUID)
    _declare_coding_schemes(dataset, source)
    set_character_set(dataset, source)


def _algorithm_equipment(context: ResultContext, algorithm: Algorithm, moment: str) -> Dataset:
    """Return the Contributing Equipment item that names the algorithm (IHE AIR 6.5.3.1)."""
    item = Dataset()
    item.Manufacturer, item.ManufacturerModelName = algorithm.manufacturer, algorithm.name
    item.SoftwareVersions, item.DeviceUID = algorithm.version, algorithm.device_uid
    item.DeviceSerialNumber = long_string(context.identity.installation)
    if context.institution:
        item.InstitutionName = context.institution[:64]
    item.ContributionDateTime = moment
    item.ContributionDescription = "Algorithm that read the source series"
    item.PurposeOfReferenceCodeSequence = [coded(codes.PROCESSING_EQUIPMENT)]
    return item


def _acquisition_equipment(header: Dataset) -> Dataset | None:
    """Return the Contributing Equipment item of the scanner; None where the source does not say who made it."""
    if not header.get("Manufacturer"):
        return None
    item = Dataset()
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "StationName"):
        if header.get(keyword):
            setattr(item, keyword, header[keyword].value)
    item.ContributionDescription = "Acquisition equipment of the source images"
    item.PurposeOfReferenceCodeSequence = [coded(codes.ACQUISITION_EQUIPMENT)]
    return item


def coded(code: Code) -> Dataset:
    """Return a code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _declare_coding_schemes(dataset: Dataset, source: Source) -> None:
    known = {i.CodingSchemeDesignator: i for i in source.header.get("CodingSchemeIdentificationSequence", [])}
    private = sorted(private_designators(dataset) | {codes.SCHEME})
    dataset.CodingSchemeIdentificationSequence = [known.get(d) or codes.coding_scheme(d) for d in private]


def private_designators(dataset: Dataset) -> set[str]:
    """Return the private coding scheme designators (PS3.16 8.2: they start with 99) used anywhere in a dataset."""
    found: set[str] = set()
    for element in dataset:
        if element.keyword == "CodingSchemeDesignator" and str(element.value).startswith("99"):
            found.add(str(element.value))
        elif element.VR == "SQ" and element.keyword != "CodingSchemeIdentificationSequence":
            for item in element.value:
                found |= private_designators(item)
    return found


def set_character_set(dataset: Dataset, source: Source) -> None:
    """Keep the source's character set; state one where the source does not but some text needs it."""
    stated = source.header.get("SpecificCharacterSet")
    if stated:
        dataset.SpecificCharacterSet = stated
        for item in dataset.get("ContributingEquipmentSequence", []):
            if "InstitutionName" in item and not _encodable(str(item.InstitutionName), stated):
                item.InstitutionName = long_string(str(item.InstitutionName))
        return
    text = "".join(_texts(dataset))
    if not text.isascii():
        # Bytes of an undeclared repertoire were decoded as Latin-1; stating it keeps them as they are.
        dataset.SpecificCharacterSet = "ISO_IR 100" if _encodable(text, "ISO_IR 100") else "ISO_IR 192"


def writable(text: str, source: Source) -> bool:
    """Say whether the object can hold a text as it is: in the source's character set, or in one chosen for it."""
    stated = source.header.get("SpecificCharacterSet")
    return not stated or _encodable(text, stated)


def _encodable(text: str, character_set: str | list[str]) -> bool:
    for encoding in convert_encodings(character_set):
        try:
            # pydicom's default is Latin-1, which is more than the default repertoire.
            text.encode("ascii" if encoding == default_encoding else encoding)
        except UnicodeEncodeError:
            continue
        return True
    return text.isascii()


def _texts(dataset: Dataset) -> list[str]:
    """Return every text of a dataset, nested ones too."""
    texts: list[str] = []
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                texts += _texts(item)
        elif element.VR in ("PN", "LO", "SH", "ST", "LT", "UT", "UC"):
            texts.append(str(element.value))
    return texts
