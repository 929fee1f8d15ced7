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

from mlflow_core.engine.events.arrays import plain
from mlflow_core.engine.events.erasing import erased_until
from mlflow_core.engine.events.keys import check_source, hash_codes, integers_of, numbered
from mlflow_core.engine.events.versions import stamps_of
from mlflow_core.engine.kernels.chronology import chronological
from mlflow_core.engine.kernels.ordering import by_hash, by_key, hashes, order_within_by_two, tally
from mlflow_core.engine.times import Flags, Int64, frozen, microseconds
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasures
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
        code: The keys' buckets, ascending, where they are in order of them, int64 (n_keys,).
    """

    keys: pa.Table
    first: Int64
    rows: pa.Table
    order: Int64 | None = None
    code: Int64 | None = None

    def part(self, start: int, stop: int) -> Run:
        """Return the run of the keys from ``start`` to ``stop - 1``; nothing is copied."""
        begin, end = int(self.first[start]), int(self.first[stop])
        keys, first = self.keys.slice(start, stop - start), self.first[start : stop + 1] - begin
        code = None if self.code is None else self.code[start:stop]
        if self.order is not None:
            return Run(keys, first, self.rows, self.order[begin:end], code)
        return Run(keys, first, self.rows.slice(begin, end - begin), None, code)


@dataclass(frozen=True, slots=True)
class SortedEvents:
    """Events of one table as a run.

    Attributes:
        run: The events that have a key and an event time, and are not erased.
        dropped_keys: How many rows have a null in their key.
        dropped_times: How many of the others have no event time.
    """

    run: Run
    dropped_keys: int
    dropped_times: int


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Entity rows of one table as a run.

    Attributes:
        run: All of them.
        place: Where each row of the run was in the table, int64 (n_rows,).
    """

    run: Run
    place: Int64


def sort_events(
    events: pa.Table,
    view: FeatureView,
    *,
    columns: Sequence[str] | None,
    bucket: Bucketing | None = None,
    erased: Erasures = NOTHING_ERASED,
) -> SortedEvents:
    """Sort events by (bucket, key, event time, created), stable.

    Args:
        events: Rows of the view's source in its order, with its key, time and identity columns, (n,).
        view: Whose keys and source they are.
        columns: The columns to bring in order; None leaves all where they are and gives their order.
        bucket: Gives each distinct key its bucket; all are in bucket 0 by default.
        erased: Of which keys events are left out, and up to when; as if they had never been, except that a version
            of theirs still replaces the versions before it.

    Raises:
        SourceError: A key column is missing or no key, a time column holds no times, or a delete has no event time.
    """
    check_source(events.schema, view)
    stamps = stamps_of(events, view)
    title = view.source.title
    keys = pa.table([plain(events[key], name=key, title=title) for key in view.keys], view.keys)
    nulls = _nulls(keys, events.num_rows)
    kept = stamps.placed if nulls is None else stamps.placed & ~nulls
    hidden = 0
    if erased:
        seen = kept & (stamps.time > erased_until(keys, erased))
        hidden, kept = int(kept.sum() - seen.sum()), seen
    rows, settled = chronological(frozen(stamps.time), frozen(stamps.created), np.flatnonzero(kept))
    grouped = _grouped(keys, rows, bucket, title)
    order = grouped.order if settled else _settled(grouped, stamps.time, stamps.created)
    if columns is None:
        run = Run(grouped.keys, grouped.first, events, order, grouped.code)
    else:
        rows = events.select(columns).take(pa.array(order))
        run = Run(grouped.keys, grouped.first, rows, None, grouped.code)
    dropped_keys = 0 if nulls is None else int(nulls.sum())
    return SortedEvents(run, dropped_keys, events.num_rows - dropped_keys - hidden - len(order))


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
    columns = pa.table([plain(rows[key], name=key, title=title) for key in keys], list(keys))
    time = microseconds(rows[time_column], name=time_column, title=title)[0]
    standing, settled = chronological(frozen(time), frozen(time), np.arange(len(time)))
    grouped = _with_nulls(columns, standing, _nulls(columns, rows.num_rows), bucket, title)
    place = grouped.order if settled else _settled(grouped, time, time)
    left = rows.select([name for name in rows.column_names if name not in keys or name == time_column])
    run = Run(grouped.keys, grouped.first, left.take(pa.array(place)), None, grouped.code)
    return SortedRows(run, place)


def _settled(grouped: _Grouped, time: Int64, then: Int64) -> Int64:
    """Sort each key's rows by (time, then), stable; their times are brought together first, because keys jump."""
    near = time.take(grouped.order)
    within = order_within_by_two(grouped.first, near, near if then is time else then.take(grouped.order))
    return grouped.order.take(within)


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Rows by key: the distinct keys, where each one's rows start in the order, the order, the keys' buckets."""

    keys: pa.Table
    first: Int64
    order: Int64
    code: Int64 | None


def _nulls(keys: pa.Table, n: int) -> Flags | None:
    """Which rows have a null in their key; None where none has."""
    found = np.zeros(n, np.bool_)
    for column in keys.columns:
        if column.null_count:
            found |= np.asarray(column.is_null())
    return found if found.any() else None


def _with_nulls(
    keys: pa.Table, rows: Int64, nulls: Flags | None, bucket: Bucketing | None, title: str
) -> _Grouped:
    """Group rows by key; those with a null in it come first, as one key."""
    if nulls is None:
        return _grouped(keys, rows, bucket, title)
    without = nulls.take(rows)
    null, others = rows[without], _grouped(keys, rows[~without], bucket, title)
    both = pa.concat_tables([keys.take(pa.array(null[:1])), others.keys])
    first = np.concatenate([np.zeros(1, np.int64), others.first + len(null)])
    code = None if others.code is None else np.concatenate([np.zeros(1, np.int64), others.code])
    return _Grouped(both, first, np.concatenate([null, others.order]), code)


def _grouped(keys: pa.Table, rows: Int64, bucket: Bucketing | None, title: str) -> _Grouped:
    """Group some rows by key, the keys in order of their buckets; each key's keep their order."""
    integers = integers_of(keys) if bucket is hash_codes else None
    if integers is not None:
        order, first, hashed = by_hash(hashes(integers[0]), rows)
        seen, code = order[first[:-1]], (hashed >> np.uint64(1)).astype(np.int64)
        return _Grouped(keys.take(pa.array(seen)), first, order, code)
    # A table without columns forgets how many rows it has; a view without an entity has one key or none.
    n = keys.num_rows if keys.num_columns else int(rows.max(initial=-1)) + 1
    number, n_numbers = numbered(keys.columns, n, title)
    count, seen = tally(number, rows, n_numbers)
    there, code = np.flatnonzero(count), None
    if bucket is not None:
        code = (
            bucket(keys.take(pa.array(seen[there]))) if keys.num_columns else np.zeros(len(there), np.int64)
        )
        by_bucket = np.argsort(code, kind="stable")
        there, code = there[by_bucket], code[by_bucket]
    rank = np.full(n_numbers, -1, np.int64)
    rank[there] = np.arange(len(there))
    first = np.zeros(len(there) + 1, np.int64)
    np.cumsum(count[there], out=first[1:])
    distinct = keys.take(pa.array(seen[there])) if keys.num_columns else keys
    return _Grouped(distinct, first, by_key(number, rows, rank, first), code)
