"""Alembic's entry point: run the migrations on the engine that `database.migrate` hands over."""

from alembic import context
from sqlalchemy import text

from ovcf_node.ledger.database import refuse_newer
from ovcf_node.ledger.schema import METADATA

_LOCK = 0x6F766366  # any number that nobody else locks in this database

with context.config.attributes["engine"].connect() as connection:
    if connection.dialect.name == "postgresql":  # SQLite lets one writer in; here two processes would make the same table
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    refuse_newer(connection)
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
