"""The measurement groups of the report: one for the patient, one per vertebra, one per fracture (TID 1501 and 1411)."""

from collections.abc import Iterator

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    FindingSite,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr import Measurement as MeasurementItem
from pydicom.sr.coding import Code

from ovcf_node.domain.findings import Findings, VertebraFinding
from ovcf_node.report import codes
from ovcf_node.report.context import Algorithm, ResultContext
from ovcf_node.report.header import plain
from ovcf_node.report.measurements import HIGHEST_PROBABILITY, MEASUREMENTS, PROBABILITY
from ovcf_node.report.segmentation import SOP_CLASS_UID, Segment, SegmentPlan, fracture_tracking
from ovcf_node.report.source import Source

Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations

PATIENT_TRACKING = "T12-S1"


def groups(
    findings: Findings, plan: SegmentPlan, context: ResultContext, source: Source, algorithm: Algorithm,
) -> list[Group]:
    """Return all groups of a reading; a "not assessed" one has only the patient's, because the template needs one."""
    builder = _Builder(plan, context, source, algorithm)
    result = [builder.patient(findings)]
    if findings.status in ("assessed", "limited"):
        for vertebra in findings.vertebrae:
            result.append(builder.vertebra(vertebra))
            if vertebra.fracture:
                result.append(builder.fracture(vertebra))
    return result


def text_item(name: Code, text: str) -> TextContentItem:
    return TextContentItem(name=name, value=plain(text), relationship_type=RelationshipTypeValues.CONTAINS)


class _Builder:
    def __init__(self, plan: SegmentPlan, context: ResultContext, source: Source, algorithm: Algorithm):
        self._plan, self._context, self._source = plan, context, source
        self._algorithm = AlgorithmIdentification(name=algorithm.name, version=algorithm.version)

    def patient(self, findings: Findings) -> Group:
        probability = PROBABILITY.convert(findings.patient.probability)
        items = [] if probability is None else [MeasurementItem(HIGHEST_PROBABILITY, probability, PROBABILITY.unit)]
        return self._group(
            # The finding is the spine, not "fracture": a text viewer prints it for a negative patient too.
            PATIENT_TRACKING, codes.SPINE, codes.SPINE, items,
            [(codes.PATIENT_FRACTURE, codes.presence(findings.patient.ovcf))], None, "",
        )

    def vertebra(self, vertebra: VertebraFinding) -> Group:
        site = codes.LEVELS[vertebra.level]
        segment = next((s for s in self._plan.vertebrae if s.level == vertebra.level), None)
        group = self._group(
            vertebra.level, site, site, list(_measurements(vertebra)),
            [*_evaluations(vertebra), *self._assessed(vertebra)], segment, "seg_vertebrae",
        )
        content = group[0].ContentSequence
        if vertebra.expected_from:
            content.append(text_item(codes.EXPECTED_FROM, vertebra.expected_from))
        if vertebra.abstain:
            content.append(text_item(codes.ABSTAINED, vertebra.abstain.text))
        content.extend(text_item(codes.QUALITY_FINDING, note.text) for note in vertebra.notes)
        return group

    def fracture(self, vertebra: VertebraFinding) -> Group:
        segment = next((s for s in self._plan.fractures if s.level == vertebra.level), None)
        return self._group(
            fracture_tracking(vertebra.level), codes.fracture_type(vertebra), codes.LEVELS[vertebra.level], [],
            [(codes.SUSPECTED_FRACTURE, codes.PRESENT), *_classes(vertebra), *self._assessed(vertebra)], segment,
            "seg_fractures",
        )

    def _assessed(self, vertebra: VertebraFinding) -> Iterator[tuple[Code, Code]]:
        """Yield what the reader said of this finding."""
        said = self._context.second.reading.of(vertebra.level) if self._context.second else None
        if said:
            yield codes.ASSESSMENT, codes.VERDICTS[said.verdict]
            if said.corrected_level:
                yield codes.CORRECTED_LEVEL, codes.LEVELS[said.corrected_level]

    def _group(
        self, tracking: str, finding: Code, site: Code, measurements: list[MeasurementItem],
        evaluations: list[tuple[Code, Code]], segment: Segment | None, role: str,
    ) -> Group:
        arguments = {
            "tracking_identifier": TrackingIdentifier(self._context.identity.tracking_uid(tracking), tracking),
            "finding_type": finding,
            "finding_sites": [FindingSite(site)],
            "algorithm_id": self._algorithm,
            "measurements": measurements,
            "qualitative_evaluations": [QualitativeEvaluation(_c(name), _c(value)) for name, value in evaluations],
        }
        if segment is None:
            return MeasurementsAndQualitativeEvaluations(**arguments)
        reference = ReferencedSegment(
            SOP_CLASS_UID, self._context.segmentation_uid(role), segment.number,
            source_series=SourceSeriesForSegmentation(self._source.header.SeriesInstanceUID),
        )
        return VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=reference, finding_category=segment.category, **arguments,
        )


def _c(code: Code) -> CodedConcept:
    return CodedConcept.from_code(code)


def _measurements(vertebra: VertebraFinding) -> Iterator[MeasurementItem]:
    for row in MEASUREMENTS:
        value = row.value(vertebra)
        if value is not None:
            sites = [FindingSite(codes.LEVELS[vertebra.level], topographical_modifier=row.site)] if row.site else None
            yield MeasurementItem(
                row.concept, value, row.unit, derivation=row.derivation, method=row.method, finding_sites=sites,
            )


def _evaluations(vertebra: VertebraFinding) -> Iterator[tuple[Code, Code]]:
    yield codes.SUSPECTED_FRACTURE, codes.presence(vertebra.fracture)
    yield codes.COMPLETE, codes.yes_no(vertebra.complete)
    yield from _classes(vertebra)
    if vertebra.genant is not None:
        yield codes.GENANT, codes.GENANT_GRADES[vertebra.genant.grade]
        yield codes.NEAR_BOUNDARY, codes.yes_no(vertebra.genant.near_boundary)
    if vertebra.old_deformity is not None:
        yield codes.OLD_DEFORMITY, codes.presence(vertebra.old_deformity)


def _classes(vertebra: VertebraFinding) -> Iterator[tuple[Code, Code]]:
    if vertebra.denis:
        yield codes.DENIS, codes.DENIS_TYPES[vertebra.denis]
    elif vertebra.fracture:
        yield codes.DENIS, codes.UNDETERMINED
    if vertebra.ao:
        yield codes.AO, codes.ao_type(vertebra.ao)
    if vertebra.of:
        yield codes.OF, codes.of_type(vertebra.of)
    if vertebra.age:
        yield codes.AGE, codes.AGES[vertebra.age]
