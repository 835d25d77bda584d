import hashlib
import io
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_peers import SECRET, MemoryLedger, encoded, instance, store_request, stored_datasets, uid
from ovcf_node.errors import Permanent, Refused, Transient
from ovcf_node.receive.header import read_header
from ovcf_node.receive.storing import Storing, refusal
from ovcf_node.storage.spool import Spool


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
def storing(spool, ledger):
    return Storing(spool, ledger, min_free_bytes=0, patient_secret=SECRET)


def test_receipt_says_what_was_stored(storing, spool, ledger):
    dataset = instance(7)
    request = store_request(dataset)
    assert storing.store(request) is True
    (receipt,) = ledger.receipts
    data = request.dataset.getvalue()
    assert receipt.sop_instance_uid == dataset.SOPInstanceUID
    assert receipt.sop_class_uid == dataset.SOPClassUID
    assert receipt.study_instance_uid == dataset.StudyInstanceUID
    assert receipt.series_instance_uid == dataset.SeriesInstanceUID
    assert receipt.transfer_syntax_uid == request.transfer_syntax_uid
    assert receipt.modality == "CT"
    assert receipt.digest == hashlib.sha256(data).hexdigest()
    assert (receipt.calling_ae_title, receipt.called_ae_title, receipt.association) == ("SCANNER", "OVCF_NODE", "a1")
    assert abs(datetime.now(UTC) - receipt.received_at) < timedelta(seconds=10)
    assert receipt.stat is False
    file = spool.read(receipt.path)
    assert receipt.size == len(file)
    assert file.endswith(data)  # the data set exactly as it came


def test_file_is_dicom_with_its_meta_information(storing, spool):
    dataset = instance(1)
    storing.store(store_request(dataset))
    (stored,) = stored_datasets(spool)
    assert stored == dcmread(io.BytesIO(spool.read(next(spool.files()))))
    assert stored.PatientID == "PLANTED-ID"
    meta = stored.file_meta
    assert meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert meta.MediaStorageSOPClassUID == dataset.SOPClassUID
    assert meta.SourceApplicationEntityTitle == "SCANNER"
    assert meta.ReceivingApplicationEntityTitle == "OVCF_NODE"
    assert meta.ImplementationVersionName.startswith("OVCF_NODE")
    head = spool.read(next(spool.files()))
    assert meta.FileMetaInformationGroupLength == head.index(b"\x08\x00\x16\x00UI") - 144


def test_file_meta_is_what_pydicom_would_write(storing, spool, tmp_path):
    storing.store(store_request(instance(1)))
    ours = spool.path(next(spool.files()))
    dcmread(ours).save_as(tmp_path / "again.dcm", enforce_file_format=True)
    assert (tmp_path / "again.dcm").read_bytes() == ours.read_bytes()


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (ImplicitVRLittleEndian, lambda d: encoded(d, implicit=True)),
        (ExplicitVRBigEndian, lambda d: encoded(d, little=False)),
        (DeflatedExplicitVRLittleEndian, lambda d: _deflate(encoded(d))),
    ],
)
def test_every_uncompressed_encoding(storing, ledger, spool, syntax, encode):
    dataset = instance(3)
    storing.store(store_request(dataset, transfer_syntax_uid=str(syntax), dataset=io.BytesIO(encode(dataset))))
    assert ledger.receipts[0].series_instance_uid == dataset.SeriesInstanceUID
    assert stored_datasets(spool)[0].InstanceNumber == 3


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(data) + packer.flush()
    return packed + b"\x00" * (len(packed) % 2)


def test_same_bytes_again_are_acknowledged_and_not_stored(storing, spool, ledger):
    assert storing.store(store_request(instance(1))) is True
    assert storing.store(store_request(instance(1))) is False
    assert len(list(spool.files())) == len(ledger.receipts) == 1


def test_other_bytes_of_one_uid_are_both_kept(storing, spool, ledger):
    storing.store(store_request(instance(1)))
    storing.store(store_request(instance(1, PatientID="OTHER")))
    first, second = ledger.receipts
    assert first.sop_instance_uid == second.sop_instance_uid
    assert first.digest != second.digest
    assert first.patient_key != second.patient_key
    assert len(list(spool.files())) == 2


def test_patient_key_is_keyed_and_covers_the_issuer(spool):
    def key(secret=SECRET, **elements):
        ledger = MemoryLedger()
        Storing(spool, ledger, min_free_bytes=0, patient_secret=secret).store(store_request(instance(1, **elements)))
        return ledger.receipts[0].patient_key

    assert key() == key(PatientName="Other^Name") == key(PatientID="PLANTED-ID ")
    others = {key(secret=b"other"), key(PatientID="X"), key(IssuerOfPatientID="HOSPITAL"), key(PatientID="")}
    assert len(others | {key()}) == 5
    assert "PLANTED" not in key()


