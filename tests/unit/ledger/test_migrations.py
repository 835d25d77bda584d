"""The migrations give the schema that the code declares, on an empty database and on one of the first version."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

import postgresql
from ovcf_node.ledger import database, is_there, migrate
from ovcf_node.ledger.schema import METADATA


def differences(url: str) -> list:
    engine = database.connect(url)
    with database.reading(engine) as connection:
        found = compare_metadata(MigrationContext.configure(connection), METADATA)
    engine.dispose()
    return found


def test_migrated_schema_is_the_declared_one(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    assert not is_there(url) and not list(tmp_path.iterdir())
    migrate(url)
    assert differences(url) == [] and is_there(url)


def test_a_ledger_of_the_first_version_is_brought_up_to_date_with_its_rows(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    engine = database.connect(url)
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    command.upgrade(config, "0001")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO leases (name, owner, expires_at) VALUES ('judge', 'old', 1.0)"))
    migrate(url)
    with database.reading(engine) as connection:
        assert connection.execute(text("SELECT owner FROM leases")).all() == [("old",)]
    engine.dispose()
    assert differences(url) == []


@pytest.mark.peer
def test_processes_that_start_together_wait_for_each_other(postgresql_cluster):
    program = "import sys; from ovcf_node.ledger import migrate; migrate(sys.argv[1])"
    with postgresql.database(postgresql_cluster) as url:
        assert not is_there(url)
        started = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(3)]
        assert [process.wait(240) for process in started] == [0, 0, 0]
        assert differences(url) == [] and is_there(url)
