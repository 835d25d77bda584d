"""What tests of the network stages need: instances, a recording acceptor, a ledger in memory, a running receiver."""

import hashlib
import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from absent import absent
from ovcf_node.config import Receive, Source
from ovcf_node.domain.series import Receipt
from ovcf_node.network.messages import Peer, StoreRequest
from ovcf_node.receive.server import Receiver
from ovcf_node.receive.storing import Storing
from ovcf_node.storage.spool import Spool

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECRET = b"a secret of the tests"


def program(name: str) -> str:
    """Return the path of a peer program; skip without it, fail under CI."""
    found = shutil.which(name)
    if found is None:
        absent(f"{name} is not installed")
    return found


def uid(*parts: object) -> str:
    """Return the same UID for the same parts."""
    return generate_uid(entropy_srcs=[str(part) for part in parts])


def instance(number: int = 1, *, series: str = "series", size: int = 32, **elements) -> Dataset:
    """Return a small CT instance with File Meta Information; `elements` set keywords, None deletes one."""
    dataset = Dataset()
    dataset.SOPClassUID = CT_IMAGE
    dataset.SOPInstanceUID = uid(series, number)
    dataset.Modality = "CT"
    dataset.PatientName = "Planted^Name"
    dataset.PatientID = "PLANTED-ID"
    dataset.StudyInstanceUID = uid("study")
    dataset.SeriesInstanceUID = uid(series)
    dataset.InstanceNumber = number
    dataset.Rows = dataset.Columns = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = bytes([number % 256, 0]) * size * size
    for keyword, value in elements.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CT_IMAGE)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", uid("none"))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write(folder: Path, dataset: Dataset) -> Path:
    """Write an instance as a DICOM file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset.file_meta.MediaStorageSOPInstanceUID}.dcm"
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def encoded(dataset: Dataset, *, implicit: bool = False, little: bool = True) -> bytes:
    """Return the data set alone, as it travels in a C-STORE."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def store_request(carried: Dataset, **changes) -> StoreRequest:
    """Return the C-STORE request that carries an instance."""
    values = {
        "peer": Peer("a1", "SCANNER", "OVCF_NODE", "127.0.0.1"),
        "sop_class_uid": str(carried.get("SOPClassUID", CT_IMAGE)),
        "sop_instance_uid": str(carried.get("SOPInstanceUID", uid("none"))),
        "transfer_syntax_uid": str(ExplicitVRLittleEndian),
        "high_priority": False,
        "dataset": io.BytesIO(encoded(carried)),
    }
    return StoreRequest(**(values | changes))


@dataclass
class MemoryLedger:
    """Remember receipts; `error` is raised instead while it is set."""

    receipts: list[Receipt] = field(default_factory=list)
    error: Exception | None = None

    def has_digest(self, sop_instance_uid: str, digest: str) -> bool:
        return any((r.sop_instance_uid, r.digest) == (sop_instance_uid, digest) for r in self.receipts)

    def record(self, receipt: Receipt) -> None:
        if self.error:
            raise self.error
        self.receipts.append(receipt)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds: float = 30.0) -> None:
    """Return when the condition holds; fail after some time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true"
        time.sleep(0.02)


@contextmanager
def receiving(
    folder: Path, ledger=None, *, min_free_bytes: int = 0, port: int = 0, **settings
) -> Iterator[tuple[Receiver, Spool]]:
    """Run a receiver on loopback that knows SCANNER and STORESCU."""
    spool = Spool(folder / "spool")
    storing = Storing(spool, ledger or MemoryLedger(), min_free_bytes=min_free_bytes, patient_secret=SECRET)
    known = {"sources": (Source(ae_title="SCANNER"), Source(ae_title="STORESCU")), "host": "127.0.0.1"}
    receiver = Receiver(Receive(**(known | settings)), storing, port=port)
    receiver.start()
    try:
        yield receiver, spool
    finally:
        receiver.stop(drain_s=0)


class RecordingAcceptor:
    """A Storage SCP that records one SHA-256 for every receipt, and answers as it is told.

    statuses   SOP Instance UID -> status, or (status, Error Comment)
    """

    def __init__(self, sop_classes, *, transfer_syntaxes=None, ae_title="PACS", callers: list[str] | None = None):
        self.statuses: dict[str, int | tuple[int, str]] = {}
        self.received: dict[str, list[str]] = {}
        self.datasets: dict[str, Dataset] = {}
        self.abort_after: int | None = None
        self._ae = AE(ae_title)
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = callers or []
        for sop_class in sop_classes:
            self._ae.add_supported_context(sop_class, transfer_syntaxes or [str(ExplicitVRLittleEndian)])
        self._ae.add_supported_context("1.2.840.10008.1.1")
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def _store(self, event: evt.Event) -> int | Dataset:
        if self.abort_after is not None and len(self.received) >= self.abort_after:
            event.assoc.abort()
            return 0x0000
        name = str(event.request.AffectedSOPInstanceUID)
        answer = self.statuses.get(name, 0x0000)
        status, comment = answer if isinstance(answer, tuple) else (answer, "")
        if status == 0x0000 or status >> 12 == 0xB:
            data = event.request.DataSet.getvalue()
            self.received.setdefault(name, []).append(hashlib.sha256(data).hexdigest())
            self.datasets[name] = event.dataset
        reply = Dataset()
        reply.Status = status
        if comment:
            reply.ErrorComment = comment
        return reply

    def close(self) -> None:
        self._ae.shutdown()


def stored_datasets(spool: Spool) -> list[Dataset]:
    """Read every visible file of a spool; a damaged one raises."""
    return [dcmread(spool.path(path)) for path in spool.files()]


@contextmanager
def relayed(port: int, header: bytes) -> Iterator[int]:
    """Relay one connection and begin it with a PROXY header, as a balancer does; yields the port to connect to."""

    def relay() -> None:
        client, _ = listening.accept()
        server = socket.create_connection(("127.0.0.1", port), 20)
        server.sendall(header)
        threading.Thread(target=pump, args=(server, client), daemon=True).start()
        pump(client, server)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one of the two has hung up

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=relay, daemon=True).start()
        yield listening.getsockname()[1]
