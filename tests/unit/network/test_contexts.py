from pydicom.uid import UID
from pynetdicom.sop_class import LabelMapSegmentationStorage

from ovcf_node.network import contexts


def test_every_uid_is_what_its_name_says():
    newer = {LabelMapSegmentationStorage: "Label Map Segmentation"}  # than pydicom's table
    for uid, name in contexts.NAMES.items():
        official = newer.get(uid) or UID(uid).name.replace(" Storage", "").replace(" Document", "")
        assert official in (name, f"{name} SOP Class")


def test_every_transfer_syntax_is_one_and_there_once():
    assert all(UID(uid).is_transfer_syntax for uid in contexts.IMAGE)
    assert len(set(contexts.IMAGE)) == len(contexts.IMAGE) == 16


def test_ct_is_accepted_in_every_syntax_and_prefers_uncompressed_then_lossless():
    for sop_class_uid in contexts.CT:
        offered = contexts.STORAGE[sop_class_uid]
        assert offered == contexts.UNCOMPRESSED + contexts.LOSSLESS + contexts.LOSSY
    assert offered[0] == contexts.EXPLICIT_LITTLE_ENDIAN


def test_fits_one_association():
    assert len(contexts.STORAGE) < 128


def test_unknown_class_is_named_by_its_uid():
    assert contexts.name("1.2.3") == "1.2.3"
