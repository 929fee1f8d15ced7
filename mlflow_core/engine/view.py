"""The compute core: one view's features at entity rows, for one partition of events that is in memory.

Whatever route is taken, this computes the values; so routes cannot differ. It reads no file and knows no
cluster. Order of meaning: versions of events are settled first, then null keys are dropped, expressions are
computed, conditions applied, and each window or latest value is answered by the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlflow_core.algebra import expression
from mlflow_core.algebra.aggregates import empty_value
from mlflow_core.engine import arrays
from mlflow_core.engine.clock import evaluation_times, window_interval
from mlflow_core.engine.keys import key_codes
from mlflow_core.engine.times import Flags, Int64, microseconds, time_array
from mlflow_core.engine.values import Sweep, window_values
from mlflow_core.engine.versions import Timeline, timeline_of
from mlflow_core.errors import SourceError, nearest
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import WindowColumn
from mlflow_core.telemetry import get_logger

__all__ = ["CREATED", "EVENT_TIME", "compute_view", "features_at", "needed_columns", "row_times"]

EVENT_TIME = "__event_time"
CREATED = "__created"
_LOG = get_logger(__name__)


def compute_view(
    events: pa.Table, queries: pa.Table, read: ViewRead, *, time_column: str = "event_timestamp"
) -> pa.Table:
    """Compute a view's features at entity rows.

    Args:
        events: All rows of the view's source that share a key with ``queries`` (more do no harm), with the
            columns of ``needed_columns``; in the source's order, or with ``__row`` that tells it.
        queries: Entity rows with the key columns and the time column, (n_rows,).
        read: The view, the features wanted, the clock and the keys.
        time_column: The entity rows' time.

    Returns:
        The feature columns under their output names, one row for each entity row in the same order.

    Raises:
        SourceError: A column is missing or of the wrong type; a key or a time of an entity row is no key or time.
        EngineError: A sum of integers does not fit in int64.
        PlanError: The clock is ``served`` and the view has no availability, or a function does not fit its column.
    """
    times = row_times(queries, time_column)
    at = evaluation_times(times, read.view, read.clock)
    features = features_at(events, queries, read, at, expire_at=times)
    return features.drop_columns([EVENT_TIME, CREATED])


def row_times(rows: pa.Table, time_column: str) -> Int64:
    """Return the times of entity rows, microseconds since epoch, UTC; int64 (n_rows,).

    Args:
        rows: Entity rows.
        time_column: Their time.

    Raises:
        SourceError: There is no such column, it holds no times, or one of them is null.
    """
    if time_column not in rows.column_names:
        raise SourceError(
            f'no time column "{time_column}"',
            object="entity rows",
            hint=nearest(time_column, rows.column_names),
        )
    times, missing = microseconds(rows[time_column], name=time_column, title="entity rows")
    if bool(missing.any()):
        first = int(np.flatnonzero(missing)[0])
        raise SourceError(
            f'"{time_column}" is null in row {first}', object="entity rows", expected="a time in each row"
        )
    return times


def features_at(
    events: pa.Table, queries: pa.Table, read: ViewRead, at: Int64, *, expire_at: Int64 | None
) -> pa.Table:
    """Compute a view's features at given evaluation times; the part that retrieval and materialisation share.

    Args:
        events: As for ``compute_view``.
        queries: Entity rows with the key columns, (n_rows,).
        read: As for ``compute_view``.
        at: The evaluation time T of each entity row, microseconds, int64 (n_rows,).
        expire_at: The time at which the TTL of latest values is applied, int64 (n_rows,); None applies none.

    Returns:
        The feature columns, and of the latest visible event its time and what orders its versions, ``__event_time``
        and ``__created``; null where there is none.
    """
    event_key, row_key, n_keys = key_codes(events, queries, read)
    dropped = int((event_key < 0).sum())
    if dropped:
        _LOG.info("%d events of %s have a null in their key", dropped, read.view.source.name)
    partition = _partition(events, event_key, row_key, n_keys, read)
    order = np.lexsort((at, row_key))
    order = order[np.searchsorted(row_key[order], 0) :]  # a null key matches nothing
    rows = _Rows(
        order, np.searchsorted(row_key[order], np.arange(n_keys + 1)).astype(np.int64), at[order], len(at)
    )
    columns = _latest(partition, rows, read, expire_at) | _windows(partition, rows, read)
    names = [name for name in read.view.feature_names if name in read.features]
    return pa.table(
        {read.output(name): columns[name] for name in names}
        | {name: columns[name] for name in (EVENT_TIME, CREATED)},
    )


def needed_columns(read: ViewRead, source_columns: Sequence[str]) -> tuple[str, ...]:
    """Return the source columns that a read needs, in the source's order.

    Args:
        read: The view and the features wanted.
        source_columns: The columns that there are.

    Raises:
        PlanError: An expression names a column that the source does not have.
        SourceError: A declared column is not there.
    """
    view, source = read.view, read.view.source
    wanted, _ = _needed(read, source_columns)
    wanted |= {*view.keys, source.event_time}
    wanted |= {name for name in (source.known_at, source.created, source.event_id, source.deleted) if name}
    for name in sorted(wanted - set(source_columns)):
        raise SourceError(
            f'has no column "{name}"',
            object=source.title,
            place=source.place,
            hint=nearest(name, source_columns),
        )
    return tuple(name for name in source_columns if name in wanted)


@dataclass(frozen=True, slots=True)
class _Partition:
    """Events in (key, event time, created, source row) order."""

    table: pa.Table
    key: Int64
    event_from: Int64
    timeline: Timeline

    @property
    def size(self) -> int:
        return len(self.key)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Entity rows with a key, in (key, evaluation time) order."""

    order: Int64
    row_from: Int64
    at: Int64
    n_rows: int

    def back(self, column: pa.Array, fill: int | None = None) -> pa.Array:
        """Put values from sorted order into the caller's; rows without a key get ``fill``."""
        place = np.full(self.n_rows, -1, np.int64)
        place[self.order] = np.arange(len(self.order))
        picked = arrays.pick(column, place)
        return picked if fill is None else picked.fill_null(fill)


