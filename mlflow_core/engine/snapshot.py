"""A view as it stands at a boundary: one row for each entity that has had an event by then.

This is what a materialisation writes. It is the compute core of retrieval, asked at one time for every key, so
that what was served and what training sees are computed by the same lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlflow_core.engine.arrays import plain
from mlflow_core.engine.keys import key_codes
from mlflow_core.engine.versions import END, timeline_of
from mlflow_core.engine.view import CREATED, EVENT_TIME, features_at
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import FeatureView

__all__ = ["Snapshot", "snapshot_at", "snapshot_read"]


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
        events: All rows of the source for some keys; see ``mlflow_core.engine.view.compute_view``.
        read: From ``snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.

    Returns:
        One row for each key of which any version was visible, also where corrections have since taken all of
        its events away: what was written for it before must be overwritten. TTLs are not applied, because they
        are applied when values are read.

    Raises:
        SourceError: A column is missing or of the wrong type.
        EngineError: A sum of integers does not fit in int64.
    """
    key, _, _ = key_codes(events, events, read)
    timeline = timeline_of(events, read.view, read.clock)
    if END not in events.column_names:
        events = events.append_column(END, pa.array(timeline.end))  # so that it is found only once
    seen = (key >= 0) & (timeline.start <= boundary)
    at = np.flatnonzero(seen)
    first = at[np.unique(key[at], return_index=True)[1]]
    # The time column is carried so that a table without key columns still has a row.
    entities = events.select([*read.view.keys, read.view.source.event_time]).take(pa.array(first, pa.int64()))
    features = features_at(events, entities, read, np.full(len(first), boundary, np.int64), expire_at=None)
    keys = {name: plain(entities[name], name=name, title=read.view.source.title) for name in read.view.keys}
    columns = {name: features[name] for name in (*read.view.feature_names, EVENT_TIME, CREATED)}
    dropped_times = int(((key >= 0) & ~timeline.placed).sum())
    return Snapshot(pa.table(keys | columns), events.num_rows, int((key < 0).sum()), dropped_times)
