"""Stand-in PACS for the demonstration: Orthanc where it is installed, otherwise a storage SCP that writes a folder."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ovcf_node.config import Source
from ovcf_node.errors import Transient
from ovcf_node.network.application_entity import Acceptor, Listener
from ovcf_node.network.messages import StoreAnswer, StoreRequest
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.receive.file_meta import encode_head

AE_TITLE = "DEMO_PACS"
_START_S = 30.0


class StandIn(Protocol):
    """What the demonstration needs of a PACS."""

    name: str
    port: int

    def fetch(self, folder: Path) -> list[Path]:
        """Write every instance the PACS holds into `folder` and return the files."""
        ...


class FolderPacs:
    """A storage SCP that keeps every instance as one file."""

    name = "storage SCP (folder)"

    def __init__(self, folder: Path, calling_ae_title: str):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        policy = AssociationPolicy([AE_TITLE], [Source(ae_title=calling_ae_title)])
        self._acceptor = Acceptor(Listener("127.0.0.1", 0), policy, self._store)

    def __enter__(self) -> "FolderPacs":
        self._acceptor.start()
        self.port = self._acceptor.port
        return self

    def __exit__(self, *_: object) -> None:
        self._acceptor.stop(2.0)

    def _store(self, request: StoreRequest) -> StoreAnswer:
        head = encode_head(
            sop_class_uid=request.sop_class_uid, sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid, calling_ae_title=request.peer.calling_ae_title,
            called_ae_title=request.peer.called_ae_title,
        )
        temporary = self._folder / f".{request.sop_instance_uid}"
        temporary.write_bytes(head + request.dataset.getvalue())
        temporary.rename(self._folder / f"{request.sop_instance_uid}.dcm")
        return StoreAnswer(0x0000)

    def fetch(self, folder: Path) -> list[Path]:
        return sorted(self._folder.glob("*.dcm"))


class OrthancPacs:
    """Orthanc in a process of its own, reachable from this machine only."""

    name = "Orthanc"

    def __init__(self, folder: Path, port: int, http_port: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self._url = f"http://127.0.0.1:{http_port}"
        self._configuration = folder / "orthanc.json"
        self._log = folder / "orthanc.log"
        self._configuration.write_text(json.dumps({
            "Name": "ovcf-node demo", "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"), "DicomAet": AE_TITLE, "DicomPort": port, "HttpPort": http_port,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckModalityHost": False,
            "DicomAlwaysAllowStore": True, "Plugins": [],
        }))

    def __enter__(self) -> "OrthancPacs":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([_orthanc(), str(self._configuration)], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self._get("/system")
                return self
            except OSError:
                time.sleep(0.2)
        self.__exit__()
        raise Transient("demo_pacs", "Orthanc did not start; see orthanc.log in the demo's folder")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._url + path, timeout=10) as response:  # noqa: S310 - our own Orthanc
            return response.read()

    def fetch(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for identifier in json.loads(self._get("/instances")):
            path = folder / f"{identifier}.dcm"
            if not path.exists():
                path.write_bytes(self._get(f"/instances/{identifier}/file"))
            paths.append(path)
        return paths


@contextmanager
def stand_in(kind: str, folder: Path, calling_ae_title: str, ports: tuple[int, int]) -> Iterator[StandIn]:
    """Start the PACS of `kind` (auto | orthanc | folder) and end it with the block."""
    if kind == "orthanc" or (kind == "auto" and _orthanc()):
        with OrthancPacs(folder, *ports) as pacs:
            yield pacs
    else:
        with FolderPacs(folder, calling_ae_title) as pacs:
            yield pacs


def _orthanc() -> str | None:
    return shutil.which("Orthanc", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
