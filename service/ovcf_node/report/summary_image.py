"""The summary picture as an RGB Secondary Capture instance: the one object that every viewer shows (PS3.3 A.8.1)."""

import numpy as np
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from ovcf_node.domain.identity import Dialect
from ovcf_node.report import codes
from ovcf_node.report.context import Algorithm, ResultContext
from ovcf_node.report.header import BODY_PART, coded, finish, local_time, plain, series_arguments
from ovcf_node.report.source import Source


def encode_summary(context: ResultContext, source: Source, rgb: np.ndarray, algorithm: Algorithm) -> Dataset:
    """Return the Secondary Capture of `rgb`, uint8 (rows, columns, 3)."""
    dialect = Dialect()  # the picture is the same in every dialect
    uids = (context.identity.series_uid("summary", dialect), context.identity.sop_instance_uid("summary", dialect))
    dataset = SCImage(
        pixel_array=rgb,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("P", "F"),
        study_instance_uid=source.header.StudyInstanceUID,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=context.series_description("Summary T12-S1 (picture)"),
        **series_arguments(context, source, "summary", uids),
    )
    dataset.copy_patient_and_study_information(source.header)
    dataset.PatientOrientation = None  # several views: none holds for the whole picture
    dataset.BodyPartExamined = BODY_PART
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.ConversionType = "SYN"
    moment = local_time(context.content_at, source)
    dataset.DateOfSecondaryCapture = moment.strftime("%Y%m%d")
    dataset.TimeOfSecondaryCapture = moment.strftime("%H%M%S")
    dataset.BurnedInAnnotation = "NO"  # no identity in the picture
    dataset.DerivationDescription = _derivation(source.header)
    dataset.SourceImageSequence = [_source_image(instance) for instance in source.instances]
    finish(dataset, context, source, algorithm)
    return dataset


def _derivation(header: Dataset) -> str:
    series = f"series {header.get('SeriesNumber') or 'without number'}"
    if header.get("SeriesDescription"):
        series += f" ({plain(str(header.SeriesDescription), 64)})"
    return f"Sagittal and coronal reformats of {series} through the vertebral bodies, with the reading"


def _source_image(instance: Dataset) -> Dataset:
    """Return the Source Image item (PS3.3 C.12.4.1.1) of an instance that the picture was made from."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [coded(codes.SOURCE_IMAGE)]
    return item
