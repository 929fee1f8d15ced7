"""Entity rows as Feast's callers hand them over: a pandas or Dask frame, an Arrow table, Parquet files or SQL.

Whatever comes in has columns that are known at once, and leaves as one Arrow table in the caller's order when
somebody computes with it: files, queries and Dask frames are not read before. How times are read is in
``mlflow_core.feast.entity_times``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from mlflow_core.engine.estimate import RowsEstimate, row_width, rows_of
from mlflow_core.errors import SourceError, UsageError, nearest
from mlflow_core.feast.entity_times import in_utc, moments
from mlflow_core.sources import SourceListing, open_source
from mlflow_core.spec import ParquetSource

__all__ = ["EVENT_TIMESTAMP", "EntityRows", "entity_rows", "time_column_of"]

EVENT_TIMESTAMP = "event_timestamp"
_LONGEST_PATH = 4_096


class EntityRows:
    """Entity rows that are read when they are needed, once.

    Args:
        schema: Their columns; a type that is not known yet may be null.
        read: Reads them, in their order.
        listing: The files that they are in, if they are.

    Raises:
        UsageError: Two columns have one name, or no column is the rows' time.
    """

    def __init__(
        self, schema: pa.Schema, read: Callable[[], pa.Table], *, listing: SourceListing | None = None
    ) -> None:
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise UsageError(f"the entity rows have more than one column {', '.join(map(repr, twice))}")
        self.schema = schema
        self.time_column = time_column_of(schema)
        self._read = read
        self._listing = listing
        self._table: pa.Table | None = None

    def table(self) -> pa.Table:
        """Return the rows in their order, their times in microseconds UTC.

        Raises:
            UsageError: They cannot be read, or their times cannot.
        """
        if self._table is None:
            self._table = in_utc(self._read(), self.time_column)
        return self._table

    def estimate(self) -> RowsEstimate:
        """Tell how many rows there are and of which times: from statistics where they are in files not read yet.

        Raises:
            UsageError: As for ``table``.
        """
        if self._table is not None or self._listing is None:
            return rows_of(self.table(), self.time_column)
        parts = [part for part in self._listing.found if part.rows]
        rows = sum(part.rows for part in parts)
        spans = [part.span for part in parts]
        known = [span for span in spans if span is not None]
        whole = bool(known) and len(known) == len(spans)
        span = (min(first for first, _ in known), max(last for _, last in known)) if whole else None
        return RowsEstimate(rows, rows * row_width(self.schema.types), span, exact=whole)


def entity_rows(entity_df: Any, *, repo_path: str) -> EntityRows:
    """Understand entity rows.

    Args:
        entity_df: A pandas frame, a Dask frame, an Arrow table, the path of Parquet files (a file, a folder, a glob,
            a URL), or a SELECT statement that DuckDB runs (files it names are relative to the feature repository).
        repo_path: Folder of the feature repository.

    Returns:
        The rows. Files and queries are looked at, and not read.

    Raises:
        UsageError: The value is none of these, its columns are no entity rows', or the query or file cannot be read.
    """
    if isinstance(entity_df, pa.Table):
        return _at_hand(entity_df)
    if isinstance(entity_df, pd.DataFrame):
        return _at_hand(_of_frame(entity_df))
    if isinstance(entity_df, Path) or (isinstance(entity_df, str) and _is_path(entity_df, repo_path)):
        return _of_files(str(entity_df), repo_path)
    if isinstance(entity_df, str):
        schema = _query(entity_df, repo_path, rows=0).schema
        return EntityRows(schema, lambda: _query(entity_df, repo_path))
    if hasattr(entity_df, "compute") and hasattr(entity_df, "npartitions"):
        return EntityRows(_of_frame(entity_df._meta).schema, lambda: _of_frame(entity_df.compute()))
    raise UsageError(
        f"entity_df is a {type(entity_df).__name__}",
        expected="a pandas or Dask frame, an Arrow table, a Parquet path or a SELECT statement",
    )


def time_column_of(schema: pa.Schema) -> str:
    """Find the column that says as of when each row asks.

    Args:
        schema: The entity rows' columns.

    Returns:
        ``event_timestamp``, else the only column of times.

    Raises:
        UsageError: There is no such column, or more than one.
    """
    if EVENT_TIMESTAMP in schema.names:
        return EVENT_TIMESTAMP
    times: list[str] = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    if len(times) != 1:
        found = f"columns of times: {', '.join(times)}" if times else f"columns: {', '.join(schema.names)}"
        raise UsageError(
            f'the entity rows have no column "{EVENT_TIMESTAMP}" ({found})',
            expected=f'a column "{EVENT_TIMESTAMP}", or exactly one column of times',
            hint=None if times else nearest(EVENT_TIMESTAMP, schema.names),
        )
    return times[0]


def _at_hand(table: pa.Table) -> EntityRows:
    rows = EntityRows(table.schema, lambda: table)
    rows.table()  # what is wrong with their times is said to whoever gave them
    return rows


def _of_frame(frame: pd.DataFrame) -> pa.Table:
    """Convert a frame; times in a column of Python objects may be of different zones."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UsageError(f"the entity rows have more than one column {', '.join(map(repr, twice))}")
    if EVENT_TIMESTAMP in frame.columns and frame[EVENT_TIMESTAMP].dtype == object:
        times = pd.Series(moments(frame[EVENT_TIMESTAMP], EVENT_TIMESTAMP), index=frame.index, dtype=_MOMENTS)
        frame = frame.assign(**{EVENT_TIMESTAMP: times})
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        told = "; ".join(str(one) for one in error.args)
        raise UsageError(
            f"the entity rows cannot be read: {told}", expected="numbers, texts, times, or lists of them"
        ) from error


