"""The rows of a SQL source as its database knows them: the connection, the table or query, column types, values.

A table's column types come from the database. A query's are told from its first rows, so give a column that
starts with nulls its type with ``CAST``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from mlflow_core.algebra.columns import settled_type
from mlflow_core.algebra.types import TIME
from mlflow_core.config.secret import resolve, reveal
from mlflow_core.errors import SourceError, nearest
from mlflow_core.sources.part import renamed, wrong
from mlflow_core.spec import SqlSource

__all__ = ["Rows", "arrow_array", "connected", "database_url", "moment", "rows_of", "unreadable"]

_SAMPLE = 10_000
_KINDS: tuple[tuple[type[Any], pa.DataType], ...] = (
    (sa.Boolean, pa.bool_()),
    (sa.Integer, pa.int64()),
    (sa.Numeric, pa.float64()),
    (sa.DateTime, TIME),
    (sa.Date, TIME),
    (sa.Uuid, pa.uuid()),
    (sa.LargeBinary, pa.binary()),
    (sa.String, pa.string()),
)


@dataclass(frozen=True, slots=True)
class Rows:
    """The table or query of a source; it travels by pickle.

    Attributes:
        relation: What to select from; its columns have the database's names.
        table: The table or view with its columns' types; None for a query.
        is_view: Whether the table is a view.
        called: The database's column name -> the name in the specs.
        schema: The columns under their names in the specs.
    """

    relation: sa.FromClause
    table: sa.Table | None
    is_view: bool
    called: dict[str, str]
    schema: pa.Schema

    def column(self, name: str) -> sa.ColumnElement[Any]:
        """Return the relation's column of a name in the specs."""
        stored = next(old for old, new in self.called.items() if new == name)
        return self.relation.c[stored]

    def has(self, name: str | None) -> bool:
        """Tell whether there is a column of a name in the specs."""
        return name in self.schema.names


@contextmanager
def connected(source: SqlSource, base: str) -> Iterator[sa.Connection]:
    """Open a connection to the database of a source, for the time of the block.

    Raises:
        SourceError: There is no such database, it refuses, or a statement in the block fails.
    """
    try:
        url = database_url(source, base)
        # What several statements say of a table must be said of one state of it.
        options = {"isolation_level": "REPEATABLE READ"} if url.get_backend_name() == "postgresql" else {}
        engine = sa.create_engine(url, poolclass=sa.NullPool, **options)
        with engine.connect() as connection:
            yield connection
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise unreadable(source, getattr(error, "orig", None) or error) from error


def database_url(source: SqlSource, base: str) -> sa.URL:
    """Return where the database is, with its secrets; a SQLite file as an absolute path.

    Raises:
        ConfigError: A secret is not set.
        SourceError: There is no such SQLite file, or the URL is none.
    """
    text = reveal(resolve(source.url, Path(base)))
    try:
        url: sa.URL | None = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None or "@" in (url.host or ""):  # the parser's own words may show a piece of the password
        raise wrong(
            source,
            "its url is not one that SQLAlchemy reads",
            hint="The signs /, @ and : in a password are written as %2F, %40 and %3A.",
        )
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        file = Path(base).absolute() / str(url.database)
        if not file.exists():  # SQLite would make an empty database of a misspelt path
            raise wrong(source, f'there is no SQLite database "{url.database}"', hint=f"Looked for {file}.")
        # Reading only: closing an ordinary connection may write what is in the log into the file.
        url = url.set(database=file.as_uri(), query={**url.query, "mode": "ro", "uri": "true"})
    return url


def unreadable(source: SqlSource, error: BaseException) -> SourceError:
    """Make the error of a database that could not be read, in one line."""
    return wrong(source, f"the database cannot be read: {str(error).splitlines()[0]}")


def rows_of(source: SqlSource, connection: sa.Connection) -> Rows:
    """Find the table or query of a source, and its columns.

    Raises:
        SourceError: There is no such table, ``rename`` does not fit, or a column has no one type.
    """
    if source.query is not None:
        kinds = _sampled(source, connection, sa.text(source.query), None)
        names: list[sa.ColumnClause[Any]] = [sa.column(name) for name in kinds]
        text = source.query.strip().rstrip(";")
        relation: sa.FromClause = sa.text(text).columns(*names).subquery("rows_of_the_source")
        return Rows(relation, None, False, *_called(source, kinds))
    table, is_view = _table(source, connection)
    relation = table.alias("rows_of_the_source")
    if all(_declared(column.type) is not None for column in table.columns):
        kinds = {column.name: _declared(column.type) for column in table.columns}
    else:
        kinds = _sampled(source, connection, sa.select(table), table)
    return Rows(relation, table, is_view, *_called(source, kinds))


def _called(source: SqlSource, kinds: dict[str, pa.DataType]) -> tuple[dict[str, str], pa.Schema]:
    called = dict(renamed(source, list(kinds)))
    return called, pa.schema([pa.field(called[name], kind) for name, kind in kinds.items()])


def arrow_array(source: SqlSource, name: str, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Bring values as a driver gives them to the type that their column has.

    Raises:
        SourceError: A value does not fit.
    """
    try:
        return _typed(values, kind)
    except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
        raise wrong(
            source,
            f'column "{name}" has a value that is no {kind}: {str(error).splitlines()[0]}',
            hint="Give the column one type with CAST in a query.",
        ) from error


def moment(value: Any) -> datetime:
    """Read a time as drivers give it: a naive one is UTC, SQLite's are texts.

    Raises:
        ValueError: A text is no time.
        AttributeError: It is something else.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    found: datetime = value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _table(source: SqlSource, connection: sa.Connection) -> tuple[sa.Table, bool]:
    schema, _, name = (source.table or "").rpartition(".")
    inspector = sa.inspect(connection)
    views = inspector.get_view_names(schema or None)
    known = [*inspector.get_table_names(schema or None), *views]
    if name not in known:
        raise wrong(source, f'there is no table "{source.table}"', hint=nearest(name, known))
    table = sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=connection)
    return table, name in views


def _declared(kind: Any) -> pa.DataType | None:
    if isinstance(kind, sa.ARRAY):
        item = _declared(kind.item_type)
        return None if item is None else pa.list_(item)
    return next((arrow for sql, arrow in _KINDS if isinstance(kind, sql)), None)


def _sampled(
    source: SqlSource, connection: sa.Connection, select: sa.Executable, table: sa.Table | None
) -> dict[str, pa.DataType]:
    result = connection.execution_options(stream_results=True).execute(select)
    names, rows = list(result.keys()), result.fetchmany(_SAMPLE)
    result.close()
    times = {source.event_time, source.known_at, source.created}
    kinds: dict[str, pa.DataType] = {}
    for place, name in enumerate(names):
        declared = _declared(table.c[name].type) if table is not None else None
        if declared is not None or source.rename.get(name, name) in times:
            kinds[name] = declared or TIME
            continue
        try:
            kinds[name] = settled_type(pa.array([_plain(row[place]) for row in rows]).type)
        except (pa.ArrowException, ValueError) as error:
            raise wrong(source, f'column "{name}" has no one type: {str(error).splitlines()[0]}') from error
    return kinds


def _typed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == TIME:
        return pa.array([None if value is None else moment(value) for value in values], TIME)
    if kind == pa.uuid():
        stored = [None if value is None else uuid.UUID(str(value)).bytes for value in values]
        return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(stored, pa.binary(16)))
    return pa.array([_plain(value) for value in values], kind)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
