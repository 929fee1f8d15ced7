"""Events in a table or query of a database that SQLAlchemy reaches, read with its Core.

A table's column types come from the database. A query's are told from its first rows, so give a column that
starts with nulls its type with ``CAST``. Rows come in the order of event time, creation, identity and primary
key, those of a query in the query's own order.
"""

from __future__ import annotations

import hashlib
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
from mlflow_core.errors import nearest
from mlflow_core.sources.part import chosen, renamed, wrong
from mlflow_core.spec import SqlSource

__all__ = ["SqlPart", "parts_of", "schema_of", "snapshot_of"]

_BATCH = 50_000
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
class SqlPart:
    """All rows of a table or query.

    Attributes:
        source: The source; its URL holds references to secrets, never secrets.
        base: Folder of the feature repository.
        rows: Rows when it was listed.
        schema: The columns under their names in the specs.
    """

    source: SqlSource
    base: str
    rows: int
    schema: pa.Schema

    @property
    def name(self) -> str:
        """The table, or that it is a query."""
        return self.source.table or "query"

    @property
    def bytes(self) -> int:
        """Sixteen bytes a value, which is a guess."""
        return 16 * self.rows * len(self.schema)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the columns wanted, all by default, in the order asked for; see ``SourcePart``."""
        names = chosen(self.source, self.schema, columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        with _connected(self.source, self.base) as connection:
            select, _ = _selected(self.source, connection)
            result = connection.execution_options(yield_per=_BATCH).execute(select)
            called = renamed(self.source, list(result.keys()))
            at = {new: place for place, new in enumerate(called.values())}
            batches = [
                pa.table(
                    [self._array(name, [row[at[name]] for row in rows]) for name in names], schema=schema
                )
                for rows in result.partitions()
            ]
        return pa.concat_tables(batches) if batches else schema.empty_table()

    def _array(self, name: str, values: list[Any]) -> pa.Array:
        kind = self.schema.field(name).type
        try:
            return _typed(values, kind)
        except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
            raise wrong(
                self.source,
                f'column "{name}" has a value that is no {kind}: {str(error).splitlines()[0]}',
                hint="Give the column one type with CAST in a query.",
            ) from error


def schema_of(source: SqlSource, base: str) -> pa.Schema:
    """Return the columns of the table or query; see ``sources.read_schema``."""
    with _connected(source, base) as connection:
        return _schema(source, connection)


def parts_of(source: SqlSource, base: str) -> tuple[SqlPart, ...]:
    """Return the one part; see ``sources.parts``."""
    with _connected(source, base) as connection:
        schema = _schema(source, connection)
        rows = connection.scalar(sa.select(sa.func.count()).select_from(_rows(source, connection)))
    return (SqlPart(source, base, int(rows or 0), schema),)


def snapshot_of(source: SqlSource, base: str) -> str:
    """Return the fingerprint of row count and greatest times; see ``sources.snapshot``."""
    back = {new: old for old, new in source.rename.items()}
    times = [name for name in (source.event_time, source.known_at, source.created) if name]
    with _connected(source, base) as connection:
        rows = _rows(source, connection)
        greatest: list[sa.ColumnElement[Any]] = [
            sa.func.max(sa.column(back.get(name, name))) for name in times
        ]
        found = connection.execute(sa.select(sa.func.count(), *greatest).select_from(rows)).one()
    text = "\t".join([source.url, source.table or source.query or "", *(str(value) for value in found)])
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@contextmanager
def _connected(source: SqlSource, base: str) -> Iterator[sa.Connection]:
    try:
        url = sa.make_url(reveal(resolve(source.url, Path(base))))
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
            file = Path(base).absolute() / str(url.database)
            if not file.exists():  # SQLite would make an empty database of a misspelt path
                raise wrong(
                    source, f'there is no SQLite database "{url.database}"', hint=f"Looked for {file}."
                )
            url = url.set(database=str(file))
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            yield connection
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise wrong(source, f"the database cannot be read: {reason}") from error


def _rows(source: SqlSource, connection: sa.Connection) -> sa.FromClause:
    if source.query is not None:
        return sa.text(f"({source.query.strip().rstrip(';')}) AS rows_of_the_source")  # type: ignore[return-value]
    return _table(source, connection)


def _selected(source: SqlSource, connection: sa.Connection) -> tuple[sa.Executable, sa.Table | None]:
    if source.query is not None:
        return sa.text(source.query), None
    table = _table(source, connection)
    back = {new: old for old, new in source.rename.items()}
    order = [name for name in (source.event_time, source.created, source.event_id) if name]
    known = [table.c[back.get(name, name)] for name in order if back.get(name, name) in table.c]
    return sa.select(table).order_by(*known, *table.primary_key.columns), table


def _table(source: SqlSource, connection: sa.Connection) -> sa.Table:
    schema, _, name = (source.table or "").rpartition(".")
    inspector = sa.inspect(connection)
    known = [*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)]
    if name not in known:
        raise wrong(source, f'there is no table "{source.table}"', hint=nearest(name, known))
    return sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=connection)


def _schema(source: SqlSource, connection: sa.Connection) -> pa.Schema:
    select, table = _selected(source, connection)
    if table is not None and all(_declared(column.type) is not None for column in table.columns):
        kinds = {column.name: _declared(column.type) for column in table.columns}
    else:
        kinds = _sampled(source, connection, select, table)
    called = renamed(source, list(kinds))
    return pa.schema([pa.field(called[name], kind) for name, kind in kinds.items()])


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


def _typed(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == TIME:
        return pa.array([None if value is None else _moment(value) for value in values], TIME)
    if kind == pa.uuid():
        stored = [None if value is None else uuid.UUID(str(value)).bytes for value in values]
        return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(stored, pa.binary(16)))
    return pa.array([_plain(value) for value in values], kind)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _moment(value: Any) -> datetime:
    """Read a time as drivers give it: a naive one is UTC, SQLite's are texts."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    moment: datetime = value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
