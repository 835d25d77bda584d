"""What the database itself may do to us: no connection left, a server that only reads."""

import contextlib

import pytest
from sqlalchemy import text

import postgresql
from ovcf_node.errors import Transient
from ovcf_node.ledger import migrate
from ovcf_node.ledger.database import connect, reading


def test_who_waits_for_a_connection_in_vain_may_come_again(ledger_url):
    engine = connect(ledger_url)
    engine.pool._timeout = 0.1
    with contextlib.ExitStack() as open_now:
        for _ in range(15):
            open_now.enter_context(reading(engine)).execute(text("SELECT 1"))
        with pytest.raises(Transient, match="ledger_unavailable"):
            reading(engine)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


@pytest.mark.peer
def test_a_server_that_only_reads_since_a_failover_is_transient(postgresql_cluster):
    with postgresql.database(postgresql_cluster) as url:
        migrate(url)
        engine = connect(url)
        with engine.connect() as connection, pytest.raises(Transient, match="ReadOnlySqlTransaction") as caught:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            connection.execute(text("DELETE FROM holds"))
        engine.dispose()
    assert caught.value.code == "ledger_unavailable"