_MOMENTS = pd.ArrowDtype(pa.timestamp("us", tz="UTC"))


def _is_path(text: str, repo_path: str) -> bool:
    """A statement has a space in it; a path that has one too is a path if something is there."""
    stripped = text.strip()
    if not any(letter.isspace() for letter in stripped):
        return bool(stripped)
    one_line = "\n" not in stripped and len(stripped) < _LONGEST_PATH
    return one_line and (Path(repo_path) / stripped).exists()


def _of_files(path: str, repo_path: str) -> EntityRows:
    try:
        listing = _listed(path.strip(), EVENT_TIMESTAMP, repo_path)
        column = time_column_of(listing.schema)
        if column != EVENT_TIMESTAMP:
            listing = _listed(path.strip(), column, repo_path)
    except SourceError as error:
        raise _unreadable(path, error) from error

    def read() -> pa.Table:
        try:
            return (
                listing.read() if any(part.rows for part in listing.found) else listing.schema.empty_table()
            )
        except SourceError as error:
            raise _unreadable(path, error) from error

    return EntityRows(listing.schema, read, listing=listing)


def _listed(path: str, time_column: str, repo_path: str) -> SourceListing:
    return open_source(ParquetSource("entity_rows", path=path, event_time=time_column), repo_path)


def _unreadable(path: str, error: SourceError) -> UsageError:
    return UsageError(f"the entity rows cannot be read from {path}: {error.what}", hint=error.hint)


def _query(statement: str, repo_path: str, *, rows: int | None = None) -> pa.Table:
    """Run a statement, or only its first rows."""
    connection = duckdb.connect(config={"file_search_path": repo_path})
    try:
        # A statement must not see variables of this process, which DuckDB would take for tables.
        connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
        found = connection.sql(statement)
        if found is None:
            raise UsageError(
                "the entity rows cannot be selected: the statement gives no rows", expected=_SELECT
            )
        return (found if rows is None else found.limit(rows)).to_arrow_table()
    except duckdb.Error as error:
        raise UsageError(f"the entity rows cannot be selected: {error}", expected=_SELECT) from error
    finally:
        connection.close()


_SELECT = "a SELECT statement that DuckDB runs"
