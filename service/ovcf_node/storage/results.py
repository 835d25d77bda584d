"""What a reading leaves on disk: findings.json, masks.npz, summary.png and the encoded objects."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ovcf_node.errors import Permanent
from ovcf_node.storage import atomic

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Results:
    """A folder of files, one folder a key (a series and its revision, in the caller's words).

    A key "a/b" whose folder is not there is read as "a": what earlier versions read lies beside its objects.
    """

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
        path = self._folder(key) / self.path(key, name).name
        with atomic.storage_errors():
            try:
                return path.read_bytes()
            except FileNotFoundError as error:
                raise Permanent("result_missing", name) from error

    def path(self, key: str, name: str) -> Path:
        """Return where a file lies or would lie. Names are plain file names; anything else raises Permanent."""
        if not _NAME.fullmatch(name):
            raise Permanent("result_name", "not a plain file name")
        return self.root / self._relative(key) / name

    @staticmethod
    def _relative(key: str) -> str:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"{digest[:2]}/{digest[:32]}"

    def names(self, key: str) -> list[str]:
        """Return the names of the files of a key, sorted."""
        folder = self._folder(key)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def has(self, key: str) -> bool:
        """Say whether there are files under exactly this key."""
        return self.path(key, "any").parent.is_dir()

    def prepare(self, attempt: str, files: Mapping[str, bytes]) -> None:
        """Write the files of an attempt, a name of its own, where nobody sees them. Raises as `put`."""
        for name, data in files.items():
            atomic.write(self.root, f"{atomic.TEMPORARY}/{attempt}/{self.path(attempt, name).name}", [data])

    def publish(self, attempt: str, key: str) -> bool:
        """Show what an attempt wrote under a key, all at once; False where another attempt was first. Raises Transient."""
        return atomic.publish_folder(self.root, attempt, str(self.path(key, "any").parent.relative_to(self.root)))

    def drop(self, attempt: str) -> None:
        """Remove what an attempt wrote and did not publish."""
        atomic.drop_folder(self.root, attempt)

    def purge(self, key: str) -> None:
        """Remove every file of exactly this key."""
        folder = self.path(key, "any").parent
        for path in folder.iterdir() if folder.is_dir() else ():
            atomic.remove(self.root, str(path.relative_to(self.root)))

    def abandoned(self, before: float, keys: Callable[[], Iterable[str]]) -> list[str]:
        """Return the folders that nothing was written to since `before` and that none of `keys` names.

        The keys are asked for after the folders were looked at: who writes a folder has named its key before.
        """
        old = {path.relative_to(self.root).as_posix() for path in self.root.glob("[0-9a-f][0-9a-f]/*")
               if atomic.modified(path) < before}
        return sorted(old - {self._relative(key) for key in keys()}) if old else []

    def drop_abandoned(self, folder: str) -> None:
        """Remove a folder that `abandoned` named. Raises Transient (`storage`)."""
        with atomic.storage_errors():
            shutil.rmtree(self.root / folder)

    def clean_temporary(self, now: float) -> int:
        """Remove what a crash left unfinished long before `now` and return how many files; others may be writing."""
        return atomic.clean_temporary(self.root, now)

    def free_bytes(self) -> int:
        """Return the free space of the results' filesystem, bytes."""
        return atomic.free_bytes(self.root)

    def _folder(self, key: str) -> Path:
        above = key.rpartition("/")[0]
        return self.path(key if self.has(key) or not above else above, "any").parent
