"""A ledger that an earlier version left with work in flight: it is brought up to date, and the work is finished."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from durable_site import durable_site
from kill_lives import Point
from node_harness import wait_for
from ovcf_node.ledger import database
from quick_study import series_uid, write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EARLIER = "0003"


def taken_back(ledger: Path) -> None:
    """Give a ledger the schema of an earlier version, with all its rows."""
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    config.attributes["engine"] = database.connect(f"sqlite:///{ledger}")
    command.downgrade(config, EARLIER)
    config.attributes["engine"].dispose()


def version(ledger: Path) -> str:
    connection = sqlite3.connect(ledger)
    try:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    finally:
        connection.close()


def test_upgrade_with_a_series_half_done(tmp_path: Path):
    paths = write_study(tmp_path / "study", "half")
    ledger = tmp_path / "node" / "data" / "ledger.sqlite"
    with durable_site(tmp_path) as site:
        newest = version(ledger)
        with site.running("receiver") as started:
            site.listening(started["receiver"])
            assert site.send(paths)
        site.lives.killed("worker", Point("infer:recorded", 1))
        taken_back(ledger)
        assert version(ledger) == EARLIER
        with site.running("worker", "sender"):
            wait_for(lambda: version(ledger) == newest, 120, "the ledger is brought up to date")
            revision = site.node.settled(series_uid("half"), 300)
        assert (revision.state, revision.number, revision.crashes) == ("ENCODED", 1, 0)
        begun = [entry.point.name for entry in site.lives.journal() if entry.point.name.endswith(":begin")]
        assert begun == ["infer:begin", "encode:begin", "send:begin"]
