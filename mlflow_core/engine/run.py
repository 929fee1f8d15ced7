"""Sorted runs: rows grouped by key, each key's in order of time, as everything that joins wants them.

A run is made once, where rows are read, and is never sorted again. Events are in (key, event time, created, source
row) order, entity rows in (key, time, row) order; so to join them is to walk both once. Where rows go to different
workers the keys of a run are in order of their buckets, and a bucket is a slice of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlflow_core.engine.arrays import plain
from mlflow_core.engine.keys import check_source, numbered
from mlflow_core.engine.ordering import by_key, order_within_by_two, tally
from mlflow_core.engine.times import Int64, microseconds
from mlflow_core.engine.versions import stamps_of
from mlflow_core.spec import FeatureView

__all__ = ["Bucketing", "Run", "SortedEvents", "SortedRows", "sort_events", "sort_rows"]

Bucketing = Callable[[pa.Table], Int64]
"""Gives each of some distinct keys, (n_keys,), its bucket, int64 (n_keys,)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows by key, each key's in order of time.

    Attributes:
        keys: The distinct keys, (n_keys,). Of entity rows one of them may be null, which matches nothing.
        first: Key k's rows are ``first[k]`` to ``first[k + 1] - 1``; int64 (n_keys + 1,).
        rows: The rows, (n_rows,).
        order: Their order, where they were left as they stood: row i of the run is ``rows[order[i]]``.
    """

    keys: pa.Table
    first: Int64
    rows: pa.Table
    order: Int64 | None = None

    def part(self, start: int, stop: int) -> Run:
        """Return the run of the keys from ``start`` to ``stop - 1``; nothing is copied."""
        begin, end = int(self.first[start]), int(self.first[stop])
        keys, first = self.keys.slice(start, stop - start), self.first[start : stop + 1] - begin
        if self.order is not None:
            return Run(keys, first, self.rows, self.order[begin:end])
        return Run(keys, first, self.rows.slice(begin, end - begin))


@dataclass(frozen=True, slots=True)
class SortedEvents:
    """Events of one table as a run.

    Attributes:
        run: The events that have a key and an event time.
        bucket: Each key's bucket, ascending, int64 (n_keys,).
        dropped_keys: How many rows have a null in their key.
        dropped_times: How many of the others have no event time.
    """

    run: Run
    bucket: Int64
    dropped_keys: int
    dropped_times: int


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Entity rows of one table as a run.

    Attributes:
        run: All of them.
        bucket: Each key's bucket, ascending, int64 (n_keys,).
        place: Where each row of the run was in the table, int64 (n_rows,).
    """

    run: Run
    bucket: Int64
    place: Int64


def sort_events(
    events: pa.Table, view: FeatureView, *, columns: Sequence[str] | None, bucket: Bucketing | None = None
) -> SortedEvents:
    """Sort events by (bucket, key, event time, created), stable.

    Args:
        events: Rows of the view's source in its order, with its key, time and identity columns, (n,).
        view: Whose keys and source they are.
        columns: The columns to bring in order; None leaves all where they are and gives their order.
        bucket: Gives each distinct key its bucket; all are in bucket 0 by default.

    Raises:
        SourceError: A key column is missing or no key, a time column holds no times, or a delete has no event time.
    """
    check_source(events.schema, view)
    stamps = stamps_of(events, view)
    code, n_codes = numbered([events[key] for key in view.keys], events.num_rows, view.source.title)
    dropped_keys = int((code < 0).sum())
    code = np.where(stamps.placed, code, -1)
    dropped_times = int((code < 0).sum()) - dropped_keys
    keys = pa.table([plain(events[key], name=key, title=view.source.title) for key in view.keys], view.keys)
    grouped, order, buckets = _grouped(keys, code, n_codes, bucket)
    order = _settled(grouped.first, order, stamps.time, stamps.created)
    if columns is None:
        run = Run(grouped.keys, grouped.first, events, order)
    else:
        run = Run(grouped.keys, grouped.first, events.select(columns).take(pa.array(order)))
    return SortedEvents(run, buckets, dropped_keys, dropped_times)


def sort_rows(
    rows: pa.Table, keys: Sequence[str], time_column: str, *, bucket: Bucketing | None = None
) -> SortedRows:
    """Sort entity rows by (bucket, key, time), stable; those with a null in their key are one key of their own.

    Args:
        rows: Entity rows with their key columns and their time, without null times; (n,).
        keys: The key columns.
        time_column: The time.
        bucket: Gives each distinct key its bucket; all are in bucket 0 by default.

    Returns:
        A run of all columns but the keys.

    Raises:
        SourceError: A key column holds no keys, or the time column no times.
    """
    title = "entity rows"
    code, n_codes = numbered([rows[key] for key in keys], rows.num_rows, title)
    code = np.where(code < 0, n_codes, code)
    columns = pa.table([plain(rows[key], name=key, title=title) for key in keys], list(keys))
    grouped, order, buckets = _grouped(columns, code, n_codes + 1, bucket)
    time = microseconds(rows[time_column], name=time_column, title=title)[0]
    place = _settled(grouped.first, order, time, time)
    kept = rows.select([name for name in rows.column_names if name not in keys or name == time_column])
    return SortedRows(Run(grouped.keys, grouped.first, kept.take(pa.array(place))), buckets, place)


def _settled(first: Int64, order: Int64, time: Int64, then: Int64) -> Int64:
    """Order each key's rows by (time, then), stable."""
    if _ascending(time, then):
        return order  # a file that was written in order of time needs no second sort
    time = time[order]
    within = order_within_by_two(first, time, time if then is time else then[order])
    return np.asarray(order[within], np.int64)


def _ascending(time: Int64, then: Int64) -> bool:
    later = time[1:] > time[:-1]
    if then is time:
        return bool((later | (time[1:] == time[:-1])).all())
    return bool((later | ((time[1:] == time[:-1]) & (then[1:] >= then[:-1]))).all())


@dataclass(frozen=True, slots=True)
class _Grouped:
    keys: pa.Table
    first: Int64


def _grouped(
    keys: pa.Table, code: Int64, n_codes: int, bucket: Bucketing | None
) -> tuple[_Grouped, Int64, Int64]:
    """Group rows by key, keys by bucket: the distinct keys, the rows' order, the keys' buckets."""
    count, seen = tally(code, n_codes)
    there = np.flatnonzero(count)
    buckets = np.zeros(len(there), np.int64)
    if bucket is not None and keys.num_columns:
        buckets = bucket(_picked(keys, seen[there], len(there)))
        by_bucket = np.argsort(buckets, kind="stable")
        there, buckets = there[by_bucket], buckets[by_bucket]
    rank = np.full(n_codes, -1, np.int64)
    rank[there] = np.arange(len(there))
    first = np.zeros(len(there) + 1, np.int64)
    np.cumsum(count[there], out=first[1:])
    order = by_key(code, rank, first)
    return _Grouped(_picked(keys, seen[there], len(there)), first), order, buckets


def _picked(keys: pa.Table, places: Int64, n: int) -> pa.Table:
    # A table without columns forgets how many rows it has; a view without an entity has one key or none.
    return keys.take(pa.array(places)) if keys.num_columns else keys.slice(0, n)
