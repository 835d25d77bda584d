"""Rejection notes as a PACS or scanner writes them: Key Object Selections about source images."""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

MEANINGS = {
    "113001": "Rejected for Quality Reasons", "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry", "113039": "Data Retention Policy Expired", "113000": "Of Interest",
}


def source_note(images: Sequence[Path], code: str) -> Dataset:
    """Return the note that rejects these images under a title of CID 7010."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in images]
    for header in headers:
        for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "PatientBirthDate", "PatientSex"):
            header.setdefault(keyword, "")
    return KeyObjectSelectionDocument(
        evidence=headers, content=KeyObjectSelection(Code(code, "DCM", MEANINGS[code]), headers),
        series_instance_uid=generate_uid(), series_number=99, sop_instance_uid=generate_uid(), instance_number=1,
        manufacturer="A PACS", manufacturer_model_name="archive",
    )


def write_note(folder: Path, images: Sequence[Path], code: str) -> Path:
    """Write the note as the only file of a new folder and return the file."""
    folder.mkdir(parents=True)
    path = folder / "note.dcm"
    source_note(images, code).save_as(path, enforce_file_format=True)
    return path
