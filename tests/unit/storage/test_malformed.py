"""Values that pydicom cannot convert end as an unreadable file, not as a defect."""

import struct

import pytest
from pydicom import dcmread

from ovcf_node.assemble.headers import read_headers
from ovcf_node.storage.malformed import MALFORMED


@pytest.fixture
def unknown_value_representation(tmp_path):
    """A part 10 file whose Series Instance UID has the value representation ZZ, which PS3.5 6.2 does not know."""
    uid = b"1.2.840.10008.1.2.1\0"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    series = struct.pack("<HH2sHI", 0x20, 0xE, b"ZZ", 0, 2) + b"1\0"
    path = tmp_path / "one.dcm"
    path.write_bytes(bytes(128) + b"DICM" + meta + series)
    return path


def test_an_unknown_value_representation_is_an_unparsable_file(unknown_value_representation):
    with pytest.raises(NotImplementedError):  # why it is among them: pydicom's word for it
        _ = dcmread(unknown_value_representation).SeriesInstanceUID
    assert NotImplementedError in MALFORMED
    headers, unreadable = read_headers([unknown_value_representation])
    assert not headers and [found.code for found in unreadable] == ["unparsable"]
