"""The receiver against DCMTK's echoscu, storescu and dcmsend."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_peers import (
    CT_IMAGE,
    MemoryLedger,
    free_port,
    instance,
    program,
    receiving,
    stored_datasets,
    uid,
    wait_until,
    write,
)
from ovcf_node.storage.spool import Spool

pytestmark = pytest.mark.peer

_ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


def dcmtk(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)


def storescu(port: int, *arguments: object, calling="STORESCU", called="OVCF_NODE") -> subprocess.CompletedProcess:
    return dcmtk("storescu", "-v", "-R", "-aet", calling, "-aec", called, "127.0.0.1", port, *arguments)


def write_series(folder: Path, count: int, size: int = 64) -> list[Path]:
    return [write(folder, instance(n, size=size)) for n in range(1, count + 1)]


def test_echo_known_and_unknown(tmp_path):
    with receiving(tmp_path) as (receiver, _):
        known = dcmtk("echoscu", "-aet", "STORESCU", "-aec", "OVCF_NODE", "127.0.0.1", receiver.port)
        assert known.returncode == 0, known.stderr
        stranger = dcmtk("echoscu", "-aet", "STRANGER", "-aec", "OVCF_NODE", "127.0.0.1", receiver.port)
        assert stranger.returncode != 0
        assert "Calling AE Title Not Recognized" in stranger.stderr
        wrong = dcmtk("echoscu", "-aet", "STORESCU", "-aec", "WRONG", "127.0.0.1", receiver.port)
        assert wrong.returncode != 0
        assert "Called AE Title Not Recognized" in wrong.stderr


def test_real_series_arrives_byte_for_byte(tmp_path, shared_data):
    ledger = MemoryLedger()
    sources = sorted((shared_data / "ct/crlm_1004").glob("*.dcm"))[:12]
    with receiving(tmp_path, ledger) as (receiver, spool):
        sent = storescu(receiver.port, *sources)
        assert sent.returncode == 0, sent.stderr
        stored = {d.SOPInstanceUID: d for d in stored_datasets(spool)}
    assert len(stored) == len(ledger.receipts) == 12
    for source in sources:
        original = dcmread(source)
        assert stored[original.SOPInstanceUID].PixelData == original.PixelData


@pytest.mark.parametrize("sender", ["storescu", "dcmsend"])
def test_jpeg2000_arrives_compressed_and_unchanged(tmp_path, shared_data, sender):
    originals = []
    for source in sorted((shared_data / "ct/totalsegmentator_slab_jpeg2000").iterdir())[:5]:
        dataset = dcmread(source)  # the public files are stripped of their UIDs
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CT_IMAGE
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid(source.name)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("slab")
        originals.append(dataset)
    paths = [write(tmp_path / "slab", d) for d in originals]
    with receiving(tmp_path) as (receiver, spool):
        if sender == "storescu":
            sent = storescu(receiver.port, "-xv", *paths)
        else:
            sent = dcmtk("dcmsend", "-v", "--decompress-never", "-aet", "STORESCU", "-aec", "OVCF_NODE", "127.0.0.1",
                         receiver.port, *paths)
        assert sent.returncode == 0, sent.stderr
        stored = {d.SOPInstanceUID: d for d in stored_datasets(spool)}
    assert len(stored) == 5
    for original in originals:
        assert stored[original.SOPInstanceUID].file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        assert stored[original.SOPInstanceUID].PixelData == original.PixelData


def test_every_transfer_syntax_of_one_slice(tmp_path, shared_data):
    """DCMTK proposes each file in its own syntax; what it can propose must be stored as it came."""
    files = sorted((shared_data / "odd/cs3d_transfer_syntaxes").rglob("*.dcm"))
    ledger = MemoryLedger()
    with receiving(tmp_path, ledger) as (receiver, _):
        sent = dcmtk("dcmsend", "-v", "--decompress-never", "--no-halt", "--no-uid-checks", "-aet", "STORESCU", "-aec",
                     "OVCF_NODE", "127.0.0.1", receiver.port, *files)
    syntaxes = {r.transfer_syntax_uid for r in ledger.receipts}
    assert len(syntaxes) >= 10, sent.stderr
    assert {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"} <= syntaxes


def test_the_same_series_twice_is_stored_once(tmp_path):
    ledger = MemoryLedger()
    paths = write_series(tmp_path / "series", 5)
    with receiving(tmp_path, ledger) as (receiver, spool):
        for _ in range(2):
            assert storescu(receiver.port, *paths).returncode == 0
        assert len(list(spool.files())) == 5
    assert len(ledger.receipts) == 5


def test_low_disk_is_out_of_resources(tmp_path):
    with receiving(tmp_path, min_free_bytes=2**62) as (receiver, spool):
        sent = storescu(receiver.port, *write_series(tmp_path / "series", 2))
        assert "Refused: OutOfResources" in sent.stderr
        assert list(spool.files()) == []
        assert dcmtk("echoscu", "-aet", "STORESCU", "-aec", "OVCF_NODE", "127.0.0.1", receiver.port).returncode == 0


def test_aborted_association_leaves_whole_files_only(tmp_path):
    ledger = MemoryLedger()
    paths = write_series(tmp_path / "series", 40, size=512)
    with receiving(tmp_path, ledger) as (receiver, spool):
        command = [program("storescu"), "-R", "-aet", "STORESCU", "-aec", "OVCF_NODE", "127.0.0.1", str(receiver.port)]
        process = subprocess.Popen([*command, *map(str, paths)], env=_ENVIRONMENT, stderr=subprocess.DEVNULL)
        wait_until(lambda: len(ledger.receipts) >= 3)
        process.kill()
        process.wait(10)
        assert storescu(receiver.port, paths[-1]).returncode == 0  # the next association is not disturbed
        stored = stored_datasets(spool)
    assert 3 < len(stored) < 40
    assert {len(d.PixelData) for d in stored} == {512 * 512 * 2}
    assert len(stored) == len(ledger.receipts)


@contextmanager
def receiver_process(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    script = Path(__file__).with_name("receiver_process.py")
    process = subprocess.Popen([sys.executable, str(script), str(folder), str(port)], stderr=subprocess.DEVNULL)
    echo = ("echoscu", "-aet", "STORESCU", "-aec", "OVCF_NODE", "127.0.0.1", port)
    try:
        wait_until(lambda: dcmtk(*echo).returncode == 0, seconds=60)
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    port = free_port()
    paths = write_series(tmp_path / "series", 60, size=512)
    command = [program("storescu"), "-v", "-R", "-aet", "STORESCU", "-aec", "OVCF_NODE", "127.0.0.1", str(port)]
    with receiver_process(tmp_path, port) as receiver:
        sender = subprocess.Popen([*command, *map(str, paths)], env=_ENVIRONMENT, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(_receipts(tmp_path)) >= 8)
        receiver.send_signal(signal.SIGKILL)
        acknowledged = sender.communicate(timeout=30)[1].count("Received Store Response (Success)")

    spool = Spool(tmp_path / "spool")
    visible, receipts = list(spool.files()), _receipts(tmp_path)
    assert 0 < acknowledged <= len(receipts) <= len(visible) < 60
    for receipt in receipts:
        data = spool.read(receipt["path"])
        begin = 144 + dcmread(io.BytesIO(data)).file_meta.FileMetaInformationGroupLength
        assert len(data) == receipt["size"]
        assert hashlib.sha256(data[begin:]).hexdigest() == receipt["digest"]
    assert {len(d.PixelData) for d in stored_datasets(spool)} == {512 * 512 * 2}


def test_sigterm_ends_well(tmp_path):
    port = free_port()
    with receiver_process(tmp_path, port) as receiver:
        assert storescu(port, *write_series(tmp_path / "series", 1)).returncode == 0
        receiver.terminate()
        assert receiver.wait(15) == 0


def _receipts(folder: Path) -> list[dict]:
    path = folder / "receipts"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
