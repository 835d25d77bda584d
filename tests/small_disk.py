"""A file system of a few megabytes that a test can fill to the last byte and empty again. Needs root."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from absent import absent


@dataclass(frozen=True)
class SmallDisk:
    """Where it is mounted; `_ballast` takes whatever room is to be missing."""

    path: Path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self, leave_mb: float = 0.0) -> None:
        """Leave this much room, megabytes; 0 is really nothing."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while self.free_mb > leave_mb:
                room = min(int((self.free_mb - leave_mb) * 2**20) + 4096, 2**20)
                try:
                    ballast.write(bytes(room))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    return

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    @property
    def free_mb(self) -> float:
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize / 2**20


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[SmallDisk]:
    """Mount one; skip where that is not allowed, fail under CI."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        absent(f"cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
