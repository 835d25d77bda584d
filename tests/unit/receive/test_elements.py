import contextlib
import struct

import pytest
from pydicom import Dataset, Sequence, dcmread

from dicom_peers import encoded, instance
from ovcf_node.receive import elements

PATIENT_ID, SERIES = 0x00100020, 0x0020000E


def find(data, *, implicit=False, little=True, last=SERIES):
    return elements.find(
        memoryview(data), implicit=implicit, little=little, wanted={PATIENT_ID, SERIES}, last=last
    )


def with_sequences(undefined: bool) -> Dataset:
    dataset = instance()
    leaf = Dataset()
    leaf.PatientID = "INNER"  # must not be taken for the patient's
    leaf.CodeValue = "1"
    middle = Dataset()
    middle.ReferencedImageSequence = Sequence([leaf, leaf])
    dataset.ReferencedStudySequence = Sequence([middle, Dataset()])
    dataset.ProcedureCodeSequence = Sequence([])
    dataset.private_block(0x0009, "MAKER", create=True).add_new(1, "OB", b"\x01\x02\x03\x04")
    if undefined:
        for item in (dataset, middle):
            for element in item:
                if element.VR == "SQ":
                    element.is_undefined_length = True
                    for inner in element.value:
                        inner.is_undefined_length_sequence_item = True
    return dataset


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(("implicit", "little"), [(False, True), (True, True), (False, False)])
def test_finds_top_level_elements_behind_sequences(implicit, little, undefined):
    dataset = with_sequences(undefined)
    found = find(encoded(dataset, implicit=implicit, little=little), implicit=implicit, little=little)
    assert found == {PATIENT_ID: b"PLANTED-ID", SERIES: dataset.SeriesInstanceUID.encode() + b"\x00" * (
        len(dataset.SeriesInstanceUID) % 2
    )}


@pytest.mark.parametrize("implicit", [False, True])
def test_the_bytes_decide_when_the_sender_is_wrong_about_vr(implicit):
    assert find(encoded(instance(), implicit=not implicit), implicit=implicit)[PATIENT_ID] == b"PLANTED-ID"


def test_stops_behind_the_last_wanted_tag():
    data = encoded(instance())
    cut = data[: data.index(b"\x28\x00\x02\x00")]  # what follows Instance Number is never looked at
    assert SERIES in find(cut + b"\xff" * 7 + b"garbage")
    assert SERIES not in find(data, last=0x00200001)


def test_sequence_of_unknown_vr_is_implicit():
    inner = b"\x08\x00\x00\x01" + struct.pack("<I", 2) + b"1 "
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    sequence = b"\x08\x00\x40\x11UN\x00\x00\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    patient = b"\x10\x00\x20\x00LO\x02\x00ID"
    assert find(b"\x08\x00\x60\x00CS\x02\x00CT" + sequence + patient) == {PATIENT_ID: b"ID"}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_truncation_is_malformed_or_finds_nothing(cut):
    data = encoded(instance())[:cut]
    with contextlib.suppress(elements.Malformed):
        assert find(data) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x00\x20\x00LO\xff\xffID",  # longer than the data set
        b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\x08\x00\x00\x01SH\x02\x001 ",  # no item
        b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff",  # no end
        (b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 5000,  # nesting attack
    ],
)
def test_malformed(data):
    with pytest.raises(elements.Malformed):
        find(data)


def test_agrees_with_pydicom_on_real_files(shared_data):
    wanted = {0x00080016, 0x00080018, 0x00080060, PATIENT_ID, 0x0020000D, SERIES}
    seen = 0
    for path in sorted((shared_data / "odd").rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        if data[128:132] != b"DICM":
            continue
        reference = dcmread(path, stop_before_pixels=True)
        syntax = reference.file_meta.TransferSyntaxUID
        if syntax.is_deflated:
            continue
        begin = 144 + reference.file_meta.FileMetaInformationGroupLength
        found = elements.find(
            memoryview(data)[begin:], implicit=syntax.is_implicit_VR, little=syntax.is_little_endian, wanted=wanted,
            last=SERIES,
        )
        for tag in wanted:
            assert found.get(tag, b"").decode("latin1").strip(" \x00") == str(reference.get(tag).value or "" if tag in
                                                                              reference else ""), (path.name, hex(tag))
        seen += 1
    assert seen > 50
