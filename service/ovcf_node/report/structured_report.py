"""The reading as a structured report: TID 1500 in a Comprehensive 3D, Comprehensive or Enhanced SR instance.

The same content in every class: no coordinates in it, so an old PACS gets it by a change of class alone.
"""

from highdicom.sr import (
    CodeContentItem,
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    RelationshipTypeValues,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.sr.coding import Code

from ovcf_node.domain.findings import Findings
from ovcf_node.domain.identity import Dialect
from ovcf_node.report import codes, wording
from ovcf_node.report.context import PRODUCT, Algorithm, ResultContext
from ovcf_node.report.finding_groups import groups, text_item
from ovcf_node.report.header import finish, local_time, long_string, plain, series_arguments, writable
from ovcf_node.report.segmentation import SOP_CLASS_UID, SegmentPlan
from ovcf_node.report.source import Source

_CLASSES = {"88.34": Comprehensive3DSR, "88.33": ComprehensiveSR, "88.22": EnhancedSR}
_CONTAINS = RelationshipTypeValues.CONTAINS


def encode_report(
    context: ResultContext, source: Source, findings: Findings, plan: SegmentPlan, algorithm: Algorithm,
    dialect: Dialect,
) -> Dataset:
    """Return the SR instance of a reading in one dialect."""
    content = _content(context, source, findings, plan, algorithm, dialect)
    arguments = series_arguments(
        context, source, "sr",
        (context.identity.series_uid("sr", dialect), context.report_uid(dialect)),
    )
    dataset = _CLASSES[dialect.sr_class](
        evidence=_evidence(context, source, plan),
        content=content,
        is_complete=True,
        is_final=False,
        is_verified=False,
        requested_procedures=_requests(source.header) or None,
        previous_versions=[_document(p) for p in context.predecessors] or None,
        series_description=context.series_description("Vertebral fracture report (SR)"),
        **arguments,
    )
    dataset.copy_patient_and_study_information(source.header)
    finish(dataset, context, source, algorithm)
    return dataset


def _content(
    context: ResultContext, source: Source, findings: Findings, plan: SegmentPlan, algorithm: Algorithm,
    dialect: Dialect,
) -> Dataset:
    observer = ObserverContext(
        observer_type=dicom_codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=algorithm.device_uid, name=PRODUCT, manufacturer_name=algorithm.manufacturer, model_name=algorithm.name,
            serial_number=long_string(context.identity.installation),
        ),
    )
    report = MeasurementReport(
        observation_context=ObservationContext(
            observer_person_context=_reader(context, source), observer_device_context=observer,
        ),
        procedure_reported=_procedures(source.header),
        imaging_measurements=groups(findings, plan, context, source, algorithm),
        # OHIF 3.13 stops on TID 1411 groups without coordinates; under another title it shows the report as text.
        title=codes.TEXT_REPORT_TITLE if dialect.sr_profile == "ohif-text" else codes.REPORT_TITLE,
    )
    root = report[0]
    root.ContentSequence.append(_evaluations(context, findings, source))
    _separate(root)
    return root


def _reader(context: ResultContext, source: Source) -> ObserverContext | None:
    """Return the person observer of a second reading (TID 1003); None where no person has looked."""
    if context.second is None:
        return None
    reading = context.second.reading
    return ObserverContext(
        observer_type=dicom_codes.DCM.Person,
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(
            # A name in letters that the source's character set lacks gives way to the account's.
            name=reading.name if writable(reading.name, source) else f"{reading.reader}^",
            login_name=plain(reading.reader, 64), organization_name=plain(context.institution, 64) or None,
        ),
    )


