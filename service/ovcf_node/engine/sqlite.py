"""SQLite connections of the scheduler: a full disk or an I/O error ends the process before DBOS can misread it."""

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

EXIT_STORAGE = 74
"""Exit status (EX_IOERR) of a process whose scheduler database cannot be written: restart it."""

ERROR_TEXTS = ("database or disk is full", "disk I/O error")
"""How SQLite says so in the text of an error."""

_log = logging.getLogger(__name__)


def file_of(url: str) -> Path | None:
    """Return the file of an SQLite URL (`sqlite:///path`), None for another database."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def connected(file: Path) -> closing[sqlite3.Connection]:
    """Return a connection in autocommit mode that closes itself."""
    return closing(sqlite3.connect(file, isolation_level=None, timeout=30))


def leave(text: str) -> None:
    """End the process at once, to be restarted."""
    _log.critical("the scheduler's database cannot be written (%s): leaving, to be restarted", text)
    os._exit(EXIT_STORAGE)


def guarded(fail: Callable[[str], None]) -> type[sqlite3.Connection]:
    """Return a connection class that ends this thread, after `fail`, at the first full disk or I/O error.

    SystemExit passes DBOS, which otherwise records the error as the workflow's end. Waiting locks are left to DBOS.
    """

    def guard(call: Callable[..., T], *args: Any) -> T:
        try:
            return call(*args)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                fail(error.sqlite_errorname)
                raise SystemExit(EXIT_STORAGE) from error
            raise

    class Cursor(sqlite3.Cursor):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            return guard(super().execute, *args)

        def executemany(self, *args: Any) -> sqlite3.Cursor:
            return guard(super().executemany, *args)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: type[sqlite3.Cursor] = Cursor) -> sqlite3.Cursor:
            return super().cursor(factory)

        def commit(self) -> None:
            guard(super().commit)

    return Connection
