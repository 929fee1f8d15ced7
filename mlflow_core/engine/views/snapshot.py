"""A view as it stands at a boundary: one row for each entity that has had an event by then.

This is what a materialisation writes. It is the compute core of retrieval, asked at one time for every key, so
that what was served and what training sees are computed by the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlflow_core.engine.events import arrays
from mlflow_core.engine.events.history import Asked, history_of
from mlflow_core.engine.events.keys import numbered
from mlflow_core.engine.events.run import Run
from mlflow_core.engine.kernels.ordering import tally
from mlflow_core.engine.times import time_array
from mlflow_core.engine.views.view import events_sorted, feature_columns, latest_positions
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import FeatureView

__all__ = ["CREATED", "EVENT_TIME", "Snapshot", "snapshot_at", "snapshot_of_runs", "snapshot_read"]

EVENT_TIME = "__event_time"
CREATED = "__created"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view at a boundary, or one partition of it.

    Attributes:
        table: Key columns, features, and of the latest visible event its time and what orders its versions,
            ``__event_time`` and ``__created``; null where none is left.
        events: How many rows of the source were looked at.
        dropped_keys: How many of them have a null in their key.
        dropped_times: How many of the others have no event time.
    """

    table: pa.Table
    events: int
    dropped_keys: int
    dropped_times: int


def snapshot_read(view: FeatureView) -> ViewRead:
    """Return the read of all of a view's features; ``served`` where it has availability, else its source's clock."""
    clock = "served" if view.availability is not None else view.source.clock
    return ViewRead(view, view.feature_names, clock, tuple((key, key) for key in view.keys))


def snapshot_at(events: pa.Table, read: ViewRead, boundary: int) -> Snapshot:
    """Compute a view's features at a boundary for one partition of events.

    Args:
        events: All rows of the source for some keys; see ``mlflow_core.engine.views.view.compute_view``.
        read: From ``snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.

    Returns:
        See ``snapshot_of_runs``.

    Raises:
        SourceError: A column is missing or of the wrong type.
        EngineError: A sum of integers does not fit in int64.
    """
    found = events_sorted(events, read)
    table = snapshot_of_runs([found.run], read, boundary)
    return Snapshot(table, events.num_rows, found.dropped_keys, found.dropped_times)


def snapshot_of_runs(runs: Sequence[Run], read: ViewRead, boundary: int) -> pa.Table:
    """Compute a view's features at a boundary for all keys of sorted runs.

    Args:
        runs: Events, as for ``mlflow_core.engine.views.view.compute_runs``.
        read: From ``snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.

    Returns:
        One row for each key of which any version was visible, also where corrections have since taken all of
        its events away: what was written for it before must be overwritten. TTLs are not applied, because they
        are applied when values are read. Columns as ``Snapshot.table``.

    Raises:
        SourceError: A column is missing or of the wrong type.
        EngineError: A sum of integers does not fit in int64.
    """
    keys, n = _all_keys(runs)
    asked = Run(keys, np.arange(n + 1, dtype=np.int64), pa.table({"at": np.full(n, boundary, np.int64)}))
    history = history_of(runs, asked, read)
    rows = Asked(asked.first, np.full(n, boundary, np.int64))
    position = latest_positions(history, rows, read, expire_at=None)
    columns = {name: keys[name] for name in read.view.keys} | feature_columns(history, rows, read, position)
    columns[EVENT_TIME] = arrays.pick(time_array(history.timed.time), position)
    columns[CREATED] = arrays.pick(time_array(history.created), position)
    return pa.table(columns).filter(pa.array(history.first_start <= boundary))


def _all_keys(runs: Sequence[Run]) -> tuple[pa.Table, int]:
    """The distinct keys of all runs, and how many there are."""
    if len(runs) == 1 or not runs[0].keys.num_columns:
        return runs[0].keys, max(len(run.first) for run in runs) - 1
    keys = pa.concat_tables([run.keys for run in runs])
    code, n_codes = numbered(keys.columns, keys.num_rows, "keys")
    count, seen = tally(code, np.arange(len(code)), n_codes)
    distinct = keys.take(pa.array(seen[count > 0]))
    return distinct, distinct.num_rows