@pytest.mark.parametrize(
    ("elements", "high", "stat"),
    [({}, False, False), ({}, True, True), ({"RequestedProcedurePriority": "STAT"}, False, True),
     ({"RequestedProcedurePriority": "HIGH"}, False, True), ({"RequestedProcedurePriority": "ROUTINE"}, False, False)],
)
def test_stat(storing, ledger, elements, high, stat):
    storing.store(store_request(instance(1, **elements), high_priority=high))
    assert ledger.receipts[0].stat is stat


@pytest.mark.parametrize(
    ("elements", "status", "code"),
    [
        ({"SeriesInstanceUID": None}, 0xC000, "uid_missing"),
        ({"StudyInstanceUID": ""}, 0xC000, "uid_missing"),
        ({"SeriesInstanceUID": "../../etc/passwd"}, 0xC000, "uid_malformed"),
        ({"SeriesInstanceUID": "1.2..3"}, 0xC000, "uid_malformed"),
        ({"StudyInstanceUID": "1." * 32 + "1"}, 0xC000, "uid_malformed"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
def test_unusable_uids_are_refused(storing, spool, ledger, elements, status, code):
    with pytest.raises(Refused) as caught:
        storing.store(store_request(instance(1, **elements)))
    assert (caught.value.status, caught.value.code) == (status, code)
    assert list(spool.files()) == ledger.receipts == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_leading_zero_is_tolerated(storing, ledger):
    storing.store(store_request(instance(1, SeriesInstanceUID="1.2.040.3")))
    assert ledger.receipts[0].series_instance_uid == "1.2.040.3"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"sop_instance_uid": uid("else")}, "sop_instance_mismatch"),
     ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}, "sop_class_mismatch")],
)
def test_request_and_dataset_must_agree(storing, spool, changes, code):
    with pytest.raises(Refused) as caught:
        storing.store(store_request(instance(1), **changes))
    assert (caught.value.status, caught.value.code) == (0xA900, code)
    assert list(spool.files()) == []


@pytest.mark.parametrize("data", [b"", b"\x00" * 7, b"\x08\x00\x16\x00UI\xff\xff1.2"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_garbage_is_refused(data, syntax):
    with pytest.raises(Refused) as caught:
        read_header(io.BytesIO(data), syntax)
    assert caught.value.status == 0xC000


def test_a_decompression_bomb_is_refused(storing, spool, ledger):
    deflating = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([deflating.compress(encoded(instance())), *(deflating.compress(bytes(2**24)) for _ in range(65))])
    request = store_request(
        instance(), transfer_syntax_uid=str(DeflatedExplicitVRLittleEndian), dataset=io.BytesIO(bomb + deflating.flush()),
    )
    with pytest.raises(Refused) as caught:
        storing.store(request)
    assert (caught.value.status, caught.value.code) == (0xC000, "inflates_too_large")
    assert not list(spool.files()) and not ledger.receipts


def test_low_disk_refuses_before_anything_is_written(spool, ledger):
    storing = Storing(spool, ledger, min_free_bytes=2**62, patient_secret=SECRET)
    with pytest.raises(Refused) as caught:
        storing.store(store_request(instance(1)))
    assert (caught.value.status, caught.value.code) == (0xA700, "low_disk")
    assert list(spool.files()) == []


def test_row_is_recorded_only_after_the_file(spool):
    class Checking(MemoryLedger):
        def record(self, receipt):
            assert spool.path(receipt.path).stat().st_size == receipt.size
            super().record(receipt)

    ledger = Checking()
    Storing(spool, ledger, min_free_bytes=0, patient_secret=SECRET).store(store_request(instance(1)))
    assert ledger.receipts


def test_failed_row_is_no_receipt(storing, ledger):
    ledger.error = Transient("ledger_busy")
    with pytest.raises(Transient):
        storing.store(store_request(instance(1)))
    ledger.error = None
    assert storing.store(store_request(instance(1))) is True  # the sender's second try is not taken for a duplicate
    assert len(ledger.receipts) == 1


def test_file_whose_row_found_no_room_does_not_stay(storing, spool, ledger):
    ledger.error = Transient("disk_full")
    with pytest.raises(Transient):
        storing.store(store_request(instance(1)))
    assert list(spool.files()) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(Refused(0xA900, "x"), 0xA900), (Transient("disk_full"), 0xA700), (Permanent("x"), 0x0110), (KeyError(), 0x0110)],
)
def test_refusal(error, status):
    assert refusal(error).status == status
