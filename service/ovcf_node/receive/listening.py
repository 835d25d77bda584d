"""Who tries to reach us, for a commissioning that listens: a C-ECHO from the PACS, or an association that was rejected.

The receiver is another process, perhaps on another machine, and shares the data folder alone. While nobody listens a C-ECHO
costs one look for a file that is not there, and nothing is kept of it.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from ovcf_node.network.messages import Peer
from ovcf_node.storage import atomic

_LOG = structlog.get_logger("receive")
_LONGEST = 1000  # lines; somebody who knocks for ever must not fill the disk


@dataclass(frozen=True)
class Heard:
    """One knock; `rejected` is the reason, empty for a C-ECHO that was answered."""

    at: float
    calling_ae_title: str
    called_ae_title: str
    address: str
    rejected: str


class Listening:
    """The file by which a commissioning listens: its first line says until when, each further line is a `Heard`."""

    def __init__(self, data: Path):
        self._file = data / "listening.jsonl"

    def heard(self, peer: Peer, rejected: str) -> None:
        """Write down who knocked, if anybody listens; in the receiver, which must answer whatever becomes of this."""
        try:
            # Appending whole lines, so that two associations at once do not overwrite each other; never creating the file.
            with os.fdopen(os.open(self._file, os.O_RDWR | os.O_APPEND), "a+", encoding="utf-8") as file:
                file.seek(0)
                until, *knocks = file.read().splitlines()
                if time.time() > float(until) or len(knocks) >= _LONGEST:
                    return
                knock = Heard(time.time(), peer.calling_ae_title, peer.called_ae_title, peer.address, rejected)
                file.write(json.dumps(asdict(knock)) + "\n")
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _LOG.warning("knock_not_noted", error_type=type(error).__name__)

    @contextmanager
    def during(self, seconds: float) -> Iterator[None]:
        """Listen for at most `seconds`. Raises Transient (`storage`) when the data folder cannot be written."""
        atomic.write(self._file.parent, self._file.name, [f"{time.time() + seconds}\n".encode()])
        try:
            yield
        finally:
            atomic.remove(self._file.parent, self._file.name)

    def so_far(self) -> list[Heard]:
        """Return who knocked so far."""
        with atomic.storage_errors():
            lines = self._file.read_text(encoding="utf-8").splitlines()[1:]
        return [Heard(**json.loads(line)) for line in lines]
