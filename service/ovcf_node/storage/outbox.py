"""Messages that wait on disk until somebody has them: one file each, in the order in which they were put."""

import threading
import time
import uuid
from pathlib import Path

from ovcf_node.storage import atomic

_SUFFIX = ".msg"


class Outbox:
    """A folder of messages; many processes put, one takes."""

    def __init__(self, root: Path):
        self._root = root
        self._lock = threading.Lock()
        self._last = 0

    def put(self, message: bytes) -> None:
        """Keep a message; when this returns it survives a power failure. Raises Transient (`disk_full`, `storage`)."""
        with self._lock:  # two messages of one process never change places, whatever the clock does
            self._last = max(time.time_ns(), self._last + 1)
            name = f"{self._last:020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        atomic.write(self._root, name, [message])

    def waiting(self, at_most: int) -> list[Path]:
        """Return the oldest messages. Raises Transient (`storage`)."""
        with atomic.storage_errors():
            return sorted(self._root.glob(f"*{_SUFFIX}"))[:at_most]

    def oldest_at(self) -> float | None:
        """When the oldest message was put, seconds since the epoch; None where none waits. Raises Transient (`storage`)."""
        with atomic.storage_errors():
            name = min((path.name for path in self._root.glob(f"*{_SUFFIX}")), default=None)
        return None if name is None else int(name.partition("-")[0]) / 1e9

    def __len__(self) -> int:
        return sum(1 for _ in self._root.glob(f"*{_SUFFIX}"))

    def done(self, messages: list[Path]) -> None:
        """Forget messages that somebody has. Raises Transient (`storage`)."""
        with atomic.storage_errors():
            for message in messages:
                message.unlink(missing_ok=True)
