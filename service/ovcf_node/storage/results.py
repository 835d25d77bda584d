"""What a reading leaves on disk: findings.json, masks.npz, summary.png and the encoded objects."""

import hashlib
import re
from pathlib import Path

from ovcf_node.errors import Permanent
from ovcf_node.storage import atomic

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Results:
    """A folder of files, one folder a key (a series and its revision, in the caller's words)."""

    def __init__(self, root: Path):
        self.root = root
        with atomic.storage_errors():
            atomic.make_folder(root / atomic.TEMPORARY)

    def put(self, key: str, name: str, data: bytes, *, replace: bool = True) -> Path:
        """Write one file and return where it lies; it survives a power failure when this returns.

        `replace=False` keeps a file that is already there: an object that may have been sent is never made anew under
        the same name. Raises Transient (`disk_full`, `storage`).
        """
        path = self.path(key, name)
        atomic.write(self.root, str(path.relative_to(self.root)), [data], replace=replace)
        return path

    def get(self, key: str, name: str) -> bytes:
        """Return the bytes of one file. Raises Permanent (`result_missing`), Transient (`storage`)."""
        path = self.path(key, name)
        with atomic.storage_errors():
            try:
                return path.read_bytes()
            except FileNotFoundError as error:
                raise Permanent("result_missing", name) from error

    def path(self, key: str, name: str) -> Path:
        """Return where a file lies or would lie. Names are plain file names; anything else raises Permanent."""
        if not _NAME.fullmatch(name):
            raise Permanent("result_name", "not a plain file name")
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.root / digest[:2] / digest[:32] / name

    def names(self, key: str) -> list[str]:
        """Return the names of the files of a key, sorted."""
        folder = self.path(key, "any").parent
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def purge(self, key: str) -> None:
        """Remove every file of a key."""
        for name in self.names(key):
            atomic.remove(self.root, str(self.path(key, name).relative_to(self.root)))

    def clean_temporary(self, now: float) -> int:
        """Remove what a crash left unfinished long before `now` and return how many files; others may be writing."""
        return atomic.clean_temporary(self.root, now)

    def free_bytes(self) -> int:
        """Return the free space of the results' filesystem, bytes."""
        return atomic.free_bytes(self.root)