def _evaluations(context: ResultContext, findings: Findings, source: Source) -> ContainerContentItem:
    """Return the study-level Qualitative Evaluations (TID 1500 rows 12 to 14), the impression first."""
    moment = local_time(context.analysis_started_at, source)
    container = ContainerContentItem(name=codes.QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    # What a person said comes first: a rejected finding must not open the report.
    said = f"{wording.assessed(context.second.reading)} First reading, by software: " if context.second else ""
    items = [
        text_item(codes.IMPRESSION, said + wording.headline(findings)),
        _code_item(codes.PATIENT_FRACTURE, codes.presence(findings.patient.ovcf)),
    ]
    if findings.patient.probability is not None:
        text = f"{100 * findings.patient.probability:.0f} % (highest probability of any level, model estimate)"
        items.append(text_item(codes.PROBABILITY_TEXT, text))
    items.append(_code_item(codes.STATUS, codes.STATUSES[findings.status]))
    items.append(_code_item(codes.PROCESSING_SUMMARY, _summary(findings)))
    if findings.status != "not_assessed":
        # Never "No": transitional anatomy cannot be ruled out in a field that does not show the whole spine.
        items.append(_code_item(codes.NUMBERING_UNCERTAIN, codes.yes_no(findings.numbering_uncertain or None)))
    items += [text_item(codes.QUALITY_FINDING, limit.text) for limit in wording.limits(findings, source.acquisition)]
    items.append(text_item(codes.DISCLAIMER, f"{wording.DISCLAIMER} Read at {moment:%Y-%m-%d %H:%M:%S %z}."))
    container.ContentSequence = ContentSequence(items)
    return container


def _summary(findings: Findings) -> Code:
    """Return the CID 6047 code that tells "succeeded, nothing found" from "failed"."""
    if findings.status == "not_assessed":
        return codes.NOTHING_SUCCEEDED
    graded = findings.patient.ovcf is not None and not wording.ungraded(findings)
    return codes.SUMMARIES[graded, bool(wording.fractured(findings))]


def _code_item(name: Code, value: Code) -> CodeContentItem:
    return CodeContentItem(name=name, value=value, relationship_type=_CONTAINS)


def _separate(container: Dataset) -> None:
    """Set every container SEPARATE: with CONTINUOUS, highdicom's default, renderers drop the names of the values."""
    container.ContinuityOfContent = "SEPARATE"
    for item in container.get("ContentSequence", []):
        if item.ValueType == "CONTAINER":
            _separate(item)


def _procedures(header: Dataset) -> list[Code]:
    """Return the imaging procedure that was analysed, in the source's own codes where it has them."""
    procedures = []
    for item in header.get("ProcedureCodeSequence") or []:
        value, scheme, meaning = (item.get(k) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
        if value and scheme and meaning and len(meaning) <= 64:
            procedures.append(Code(str(value), str(scheme), str(meaning), item.get("CodingSchemeVersion")))
    return procedures or [codes.CT_PROCEDURE]


def _evidence(context: ResultContext, source: Source, plan: SegmentPlan) -> list[Dataset]:
    """Return every source instance, then the segmentations that the content refers to."""
    evidence = list(source.instances)
    for role in ("seg_vertebrae", "seg_fractures"):
        if plan.of_role(role):
            evidence.append(_document((
                source.header.StudyInstanceUID, context.identity.series_uid(role, Dialect()), SOP_CLASS_UID,
                context.segmentation_uid(role),
            )))
    return evidence


def _document(uids: tuple[str, str, str, str]) -> Dataset:
    document = Dataset()
    document.StudyInstanceUID, document.SeriesInstanceUID, document.SOPClassUID, document.SOPInstanceUID = uids
    return document


def _requests(header: Dataset) -> list[Dataset]:
    """Return the requests that the source fulfilled as Referenced Request items (PS3.3 C.17.2)."""
    requests = []
    for source in header.get("RequestAttributesSequence") or []:
        request = Dataset()
        request.StudyInstanceUID = header.StudyInstanceUID
        request.ReferencedStudySequence = []
        numbered = source if source.get("AccessionNumber") else header
        request.AccessionNumber = numbered.AccessionNumber
        if numbered.get("IssuerOfAccessionNumberSequence"):
            request.IssuerOfAccessionNumberSequence = numbered.IssuerOfAccessionNumberSequence
        for keyword in ("RequestedProcedureID", "RequestedProcedureDescription"):
            setattr(request, keyword, source.get(keyword) or "")
        request.PlacerOrderNumberImagingServiceRequest = header.get("PlacerOrderNumberImagingServiceRequest") or ""
        request.FillerOrderNumberImagingServiceRequest = header.get("FillerOrderNumberImagingServiceRequest") or ""
        request.RequestedProcedureCodeSequence = source.get("RequestedProcedureCodeSequence") or []
        requests.append(request)
    return requests
