"""Encode the head of a DICOM file: preamble, prefix and File Meta Information (PS3.10 7.1)."""

import struct

from ovcf_node.network.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def encode_head(
    *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae_title: str, called_ae_title: str
) -> bytes:
    """Return the bytes that stand before the data set; always Explicit VR Little Endian.

    Written here rather than by pydicom because it is done once an instance and costs 20 times less this way.
    """
    body = b"".join(
        (
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",  # File Meta Information Version
            _element(0x0002, b"UI", sop_class_uid, b"\x00"),
            _element(0x0003, b"UI", sop_instance_uid, b"\x00"),
            _element(0x0010, b"UI", transfer_syntax_uid, b"\x00"),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\x00"),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" "),
            _element(0x0016, b"AE", calling_ae_title, b" "),  # Source Application Entity Title
            _element(0x0018, b"AE", called_ae_title, b" "),  # Receiving Application Entity Title
        )
    )
    length = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(body))
    return bytes(128) + b"DICM" + length + body


def _element(element: int, vr: bytes, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii")
    value += padding * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
