"""A rollback of the program meets databases of the later version: it says so before anything is received."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy import text

import postgresql
from ovcf_node.app.checks import database_problems
from ovcf_node.config import Settings
from ovcf_node.engine import refuse_newer
from ovcf_node.errors import Permanent
from ovcf_node.ledger import database, migrate, probe


def stamp(url: str, revision: str) -> None:
    engine = database.connect(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()


def columns(url: str) -> list:
    engine = database.connect(url)
    with database.reading(engine) as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).all()
    engine.dispose()
    return found


def test_a_ledger_of_a_later_version_is_refused_and_left_alone(ledger_url):
    stamp(ledger_url, "9999")
    for look in (migrate, probe):
        with pytest.raises(Permanent, match="restore the backup from before the upgrade") as caught:
            look(ledger_url)
        assert caught.value.code == "schema_newer"
    assert columns(ledger_url) == [("9999",)]


def test_a_version_that_knows_readings_by_their_revision_alone_refuses(tmp_path: Path, monkeypatch):
    """No table changed in 0009, and yet it must not start: it would fail every series that is half done."""
    known = tmp_path / "migrations"
    shutil.copytree(Path(database.__file__).parent / "migrations", known)
    [newer] = known.glob("versions/0009_*.py")
    newer.unlink()
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    config = Config()
    config.set_main_option("script_location", str(known))
    monkeypatch.setattr(database, "_alembic", lambda: config)
    for look in (migrate, probe):
        with pytest.raises(Permanent, match="knows up to 0008") as caught:
            look(url)
        assert caught.value.code == "schema_newer"


def test_the_node_refuses_at_start_with_a_code(tmp_path: Path):
    (tmp_path / "data").mkdir()
    url = f"sqlite:///{tmp_path / 'data' / 'ledger.sqlite'}"
    migrate(url)
    stamp(url, "9999")
    done = started(tmp_path, "serve")
    assert done.returncode == 1 and "schema_newer" in done.stderr and "Traceback" not in done.stderr


def started(folder: Path, *command: str) -> subprocess.CompletedProcess:
    (folder / "node.toml").write_text('[node]\ndata = "data"\n[receive]\nhost = "127.0.0.1"\n')
    program = [sys.executable, "-m", "ovcf_node", *command, "--config", str(folder / "node.toml")]
    return subprocess.run(program, capture_output=True, text=True, timeout=120)


def scheduler_of_a_later_version(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO dbos_migrations VALUES (99999)")
        connection.commit()
    return f"sqlite:///{file}"


def test_a_scheduler_s_database_of_a_later_version_is_refused(tmp_path: Path):
    url = scheduler_of_a_later_version(tmp_path / "engine.sqlite")
    with pytest.raises(Permanent, match="move engine") as caught:
        refuse_newer(url)
    assert caught.value.code == "engine_schema_newer"
    refuse_newer(f"sqlite:///{tmp_path / 'none.sqlite'}")


def test_worker_refuses_a_scheduler_s_database_of_a_later_version(tmp_path: Path):
    (tmp_path / "data").mkdir()
    scheduler_of_a_later_version(tmp_path / "data" / "engine.sqlite")
    done = started(tmp_path, "run", "sender")
    assert done.returncode == 1 and "engine_schema_newer" in done.stderr


def test_check_says_so_before_the_start(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    stamp(url, "9999")
    scheduler_of_a_later_version(tmp_path / "engine.sqlite")
    problems = database_problems(Settings(node={"data": tmp_path}))
    assert [p.split(": ")[:2] for p in problems] == [["ledger", "schema_newer"], ["engine", "engine_schema_newer"]]


@pytest.mark.peer
def test_a_scheduler_s_schema_on_a_server_of_a_later_version_is_refused(postgresql_cluster):
    with postgresql.database(postgresql_cluster) as url:
        refuse_newer(url)
        engine = database.connect(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA dbos"))
            connection.execute(text("CREATE TABLE dbos.dbos_migrations (version BIGINT NOT NULL PRIMARY KEY)"))
            connection.execute(text("INSERT INTO dbos.dbos_migrations VALUES (99999)"))
        engine.dispose()
        with pytest.raises(Permanent, match="drop its schema dbos"):
            refuse_newer(url)
