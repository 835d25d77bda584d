"""Rejection notes of PACS and scanners: a Key Object Selection that says which images no longer count (IHE RAD IOCM)."""

from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from ovcf_node.assemble.attributes import items, text
from ovcf_node.assemble.headers import read_headers
from ovcf_node.domain.withdrawal import SourceNote, Title
from ovcf_node.errors import Permanent, Transient

_TITLES = {str(title) for title in Title}
_DEEPEST = 8


def is_rejection(dataset: Dataset) -> bool:
    """Say whether an instance is a rejection note. One for Data Retention Policy Expired is none to us."""
    title = (items(dataset, "ConceptNameCodeSequence") or (Dataset(),))[0]
    return (
        text(dataset, "SOPClassUID") == KeyObjectSelectionDocumentStorage
        and text(title, "CodingSchemeDesignator") == "DCM" and text(title, "CodeValue") in _TITLES
    )


def read_source_note(path: Path) -> SourceNote | None:
    """Return what a received rejection note rejects; None when the file is another object.

    Raises Transient `io_error` when the file cannot be read now, Permanent `unreadable_note` when nothing in it can be.
    """
    headers, unreadable = read_headers([path])
    if unreadable:
        code = unreadable[0].code
        raise Transient(code, "the note cannot be read now") if code == "io_error" else Permanent("unreadable_note", code)
    if not is_rejection(headers[0].dataset):
        return None
    note = headers[0].dataset
    named = set(_referenced(note, 0))
    studies = {
        text(instance, "ReferencedSOPInstanceUID"): text(study, "StudyInstanceUID")
        for study in items(note, "CurrentRequestedProcedureEvidenceSequence")
        for series in items(study, "ReferencedSeriesSequence")
        for instance in items(series, "ReferencedSOPSequence")
    }
    title = Title(text(items(note, "ConceptNameCodeSequence")[0], "CodeValue"))
    return SourceNote(title, {uid: study for uid, study in studies.items() if uid in named and uid and study})


def _referenced(item: Dataset, depth: int) -> Iterator[str]:
    """Yield what the content tree names; the evidence alone may list more."""
    for reference in items(item, "ReferencedSOPSequence"):
        yield text(reference, "ReferencedSOPInstanceUID")
    for child in items(item, "ContentSequence") if depth < _DEEPEST else ():
        yield from _referenced(child, depth + 1)
