"""Write a file, or a folder of them, so that a crash at any moment leaves either the whole or nothing under its name."""

import errno
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ovcf_node.errors import Transient

Bytes = bytes | bytearray | memoryview

TEMPORARY = ".tmp"
"""Folder below a store's root for files that are not finished; same filesystem, so that rename is atomic."""

ABANDONED_S = 3600.0
"""Age of an unfinished file that nobody writes any more: far above any write and any difference of two clocks, seconds."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn an OSError into Transient `disk_full` or `storage`; the text names the cause, never a path."""
    try:
        yield
    except OSError as error:
        code = "disk_full" if error.errno in _FULL else "storage"
        raise Transient(code, error.strerror or type(error).__name__) from error


def write(root: Path, relative: str, parts: Sequence[Bytes], *, replace: bool = True) -> int:
    """Write `parts` one after the other as `root/relative` and return the size in bytes.

    When this returns, the file survives a power failure: fdatasync of the file, rename, fsync of its folder. An
    existing file is replaced, or kept as it is with `replace=False`. Raises Transient (`disk_full`, `storage`).
    """
    target = root / relative
    temporary = root / TEMPORARY / uuid.uuid4().hex
    with storage_errors():
        try:
            size = _write_synchronously(temporary, parts)
            _publish(root, temporary, target, os.replace if replace else _link)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return size


def publish_folder(root: Path, unfinished: str, relative: str) -> bool:
    """Show the files written as `TEMPORARY/unfinished/...` under `root/relative`, all at once; durable on return.

    False where that folder has files already: it is never replaced, nor are two sets of files ever mixed. Raises Transient.
    """
    target = root / relative
    with storage_errors():
        make_folder(target.parent)
        try:
            (root / TEMPORARY / unfinished).rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        _synchronise(target.parent)
    return True


def drop_folder(root: Path, unfinished: str) -> None:
    """Remove an unfinished folder; a missing one is no error."""
    shutil.rmtree(root / TEMPORARY / unfinished, ignore_errors=True)


def clean_temporary(root: Path, now: float) -> int:
    """Remove files and folders that a crash left unfinished at least ABANDONED_S before `now`, and return how many.

    Safe while others write below `root`, on this machine or on others: age decides, so no writer is asked or locked.
    """
    with storage_errors():
        make_folder(root / TEMPORARY)
        abandoned = [path for path in (root / TEMPORARY).iterdir() if modified(path) < now - ABANDONED_S]
        for path in abandoned:
            if path.is_dir():
                gone = path.rename(path.with_name(uuid.uuid4().hex))  # nobody can publish it while it is half removed
                shutil.rmtree(gone)
            else:
                path.unlink(missing_ok=True)
    return len(abandoned)


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents so that their names survive a power failure."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _synchronise(folder.parent)


def remove(root: Path, relative: str) -> None:
    """Remove one file, and its folder when that leaves it empty; missing files are no error."""
    target = root / relative
    with storage_errors():
        target.unlink(missing_ok=True)
        try:
            target.parent.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
                raise


def free_bytes(root: Path) -> int:
    """Return the space that this process may still use on the filesystem of `root`, bytes."""
    with storage_errors():
        status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


def modified(path: Path) -> float:
    """Return when a file or folder was changed, seconds since the epoch; infinity where it is not there."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # published or removed meanwhile
        return math.inf


def _write_synchronously(path: Path, parts: Sequence[Bytes]) -> int:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except FileNotFoundError:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        size = sum(view.nbytes for view in views)
        while views:  # one call may write less than all: 2 GiB is its limit, and so is a nearly full disk
            written = os.writev(descriptor, views)
            while views and written >= views[0].nbytes:
                written -= views.pop(0).nbytes
            if written:
                views[0] = views[0][written:]
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return size


def _publish(root: Path, temporary: Path, target: Path, publish: Callable[[Path, Path], None]) -> None:
    try:
        publish(temporary, target)
    except FileNotFoundError:  # first file of its folder, or a purge just removed the folder
        make_folder(target.parent)
        publish(temporary, target)
    _synchronise(target.parent)


def _link(temporary: Path, target: Path) -> None:
    with suppress(FileExistsError):
        os.link(temporary, target)
    temporary.unlink()


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
