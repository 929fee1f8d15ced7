"""Entity rows as Feast's callers hand them over: a pandas or Dask frame, an Arrow table, a Parquet path or SQL.

Whatever comes in leaves as one Arrow table in the caller's order and the name of its time column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.algebra.types import TIME
from mlflow_core.errors import UsageError

__all__ = ["EVENT_TIMESTAMP", "as_table", "time_column_of"]

EVENT_TIMESTAMP = "event_timestamp"


def as_table(entity_df: Any, *, repo_path: str) -> pa.Table:
    """Read entity rows into one Arrow table.

    Args:
        entity_df: A pandas frame, a Dask frame, an Arrow table, the path of a Parquet file or folder, or a
            SELECT statement that DuckDB runs (files it names are relative to the feature repository).
        repo_path: Folder of the feature repository.

    Returns:
        The rows in their order.

    Raises:
        UsageError: The value is none of these, or the query or file cannot be read.
    """
    if isinstance(entity_df, pa.Table):
        return entity_df
    if isinstance(entity_df, pd.DataFrame):
        return pa.Table.from_pandas(entity_df, preserve_index=False)
    if isinstance(entity_df, Path):
        return _read_parquet(entity_df, repo_path)
    if isinstance(entity_df, str):
        is_path = entity_df.strip().lower().endswith(".parquet") and " " not in entity_df.strip()
        return _read_parquet(Path(entity_df), repo_path) if is_path else _query(entity_df, repo_path)
    if hasattr(entity_df, "compute") and hasattr(entity_df, "npartitions"):
        return pa.Table.from_pandas(entity_df.compute(), preserve_index=False)
    raise UsageError(
        f"entity_df is a {type(entity_df).__name__}",
        expected="a pandas or Dask frame, an Arrow table, a Parquet path or a SELECT statement",
    )


def time_column_of(rows: pa.Table) -> str:
    """Find the column that says as of when each row asks.

    Args:
        rows: Entity rows.

    Returns:
        ``event_timestamp``, else the only column of times.

    Raises:
        UsageError: There is no such column, or more than one.
    """
    if EVENT_TIMESTAMP in rows.column_names:
        return EVENT_TIMESTAMP
    times: list[str] = [field.name for field in rows.schema if pa.types.is_timestamp(field.type)]
    if len(times) != 1:
        found = (
            f"columns of times: {', '.join(times)}" if times else f"columns: {', '.join(rows.column_names)}"
        )
        raise UsageError(
            f'the entity rows have no column "{EVENT_TIMESTAMP}" ({found})',
            expected=f'a column "{EVENT_TIMESTAMP}", or exactly one column of times',
        )
    return times[0]


def in_utc(rows: pa.Table, column: str) -> pa.Table:
    """Return the rows with a column of times in microseconds UTC; text is read as ISO 8601, naive is UTC."""
    values = rows[column].combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pa.array(pd.to_datetime(values.to_pandas(), utc=True, format="ISO8601"))
    if not pa.types.is_timestamp(values.type):
        raise UsageError(
            f'column "{column}" of the entity rows has type {values.type}',
            expected="times, or text in ISO 8601",
        )
    if values.type.tz is None:
        values = values.cast(pa.timestamp(values.type.unit)).cast(pa.timestamp(values.type.unit, tz="UTC"))
    return rows.set_column(rows.column_names.index(column), column, values.cast(TIME, safe=False))


def _read_parquet(path: Path, repo_path: str) -> pa.Table:
    place = path if path.is_absolute() else Path(repo_path) / path
    try:
        return pq.read_table(place)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"the entity rows cannot be read from {place}: {error}") from error


def _query(statement: str, repo_path: str) -> pa.Table:
    connection = duckdb.connect(config={"file_search_path": repo_path})
    try:
        return connection.sql(statement).to_arrow_table()
    except duckdb.Error as error:
        raise UsageError(
            f"the entity rows cannot be selected: {error}", expected="a SELECT statement that DuckDB runs"
        ) from error
    finally:
        connection.close()
