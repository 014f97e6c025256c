"""Run by Alembic, on the connection that `resources.state_store.schema` hands it."""

from __future__ import annotations

from alembic import context

from resources.state_store.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # sqlite can hardly ALTER: Alembic copies the table instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
