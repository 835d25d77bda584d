"""Look at a node from outside: is the configuration workable, do the destinations answer, is it alive?"""

import errno
import socket
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from ovcf_node import deliver, infer
from ovcf_node.app import fetch
from ovcf_node.app.process import rights_problem, silent, spool_root
from ovcf_node.config import Settings, Web
from ovcf_node.errors import OvcfError, Permanent
from ovcf_node.ledger import Ledger, is_there, probe
from ovcf_node.network import associate, commitment, tls
from ovcf_node.operate import users
from ovcf_node.query import tokens
from ovcf_node.storage.spool import Spool


def check(settings: Settings) -> list[str]:
    """Return every problem an integration engineer can act on; empty when the node is ready to serve."""
    problems = []
    try:
        infer.load(settings.node.bundle, providers=settings.infer.providers, threads=settings.infer.threads)
    except OvcfError as error:
        problems.append(f"model bundle: {error}")
    problems += _check_data(settings) + _check_ports(settings) + database_problems(settings)
    problems += _check_web(settings.web) + _check_tls(settings)
    if not settings.receive.sources:
        problems.append("receive.sources is empty: every association will be rejected; list the calling AE titles")
    if settings.query.enabled and not settings.query.peers:
        problems.append("query.peers is empty: every association will be rejected; list the calling AE titles")
    if not settings.destinations and settings.node.mode == "live":
        problems.append("no destinations: results would be made and go nowhere; add [[destinations]]")
    for destination in settings.destinations:
        try:
            echo(settings, destination.name)
            if destination.final == "committed" and not commitment.offered(deliver.remote_of(destination)):
                problems.append(f'destination {destination.name}: final = "committed", and it does not accept Storage '
                                "Commitment from us")
        except OvcfError as error:
            problems.append(f"destination {destination.name}: {error}")
    for archive in settings.archives:
        try:
            associate.echo(fetch.remote_of(archive))
        except OvcfError as error:
            problems.append(f"archive {archive.name}: {error}")
        problems += [f"archive {archive.name}: {obstacle}" for obstacle in fetch.obstacles(settings, archive)]
    return problems


def _check_web(web: Web) -> list[str]:
    problems = []
    for name, path, read in (("tokens", web.tokens, tokens.read), ("users", web.users, users.load)):
        if path is not None:
            try:
                read(path)
            except OvcfError as error:
                problems.append(f"web.{name}: {error.text}")
    if web.enabled and not web.open and not (web.users and web.users.exists()):
        problems.append("web.users: nobody can sign in to the pages; add people with `ovcf-node users add`")
    if web.certificate is not None:
        try:
            tls.of_web(web).current()
        except OvcfError as error:
            problems.append(f"web: {error.text}")
    return problems


def _check_tls(settings: Settings) -> list[str]:
    if not settings.tls.ready:
        return []
    try:
        tls.certificates().server()
    except OvcfError as error:
        return [f"tls: {error.text}"]
    return []


def database_problems(settings: Settings) -> list[str]:
    """Return why a database or the count source cannot be used: away, or of a later version of this program."""
    problems = []
    from ovcf_node.engine import refuse_newer  # DBOS takes a second to import; `alive` does without

    for name, url, look in (("ledger", settings.ledger_url, probe), ("engine", settings.engine_url, refuse_newer)):
        if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
            continue  # made at the first start
        try:
            look(url)
        except OvcfError as error:
            problems.append(f"{name}: {error}")
    source = settings.assemble.count_source
    if source is not None:
        try:
            associate.echo(fetch.count_remote(source))
        except OvcfError as error:
            problems.append(f"assemble.count_source: {error}")
    return problems


def alive(settings: Settings) -> list[str]:
    """Return what is dead on this machine: a port that it should listen on, or the judge anywhere."""
    dead = [f"{name}: {words}" for name, host, port in _listeners(settings) if (words := silent(host, port))]
    return dead + _judge_problems(settings)


def _judge_problems(settings: Settings) -> list[str]:
    try:
        if not is_there(settings.ledger_url):
            return ["ledger: none is there: no node has run with this configuration yet"]
        ledger = Ledger(settings.ledger_url)
        judging = "judge" in ledger.leases.living("", ledger.leases.now())
        ledger.close()
    except OvcfError as error:
        return [f"ledger: {error}"]
    return [] if judging else ["no judge: no worker has held the lease lately"]


def echo(settings: Settings, name: str) -> str:
    """Try one destination: C-ECHO, a write into its folder, or a QIDO-RS query; returns what was done.

    Raises Transient or Permanent with the peer's words, KeyError for an unknown name.
    """
    return deliver.echo({d.name: d for d in settings.destinations}[name])


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


def warnings(settings: Settings) -> list[str]:
    """Return what does not keep the node from serving and should not stay so."""
    words = rights_problem(settings.node.data)
    return [f"node.data: {words}"] if words else []


def _check_data(settings: Settings) -> list[str]:
    data = settings.node.data
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        free_mb = Spool(spool_root(settings)).free_bytes() // 2**20
    except (OSError, OvcfError) as error:
        return [f"node.data: cannot write to {data}: {error}"]
    if free_mb < settings.receive.min_free_mb:
        return [f"node.data: {free_mb} MB free, below receive.min_free_mb = {settings.receive.min_free_mb}: "
                "C-STORE would be refused with 0xA700"]
    return []


def _listeners(settings: Settings) -> list[tuple[str, str, int]]:
    """Return the listeners of a node: process, address, port."""
    found = [("receiver", settings.receive.host, port) for port in settings.receive.ports]
    if settings.query.enabled:
        found += [("query", settings.query.host, port) for port in settings.query.ports]
    if settings.web.enabled:
        found.append(("web", settings.web.host, settings.web.port))
    return found


def _check_ports(settings: Settings) -> list[str]:
    problems = []
    for name, host, port in _listeners(settings):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE and not _judge_problems(settings):
                    continue  # it is this node itself that listens there
                problems.append(f"{name}: cannot listen on {host}:{port}: {error.strerror}")
    return problems
