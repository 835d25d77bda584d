"""Refuse a scheduler's database that a later version of DBOS has migrated: DBOS itself would not notice."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from dbos._migration import get_dbos_migrations, sqlite_migrations

from ovcf_node.engine.sqlite import connected, file_of
from ovcf_node.errors import Permanent, Transient

_SCHEMA = "dbos"


def refuse_newer(url: str) -> None:
    """Raise Permanent (`engine_schema_newer`) for a database this version does not know; one without tables is fine.

    Losing this database is harmless, so there is a second way out besides the newer version: begin with an empty one.
    Raises Transient (`engine_unavailable`) when it cannot be read.
    """
    file = file_of(url)
    try:
        found, known = _of_file(file) if file else _of_server(url)
    except (sqlite3.OperationalError, psycopg.OperationalError) as error:
        raise Transient("engine_unavailable", type(error).__name__) from error
    if found > known:
        raise Permanent(
            "engine_schema_newer", f"the scheduler's database has schema {found}, this version knows up to {known}: start "
            "the version that made it, or begin with an empty one (the ledger has everything that matters): stop the node "
            "and " + ("move engine.sqlite away" if file else f"drop its schema {_SCHEMA}"),
        )


def _of_file(file: Path) -> tuple[int, int]:
    if not file.exists():
        return 0, len(sqlite_migrations)
    with connected(file) as connection:
        there = connection.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='dbos_migrations'").fetchone()
        row = connection.execute("SELECT version FROM dbos_migrations").fetchone() if there else None
    return (row[0] if row else 0), len(sqlite_migrations)


def _of_server(url: str) -> tuple[int, int]:
    known = len(get_dbos_migrations(_SCHEMA, True, False))
    with closing(psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=10)) as connection:
        there = connection.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'dbos_migrations'", (_SCHEMA,)
        ).fetchone()
        query = f"SELECT version FROM {_SCHEMA}.dbos_migrations"  # noqa: S608 - a constant of ours
        row = connection.execute(query).fetchone() if there else None
    return (row[0] if row else 0), known
