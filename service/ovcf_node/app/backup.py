"""Back up a running node, and make a data folder from a backup.

The order is what makes a copy of a running node whole: first the ledger at one moment, then the files. A row is written
after its files, so whatever the copied ledger names is there; files that came later are named by nobody and do no harm. The
scheduler's database is left out: the judge enqueues again whatever the ledger calls unfinished.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ovcf_node import __version__
from ovcf_node.app.process import spool_root
from ovcf_node.config import Settings
from ovcf_node.errors import OvcfError, Permanent, Transient
from ovcf_node.ledger import copy_sqlite, is_there, probe
from ovcf_node.storage import atomic

MANIFEST = "backup.json"
_LEDGER = "ledger.sqlite"
_LEFT_OUT = ("slots", atomic.TEMPORARY)  # locks of this machine's processes, files that are not finished


@dataclass(frozen=True)
class Manifest:
    """What a backup holds; `ledger` is the SHA-256 of ledger.sqlite, empty where the ledger is on a server."""

    installation: str
    software: str
    made_at: str
    ledger: str
    files: int
    bytes: int
    vanished: int


def back_up(settings: Settings, out: Path, progress: Callable[[int], None] = lambda files: None) -> Manifest:
    """Copy ledger and data folder of a running node into the new folder `out`, which appears when it is whole.

    Of a PostgreSQL ledger only the files are copied: its dump must have been made before. Files that a purge removes
    meanwhile are counted as `vanished`. Raises Permanent (`backup_exists`, `backup_inside`, `no_ledger`, `no_spool`),
    Transient (`disk_full`, `storage`, `ledger_unavailable`).
    """
    if out.exists():
        raise Permanent("backup_exists", f"{out} exists already: name a new folder for every backup")
    data = settings.node.data
    if out.resolve().is_relative_to(data.resolve()):
        raise Permanent("backup_inside", "a backup inside node.data would be lost with it, and copy itself")
    if settings.ledger_url.startswith("sqlite") and not is_there(settings.ledger_url):
        raise Permanent("no_ledger", f"no node has run on {data} yet: is node.data right? An empty backup is none")
    if not spool_root(settings).is_dir():  # a ledger on a server is there whatever node.data says
        raise Permanent("no_spool", f"no node has received on {data} yet: is node.data right? An empty backup is none")
    partial = out.with_name(out.name + ".partial")
    with atomic.storage_errors():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
    digest = ""
    if settings.ledger_url.startswith("sqlite"):
        copy_sqlite(settings.ledger_url, partial / _LEDGER)
        digest = _sha256(partial / _LEDGER)
    files, size, vanished = _copy(data, partial / "data", progress)
    manifest = Manifest(
        settings.node.installation, __version__, datetime.now(UTC).isoformat(timespec="seconds"), digest, files, size,
        vanished,
    )
    with atomic.storage_errors():
        (partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        os.sync()  # thousands of files: one flush instead of one each
        partial.rename(out)
    return manifest


def restore(settings: Settings, backup: Path) -> Manifest:
    """Make the configured data folder, which must be absent or empty, from a backup.

    What was sent after the backup is at the destinations and nobody here knows of it: `workflow.restored` asks them before
    it sends, and UIDs depend on the start of the analysis, so that no UID ever has two contents.

    Raises Permanent (`no_backup`, `backup_damaged`, `data_not_empty`, `other_installation`, `schema_newer`) and leaves
    the folder as it was, Transient (`disk_full`, `storage`).
    """
    manifest = _manifest(backup)
    data = settings.node.data
    if manifest.installation != settings.node.installation:
        raise Permanent("other_installation", f"the backup is of node.installation {manifest.installation!r}, the "
                        f"configuration says {settings.node.installation!r}: both are part of every UID")
    if data.exists() and any(path.name != "lost+found" for path in data.iterdir()):  # the root of a volume has one
        raise Permanent("data_not_empty", f"{data} is not empty: restore into a new folder")
    server = not settings.ledger_url.startswith("sqlite")
    if server == bool(manifest.ledger):
        raise Permanent("no_backup", "the ledger of the backup and that of the configuration are of two kinds")
    if not server and _sha256(backup / _LEDGER) != manifest.ledger:
        raise Permanent("backup_damaged", f"{_LEDGER} is not what was backed up")
    if server:
        probe(settings.ledger_url)
    else:
        _place_ledger(backup / _LEDGER, Path(settings.ledger_url.removeprefix("sqlite:///")), settings.ledger_url)
    with atomic.storage_errors():
        shutil.copytree(backup / "data", data, dirs_exist_ok=True)
        os.sync()
    return manifest


def _place_ledger(copy: Path, target: Path, url: str) -> None:
    """Copy the ledger to its place and look whether this version knows it; the backup itself may be read-only."""
    with atomic.storage_errors():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(copy, target)
    try:
        probe(url)
    except OvcfError:
        target.unlink()
        raise


def _manifest(backup: Path) -> Manifest:
    try:
        return Manifest(**json.loads((backup / MANIFEST).read_text()))
    except OSError as error:
        raise Permanent("no_backup", f"{backup} holds no {MANIFEST}: not a backup, or one that did not finish") from error
    except (TypeError, ValueError) as error:
        raise Permanent("backup_damaged", f"{MANIFEST} cannot be read") from error


def _copy(data: Path, target: Path, progress: Callable[[int], None]) -> tuple[int, int, int]:
    """Copy everything but databases, locks and unfinished files; returns files, bytes and how many were gone meanwhile."""
    files = size = vanished = 0
    for path, folders, names in os.walk(data):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        here = target / Path(path).relative_to(data)
        with atomic.storage_errors():
            here.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in names:
            if ".sqlite" in name:
                continue
            try:
                size += shutil.copy2(Path(path) / name, here / name).stat().st_size
            except FileNotFoundError:
                vanished += 1
                continue
            except OSError as error:
                raise Transient("storage", error.strerror or type(error).__name__) from error
            files += 1
            progress(files)
    return files, size, vanished


def _sha256(path: Path) -> str:
    with atomic.storage_errors(), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
