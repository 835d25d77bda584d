"""Database files shrink when rows go: new ones piece by piece, those of earlier versions once they were rewritten."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ovcf_node.errors import Transient
from ovcf_node.storage.compaction import compact, make_shrinkable


def emptied(file: Path, *, shrinkable: bool) -> int:
    """Make a database of 4 MB, delete its rows, and return its size."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        if shrinkable:
            make_shrinkable(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (text TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 4000,)] * 1000)
        connection.execute("DELETE FROM t")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return file.stat().st_size


def test_new_file_shrinks_while_others_have_it_open(tmp_path):
    file = tmp_path / "new.sqlite"
    before = emptied(file, shrinkable=True)
    with closing(sqlite3.connect(file)) as other:
        other.execute("SELECT count(*) FROM t").fetchall()
        assert compact(file) > 0.8 * before
    assert file.stat().st_size < 0.2 * before
    assert compact(file) == 0


def test_file_of_an_earlier_version_is_rewritten_once_and_shrinks_from_then_on(tmp_path):
    file = tmp_path / "old.sqlite"
    before = emptied(file, shrinkable=False)
    assert compact(file) == 0
    assert compact(file, whole=True) > 0.8 * before
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_what_is_no_database_is_told(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(Transient, match="DatabaseError"):
        compact(tmp_path / "x.sqlite")
