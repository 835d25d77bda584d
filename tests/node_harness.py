"""Run a real node and real peers for tests: processes on loopback, ended by pid, nothing left behind."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ovcf_node.config import Source, load
from ovcf_node.domain.findings import Findings
from ovcf_node.ledger import Ledger, Revision
from ovcf_node.network.application_entity import Listener
from ovcf_node.network.commitment import CommitmentAnswer, CommitmentRequest, CommittingAcceptor
from ovcf_node.network.messages import StoreAnswer, StoreRequest
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.receive.file_meta import encode_head
from ovcf_node.storage.results import Results

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLE = REPOSITORY / "models" / "reference"
POLL_S = 0.2  # of the queues
ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], object], limit_s: float, what: str) -> object:
    """Return the first true value of `condition`; fail after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {limit_s:.0f} s: {what}")


@dataclass
class RecordingPacs:
    """A Storage SCP that remembers the SHA-256 of everything it ever received, and keeps the last bytes as files.

    It commits to what it has, over the association of the request.
    """

    folder: Path
    title: str = "TEST_PACS"
    receipts: list[tuple[str, str]] = field(default_factory=list)
    answer: Callable[[StoreRequest], StoreAnswer] = lambda request: StoreAnswer(0x0000)
    port: int = 0
    asked: dict[str, CommitmentRequest] = field(default_factory=dict)

    def store(self, request: StoreRequest) -> StoreAnswer:
        answer = self.answer(request)
        if answer.status == 0x0000:
            data = request.dataset.getvalue()
            self.receipts.append((request.sop_instance_uid, hashlib.sha256(data).hexdigest()))
            head = encode_head(
                sop_class_uid=request.sop_class_uid, sop_instance_uid=request.sop_instance_uid,
                transfer_syntax_uid=request.transfer_syntax_uid, calling_ae_title="NODE", called_ae_title=self.title,
            )
            (self.folder / f"{request.sop_instance_uid}.dcm").write_bytes(head + data)
        return answer

    def commitment(self, transaction_uid: str) -> tuple[CommitmentAnswer, dict[str, str]]:
        asked = self.asked[transaction_uid].instances
        here = {uid for uid, _ in self.receipts}
        committed = tuple(uid for uid in asked if uid in here)
        return CommitmentAnswer(transaction_uid, committed, {uid: 0x0112 for uid in asked if uid not in here}), dict(asked)

    def report(self, transaction_uid: str, calling_ae_title: str) -> tuple[CommitmentAnswer, dict[str, str]] | None:
        return self.commitment(transaction_uid)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._acceptor = CommittingAcceptor(
            Listener("127.0.0.1", self.port),
            AssociationPolicy([self.title], [Source(ae_title="OVCF_NODE")], commits=True), self.store,
            promise=lambda asked: self.asked.update({asked.transaction_uid: asked}), answer=self.report,
            told=lambda transaction_uid, calling: None, reported=lambda answer: False,
        )
        self._acceptor.start()
        self.port = self._acceptor.port

    def stop(self) -> None:
        self._acceptor.stop(2.0)

    @contextmanager
    def running(self) -> Iterator["RecordingPacs"]:
        self.start()
        try:
            yield self
        finally:
            self.stop()


