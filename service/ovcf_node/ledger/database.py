"""Open the ledger's database, SQLite or PostgreSQL, and bring its schema up to date."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from ovcf_node.errors import Permanent, Transient
from ovcf_node.storage.atomic import storage_errors
from ovcf_node.storage.compaction import make_shrinkable


def connect(url: str) -> Engine:
    """Return an engine on `url`. On SQLite commits are durable (WAL, synchronous FULL) and writers wait for each other."""
    engine = create_engine(url, poolclass=_Pool, pool_pre_ping=not url.startswith("sqlite"))
    event.listen(engine, "handle_error", _as_transient)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


class _Pool(QueuePool):
    """Few connections, so that many processes fit on one server; who waits for one in vain may come again."""

    __module__ = QueuePool.__module__  # what it logs is SQLAlchemy's, and as quiet

    def connect(self) -> PoolProxiedConnection:
        try:
            return super().connect()
        except PoolTimeout as error:  # of the pool itself: no driver's error, so `_as_transient` never sees it
            raise Transient("ledger_unavailable", "no connection became free") from error


def reading(engine: Engine) -> Connection:
    """Open a connection that only reads: on SQLite it never waits for a writer."""
    return engine.execution_options(reads_only=True).connect()


def portions(values: Sequence, size: int = 500) -> Iterator[Sequence]:
    """Split what would be more parameters than a database takes in one statement."""
    return (values[begin : begin + size] for begin in range(0, len(values), size))


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that will write takes the lock first: upgrading later would fail as "locked" instead of waiting.
    mode = "DEFERRED" if connection.get_execution_options().get("reads_only") else "IMMEDIATE"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _prepare_sqlite(connection, _record) -> None:
    # The driver must not open transactions by itself; `_begin_sqlite` does.
    connection.isolation_level = None
    make_shrinkable(connection)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _as_transient(context: ExceptionContext) -> Transient | None:
    # Full disk, lost server, lock not granted, a server that only reads since a failover (drivers call that internal): not
    # the caller's fault, and a retry can help. The text of the database may quote parameters, so only its kind is kept,
    # with SQLite's own name for it (SQLITE_READONLY: another user's file).
    if isinstance(context.sqlalchemy_exception, OperationalError | InternalError | InterfaceError):
        original = context.original_exception
        kind = " ".join(filter(None, (type(original).__name__, getattr(original, "sqlite_errorname", ""))))
        return Transient("disk_full" if _is_full(original) else "ledger_unavailable", kind)
    return None


def _is_full(error: BaseException) -> bool:
    """Say whether the database itself undid the transaction because there was no room for it (SQLSTATE 53100)."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
    return getattr(error, "sqlstate", None) == "53100"


def probe(url: str) -> None:
    """Try to open a database and look at its schema; nothing is changed.

    Raises Transient (`ledger_unavailable`) or Permanent (`database_url`, `schema_newer`).
    """
    try:
        engine = connect(url)
        try:
            with reading(engine) as connection:
                refuse_newer(connection)
        finally:
            engine.dispose()
    except (ArgumentError, ImportError, NoSuchModuleError) as error:
        raise Permanent("database_url", type(error).__name__) from error


def is_there(url: str) -> bool:
    """Say whether a node has made its ledger here; nothing is created.

    Raises Transient (`storage`, `ledger_unavailable`) where that cannot be found out.
    """
    path = make_url(url).database
    if url.startswith("sqlite"):
        with storage_errors():
            return bool(path) and Path(path).exists()
    engine = connect(url)
    try:
        with reading(engine) as connection:
            return inspect(connection).has_table("alembic_version")
    finally:
        engine.dispose()


def refuse_newer(connection: Connection) -> None:
    """Raise Permanent (`schema_newer`) for a ledger that a later version of this program has migrated.

    Older code would write rows that the newer schema does not mean: after a rollback of the program that must be said
    before anything is received.
    """
    script = ScriptDirectory.from_config(_alembic())
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = sorted(set(MigrationContext.configure(connection).get_current_heads()) - known)
    if unknown:
        raise Permanent(
            "schema_newer", f"the ledger has schema {', '.join(unknown)}, this version knows up to "
            f"{script.get_current_head()}: start the version that made it, or restore the backup from before the upgrade",
        )


def copy_sqlite(url: str, target: Path) -> None:
    """Write the database of an SQLite URL, as it is at one moment, into a file; writers go on meanwhile (WAL).

    Raises Transient (`ledger_unavailable`), also when the file cannot be written.
    """
    engine = connect(url)
    try:
        with closing(engine.raw_connection()) as source, closing(sqlite3.connect(target)) as copy:
            source.driver_connection.backup(copy)
    except sqlite3.Error as error:
        raise Transient("ledger_unavailable", type(error).__name__) from error
    finally:
        engine.dispose()


def migrate(url: str) -> None:
    """Create or upgrade the schema. Concurrent callers wait for each other: machines start together.

    Raises Permanent (`schema_newer`) and changes nothing when a later version has been here; Transient (`storage`,
    `ledger_unavailable`) where it cannot be written.
    """
    path = make_url(url).database
    if url.startswith("sqlite") and path:
        with storage_errors():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
    config = _alembic()
    config.attributes["engine"] = connect(url)
    try:
        command.upgrade(config, "head")
    finally:
        config.attributes["engine"].dispose()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
