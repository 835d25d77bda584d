"""Executor names that one process at a time can hold."""

import fcntl
import os
import time
from pathlib import Path
from typing import Self

from ovcf_node.errors import Transient


class Slot:
    """A stable executor name ("worker-0") that one process at a time can hold; the kernel frees it when that one dies.

    Stable, so that a restarted process finds its own unfinished work. Children must be started by exec (`spawn`), since
    a forked one would keep the lock after its parent died.
    """

    def __init__(self, folder: Path, name: str, *, wait_s: float = 2.0):
        """Wait up to `wait_s` for a dying predecessor."""
        self.name = name
        self._path = folder / f"{name}.lock"
        self._wait_s = wait_s

    def __enter__(self) -> Self:
        """Raise Transient (`slot_taken`) if another living process has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    os.close(self._descriptor)
                    raise Transient("slot_taken", f"another process runs as {self.name}") from error
            time.sleep(0.05)

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)  # the file stays: removing it would let two processes lock two files of one name
