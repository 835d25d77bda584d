"""Give the space of deleted rows back to the disk, for the SQLite files of ledger and scheduler."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from ovcf_node.errors import Transient

_SHRINKABLE = "PRAGMA auto_vacuum=INCREMENTAL"
_PAGES_AT_ONCE = 4096  # 16 MB: other writers wait for the fraction of a second that it takes
_WORTH_IT = 256  # pages
_INCREMENTAL = 2


def make_shrinkable(connection: sqlite3.Connection) -> None:
    """Make an empty database one whose file can shrink piece by piece; nothing happens to any other."""
    if _number(connection, "page_count") == 0:  # said again later it would be a write at every connect
        connection.execute(_SHRINKABLE)


def compact(file: Path, *, whole: bool = False) -> int:
    """Shrink a database by some of its free pages; returns by how many bytes.

    A file of an earlier version cannot do so: with `whole` it is rewritten once (VACUUM), if the disk has room for a copy.
    Raises Transient (`compaction`).
    """
    try:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
            before = _size(connection)
            if _number(connection, "auto_vacuum") == _INCREMENTAL:
                if _number(connection, "freelist_count") >= _WORTH_IT:
                    # One step frees one page, and only a script is stepped to its end.
                    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
            elif whole and _has_room(file):
                connection.execute(_SHRINKABLE)
                connection.execute("VACUUM")
            after = _size(connection)
            if after < before:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return before - after
    except sqlite3.Error as error:
        raise Transient("compaction", type(error).__name__) from error


def _number(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _size(connection: sqlite3.Connection) -> int:
    return _number(connection, "page_count") * _number(connection, "page_size")


def _has_room(file: Path) -> bool:
    # The new copy, and the write-ahead log through which it goes back.
    status = os.statvfs(file.parent)
    return status.f_bavail * status.f_frsize > 3 * file.stat().st_size
