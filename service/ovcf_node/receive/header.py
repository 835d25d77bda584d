"""Read the few elements that a receipt needs from an encoded data set, without its pixels."""

import io
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from ovcf_node.errors import Refused
from ovcf_node.network import contexts
from ovcf_node.receive import elements

_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_MODALITY = 0x00080060
_PATIENT_ID = 0x00100020
_ISSUER_OF_PATIENT_ID = 0x00100021
_STUDY_INSTANCE_UID = 0x0020000D
_SERIES_INSTANCE_UID = 0x0020000E
_REQUESTED_PROCEDURE_PRIORITY = 0x00401003
_TAGS = frozenset({
    _SOP_CLASS_UID, _SOP_INSTANCE_UID, _MODALITY, _PATIENT_ID, _ISSUER_OF_PATIENT_ID, _STUDY_INSTANCE_UID,
    _SERIES_INSTANCE_UID, _REQUESTED_PROCEDURE_PRIORITY,
})

_DEFLATED_HEAD = 8 * 2**20  # bytes to look at: everything before the pixels
_INFLATED_AT_MOST = 2**30  # as receive.max_instance_mb; whoever reads the file later has all of it in memory
_PIECE = 2**16  # of compressed bytes: what zlib does not take of a piece it copies

# PS3.5 9.1 also forbids leading zeros; equipment in use writes them, and refusing its images would help nobody.
_UID = re.compile(rb"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True)
class Header:
    """What identifies an instance. `patient` is Patient ID and its issuer as encoded: hash it, never keep or log it.

    requested_priority  Requested Procedure Priority (0040,1003) as encoded
    texts               further values that were asked for, as encoded, by tag; never log them
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    patient: bytes
    requested_priority: bytes
    texts: Mapping[int, bytes]


def read_header(dataset: io.BytesIO, transfer_syntax_uid: str, also: frozenset[int] = frozenset()) -> Header:
    """Return the header of an encoded data set, with the values of the tags `also`, none behind (0040,1003).

    Raises Refused (0xC000) when a UID is missing or malformed.
    """
    values = _read_elements(dataset, transfer_syntax_uid, _TAGS | also)
    return Header(
        sop_class_uid=_uid(values, _SOP_CLASS_UID, "SOP Class UID"),
        sop_instance_uid=_uid(values, _SOP_INSTANCE_UID, "SOP Instance UID"),
        study_instance_uid=_uid(values, _STUDY_INSTANCE_UID, "Study Instance UID"),
        series_instance_uid=_uid(values, _SERIES_INSTANCE_UID, "Series Instance UID"),
        modality=values.get(_MODALITY, b"")[:16].decode("ascii", "replace"),
        patient=values.get(_PATIENT_ID, b"") + b"\x1f" + values.get(_ISSUER_OF_PATIENT_ID, b""),
        requested_priority=values.get(_REQUESTED_PROCEDURE_PRIORITY, b""),
        texts={tag: values[tag] for tag in also if tag in values},
    )


def _read_elements(dataset: io.BytesIO, transfer_syntax_uid: str, wanted: frozenset[int]) -> dict[int, bytes]:
    try:
        found = elements.find(
            _head(dataset, transfer_syntax_uid),
            implicit=transfer_syntax_uid == contexts.IMPLICIT_LITTLE_ENDIAN,
            little=transfer_syntax_uid != contexts.EXPLICIT_BIG_ENDIAN,
            wanted=wanted,
            last=max(_TAGS),
        )
    except (elements.Malformed, zlib.error) as error:
        raise Refused(0xC000, "dataset_unreadable", "the data set cannot be parsed") from error
    return {tag: value.strip(b" \x00") for tag, value in found.items()}


def _head(dataset: io.BytesIO, transfer_syntax_uid: str) -> memoryview:
    if transfer_syntax_uid == contexts.DEFLATED_LITTLE_ENDIAN:
        return memoryview(_inflated_head(dataset.getbuffer()))
    return dataset.getbuffer()


def _inflated_head(data: memoryview) -> bytes:
    """Return the first bytes of a deflated data set; Refused (0xC000) for one that is a decompression bomb."""
    inflating, head, total = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), 0
    for begin in range(0, len(data), _PIECE):
        piece = data[begin:begin + _PIECE]
        while piece and not inflating.eof:
            inflated = inflating.decompress(piece, _DEFLATED_HEAD)
            piece = inflating.unconsumed_tail
            head += inflated[:_DEFLATED_HEAD - len(head)]
            total += len(inflated)
            if total > _INFLATED_AT_MOST:
                raise Refused(0xC000, "inflates_too_large", "the deflated data set is too large")
    return bytes(head)


def _uid(values: dict[int, bytes], tag: int, name: str) -> str:
    value = values.get(tag, b"")
    if not value:
        raise Refused(0xC000, "uid_missing", f"{name} is missing")
    if not _UID.fullmatch(value):
        raise Refused(0xC000, "uid_malformed", f"{name} is not a UID")
    return value.decode("ascii")
