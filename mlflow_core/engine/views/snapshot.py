"""A view as it stands at a boundary: one row for each entity that has had an event by then.

This is what a materialisation writes. It is the compute core of retrieval, asked at one time for every key, so
that what was served and what training sees are computed by the same lines. Where an earlier boundary has been
written, only the keys that can have changed since are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mlflow_core.engine.events import arrays
from mlflow_core.engine.events.history import Asked, History, history_of
from mlflow_core.engine.events.keys import numbered
from mlflow_core.engine.events.run import Run
from mlflow_core.engine.kernels.ordering import tally
from mlflow_core.engine.times import Flags, Int64, time_array
from mlflow_core.engine.views.changes import Delta, changed_keys
from mlflow_core.engine.views.view import events_sorted, feature_columns, latest_positions
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import FeatureView

__all__ = [
    "CREATED",
    "EVENT_TIME",
    "Snapshot",
    "SnapshotPart",
    "snapshot_at",
    "snapshot_of_runs",
    "snapshot_read",
]

EVENT_TIME = "__event_time"
CREATED = "__created"


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """Some keys of a view at a boundary.

    Attributes:
        table: Key columns, features, and of the latest visible event its time and what orders its versions,
            ``__event_time`` and ``__created``; null where none is left. Only keys that can have changed.
        entities: How many keys there are at the boundary, changed or not.
    """

    table: pa.Table
    entities: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view at a boundary, of one table of events.

    Attributes:
        table: As ``SnapshotPart.table``.
        entities: How many keys there are at the boundary, changed or not.
        events: How many rows of the source were looked at.
        dropped_keys: How many of them have a null in their key.
        dropped_times: How many of the others have no event time.
    """

    table: pa.Table
    entities: int
    events: int
    dropped_keys: int
    dropped_times: int


def snapshot_read(view: FeatureView) -> ViewRead:
    """Return the read of all of a view's features; ``served`` where it has availability, else its source's clock."""
    clock = "served" if view.availability is not None else view.source.clock
    return ViewRead(view, view.feature_names, clock, tuple((key, key) for key in view.keys))


def snapshot_at(
    events: pa.Table,
    read: ViewRead,
    boundary: int,
    delta: Delta | None = None,
    fresh_rows: Flags | None = None,
) -> Snapshot:
    """Compute a view's features at a boundary for one table of events.

    Args:
        events: All rows of the source for some keys; see ``mlflow_core.engine.views.view.compute_view``.
        read: From ``snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.
        delta: From where changes are looked for; all keys by default.
        fresh_rows: Which of the rows make their keys count as changed, bool (n,); None for none.

    Returns:
        See ``snapshot_of_runs``.

    Raises:
        SourceError: A column is missing or of the wrong type.
        EngineError: A sum of integers does not fit in int64.
    """
    found = events_sorted(events, read)
    part = snapshot_of_runs([found.run], read, boundary, delta, fresh_rows)
    return Snapshot(part.table, part.entities, events.num_rows, found.dropped_keys, found.dropped_times)


def snapshot_of_runs(
    runs: Sequence[Run],
    read: ViewRead,
    boundary: int,
    delta: Delta | None = None,
    fresh_rows: Flags | None = None,
) -> SnapshotPart:
    """Compute a view's features at a boundary for the keys of sorted runs.

    Args:
        runs: Events, as for ``mlflow_core.engine.views.view.compute_runs``.
        read: From ``snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.
        delta: From where changes are looked for; all keys by default.
        fresh_rows: Which of the runs' rows make their keys count as changed, bool (n,); None for none.

    Returns:
        One row for each key of which any version was visible, also where corrections have since taken all of
        its events away: what was written for it before must be overwritten. TTLs are not applied, because they
        are applied when values are read.

    Raises:
        SourceError: A column is missing or of the wrong type.
        EngineError: A sum of integers does not fit in int64.
    """
    keys, code, n = _all_keys(runs)
    every = Run(
        keys, np.arange(n + 1, dtype=np.int64), pa.table({"at": np.full(n, boundary, np.int64)}), None, code
    )
    history = history_of(runs, every, read)
    there = np.asarray(history.first_start <= boundary)
    wanted = there
    if delta is not None:
        wanted = there & changed_keys(history, read, boundary, delta, fresh_rows)
        history = _only(history, wanted)
    row_from = np.zeros(n + 1, np.int64)
    np.cumsum(wanted, out=row_from[1:])
    rows = Asked(row_from, np.full(int(row_from[-1]), boundary, np.int64))
    position = latest_positions(history, rows, read, expire_at=None)
    asked = keys if bool(wanted.all()) or not keys.num_columns else keys.filter(pa.array(wanted))
    columns = {name: asked[name] for name in read.view.keys} | feature_columns(history, rows, read, position)
    columns[EVENT_TIME] = arrays.pick(time_array(history.timed.time), position)
    columns[CREATED] = arrays.pick(time_array(history.created), position)
    return SnapshotPart(pa.table(columns), int(there.sum()))


def _only(history: History, wanted: Flags) -> History:
    """Leave out the events of keys that are not wanted; the keys stay, without events."""
    timed, kept = history.timed.only(np.repeat(wanted, np.diff(history.timed.event_from)))
    if kept is None:
        return history
    return replace(history, timed=timed, created=history.created[kept], place=history.place[kept])


def _all_keys(runs: Sequence[Run]) -> tuple[pa.Table, Int64 | None, int]:
    """The distinct keys of all runs, in order of their codes where they have any, and how many there are."""
    if len(runs) == 1 or not runs[0].keys.num_columns:
        longest = max(runs, key=lambda run: len(run.first))
        return longest.keys, longest.code, len(longest.first) - 1
    keys = pa.concat_tables([run.keys for run in runs])
    number, n_numbers = numbered(keys.columns, keys.num_rows, "keys")
    count, seen = tally(number, np.arange(len(number)), n_numbers)
    first, code = seen[count > 0], None
    if all(run.code is not None for run in runs):
        codes = np.concatenate([run.code for run in runs if run.code is not None])
        first = first[np.argsort(codes[first], kind="stable")]
        code = codes[first]
    distinct = keys.take(pa.array(first))
    return distinct, code, distinct.num_rows
