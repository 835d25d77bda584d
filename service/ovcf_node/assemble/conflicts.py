"""The same SOP Instance UID came twice with different bytes: is it the same instance, another patient, other content?"""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array

from ovcf_node.assemble.attributes import of_the_machine
from ovcf_node.errors import Permanent, Transient
from ovcf_node.storage.malformed import MALFORMED

DUPLICATE, IDENTITY_CONFLICT, CONTENT_CONFLICT = "duplicate", "identity_conflict", "content_conflict"

_IDENTITY = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber",
    "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
)
_GEOMETRY = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
    "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames",
)


def compare(first: Path, second: Path) -> str:
    """Compare two instances after decoding: "duplicate", "identity_conflict" or "content_conflict".

    Pixels are compared decoded, so a lossless recompression on the way is a duplicate. Elements that say neither who the
    patient is nor what the image shows (time stamps of a router, private elements) make no conflict. Raises Permanent
    `unreadable_pixels` when one of the two cannot be read or decoded.
    """
    try:
        ours, theirs = dcmread(first), dcmread(second)
        if _differ(ours, theirs, _GEOMETRY) or not np.array_equal(_pixels(ours), _pixels(theirs)):
            return CONTENT_CONFLICT
        return IDENTITY_CONFLICT if _differ(ours, theirs, _IDENTITY) else DUPLICATE
    except (*MALFORMED, RuntimeError) as error:
        if of_the_machine(error):
            raise Transient("io_error", error.strerror) from error
        # pydicom's ways to say "no decoder", "broken stream", "no such value"; the judge then holds the study for a person.
        raise Permanent("unreadable_pixels", type(error).__name__) from error


def _differ(ours: Dataset, theirs: Dataset, keywords: tuple[str, ...]) -> bool:
    # Text is compared decoded: a router may have changed the character set on the way.
    return any(_value(ours, keyword) != _value(theirs, keyword) for keyword in keywords)


def _value(dataset: Dataset, keyword: str) -> object:
    value = dataset.get(keyword)
    return str(value) if keyword == "PatientName" and value is not None else value or None


def _pixels(dataset: Dataset) -> np.ndarray | None:
    if "PixelData" not in dataset:
        return None
    return pixel_array(dataset)
