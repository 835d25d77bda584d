"""One process holds an executor name; a database that cannot be written ends a thread."""

import os
import signal
import sqlite3
from pathlib import Path

import pytest

from ovcf_node.engine import Slot
from ovcf_node.engine.sqlite import guarded
from ovcf_node.errors import Transient


def test_a_slot_is_held_once_and_free_again(tmp_path: Path) -> None:
    with Slot(tmp_path / "slots", "worker-0") as slot, Slot(tmp_path / "slots", "worker-1"):
        assert slot.name == "worker-0"
        with pytest.raises(Transient, match="slot_taken"), Slot(tmp_path / "slots", "worker-0", wait_s=0):
            pass
    with Slot(tmp_path / "slots", "worker-0", wait_s=0):
        pass


def test_a_killed_process_frees_its_slot(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    holder = os.fork()
    if holder == 0:
        with Slot(tmp_path, "worker-0"):
            os.write(writable, b"held")
            signal.pause()
    try:
        assert os.read(readable, 4) == b"held"
        with pytest.raises(Transient, match="slot_taken"), Slot(tmp_path, "worker-0", wait_s=0):
            pass
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    with Slot(tmp_path, "worker-0", wait_s=0):
        pass


def test_a_full_database_ends_the_thread_and_says_so(tmp_path: Path) -> None:
    reasons: list[str] = []
    connection = sqlite3.connect(tmp_path / "full.sqlite", factory=guarded(reasons.append))
    connection.execute("PRAGMA max_page_count=3")
    connection.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.cursor().execute("SELECT * FROM absent")
    assert reasons == []
    with pytest.raises(SystemExit):
        connection.cursor().execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert reasons == ["SQLITE_FULL"]
    connection.close()
