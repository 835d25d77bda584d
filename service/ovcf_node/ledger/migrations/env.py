"""Alembic's entry point: run the migrations on the engine that `database.migrate` hands over."""

from alembic import context

from ovcf_node.ledger.schema import METADATA

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
