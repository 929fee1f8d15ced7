"""The compute core: one view's features at entity rows, for one partition of events that is in memory.

Whatever route is taken, this computes the values; so routes cannot differ. It reads no file and knows no
cluster. Order of meaning: versions of events are settled first, then null keys are dropped, expressions are
computed, conditions applied, and each window or latest value is answered by the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mlflow_core.algebra import expression
from mlflow_core.algebra.aggregates import empty_value
from mlflow_core.engine.events.clock import evaluation_times
from mlflow_core.engine.events.history import Asked, History, Timed, history_of
from mlflow_core.engine.events.keys import check_key_types, check_source
from mlflow_core.engine.events.run import Run, SortedEvents, SortedRows, sort_events, sort_rows
from mlflow_core.engine.events.versions import END, with_ends
from mlflow_core.engine.kernels.ranges import at_end, reached
from mlflow_core.engine.times import Int64, microseconds
from mlflow_core.engine.views.values import Sweep
from mlflow_core.engine.views.windows import conditions_of, window_columns
from mlflow_core.errors import SourceError, nearest
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import WindowColumn
from mlflow_core.telemetry import get_logger

__all__ = [
    "compute_runs",
    "compute_view",
    "events_sorted",
    "feature_columns",
    "latest_positions",
    "needed_columns",
    "row_times",
    "sorted_queries",
    "value_columns",
]

_LOG = get_logger(__name__)
_PATIENCE = 16


def compute_view(
    events: pa.Table,
    queries: pa.Table,
    read: ViewRead,
    *,
    time_column: str = "event_timestamp",
    asked: SortedRows | None = None,
) -> pa.Table:
    """Compute a view's features at entity rows.

    Args:
        events: All rows of the view's source that share a key with ``queries`` (more do no harm), with the
            columns of ``needed_columns``, in the source's order.
        queries: Entity rows with the key columns and the time column, (n_rows,).
        read: The view, the features wanted, the clock and the keys.
        time_column: The entity rows' time.
        asked: The same rows, where ``sorted_queries`` has sorted them for these keys before.

    Returns:
        The feature columns under their output names, one row for each entity row in the same order.

    Raises:
        SourceError: A column is missing or of the wrong type; a key or a time of an entity row is no key or time.
        EngineError: A sum of integers does not fit in int64.
        PlanError: The clock is ``served`` and the view has no availability, or a function does not fit its column.
    """
    if asked is None:
        asked = sorted_queries(queries, read, time_column)
    check_key_types(events.schema, queries.schema, read)
    found = events_sorted(events, read)
    back = np.empty(queries.num_rows, np.int64)
    back[asked.place] = np.arange(queries.num_rows)
    return compute_runs([found.run], asked.run, read, time_column=time_column, back=back)


def sorted_queries(queries: pa.Table, read: ViewRead, time_column: str) -> SortedRows:
    """Sort entity rows for the views that are joined on the same of their columns.

    Args:
        queries: Entity rows with the key columns and the time column, (n_rows,).
        read: Which columns are keys.
        time_column: The entity rows' time.

    Raises:
        SourceError: A key column is missing or holds no keys, or a row has no time.
    """
    row_times(queries, time_column)
    keys = list(dict.fromkeys(column for _, column in read.keys))  # a column may be two keys
    for column in keys:
        if column not in queries.column_names:
            raise SourceError(
                f'no key column "{column}"', object="entity rows", hint=nearest(column, queries.column_names)
            )
    return sort_rows(queries.select(list(dict.fromkeys([*keys, time_column]))), keys, time_column)


def events_sorted(events: pa.Table, read: ViewRead) -> SortedEvents:
    """Sort the rows of a view's source, all of them, and say which versions of an event count until when.

    Args:
        events: The rows, in the source's order, with the columns of ``needed_columns``.
        read: The view, the features wanted and the clock.

    Raises:
        SourceError: A column is missing or of the wrong type.
    """
    check_source(events.schema, read.view)
    if read.view.source.event_id is not None and END not in events.column_names:
        events = with_ends(events, read.view, read.clock)
    found = sort_events(events, read.view, columns=None, erased=read.erased)
    if found.dropped_keys:
        _LOG.info("%d events of %s have a null in their key", found.dropped_keys, read.view.source.name)
    if found.dropped_times:
        _LOG.info("%d events of %s have no event time", found.dropped_times, read.view.source.name)
    return found


def compute_runs(
    runs: Sequence[Run],
    rows: Run,
    read: ViewRead,
    *,
    time_column: str = "event_timestamp",
    back: Int64 | None = None,
) -> pa.Table:
    """Compute a view's features at entity rows, both in sorted runs.

    Args:
        runs: Events with the columns of ``value_columns``: all that share a key with the rows, in runs that are given
            in the source's order, which decides ties; with ``__end`` where the source has an ``event_id``.
        rows: Entity rows with their time, (n_rows,).
        read: The view, the features wanted, the clock and the keys.
        time_column: The entity rows' time.
        back: In which order the rows are answered, as places in the run, int64 (n_rows,); the run's by default.

    Returns:
        The feature columns under their output names, (n_rows,).

    Raises:
        SourceError: A column is missing or of the wrong type.
        EngineError: A sum of integers does not fit in int64.
        PlanError: As ``compute_view``.
    """
    times = microseconds(rows.rows[time_column], name=time_column, title="entity rows")[0]
    # Arrays that Arrow owns are read-only, for which kernels would be compiled once more.
    asked = Asked(np.array(rows.first), np.array(evaluation_times(times, read.view, read.clock)))
    history = history_of(runs, rows, read)
    latest = any(name in read.features for name in read.view.latest)
    position = latest_positions(history, asked, read, expire_at=times) if latest else None
    return pa.table(feature_columns(history, asked, read, position, back))


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


def feature_columns(
    history: History, asked: Asked, read: ViewRead, position: Int64 | None, back: Int64 | None = None
) -> dict[str, pa.Array]:
    """Compute a view's features at given evaluation times; the part that retrieval and materialisation share.

    Args:
        history: The events of the rows' keys.
        asked: The entity rows, (n_rows,).
        read: The view and the features wanted.
        position: From ``latest_positions``; None where no latest value is wanted.
        back: In which order the rows are answered; the one that they stand in by default.

    Returns:
        The feature columns under their output names, in the view's order.
    """
    names = history.tables[0].column_names
    pending, expressions = _needed(read, names)
    history = history.with_expressions(sorted(pending), expressions)
    columns: dict[str, pa.Array] = {}
    if position is not None:
        latest = [name for name in read.view.latest if name in read.features]
        columns = history.pick(latest, position if back is None else position[back])
    windows = _wanted_windows(read)
    known = [*names, *expressions]
    reads = {
        name
        for one in windows
        if one.where is not None
        for name in expression.columns_used(known, one.where, title=read.view.title)
    }
    found = window_columns(history, asked, windows, conditions_of(history, windows, sorted(reads)))
    order = None if back is None else pa.array(back)
    for window in windows:
        nothing, column = empty_value(window.function), found[window.name]
        if nothing is not None and column.null_count:
            column = column.fill_null(nothing)
        columns[window.name] = column if order is None else column.take(order)
    return {read.output(name): columns[name] for name in read.view.feature_names if name in read.features}


def latest_positions(history: History, asked: Asked, read: ViewRead, *, expire_at: Int64 | None) -> Int64:
    """Find the latest event of each entity row that is seen, -1 where there is none or it has expired.

    Args:
        history: The events of the rows' keys.
        asked: The entity rows, (n_rows,).
        read: The view.
        expire_at: The time at which the TTL is applied, int64 (n_rows,); None applies none.
    """
    position = _last_seen(history.timed, asked)
    if expire_at is not None and read.view.ttl is not None and len(history.place):
        age = expire_at - history.timed.time[position]
        position = np.where(age > int(read.view.ttl), -1, position)
    return position


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


def value_columns(read: ViewRead, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that sorted events need beside their keys: what features read, times and versions.

    Args:
        read: The view and the features wanted.
        names: The columns that there are.
    """
    source = read.view.source
    wanted, _ = _needed(read, names)
    wanted |= {source.event_time, END}
    wanted |= {name for name in (source.known_at, source.created, source.event_id, source.deleted) if name}
    return tuple(name for name in names if name in wanted)


def _last_seen(timed: Timed, asked: Asked) -> Int64:
    """The latest event of each entity row that is seen, -1 where there is none."""
    low = np.repeat(timed.event_from[:-1], np.diff(asked.row_from))
    high = reached(timed.event_from, timed.time, asked.row_from, asked.at)
    if timed.seen_all:
        return np.where(high > low, high - 1, -1)
    patience = _PATIENCE * (len(low) + len(timed.time))
    found, enough = at_end(low, high, timed.start, timed.end, asked.at, True, patience)
    if enough:
        return np.asarray(found, np.int64)
    # Too many events are hidden at the times asked about: a sweep over time does not step over them.
    sweep = Sweep.of(timed.event_from, timed.key, timed.start, timed.end, asked.row_from, asked.at)
    return np.asarray(sweep.by_event_order(np.ones(len(timed.time), np.bool_), [1.0])[0][0], np.int64)


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