def _partition(events: pa.Table, event_key: Int64, row_key: Int64, n_keys: int, read: ViewRead) -> _Partition:
    timeline = timeline_of(events, read.view, read.clock)
    timeless = int(((event_key >= 0) & ~timeline.placed).sum())
    if timeless:
        _LOG.info("%d events of %s have no event time", timeless, read.view.source.name)
    asked = np.zeros(n_keys + 1, np.bool_)
    asked[row_key] = True  # -1, a null key, falls on the extra place at the end
    asked[n_keys] = False
    keep = np.flatnonzero(timeline.counts & (event_key >= 0) & asked[event_key])
    order = keep[
        np.lexsort((timeline.row[keep], timeline.created[keep], timeline.time[keep], event_key[keep]))
    ]
    table = events.take(pa.array(order))
    _, expressions = _needed(read, events.column_names)
    table = expression.evaluate(table, expressions, title=read.view.title)
    key = event_key[order]
    event_from = np.searchsorted(key, np.arange(n_keys + 1)).astype(np.int64)
    return _Partition(table, key, event_from, timeline.at(order))


def _latest(events: _Partition, rows: _Rows, read: ViewRead, expire_at: Int64 | None) -> dict[str, pa.Array]:
    """Latest values, and the event time that they have."""
    timeline = events.timeline
    sweep = Sweep.of(events.event_from, events.key, timeline.start, timeline.end, rows.row_from, rows.at)
    last, _, _ = sweep.by_event_order(np.ones(events.size, np.bool_), [1.0])
    position = last[0]
    columns = {
        name: rows.back(arrays.pick(time_array(times), position))
        for name, times in ((EVENT_TIME, timeline.time), (CREATED, timeline.created))
    }
    if expire_at is not None and read.view.ttl is not None and events.size:
        age = expire_at[rows.order] - timeline.time[position]
        position = np.where(age > int(read.view.ttl), -1, position)
    for name in read.view.latest:
        if name in read.features:
            columns[name] = rows.back(arrays.pick(_column(events.table, name, read), position))
    return columns


def _windows(events: _Partition, rows: _Rows, read: ViewRead) -> dict[str, pa.Array]:
    """Window aggregates: one schedule for each window, one pass for each family of functions on a column."""
    groups: dict[tuple[object, ...], list[WindowColumn]] = {}
    for window in _wanted_windows(read):
        groups.setdefault((window.over, window.offset, window.boundary, window.hop), []).append(window)
    columns: dict[str, pa.Array] = {}
    conditions: dict[str | None, Flags] = {None: np.ones(events.size, np.bool_)}
    timeline = events.timeline
    for group in groups.values():
        enter, leave = window_interval(timeline.time, timeline.start, timeline.end, group[0])
        sweep = Sweep.of(events.event_from, events.key, enter, leave, rows.row_from, rows.at)
        inputs: dict[tuple[str, str | None], list[WindowColumn]] = {}
        for window in group:
            inputs.setdefault((window.column, window.where), []).append(window)
        for (name, where), members in inputs.items():
            if where not in conditions:
                held = expression.holds(events.table, str(where), title=read.view.title)
                conditions[where] = np.array(held, np.bool_)
            values = None if name == "*" else _column(events.table, name, read)
            functions = [window.function for window in members]
            answers = window_values(sweep, values, conditions[where], functions, title=read.view.title)
            for window, answer in zip(members, answers, strict=True):
                columns[window.name] = rows.back(answer, empty_value(window.function))
    return columns


def _wanted_windows(read: ViewRead) -> tuple[WindowColumn, ...]:
    return tuple(window for window in read.view.windows if window.name in read.features)


def _needed(read: ViewRead, source_columns: Sequence[str]) -> tuple[set[str], dict[str, str]]:
    """The source columns and the expressions that the features wanted depend on, both directly and not."""
    view = read.view
    known = [*source_columns, *view.columns]
    pending = {name for name in view.latest if name in read.features}
    for window in _wanted_windows(read):
        pending |= {window.column} - {"*"}
        if window.where is not None:
            pending |= expression.columns_used(known, window.where, title=view.title)
    used: dict[str, str] = {}
    for name, text in reversed(list(view.columns.items())):
        if name in pending:
            used[name] = text
            pending = (pending - {name}) | expression.columns_used(known, text, title=view.title)
    return pending, dict(reversed(list(used.items())))


def _column(table: pa.Table, name: str, read: ViewRead) -> pa.Array:
    if name not in table.column_names:
        raise SourceError(
            f'has no column "{name}"', object=read.view.title, hint=nearest(name, table.column_names)
        )
    return arrays.plain(table[name], name=name, title=read.view.title)
