"""Erased events: which rows of a source belong to a key that was erased, and happened before it was.

Keys are looked up by hash, a column at a time; where nothing was erased, nothing is looked up. Keys are compared as
everywhere in the engine: integers of any width are one type, a number is never a text. The naive truth is
``tests/oracle/erasures.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.engine.events.keys import canonical
from mlflow_core.engine.times import EARLIEST, Int64, microseconds
from mlflow_core.plan.erasures import Erasures, KeyValue
from mlflow_core.spec import Source

__all__ = ["erased_until", "without_erased"]


def erased_until(keys: pa.Table, erased: Erasures) -> Int64:
    """Say up to when each row's events are not seen.

    Args:
        keys: Rows with key columns; a null matches nothing, (n,).
        erased: Of which keys; all of their columns are there.

    Returns:
        Microseconds since epoch, UTC, int64 (n,); the least int64 for a key that was not erased.
    """
    until = np.full(keys.num_rows, EARLIEST, np.int64)
    for columns, times in erased.by_columns().items():
        rows, place = _found(keys, columns, list(times))
        at = np.fromiter(times.values(), np.int64, len(times))[place]
        until[rows] = np.maximum(until[rows], at)
    return until


def without_erased(events: pa.Table, source: Source, erased: Erasures) -> pa.Table:
    """Return the rows of a source that were not erased, in their order; a row without a time stays.

    Args:
        events: Rows with the event time and all key columns that were erased, (n,).
        source: Says which column the event time is.
        erased: Of which keys, and up to when.

    Raises:
        SourceError: The event time holds no times.
    """
    if not erased:
        return events
    time, missing = microseconds(events[source.event_time], name=source.event_time, title=source.title)
    return events.filter(pa.array(missing | (time > erased_until(events, erased))))


def _found(
    keys: pa.Table, columns: Sequence[str], among: Sequence[tuple[KeyValue, ...]]
) -> tuple[Int64, Int64]:
    """Find the rows that have one of some keys: which rows, and the place of each one's key; int64 (n_found,) each."""
    rows, row_code = np.arange(keys.num_rows), np.zeros(keys.num_rows, np.int64)
    key_code = np.zeros(len(among), np.int64)
    for number, column in enumerate(columns):
        # Most rows are out after the first column; the others are looked up among few.
        array = canonical(keys[column] if not number else keys[column].take(pa.array(rows)), column, "keys")
        values = {key[number]: _stored(key[number], array.type) for key in among}
        fitting = {value: stored for value, stored in values.items() if stored is not None}
        place = {value: at for at, value in enumerate(fitting)}
        n = len(fitting)
        found = pc.index_in(array, value_set=pa.array(list(fitting.values()), array.type), skip_nulls=True)
        here = np.flatnonzero(np.asarray(found.is_valid()))
        rows, row_code = rows[here], row_code[here]
        there = np.array([place.get(key[number], -1) for key in among], np.int64)
        codes = np.where((key_code < 0) | (there < 0), -1, key_code * n + there)
        known = np.unique(codes[codes >= 0])
        key_code = _among(codes, known)
        row_code = _among(row_code * n + np.asarray(found.take(pa.array(here)), np.int64), known)
        rows, row_code = rows[row_code >= 0], row_code[row_code >= 0]
    order = np.full(len(among) + 1, -1, np.int64)
    order[key_code] = np.arange(len(among))
    return rows, order[row_code]


def _among(code: Int64, known: Int64) -> Int64:
    """The place of each code among some ascending ones, -1 where it is none of them."""
    if not len(known):
        return np.full(len(code), -1, np.int64)
    at = np.minimum(np.searchsorted(known, code), len(known) - 1)
    return np.where(known[at] == code, at, -1)


def _stored(value: KeyValue, kind: pa.DataType) -> int | str | bytes | None:
    """Return a key's value as a column of a type holds it; None where such a column cannot hold it."""
    if pa.types.is_null(kind):
        return None
    if pa.types.is_integer(kind):
        return value if isinstance(value, int) else None
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else None
    if kind == pa.binary(16):
        return value.bytes if isinstance(value, UUID) else None
    return value if isinstance(value, bytes) else None
