"""Bringing a database to the tables of this version, and telling whether it has them.

Alembic's revisions lie in ``migrations/`` inside the package and run in one transaction: a failure leaves
what was there. Telling needs no Alembic, so that opening a database stays quick.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Connection, inspect, text

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.tables.orm import VERSION_TABLE

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_REVISION: Final = re.compile(r"r(\d{4})_\w+\.py")


@dataclass(frozen=True)
class SchemaState:
    """How a database stands to this code.

    Args:
        state: ``current``, ``empty`` (no tables of ours), ``older`` or ``newer`` than this code.
        revision: The database's revision, or None.
        head: This code's revision.
    """

    state: Literal["current", "empty", "older", "newer"]
    revision: str | None
    head: str


def upgrade(url: str) -> SchemaState:
    """Create or migrate the tables; does nothing where they are current.

    Args:
        url: SQLAlchemy's url.

    Returns:
        How things stood before.

    Raises:
        MetadataError: The database is newer than this code, locked, read-only or unreachable.
    """
    database = Database(url)
    try:
        return upgrade_database(database)
    finally:
        database.close()


def check(url: str) -> SchemaState:
    """Whether code and database agree; changes nothing.

    Args:
        url: SQLAlchemy's url.

    Raises:
        MetadataError: The database cannot be read.
    """
    database = Database(url)
    try:
        return check_database(database)
    finally:
        database.close()


def revisions() -> tuple[str, ...]:
    """The revisions that this code knows, oldest first."""
    names = (_REVISION.fullmatch(path.name) for path in (MIGRATIONS / "versions").iterdir())
    return tuple(sorted(match.group(1) for match in names if match))


def check_database(database: Database) -> SchemaState:
    """As :func:`check`, on a database that is open already."""
    if database.file is not None and not database.file.exists():
        return state_of(None)  # looking must not create the file
    with database.connecting(write=False) as connection:
        return _look(connection)


def upgrade_database(database: Database) -> SchemaState:
    """As :func:`upgrade`, on a database that is open already."""
    database.make_ready()
    with database.connecting(write=True) as connection:
        before = _look(connection)
        if before.state == "newer":
            raise too_new(before, database.shown)
        if before.state != "current":
            _migrate(connection)
        return before


def too_new(state: SchemaState, place: str) -> MetadataError:
    """The error of a database that a later version of this package has written."""
    return MetadataError(
        f"the metadata database is newer than this code (its revision is {state.revision})",
        place=place,
        expected=f"revision {state.head} or older",
        hint="Install the newer mlflow-core that wrote it.",
    )


def too_old(state: SchemaState, database: Database) -> MetadataError:
    """The error of a database whose tables are of an earlier version."""
    return MetadataError(
        f"the metadata database is older than this code (its revision is {state.revision})",
        place=database.shown,
        expected=f"revision {state.head}",
        hint="Run: mlcore db upgrade",
    )


def state_of(revision: str | None) -> SchemaState:
    """How tables of a revision, or none where it is None, stand to this code."""
    known = revisions()
    head = known[-1]
    if revision is None:
        return SchemaState("empty", None, head)
    if revision == head:
        return SchemaState("current", revision, head)
    return SchemaState("older" if revision in known else "newer", revision, head)


def _look(connection: Connection) -> SchemaState:
    if not inspect(connection).has_table(VERSION_TABLE):
        return state_of(None)
    return state_of(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar())


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
