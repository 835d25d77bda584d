"""Results in a ledger without any reading: small objects with the headers that queries look at."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_peers import uid
from ovcf_node.domain.series import Receipt
from ovcf_node.domain.states import RevisionState
from ovcf_node.ledger import Ledger, Result, Revision
from ovcf_node.ledger.catalogue import entry_of
from ovcf_node.report import to_bytes
from ovcf_node.storage.results import Results

SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SC = "1.2.840.10008.5.1.4.1.1.7"
_MODALITY = {SR: "SR", SEG: "SEG", SC: "OT"}
_NUMBER = {SEG: 9001, SC: 9003, SR: 9004}
ROLES = {SEG: "seg_vertebrae", SC: "summary"} | {SR.replace("88.34", end): "sr" for end in ("88.34", "88.33", "88.22")}


def item(**elements) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def result_object(name: str, sop_class: str, **elements) -> Dataset:
    """Return one result of study `name`; `elements` set keywords, None deletes one."""
    values = {
        "SpecificCharacterSet": "ISO_IR 192", "SOPClassUID": sop_class, "SOPInstanceUID": uid(name, sop_class),
        "StudyInstanceUID": uid(name), "SeriesInstanceUID": uid(name, "series", sop_class), "PatientID": f"ID-{name}",
        "PatientName": f"Name^{name}", "PatientBirthDate": "19400229", "PatientSex": "F", "StudyDate": "20240301",
        "StudyTime": "101500", "AccessionNumber": f"A-{name}", "StudyID": "7", "StudyDescription": "CT spine",
        "ReferringPhysicianName": "", "Modality": _MODALITY[sop_class], "SeriesNumber": _NUMBER[sop_class],
        "SeriesDescription": f"RESEARCH AI {_MODALITY[sop_class]}", "InstanceNumber": 1, "ContentDate": "20240301",
        "ContentTime": "103000.25", "TimezoneOffsetFromUTC": "+0100",
    }
    if sop_class == SR:
        values |= {
            "CompletionFlag": "COMPLETE", "VerificationFlag": "UNVERIFIED",
            "ConceptNameCodeSequence": [item(CodeValue="126000", CodingSchemeDesignator="DCM",
                                             CodeMeaning="Imaging Measurement Report")],
            "ContentTemplateSequence": [item(MappingResource="DCMR", TemplateIdentifier="1500")],
            "PredecessorDocumentsSequence": [],
            "CurrentRequestedProcedureEvidenceSequence": [item(StudyInstanceUID=uid(name), ReferencedSeriesSequence=[
                item(SeriesInstanceUID=uid(name, "ct"), ReferencedSOPSequence=[
                    item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=uid(name, "ct", n))
                    for n in range(60)
                ]),
            ])],
            "ContentSequence": [item(RelationshipType="CONTAINS", ValueType="TEXT", TextValue="text")],
        }
    else:
        samples, colours = (3, "RGB") if sop_class == SC else (1, "MONOCHROME2")
        values |= {
            "Rows": 2, "Columns": 2, "BitsAllocated": 8, "SamplesPerPixel": samples, "PhotometricInterpretation": colours,
            "PixelData": b"\x01\x02\x03\x04" * samples,
        }
    return item(**{k: v for k, v in (values | elements).items() if v is not None})


def store(
    ledger: Ledger, objects: list[Dataset], results: Results | None = None, *, source: str = "",
    dialects: dict[str, str] | None = None,
) -> Revision:
    """Store objects as the answer to a new revision of source series `source` (default: of their study), as the worker does.

    dialects  SOP Instance UID -> dialect
    """
    study = str(objects[0].StudyInstanceUID)
    source = source or uid(study, "ct")
    count = len(ledger.instances.originals(source))
    ledger.instances.record(Receipt(
        uid(source, count), "1.2.840.10008.5.1.4.1.1.2", study, source, "1.2.840.10008.1.2.1", "x.dcm", 10,
        uid(source, count), "p", "CT", datetime.fromtimestamp(100.0, UTC), "CT", "NODE", "assoc", False,
    ))
    for arrival in ledger.instances.arrivals(0):
        ledger.revisions.arrived(arrival, 100.0)
    revision = ledger.revisions.of_series(source)[-1]
    for state in (RevisionState.COMPLETE, RevisionState.INFERRED):
        revision = ledger.revisions.move(revision, state, 101.0)
    stored = []
    for dataset in objects:
        name = str(dataset.SOPInstanceUID)
        path = Path("none")
        if results is not None:
            path = results.put(source, f"{name}.dcm", to_bytes(dataset)).relative_to(results.root)
        dialect = (dialects or {}).get(name, "88.34/air") if ROLES[dataset.SOPClassUID] == "sr" else ""
        stored.append(Result(
            revision.id, ROLES[dataset.SOPClassUID], dialect,
            name, str(dataset.SOPClassUID), str(dataset.SeriesInstanceUID), str(path),
            hashlib.sha256(to_bytes(dataset)).hexdigest(), 1,
        ))
    ledger.revisions.answered(revision, stored, {}, 102.0, [entry_of(d) for d in objects])
    return ledger.revisions.get(revision.id)
