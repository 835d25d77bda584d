"""Rejection notes: the right title, exactly the objects named, always the same bytes, no error of dciodvfy."""

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_peers import program
from node_harness import dciodvfy_errors
from ovcf_node.domain.identity import Dialect
from ovcf_node.domain.withdrawal import Title
from ovcf_node.report import Rejection, encode, encode_rejection_note, lint, to_bytes
from result_cases import Case, make_context

REJECTION = Rejection(
    Title.QUALITY, datetime(2024, 3, 2, 9, 30, 15, 250000, UTC), "Superseded by a later reading.", "site-1", "ovcf-node 9",
)


@pytest.fixture(scope="module")
def rejected(case: Case) -> list[Dataset]:
    """The objects of one reading, as they are read back from where they are stored."""
    for header in case.headers:
        header.PatientName, header.SpecificCharacterSet = "Müller^Änne", "ISO_IR 100"
    objects = encode(
        make_context(), case.headers, case.findings, case.masks, np.zeros((20, 30, 3), np.uint8), Dialect(),
        case.volume.sources,
    )
    return [pydicom.dcmread(BytesIO(to_bytes(o.dataset)), stop_before_pixels=True) for o in objects]


def named(note: Dataset) -> list[str]:
    return [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in note.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    ]


@pytest.mark.parametrize(("title", "meaning"), [
    (Title.QUALITY, "Rejected for Quality Reasons"), (Title.PATIENT_SAFETY, "Rejected for Patient Safety Reasons"),
    (Title.WORKLIST, "Incorrect Modality Worklist Entry"),
])
def test_a_note_names_exactly_the_rejected_objects(rejected, title, meaning):
    note = encode_rejection_note(rejected, replace(REJECTION, title=title))
    assert (note.Modality, note.ConceptNameCodeSequence[0].CodeMeaning) == ("KO", meaning)
    assert named(note) == [str(d.SOPInstanceUID) for d in rejected]
    evidence = note.CurrentRequestedProcedureEvidenceSequence
    assert [str(study.StudyInstanceUID) for study in evidence] == [str(rejected[0].StudyInstanceUID)]
    assert (str(note.PatientName), note.PatientID) == ("Müller^Änne", rejected[0].PatientID)
    assert (note.StudyInstanceUID, note.AccessionNumber) == (rejected[0].StudyInstanceUID, rejected[0].AccessionNumber)


def test_the_same_objects_give_the_same_bytes_and_others_another_note(rejected):
    first = encode_rejection_note(rejected, REJECTION)
    assert to_bytes(first) == to_bytes(encode_rejection_note(rejected, REJECTION))
    others = [
        encode_rejection_note(rejected[:-1], REJECTION),
        encode_rejection_note(rejected, replace(REJECTION, title=Title.PATIENT_SAFETY)),
    ]
    assert len({str(note.SOPInstanceUID) for note in (first, *others)}) == 3


@pytest.mark.parametrize(("change", "words"), [
    (lambda d: d.ConceptNameCodeSequence[0].__setattr__("CodeValue", "113000"), "title"),
    (lambda d: d.__setattr__("ContentSequence", [i for i in d.ContentSequence if i.ValueType == "TEXT"]), "names nothing"),
    (lambda d: d.__setattr__("CurrentRequestedProcedureEvidenceSequence", []), "not in the evidence"),
    (lambda d: d.pop("ContentTemplateSequence"), "TID 2010"), (lambda d: d.__setattr__("Modality", "SR"), "not KO"),
])
def test_each_rule_can_fail(rejected, change, words):
    note = deepcopy(encode_rejection_note(rejected, REJECTION))
    assert lint(note, Dialect()) == []
    change(note)
    assert any(words in violation for violation in lint(note, Dialect()))


@pytest.mark.peer
def test_dciodvfy_finds_no_error(rejected, tmp_path: Path):
    program("dciodvfy")
    path = tmp_path / "note.dcm"
    path.write_bytes(to_bytes(encode_rejection_note(rejected, REJECTION)))
    assert dciodvfy_errors(path) == []
