"""Look at a node from outside: is the configuration workable, do the destinations answer, is it alive?"""

import errno
import socket
import time
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from ovcf_node import deliver, infer
from ovcf_node.app.process import spool_root
from ovcf_node.config import Settings
from ovcf_node.errors import OvcfError, Permanent, Transient
from ovcf_node.ledger import Ledger, probe
from ovcf_node.network import associate
from ovcf_node.storage.spool import Spool


def check(settings: Settings) -> list[str]:
    """Return every problem an integration engineer can act on; empty when the node is ready to serve."""
    problems = []
    try:
        infer.load(settings.node.bundle, providers=settings.infer.providers, threads=settings.infer.threads)
    except OvcfError as error:
        problems.append(f"model bundle: {error}")
    problems += _check_data(settings) + _check_port(settings) + _check_databases(settings)
    if not settings.receive.sources:
        problems.append("receive.sources is empty: every association will be rejected; list the calling AE titles")
    if not settings.destinations:
        problems.append("no destinations: results would be made and go nowhere; add [[destinations]]")
    for destination in settings.destinations:
        try:
            echo(settings, destination.name)
        except OvcfError as error:
            problems.append(f"destination {destination.name}: {error}")
    return problems


def _check_databases(settings: Settings) -> list[str]:
    problems = []
    for name, url in (("engine.ledger_url", settings.engine.ledger_url), ("engine.engine_url", settings.engine.engine_url)):
        if url is not None:
            try:
                probe(url.get_secret_value())
            except OvcfError as error:
                problems.append(f"{name}: {error}")
    source = settings.assemble.count_source
    if source is not None:
        try:
            associate.echo(associate.Remote(source.host, source.port, source.ae_title, source.calling_ae_title))
        except OvcfError as error:
            problems.append(f"assemble.count_source: {error}")
    return problems


def alive(settings: Settings) -> list[str]:
    """Return what is dead on this machine: the receiver's port, or the judge anywhere."""
    problems = []
    host = "127.0.0.1" if settings.receive.host in ("0.0.0.0", "::") else settings.receive.host
    try:
        socket.create_connection((host, settings.receive.port), 5).close()
    except OSError as error:
        problems.append(f"receiver: {error.strerror or error}")
    try:
        ledger = Ledger(settings.ledger_url)
        if "judge" not in ledger.leases.living("", time.time()):
            problems.append("no judge: no worker has held the lease lately")
        ledger.close()
    except OvcfError as error:
        problems.append(f"ledger: {error}")
    return problems


def echo(settings: Settings, name: str) -> str:
    """Try one destination: C-ECHO, or a write into its folder; returns what was done.

    Raises Transient or Permanent with the peer's words, KeyError for an unknown name.
    """
    destination = {d.name: d for d in settings.destinations}[name]
    if destination.type == "folder":
        try:
            destination.path.mkdir(parents=True, exist_ok=True)
            probe = destination.path / ".ovcf-node-probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise Transient("folder", f"cannot write to {destination.path}: {error.strerror}") from error
        return f"folder {destination.path} is writable"
    seconds = associate.echo(deliver.remote_of(destination))
    return f"C-ECHO to {destination.ae_title} at {destination.host}:{destination.port} answered in {seconds * 1000:.0f} ms"


def send_folder(folder: Path, remote: associate.Remote) -> list[associate.StoreReply]:
    """Send every DICOM instance below `folder` over one association, as a scanner would; returns every answer.

    Raises Permanent `no_input` when there is none, and what `associate.store` raises.
    """
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            meta = read_file_meta_info(path)
        except (InvalidDicomError, EOFError):
            continue
        files.append(associate.StoreFile(path, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID))
    if not files:
        raise Permanent("no_input", f"no DICOM instance below {folder}")
    replies: list[associate.StoreReply] = []
    associate.store(remote, files, replies.append)
    return replies


def _check_data(settings: Settings) -> list[str]:
    data = settings.node.data
    try:
        data.mkdir(parents=True, exist_ok=True)
        free_mb = Spool(spool_root(settings)).free_bytes() // 2**20
    except (OSError, OvcfError) as error:
        return [f"node.data: cannot write to {data}: {error}"]
    if free_mb < settings.receive.min_free_mb:
        return [f"node.data: {free_mb} MB free, below receive.min_free_mb = {settings.receive.min_free_mb}: "
                "C-STORE would be refused with 0xA700"]
    return []


def _check_port(settings: Settings) -> list[str]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.receive.host, settings.receive.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and not alive(settings):
                return []  # it is this node itself that listens there
            return [f"receive: cannot listen on {settings.receive.host}:{settings.receive.port}: {error.strerror}"]
    return []
