"""Alembic's entry: runs the revisions on the connection that ``upgrade`` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.tables import Table
from mlflow_core.metadata.tables.orm import VERSION_TABLE

connection = context.config.attributes.get("connection")
if connection is None:
    raise MetadataError(
        "migrations run on a connection that is handed over", hint="Use mlflow_core.metadata.upgrade(url)."
    )
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
