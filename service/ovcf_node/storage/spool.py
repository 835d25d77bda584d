"""Received instances as DICOM files (PS3.10), kept until their series is answered and purged."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ovcf_node.storage import atomic


@dataclass(frozen=True)
class StoredFile:
    """A durable file: `path` relative to the spool, `size` in bytes."""

    path: str
    size: int


class Spool:
    """A folder of files, one folder a series.

    Names come from a hash of the Series Instance UID and a random receipt id, never from what a peer sent. The same
    instance received twice is two files; the ledger decides which one counts.
    """

    def __init__(self, root: Path):
        self.root = root
        with atomic.storage_errors():
            atomic.make_folder(root / atomic.TEMPORARY)

    def store(self, parts: Sequence[atomic.Bytes], series_instance_uid: str) -> StoredFile:
        """Write one instance; durable when this returns. Raises Transient (`disk_full`, `storage`)."""
        path = f"{_folder(series_instance_uid)}/{uuid.uuid4().hex}.dcm"
        return StoredFile(path, atomic.write(self.root, path, parts))

    def path(self, relative: str) -> Path:
        """Return where a stored file lies."""
        return self.root / relative

    def read(self, relative: str) -> bytes:
        """Return the bytes of a stored file. Raises Transient (`storage`)."""
        with atomic.storage_errors():
            return self.path(relative).read_bytes()

    def files(self) -> Iterator[str]:
        """Yield every stored file: what the ledger does not list was never acknowledged and may be purged."""
        for path in self.root.glob("??/*/*.dcm"):
            yield str(path.relative_to(self.root))

    def folders_changed(self, since: float) -> Iterator[list[str]]:
        """Yield the files of each series whose folder changed after `since`, seconds since the epoch."""
        for folder in self.root.glob("??/*"):
            with suppress(FileNotFoundError):  # purged meanwhile
                if folder.stat().st_mtime >= since:
                    yield sorted(str(path.relative_to(self.root)) for path in folder.glob("*.dcm"))

    def modified_at(self, relative: str) -> float | None:
        """Return when a file was written, seconds since the epoch; None if it is not there."""
        with suppress(FileNotFoundError):
            return self.path(relative).stat().st_mtime
        return None

    def size(self, relative: str) -> int | None:
        """Return the size of a file, bytes; None if it is not there."""
        with suppress(FileNotFoundError):
            return self.path(relative).stat().st_size
        return None

    def purge(self, paths: Iterable[str]) -> None:
        """Remove files by name, not by series: an instance that arrives meanwhile keeps its file."""
        for relative in paths:
            atomic.remove(self.root, relative)

    def clean_temporary(self) -> int:
        """Remove what a crash left unfinished and return how many files; call before the first `store`."""
        return atomic.clean_temporary(self.root)

    def free_bytes(self) -> int:
        """Return the free space of the spool's filesystem, bytes."""
        return atomic.free_bytes(self.root)


def _folder(series_instance_uid: str) -> str:
    digest = hashlib.sha256(series_instance_uid.encode()).hexdigest()
    return f"{digest[:2]}/{digest[:32]}"
