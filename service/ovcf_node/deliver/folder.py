"""Destinations of type folder: one file per instance, named by its UID."""

import re
from collections.abc import Sequence
from pathlib import Path

from ovcf_node.config import Destination
from ovcf_node.deliver.outcome import File, GoOn, Outcome
from ovcf_node.errors import Transient
from ovcf_node.storage import atomic

_UID = re.compile(r"[0-9.]{1,64}")


def send(destination: Destination, files: Sequence[File], go_on: GoOn) -> list[Outcome]:
    """Write files that are not there yet; other bytes under the same name are never replaced."""
    return [_write_one(destination.path, path, uid, go_on) for path, _, uid in files]


def echo(destination: Destination) -> str:
    """Write and remove an empty file."""
    try:
        destination.path.mkdir(parents=True, exist_ok=True)
        probe = destination.path / ".ovcf-node-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise Transient("folder", f"cannot write to {destination.path}: {error.strerror}") from error
    return f"folder {destination.path} is writable"


def _write_one(folder: Path, source: Path, uid: str, go_on: GoOn) -> Outcome:
    if not _UID.fullmatch(uid):
        return Outcome(uid, "rejected", None, "the SOP Instance UID is not a UID")
    name = f"{uid}.dcm"
    try:
        go_on()
        with atomic.storage_errors():
            if not source.is_file():
                return Outcome(uid, "rejected", None, "file_missing")
            data = source.read_bytes()
            atomic.write(folder, name, [data], replace=False)
            if (folder / name).read_bytes() != data:
                return Outcome(uid, "rejected", None, "other bytes are there under this SOP Instance UID")
    except Transient as error:
        return Outcome(uid, "retry", None, str(error))
    return Outcome(uid, "accepted", None, "")
