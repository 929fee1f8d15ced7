"""Whether a database can be trusted: its tables, its pages, its references, and the audit chain. Changes nothing.

PostgreSQL checks its pages whenever it reads them; of an SQLite file that is asked for here. References are looked at
on both: a database that was filled with its constraints switched off keeps rows that belong to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, ForeignKeyConstraint, and_, func, inspect, or_, select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from mlflow_core.metadata.audit import verify
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.records import AuditReport
from mlflow_core.metadata.tables import Table
from mlflow_core.metadata.upgrade import SchemaState, check_database

__all__ = ["Health", "examine", "examine_database", "examine_file"]


@dataclass(frozen=True)
class Health:
    """What was found.

    Args:
        schema: How the database stands to this code; where it is not current, only pages are looked at.
        tables: Tables and columns that should be there and are not.
        integrity: What SQLite says of damaged pages.
        references: Rows that refer to rows which are not there.
        audit: The walk along the audit chain, or None where it was not walked.
    """

    schema: SchemaState
    tables: tuple[str, ...] = ()
    integrity: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    audit: AuditReport | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, a sentence each."""
        chain = () if self.audit is None else tuple(f"audit: {one.text}" for one in self.audit.problems)
        return (*self.tables, *self.integrity, *self.references, *chain)

    @property
    def ok(self) -> bool:
        """Whether it may be worked with: its tables are current or still to be made, and nothing is wrong."""
        return self.schema.state in ("current", "empty") and not self.problems


def examine(url: str | URL) -> Health:
    """Look at a database from all sides.

    Args:
        url: SQLAlchemy's url.

    Raises:
        MetadataError: It cannot be read.

    Example:
        >>> examine("sqlite:///nowhere/metadata.db").schema.state
        'empty'
    """
    database = Database(url)
    try:
        return examine_database(database)
    finally:
        database.close()


def examine_file(file: Path) -> Health:
    """As :func:`examine`, on an SQLite file of any name."""
    # Not by a text: a url has signs of its own, and a file's name may have the same.
    return examine(URL.create("sqlite", database=str(file)))


def examine_database(database: Database) -> Health:
    """As :func:`examine`, on a database that is open already."""
    schema = check_database(database)
    if schema.state == "empty":
        return Health(schema)
    with database.connecting(write=False) as connection:
        integrity = _damaged_pages(connection)
        if schema.state != "current":
            return Health(schema, (), integrity)
        tables = _missing(connection)
        if integrity or tables:
            return Health(schema, tables, integrity)
        references = _dangling(connection)
        with Session(bind=connection) as session:
            return Health(schema, tables, integrity, references, verify(session))


def _damaged_pages(connection: Connection) -> tuple[str, ...]:
    if connection.dialect.name != "sqlite":
        return ()
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
    return () if found == ["ok"] else tuple(f"integrity: {line}" for line in found)


def _missing(connection: Connection) -> tuple[str, ...]:
    looked, found = inspect(connection), []
    there = set(looked.get_table_names())
    for table in Table.metadata.sorted_tables:
        if table.name not in there:
            found.append(f"table {table.name} is missing")
            continue
        columns = {column["name"] for column in looked.get_columns(table.name)}
        found += [f"column {table.name}.{one.name} is missing" for one in table.c if one.name not in columns]
    return tuple(found)


def _dangling(connection: Connection) -> tuple[str, ...]:
    found = []
    for table in Table.metadata.sorted_tables:
        for key in sorted(table.foreign_key_constraints, key=lambda one: list(one.column_keys)):
            count = _rows_without_parent(connection, key)
            if count:
                columns = ", ".join(key.column_keys)
                found.append(f"{count} row(s) of {table.name} refer by {columns} to nothing")
    return tuple(found)


def _rows_without_parent(connection: Connection, key: ForeignKeyConstraint) -> int:
    child, parent = key.table, key.referred_table.alias()
    pairs = [(element.parent, parent.c[element.column.name]) for element in key.elements]
    query = (
        select(func.count())
        .select_from(child.outerjoin(parent, and_(*(ours == theirs for ours, theirs in pairs))))
        .where(
            and_(*(ours.is_not(None) for ours, _ in pairs)), or_(*(theirs.is_(None) for _, theirs in pairs))
        )
    )
    return int(connection.scalar(query) or 0)
