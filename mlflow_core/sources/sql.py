"""Events in a table or query of a database that SQLAlchemy reaches, in parts that are ranges of one column.

The rows of a table come in the order of event time, creation, the column that it is split by, identity and primary
key, those without a time last; so do those of a query that says ``split_by``. Any other query is one part, in its
own order. Rows come through an ADBC driver where one is installed, else through SQLAlchemy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import sqlalchemy as sa

from mlflow_core.sources.adbc import fetch_arrow
from mlflow_core.sources.listing import SourceListing
from mlflow_core.sources.part import chosen, wrong
from mlflow_core.sources.spans import Between, Span, may_hold
from mlflow_core.sources.sql_ranges import Range, condition, ranges_of, tally
from mlflow_core.sources.sql_rows import Rows, arrow_array, connected, database_url, rows_of
from mlflow_core.spec import SqlSource

__all__ = ["SqlPart", "list_sql", "schema_of", "snapshot_of"]

PART_ROWS = 1_000_000
"""A source with more rows is read in parts of about so many."""
_BATCH = 50_000


@dataclass(frozen=True, slots=True)
class SqlPart:
    """Rows of a table or query: a range of one column, or all.

    Attributes:
        source: The source; its URL holds references to secrets, never secrets.
        base: Folder of the feature repository.
        range: Which rows; None is all.
        rows: Rows when it was listed.
        span: Their event times, where the database can tell.
        witness: What the database said of them when they were listed.
        whole: The table or query as the database knew it when it was listed.
    """

    source: SqlSource
    base: str
    range: Range | None
    rows: int
    span: Span | None
    witness: str
    whole: Rows = field(repr=False, compare=False)

    @property
    def schema(self) -> pa.Schema:
        """The columns under their names in the specs."""
        return self.whole.schema

    @property
    def name(self) -> str:
        """The table, or that it is a query, and the range."""
        whole = self.source.table or "query"
        if self.range is None:
            return whole
        within = "null" if self.range.form == "null" else f"{self.range.start} to {self.range.stop}"
        return f"{whole}[{self.range.column} {within}]"

    @property
    def bytes(self) -> int:
        """Sixteen bytes a value, which is a guess."""
        return 16 * self.rows * len(self.schema)

    @property
    def fingerprint(self) -> str:
        """Digest of the statement and of what the database said of its rows; see ``SourcePart``."""
        schema = [(one.name, str(one.type)) for one in self.schema]
        return _digest([*_origin(self.source), self.name, self.witness, schema])

    def within(self, between: Between | None) -> SqlPart | None:
        """Return this part, or None if none of its times lies between two others; see ``SourcePart``."""
        if between is None or (self.rows and may_hold(self.span, between)):
            return self
        return None

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the columns wanted, all by default, in the order asked for; see ``SourcePart``."""
        names = chosen(self.source, self.schema, columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        with connected(self.source, self.base) as connection:
            table = self._fetched(connection, self.whole, schema)
            connection.rollback()  # from here on it sees what others have written meanwhile
            (now,) = tally(self.source, connection, self.whole, [self.range])
        if now.witness != self.witness:
            raise wrong(
                self.source,
                f'"{self.name}" has changed since it was listed',
                hint="Run again when nobody writes to it.",
            )
        return table

    def _fetched(self, connection: sa.Connection, rows: Rows, schema: pa.Schema) -> pa.Table:
        statement = self._statement(rows, schema.names)
        if isinstance(statement, sa.Select):
            columns = fetch_arrow(database_url(self.source, self.base), statement, schema)
        else:
            found = fetch_arrow(database_url(self.source, self.base), str(statement), self.schema)
            columns = found and [found[self.schema.names.index(name)] for name in schema.names]
        if columns is not None:
            return pa.table(columns, schema=schema)
        batches = list(self._batches(connection, statement, rows, schema))
        return pa.concat_tables([schema.empty_table(), *batches])

    def _batches(
        self, connection: sa.Connection, statement: sa.Executable, rows: Rows, schema: pa.Schema
    ) -> Iterator[pa.Table]:
        result = connection.execution_options(yield_per=_BATCH).execute(statement)
        at = {rows.called[name]: place for place, name in enumerate(result.keys())}
        for batch in result.partitions():
            columns = [
                arrow_array(self.source, one.name, [row[at[one.name]] for row in batch], one.type)
                for one in schema
            ]
            yield pa.table(columns, schema=schema)

    def _statement(self, rows: Rows, names: Sequence[str]) -> sa.Select[Any] | sa.TextClause:
        if self.source.query is not None and self.source.split_by is None:
            return sa.text(self.source.query)
        select = sa.select(*(rows.column(name) for name in names)).order_by(*self._order(rows))
        return select if self.range is None else select.where(condition(rows, self.range))

    def _order(self, rows: Rows) -> Iterator[sa.ColumnElement[Any]]:
        source = self.source
        names = dict.fromkeys((source.event_time, source.created, source.split_by, source.event_id))
        for name in names:
            if name is not None and rows.has(name):
                # Databases differ in where they put nulls, unless they are told.
                yield sa.case((rows.column(name).is_(None), 1), else_=0)
                yield rows.column(name)
        if rows.table is not None:
            yield from (rows.relation.c[column.name] for column in rows.table.primary_key.columns)


def list_sql(source: SqlSource, base: str) -> SourceListing:
    """Return the parts of a table or query; see ``sources.open_source``."""
    with connected(source, base) as connection:
        rows = rows_of(source, connection)
        ranges: Sequence[Range | None] = ranges_of(source, connection, rows, PART_ROWS) or [None]
        found = tally(source, connection, rows, ranges)
        (whole,) = found if ranges == [None] else tally(source, connection, rows, [None])
        if (
            sum(told.rows for told in found) != whole.rows
        ):  # texts that are ordered unlike the times they mean
            ranges, found = [None], [whole]
    parts = tuple(
        SqlPart(source, base, one, told.rows, told.span, told.witness, rows)
        for one, told in zip(ranges, found, strict=True)
    )
    return SourceListing(source, rows.schema, parts, _digest([*_origin(source), whole.witness]))


def schema_of(source: SqlSource, base: str) -> pa.Schema:
    """Return the columns of the table or query; see ``sources.read_schema``."""
    with connected(source, base) as connection:
        return rows_of(source, connection).schema


def snapshot_of(source: SqlSource, base: str) -> str:
    """Return the fingerprint of what the database says of all rows; see ``sources.snapshot``."""
    with connected(source, base) as connection:
        (whole,) = tally(source, connection, rows_of(source, connection), [None])
    return _digest([*_origin(source), whole.witness])


def _origin(source: SqlSource) -> list[Any]:
    return [source.url, source.table, source.query, source.split_by, sorted(source.rename.items())]


def _digest(content: list[Any]) -> str:
    return f"sha256:{hashlib.sha256(orjson.dumps(content)).hexdigest()}"
