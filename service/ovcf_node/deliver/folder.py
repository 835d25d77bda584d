"""Destinations of type folder: one file per instance, named by its UID."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovcf_node.config import Destination
from ovcf_node.deliver.outcome import File, Outcome
from ovcf_node.errors import Transient
from ovcf_node.storage import atomic

_NO_FOLDER = ("disk_full", "storage")
_UID = re.compile(r"[0-9.]{1,64}")


def send(destination: Destination, files: Sequence[File]) -> list[Outcome]:
    """Write files that are not there yet; other bytes under the same name are never replaced."""
    return [_write_one(destination.path, path, uid) for path, _, uid in files]


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


def found(destination: Destination, _study_instance_uid: str, instances: Mapping[str, str]) -> set[str]:
    """Look for the files."""
    return {uid for uid in instances if (destination.path / f"{uid}.dcm").is_file()}


def _write_one(folder: Path, source: Path, uid: str) -> Outcome:
    if not _UID.fullmatch(uid):
        return Outcome(uid, "rejected", None, "the SOP Instance UID is not a UID")
    name = f"{uid}.dcm"
    try:
        with atomic.storage_errors():
            if not source.is_file():
                return Outcome(uid, "rejected", None, "file_missing")
            data = source.read_bytes()
            atomic.write(folder, name, [data], replace=False)
            if (folder / name).read_bytes() != data:
                return Outcome(uid, "rejected", None, "other bytes are there under this SOP Instance UID")
    except Transient as error:
        return Outcome(uid, "retry", None, str(error), "unreachable" if error.code in _NO_FOLDER else "instance")
    return Outcome(uid, "accepted", None, "")