class Node:
    """A node in its own processes."""

    program = (sys.executable, "-m", "ovcf_node")

    def __init__(
        self, folder: Path, destinations: str, *, extra: str = "", quiet_s: float = 2.0, port: int | None = None,
        sources: Sequence[str] = ("SCANNER", "STORESCU"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        known = ", ".join(f'{{ ae_title = "{title}" }}' for title in sources)
        self.configuration = folder / "node.toml"
        self.configuration.write_text(f"""
[node]
installation = "test"
data = "data"
bundle = "{BUNDLE}"
[receive]
host = "127.0.0.1"
port = {self.port}
sources = [{known}]
min_free_mb = 100
[assemble]
quiet_s = {quiet_s}
[engine]
poll_s = {POLL_S}
judge_interval_s = 0.5
{extra}
{destinations}
""")
        self.settings = load(self.configuration)
        self.log = folder / "node.log"

    @contextmanager
    def running(self) -> Iterator["Node"]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ovcf_node", "serve", "--config", str(self.configuration)], stdout=log, stderr=log,
            )
        self.process = process
        try:
            wait_for(self.listens, 90, f"the receiver listens; see {self.log}")
            self.ledger = Ledger(self.settings.ledger_url)
            yield self
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                self.exit_status = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            finally:
                if hasattr(self, "ledger"):
                    self.ledger.close()

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def command(self, *arguments: str, limit_s: float = 120) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "ovcf_node", *arguments, "--config", str(self.configuration)],
            capture_output=True, text=True, timeout=limit_s,
        )

    def newest(self, series_instance_uid: str) -> Revision | None:
        found = self.ledger.revisions.of_series(series_instance_uid)
        return found[-1] if found else None

    def settled(self, series_instance_uid: str, limit_s: float = 240) -> Revision:
        """Wait until the newest revision of a series is excluded, or answered and every delivery is final."""

        def final() -> Revision | None:
            revision = self.newest(series_instance_uid)
            if revision is None:
                return None
            if revision.state in ("EXCLUDED", "FAILED"):
                return revision
            deliveries = self.ledger.deliveries.of_revision(revision.id)
            done = revision.answered and deliveries and all(d.state != "PENDING" for d in deliveries)
            return revision if done else None

        return wait_for(final, limit_s, f"series settled; see {self.log}")

    def findings(self, revision: Revision) -> Findings:
        data = Results(self.settings.node.data / "results").get(revision.reading_key, "findings.json")
        return Findings.from_json(json.loads(data))

    def reading_files(self, revision: Revision) -> dict[str, str]:
        """Return the SHA-256 of each file that the reading of a revision left."""
        results = Results(self.settings.node.data / "results")
        names = results.names(revision.reading_key)
        return {name: hashlib.sha256(results.get(revision.reading_key, name)).hexdigest() for name in names}

    def worker_pids(self, role: str) -> list[int]:
        """Return the pids of this node's processes of a role."""
        needle = f"run\0{role}\0--config\0{self.configuration}".encode()
        pids = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if needle in (entry / "cmdline").read_bytes():
                        pids.append(int(entry.name))
                except OSError:
                    continue  # it ended meanwhile
        return pids


def dicom_destination(name: str, title: str, port: int, **options: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    return "\n".join([
        "[[destinations]]", f'name = "{name}"', 'type = "dicom"', f'ae_title = "{title}"', 'host = "127.0.0.1"',
        f"port = {port}", "retry_first_s = 1.0", "retry_cap_s = 2.0", *lines, "",
    ])


def storescu(port: int, folder: Path, *options: str, called: str = "OVCF_NODE") -> None:
    """Send a folder with DCMTK's storescu as a scanner would; raises when any instance is refused."""
    environment = os.environ | {"TCP_NODELAY": "1"}
    done = subprocess.run(
        ["storescu", "-aet", "SCANNER", "-aec", called, "+sd", "+r", *options, "127.0.0.1", str(port), str(folder)],
        capture_output=True, text=True, env=environment, timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def dciodvfy_errors(path: Path) -> list[str]:
    """Return the error lines of dicom3tools' validator."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=120)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@contextmanager
def orthanc(
    folder: Path, title: str = "ORTHANC", *, known: Mapping[str, int] | None = None, dicomweb: bool = False,
    dicomweb_servers: dict[str, dict] | None = None, **options: object,
) -> Iterator[tuple[int, str]]:
    """Run Orthanc on loopback; yields its DICOM port and the URL of its REST interface (DICOMweb at /dicom-web).

    known             AE titles with their ports on loopback, as Move Destinations.
    dicomweb_servers  what it can reach as a DICOMweb client, as its configuration has it.
    options           further settings of Orthanc.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, http = free_port(), free_port()
    (folder / "orthanc.json").write_text(json.dumps({
        "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "DicomAet": title,
        "DicomPort": port, "HttpPort": http, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True, "Plugins": [str(ORTHANC_DICOMWEB)] if dicomweb else [],
        "DicomWeb": {"Enable": dicomweb, "Servers": dicomweb_servers or {}},
        "DicomModalities": {name: [name, "127.0.0.1", number] for name, number in (known or {}).items()}, **options,
    }))
    url = f"http://127.0.0.1:{http}"
    with (folder / "orthanc.log").open("wb") as log:
        # Without it DCMTK waits 40 ms before every response: measured against us, that would flatter us.
        environment = os.environ | {"TCP_NODELAY": "1"}
        process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log, env=environment)
    try:
        wait_for(lambda: _answers(url + "/system"), 30, "Orthanc answers")
        yield port, url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.read()
