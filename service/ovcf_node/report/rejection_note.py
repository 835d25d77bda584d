"""A rejection note: the Key Object Selection that tells a PACS which of our objects no longer count.

TID 2010 in a Key Object Selection Document (PS3.3 A.35.4), used as IHE RAD IOCM defines (RAD-66, Rejection Note Stored).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes

from ovcf_node.domain.identity import Dialect, uid_from
from ovcf_node.domain.volume import Acquisition
from ovcf_node.domain.withdrawal import Title, note_uid
from ovcf_node.errors import Permanent
from ovcf_node.report import codes
from ovcf_node.report.context import PRODUCT
from ovcf_node.report.header import local_time, long_string, set_character_set
from ovcf_node.report.lint import lint
from ovcf_node.report.source import TYPE_2, Source

_SERIES_NUMBER = 9005


@dataclass(frozen=True)
class Rejection:
    """What a note says besides the objects it names.

    at    when it was decided, timezone-aware: every time in the note
    text  why, in words for people, without patient identity
    """

    title: Title
    at: datetime
    text: str
    installation: str
    software: str


def encode_rejection_note(rejected: Sequence[Dataset], rejection: Rejection) -> Dataset:
    """Return the note that rejects `rejected`: headers of our own objects, all of one study.

    It names patient and study as those objects do, because a PACS finds them by that. Its UIDs depend on the objects and
    the title only. Raises Permanent("lint") naming every rule that it breaks.
    """
    header = _header(rejected[0])
    source = Source(header, (), (), (), Acquisition())
    uid = note_uid(rejection.installation, rejection.title, (str(d.SOPInstanceUID) for d in rejected))
    moment = local_time(rejection.at, source)
    references = [_reference(d) for d in rejected]
    dataset = KeyObjectSelectionDocument(
        evidence=references,
        content=KeyObjectSelection(
            document_title=codes.REJECTION_TITLES[rejection.title], referenced_objects=references,
            observer_device_context=_observer(rejection), description=rejection.text,
        ),
        series_instance_uid=uid_from("rejection note series", uid),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        device_serial_number=long_string(rejection.installation),
        software_versions=long_string(rejection.software),
        series_description="RESEARCH AI Rejection note",
        specific_character_set=None,
        content_date=moment.date(),
        content_time=moment.time(),
    )
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.pop("ContributingEquipmentSequence", None)  # highdicom names itself there, with the time
    dataset.copy_patient_and_study_information(header)
    dataset.TimezoneOffsetFromUTC = moment.strftime("%z")[:5]
    dataset.InstanceCreatorUID = uid_from("installation", rejection.installation)
    for keyword in ("InstanceCreation", "Content"):
        setattr(dataset, f"{keyword}Date", moment.strftime("%Y%m%d"))
        setattr(dataset, f"{keyword}Time", moment.strftime("%H%M%S.%f"))
    set_character_set(dataset, source)
    violations = lint(dataset, Dialect())
    if violations:
        raise Permanent("lint", f"rejection note: {'; '.join(sorted(set(violations)))}")
    return dataset


def _header(of: Dataset) -> Dataset:
    header = Dataset()
    header.update(of)
    for keyword in TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _reference(of: Dataset) -> Dataset:
    """Return the UIDs of an object and nothing that highdicom could warn about; with a size where it is an image."""
    reference = Dataset()
    for keyword in TYPE_2:
        setattr(reference, keyword, "")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns"):
        if keyword in of:
            setattr(reference, keyword, of[keyword].value)
    return reference


def _observer(rejection: Rejection) -> ObserverContext:
    return ObserverContext(
        observer_type=dicom_codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=uid_from("installation", rejection.installation), name=PRODUCT, manufacturer_name=PRODUCT,
            model_name=PRODUCT, serial_number=long_string(rejection.installation),
        ),
    )
