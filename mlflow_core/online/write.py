"""From a materialised table to rows for the store: keys, packed values and versions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_core.errors import StoreError, nearest
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.codec import microseconds
from mlflow_core.online.keys import encode_keys, key_records
from mlflow_core.online.layout import codec_of, table_of, versioned_by_boundary
from mlflow_core.online.rows import Row, RowBlock
from mlflow_core.spec import FeatureView

__all__ = ["CREATED", "EVENT_TIME", "packed_rows"]

EVENT_TIME = "__event_time"
CREATED = "__created"


def packed_rows(
    view: FeatureView,
    table: pa.Table,
    boundary: int,
    schema: pa.Schema | None = None,
    *,
    sequence: int = 0,
) -> tuple[OnlineTable, Sequence[Row]]:
    """Pack what a materialisation computed, for the backend to write.

    The version's time is the boundary if the view has windows or its events have an identity, since then a value
    can change without a newer event; otherwise the time of the row's own event.

    Args:
        view: The view.
        table: One row an entity: key columns, features, ``__event_time`` (timestamp of the latest-value event,
            null where there is none), optionally ``__created`` (timestamp that orders versions of one event).
        boundary: What it was computed for, microseconds since epoch, UTC.
        schema: The types that readers expect of the features; by default the table's own.
        sequence: When a run began that writes again what is there already, microseconds since epoch, UTC, so that it
            replaces what was written before; else 0.

    Returns:
        Where the rows go, and the rows; those with a null in their key are left out.

    Raises:
        StoreError: A column is missing or of another type.
    """
    table = table.combine_chunks()
    n = table.num_rows
    if EVENT_TIME not in table.column_names:
        raise StoreError(
            f'has no column "{EVENT_TIME}"', object=view.title, hint=nearest(EVENT_TIME, table.column_names)
        )
    if versioned_by_boundary(view):
        times, sequences = np.full(n, boundary, np.int64), np.full(n, sequence, np.int64)
    else:
        times = _microseconds(table.column(EVENT_TIME), boundary)
        created = CREATED in table.column_names
        sequences = _microseconds(table.column(CREATED), 0) if created else np.zeros(n, np.int64)
        # Where a source does not tell when a row was created, whoever writes all of it again orders the versions.
        if view.source.created is None and view.source.known_at is None:
            untold = (sequences == times) | (sequences == 0)  # a native view's source is not declared here
            sequences = np.where(untold, np.maximum(sequences, sequence), sequences)
    codec = codec_of(view, schema or table.schema)
    events = table.column(EVENT_TIME) if codec.timed else None
    if codec.is_fixed and (spelled := key_records(table, view.keys)) is not None:
        return table_of(view), RowBlock(spelled, codec.records(table, times, sequences, events))
    values = codec.encode(table, times, sequences, events)
    keys = encode_keys(table, view.keys)
    return table_of(view), [(key, value) for key, value in zip(keys, values, strict=True) if key is not None]


def _microseconds(column: pa.ChunkedArray, missing: int) -> npt.NDArray[np.int64]:
    return np.asarray(microseconds(column).fill_null(missing).to_numpy(zero_copy_only=False), np.int64)
