"""Read DICOM headers from disk: every file of a series, without its pixel data, and where that pixel data begins."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from ovcf_node.assemble.attributes import of_the_machine
from ovcf_node.domain.identity import source_digest, uid_from
from ovcf_node.storage.malformed import MALFORMED

_DEFER_BYTES = 65536  # larger elements (private reports, thumbnails) are read only when somebody asks for them
_UNDEFINED_LENGTH = 0xFFFFFFFF
_GROUPING = ("StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, eq=False)
class Header:
    """One instance on disk.

    dataset       everything before the pixel data
    pixel_offset  position in the file of the first byte of native pixels; None when encapsulated, deflated or absent
    pixel_length  bytes of native pixel data the file declares; None as above
    """

    path: Path
    dataset: Dataset
    transfer_syntax_uid: str
    pixel_offset: int | None
    pixel_length: int | None

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.get("SOPInstanceUID") or "")

    @property
    def sop_class_uid(self) -> str:
        return str(self.dataset.get("SOPClassUID") or "")


@dataclass(frozen=True)
class Unreadable:
    """A file that is no instance: `not_dicom`, `unparsable`, `io_error` or `media_directory` (a DICOMDIR)."""

    path: Path
    code: str


def read_headers(paths: Iterable[Path]) -> tuple[list[Header], list[Unreadable]]:
    """Read every file's header; files that are no DICOM instance are reported, never raised.

    Both lists keep the order of `paths`.
    """
    headers: list[Header] = []
    unreadable: list[Unreadable] = []
    for path in paths:
        found = _read(path)
        (headers if isinstance(found, Header) else unreadable).append(found)
    _complete_references(headers)
    return headers, unreadable


def _read(path: Path) -> Header | Unreadable:
    try:
        with open(path, "rb") as file:
            dataset = dcmread(file, stop_before_pixels=True, defer_size=_DEFER_BYTES)
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
            offset, length = _native_pixels(file, dataset, syntax)
            _complete_identity(dataset)
    except InvalidDicomError:
        return Unreadable(path, "not_dicom")
    except (OSError, *MALFORMED) as error:
        return Unreadable(path, "io_error" if of_the_machine(error) else "unparsable")
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return Unreadable(path, "media_directory")
    return Header(path, dataset, syntax, offset, length)


def _native_pixels(file: BinaryIO, dataset: FileDataset, syntax: str) -> tuple[int | None, int | None]:
    # dcmread leaves the file at the tag it stopped before; a deflated dataset has no positions in the file.
    if syntax == DeflatedExplicitVRLittleEndian:
        return None, None
    implicit, little = dataset.original_encoding
    layout = ("<" if little else ">") + ("HHL" if implicit else "HH2sHL")
    head = file.read(struct.calcsize(layout))
    if len(head) < struct.calcsize(layout):
        return None, None
    group, element, *_, length = struct.unpack(layout, head)
    if (group, element) != (0x7FE0, 0x0010) or length == _UNDEFINED_LENGTH:
        return None, None
    return file.tell(), length


def _complete_identity(dataset: FileDataset) -> None:
    for keyword in _GROUPING:  # converted on access: here an error makes the file unparsable, later it would be a defect
        dataset.get(keyword)
    # Anonymisers blank these while the file meta information (PS3.10 7.1) still tells what the instance is.
    for keyword, meta in (("SOPClassUID", "MediaStorageSOPClassUID"), ("SOPInstanceUID", "MediaStorageSOPInstanceUID")):
        if not dataset.get(keyword) and dataset.file_meta.get(meta):
            setattr(dataset, keyword, dataset.file_meta.get(meta))


def _complete_references(headers: list[Header]) -> None:
    # Files from an anonymiser may name no study or series (a peer could not even send them). A result must refer to
    # some: what belongs together gets one UID that depends on its instances only.
    for keyword in _GROUPING:
        nameless = [header for header in headers if not header.dataset.get(keyword)]
        uid = uid_from(f"missing {keyword}", source_digest(header.sop_instance_uid for header in nameless))
        for header in nameless:
            setattr(header.dataset, keyword, uid)
