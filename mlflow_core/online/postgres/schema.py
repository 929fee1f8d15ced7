"""The tables in PostgreSQL, how they come to be, and which layout of them this version knows.

They stand in a schema of their own. ``views`` numbers each project's views and knows the definitions seen of each;
``rows`` has what is stored; ``dropped`` the numbers of views whose rows are still to be removed. A number is never
given twice, so whoever still has an old one finds nothing.
"""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg import sql

from mlflow_core.errors import StoreError

__all__ = ["SCHEMA_LAYOUT", "composed", "prepare_schema"]

SCHEMA_LAYOUT = 1
_MAKING = 0x6D6C636F7265  # whose lock is held while a schema is made: "mlcore"

_TABLES: tuple[LiteralString, ...] = (
    "CREATE TABLE {schema}.layout (number integer NOT NULL)",
    """CREATE TABLE {schema}.views (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, project text NOT NULL, name text NOT NULL,
    current bytea, seen bytea[] NOT NULL DEFAULT '{{}}', unfinished bigint, UNIQUE (project, name))""",
    # A materialisation replaces all rows: with room in their pages the index need not be written again.
    """CREATE TABLE {schema}.rows (
    view integer NOT NULL, key bytea NOT NULL, value bytea NOT NULL, PRIMARY KEY (view, key))
    WITH (fillfactor = 80)""",
    # Packed numbers hardly compress, and only of an uncompressed value can the version be read without the rest.
    "ALTER TABLE {schema}.rows ALTER value SET STORAGE EXTERNAL",
    "CREATE TABLE {schema}.dropped (view integer PRIMARY KEY)",
)


def composed(statement: LiteralString, schema: str) -> sql.Composed:
    """Return a statement with the schema's name, quoted, where it says ``{schema}``."""
    return sql.SQL(statement).format(schema=sql.Identifier(schema))


def prepare_schema(connection: psycopg.Connection[Any], schema: str, place: str) -> None:
    """Make the tables if they are not there; several processes may do so at once.

    Args:
        connection: One that commits each statement.
        schema: The schema's name.
        place: Where it is, for errors.

    Raises:
        StoreError: The schema is of another layout, or is something else's.
    """
    number = _layout(connection, schema)
    if number is None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
            number = _layout(connection, schema)  # another process may have made it meanwhile
            if number is None:
                number = _make(connection, schema, place)
    if number != SCHEMA_LAYOUT:
        raise StoreError(
            f'the online store in schema "{schema}" has layout {number}, this version knows {SCHEMA_LAYOUT}',
            place=place,
            hint="Upgrade this process, or name another schema."
            if number > SCHEMA_LAYOUT
            else "Name another schema, or remove this one, and materialise again.",
        )


def _layout(connection: psycopg.Connection[Any], schema: str) -> int | None:
    there = connection.execute(
        "SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'layout'", (schema,)
    ).fetchone()
    if there is None:
        return None
    found = connection.execute(composed("SELECT max(number) FROM {schema}.layout", schema)).fetchone()
    return None if found is None else found[0]


def _make(connection: psycopg.Connection[Any], schema: str, place: str) -> int:
    taken = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s LIMIT 1", (schema,)
    ).fetchone()
    if taken is not None:
        raise StoreError(
            f'schema "{schema}" is of something else (it has a table "{taken[0]}")',
            object="online store",
            place=place,
            hint="Name another schema.",
        )
    # Not "IF NOT EXISTS": that asks for the right to make schemas even where this one is there.
    if connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
        connection.execute(composed("CREATE SCHEMA {schema}", schema))
    for statement in _TABLES:
        connection.execute(composed(statement, schema))
    connection.execute(composed("INSERT INTO {schema}.layout VALUES (%s)", schema), (SCHEMA_LAYOUT,))
    return SCHEMA_LAYOUT
