"""The rules that every result object must obey before it is stored: the standard's, IHE AIR's and the viewers'.

dciodvfy checks IODs, not templates, and runs only in tests; these run on every object. Rules of viewers come from what
OHIF, Stone, Weasis and dcm4chee were seen to need.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage, SegmentationStorage

from ovcf_node.domain.identity import Dialect
from ovcf_node.report import codes
from ovcf_node.report.header import private_designators

_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)
_EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
_WRITTEN_HERE = {  # root attributes whose length is ours to keep; the copied ones are the source's, right or wrong
    "SeriesDescription", "ContentLabel", "ContentDescription", "DerivationDescription", "SegmentSequence",
    "ContentSequence", "ConceptNameCodeSequence", *_EQUIPMENT,
}
_LIMITS = {"LO": 64, "SH": 16, "CS": 16}
_SR_PREFIX = "1.2.840.10008.5.1.4.1.1."


def lint(dataset: Dataset, dialect: Dialect, segments: Mapping[str, set[int]] | None = None) -> list[str]:
    """Return every violation, in words that name the rule; an empty list means that the object may be stored.

    segments  Segmentation SOP Instance UID -> its segment numbers; with it, an SR's references are checked too.
    """
    violations = list(_common(dataset))
    if dataset.SOPClassUID == KeyObjectSelectionDocumentStorage:
        return violations + list(_rejection_note(dataset))
    violations += _contributing_equipment(dataset)
    if dataset.SOPClassUID == SegmentationStorage:
        violations += _segmentation(dataset)
    elif dataset.SOPClassUID == SecondaryCaptureImageStorage:
        violations += _picture(dataset)
    else:
        violations += _report(dataset, dialect, segments)
    return violations


def _common(dataset: Dataset) -> Iterator[str]:
    yield from (f"{keyword} is missing (type 2)" for keyword in _TYPE_2 if keyword not in dataset)
    yield from (f"{keyword} is empty" for keyword in _EQUIPMENT if not dataset.get(keyword))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "InstanceCreatorUID"):
        uid = str(dataset.get(keyword, ""))
        if not re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid):
            yield f"{keyword} is not one of our UIDs"
    if not dataset.get("StudyInstanceUID"):
        yield "StudyInstanceUID is missing"
    if not re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", str(dataset.get("TimezoneOffsetFromUTC", ""))):
        yield "TimezoneOffsetFromUTC is missing or wrong"
    for keyword in ("ContentDate", "InstanceCreationDate"):
        if not re.fullmatch(r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", str(dataset.get(keyword, ""))):
            yield f"{keyword} is missing or wrong"
    for keyword in ("ContentTime", "InstanceCreationTime"):
        if not re.fullmatch(r"([01]\d|2[0-3])[0-5]\d[0-5]\d(\.\d{1,6})?", str(dataset.get(keyword, ""))):
            yield f"{keyword} is missing or wrong"
    declared = {item.CodingSchemeDesignator for item in dataset.get("CodingSchemeIdentificationSequence", [])}
    yield from (f"coding scheme {d} is not declared" for d in sorted(private_designators(dataset) - declared))
    for element in dataset:
        if element.keyword in _WRITTEN_HERE:
            yield from _lengths(element)


def _contributing_equipment(dataset: Dataset) -> Iterator[str]:
    algorithms = [
        item for item in dataset.get("ContributingEquipmentSequence", [])
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == codes.PROCESSING_EQUIPMENT.value
    ]
    if not algorithms:
        yield "no Contributing Equipment item names the algorithm (IHE AIR 6.5.3.1)"
    for item in algorithms:
        for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
            if not item.get(keyword):
                yield f"Contributing Equipment has no {keyword} (IHE AIR 6.5.3.1)"


def _lengths(element: DataElement) -> Iterator[str]:
    if element.VR == "SQ":
        for item in element.value:
            for inner in item:
                yield from _lengths(inner)
        return
    limit = _LIMITS.get(element.VR)
    if limit is None or element.value is None:
        return
    values = [element.value] if isinstance(element.value, str) else list(element.value)
    if any(len(str(value)) > limit for value in values):
        yield f"{element.keyword} is longer than {limit} characters"
    if element.keyword == "CodeMeaning" and not element.value:
        yield "a CodeMeaning is empty"


def _segmentation(dataset: Dataset) -> Iterator[str]:
    if dataset.get("SegmentationType") != "BINARY":
        yield "SegmentationType is not BINARY"
    if not dataset.get("FrameOfReferenceUID"):
        yield "FrameOfReferenceUID is missing"
    series = dataset.get("ReferencedSeriesSequence", [])
    if len(series) != 1 or not series[0].get("ReferencedInstanceSequence"):
        yield "ReferencedSeriesSequence does not name exactly the analysed series"
    numbers = [int(segment.SegmentNumber) for segment in dataset.get("SegmentSequence", [])]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        yield "segment numbers do not count from 1"
    for segment in dataset.get("SegmentSequence", []):
        yield from _segment(segment)
    frames = dataset.get("PerFrameFunctionalGroupsSequence", [])
    if not frames or int(dataset.get("NumberOfFrames", 0)) != len(frames):
        yield "NumberOfFrames differs from the functional groups"
    elif _has_empty_frame(dataset, len(frames)):
        yield "a frame is empty"
    if any(not frame.get("DerivationImageSequence") for frame in frames):
        yield "a frame has no Derivation Image"
    if len(numbers) > 1:
        used = {int(f.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for f in frames}
        yield from (f"segment {n} has no frame" for n in numbers if n not in used)


def _segment(segment: Dataset) -> Iterator[str]:
    name = f"segment {segment.SegmentNumber}"
    if segment.get("SegmentAlgorithmType") != "AUTOMATIC" or not segment.get("SegmentAlgorithmName"):
        yield f"{name} does not name its algorithm"
    identification = (segment.get("SegmentationAlgorithmIdentificationSequence") or [Dataset()])[0]
    for keyword in ("AlgorithmFamilyCodeSequence", "AlgorithmName", "AlgorithmVersion"):
        if not identification.get(keyword):
            yield f"{name} has no {keyword}"
    if not segment.get("TrackingID") or not segment.get("TrackingUID"):
        yield f"{name} has no tracking identifiers"
    if len(segment.get("RecommendedDisplayCIELabValue") or []) != 3:
        yield f"{name} has no colour"


def _has_empty_frame(dataset: Dataset, frames: int) -> bool:
    bits = int(dataset.Rows) * int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    if bits % 8 == 0:
        return not packed[:frames * bits // 8].reshape(frames, -1).any(axis=1).all()
    return not np.unpackbits(packed, bitorder="little")[:frames * bits].reshape(frames, -1).any(axis=1).all()


def _picture(dataset: Dataset) -> Iterator[str]:
    if dataset.get("PhotometricInterpretation") != "RGB" or int(dataset.get("BitsAllocated", 0)) != 8:
        yield "the picture is not 8-bit RGB"
    if dataset.get("BurnedInAnnotation") != "NO":
        yield "BurnedInAnnotation is not NO"
    if not dataset.get("SourceImageSequence"):
        yield "the picture does not name its source images"
    if not dataset.get("BodyPartExamined"):
        yield "BodyPartExamined is missing (Laterality would be required)"


def _rejection_note(dataset: Dataset) -> Iterator[str]:
    if _name(dataset) not in {title.value for title in codes.REJECTION_TITLES.values()}:
        yield "the note's title is not one of a rejection note (IHE RAD IOCM)"
    if dataset.get("Modality") != "KO":
        yield "Modality is not KO"
    template = (dataset.get("ContentTemplateSequence") or [Dataset()])[0]
    if template.get("TemplateIdentifier") != "2010" or template.get("MappingResource") != "DCMR":
        yield "the note does not name TID 2010"
    if not any(item.ValueType in ("IMAGE", "COMPOSITE") for item in dataset.get("ContentSequence", [])):
        yield "the note names nothing"
    yield from _content(dataset)
    yield from _references(dataset, None)


def _report(dataset: Dataset, dialect: Dialect, segments: Mapping[str, set[int]] | None) -> Iterator[str]:
    if dataset.SOPClassUID != _SR_PREFIX + dialect.sr_class:
        yield "the SR's class is not the dialect's"
    title = codes.TEXT_REPORT_TITLE if dialect.sr_profile == "ohif-text" else codes.REPORT_TITLE
    if _name(dataset) != title.value:
        yield "the SR's title is not the dialect's"
    template = (dataset.get("ContentTemplateSequence") or [Dataset()])[0]
    if template.get("TemplateIdentifier") != "1500" or template.get("MappingResource") != "DCMR":
        yield "the SR does not name TID 1500"
    flags = tuple(dataset.get(f"{name}Flag") for name in ("Completion", "Verification", "Preliminary"))
    if flags != ("COMPLETE", "UNVERIFIED", "PRELIMINARY"):
        yield "the SR's flags are not COMPLETE, UNVERIFIED and PRELIMINARY"
    top = {_name(item): item for item in dataset.get("ContentSequence", [])}
    rows = {"121049": "language", "121005": "observer type", "121012": "device observer UID",
            "121058": "procedure reported", "126010": "imaging measurements", "C0034375": "qualitative evaluations"}
    yield from (f"TID 1500: no {row} ({value})" for value, row in rows.items() if value not in top)
    groups = [i for i in top.get("126010", Dataset()).get("ContentSequence", []) if _name(i) == "125007"]
    if not groups:
        yield "TID 1500: no measurement group"
    tracked = [uid for group in groups for uid in _group_tracking(group)]
    if len(set(tracked)) != len(groups):
        yield "TID 1501: a group has no tracking identifier of its own"
    for group in groups:
        names = {_name(item) for item in group.ContentSequence}
        yield from (f"TID 1501: a group has no {row}" for value, row in
                    (("112039", "tracking identifier"), ("121071", "finding"), ("363698007", "finding site"))
                    if value not in names)
    yield from _content(dataset)
    yield from _references(dataset, segments)


def _name(item: Dataset) -> str:
    return item.ConceptNameCodeSequence[0].CodeValue


def _group_tracking(group: Dataset) -> list[str]:
    return [str(item.UID) for item in group.ContentSequence if _name(item) == "112040" and item.get("UID")]


def _items(container: Dataset) -> Iterator[Dataset]:
    yield container
    for item in container.get("ContentSequence", []):
        yield from _items(item)


def _content(dataset: Dataset) -> Iterator[str]:
    for item in _items(dataset):
        if item.ValueType == "CONTAINER" and item.get("ContinuityOfContent") != "SEPARATE":
            yield "a container is not SEPARATE"
        if item.ValueType == "NUM" and not item.MeasuredValueSequence[0].get("MeasurementUnitsCodeSequence"):
            yield "a measurement has no unit"
        if item.ValueType == "TEXT" and not item.get("TextValue"):
            yield "a text is empty"


def _references(dataset: Dataset, segments: Mapping[str, set[int]] | None) -> Iterator[str]:
    evidence = {
        str(instance.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence for instance in series.ReferencedSOPSequence
    }
    if not evidence:
        yield "the evidence sequence names no source"
    for item in _items(dataset):
        for reference in item.get("ReferencedSOPSequence", []):
            uid = str(reference.ReferencedSOPInstanceUID)
            if uid not in evidence:
                yield "the content refers to an instance that is not in the evidence"
            number = reference.get("ReferencedSegmentNumber")
            if segments is not None and number is not None and int(number) not in segments.get(uid, set()):
                yield "the content refers to a segment that does not exist"
