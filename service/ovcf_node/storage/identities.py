"""Whose images stored objects are, for the audit trail; read from their headers only when somebody wants to know."""

from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from ovcf_node.observe.audit import Study

_TAGS = ["SOPClassUID", "StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber"]


def studies(paths: Iterable[Path]) -> list[Study]:
    """Return one entry for each study with the numbers of its objects; files that cannot be read are left out."""
    found: dict[str, tuple[Study, dict[str, int]]] = {}
    for path in paths:
        try:
            header = dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
        except (OSError, InvalidDicomError):
            continue
        uid = str(header.get("StudyInstanceUID", ""))
        _, counts = found.setdefault(uid, (
            Study(uid, str(header.get("PatientID", "")), str(header.get("PatientName", "")),
                  str(header.get("AccessionNumber", ""))), {}))
        kind = str(header.get("SOPClassUID", ""))
        counts[kind] = counts.get(kind, 0) + 1
    return [Study(s.study_instance_uid, s.patient_id, s.patient_name, s.accession_number, counts)
            for s, counts in found.values()]
