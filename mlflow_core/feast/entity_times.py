"""Times of entity rows in every form that callers have them in: as int64 microseconds UTC, one rule for all.

A time with a zone or an offset is that moment; one without is UTC, also in a column that mixes both. Finer digits
than microseconds are floored, dates are their midnight, text is ISO 8601. Nothing else is a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

import pandas as pd
import pyarrow as pa

from mlflow_core.algebra.types import TIME
from mlflow_core.config.times import parse_time
from mlflow_core.engine.times import microseconds, time_array
from mlflow_core.errors import SourceError, UsageError

__all__ = ["in_utc", "moments"]

_EXPECTED = "times, or text in ISO 8601"


def in_utc(rows: pa.Table, column: str) -> pa.Table:
    """Return the rows with a column of times in microseconds UTC.

    Args:
        rows: Entity rows.
        column: Their time: timestamps of any unit and zone, dates, or text in ISO 8601.

    Raises:
        UsageError: It holds something else.
    """
    values = rows[column].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        read = moments(values.to_pylist(), column)
    elif pa.types.is_timestamp(values.type) or pa.types.is_date(values.type) or pa.types.is_null(values.type):
        try:
            read = time_array(*microseconds(values, name=column, title="entity rows"))
        except SourceError as error:
            raise UsageError(error.what, object="entity rows") from error
    else:
        raise UsageError(f'column "{column}" of the entity rows has type {values.type}', expected=_EXPECTED)
    return rows.set_column(rows.column_names.index(column), column, read)


def moments(values: Iterable[Any], column: str) -> pa.Array:
    """Read times that are Python objects: datetimes, dates, pandas' timestamps, text, and nothing, in any mixture.

    Args:
        values: The objects, (n,).
        column: Whose they are, for the error.

    Returns:
        ``timestamp[us, UTC]`` (n,), null where there is none.

    Raises:
        UsageError: One of them is no time.
    """
    found = []
    for number, value in enumerate(values):
        try:
            found.append(_moment(value))
        except (UsageError, TypeError, OverflowError) as error:
            raise UsageError(
                f'row {number} of column "{column}" of the entity rows is no time: {value!r}',
                expected=_EXPECTED,
            ) from error
    return pa.array(found, pa.int64()).cast(TIME)


def _moment(value: Any) -> int | None:
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str | date):
        return parse_time(value)
    raise TypeError(type(value).__name__)
