"""From a materialised table to stored rows: keys, packed values and versions, in one write."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from mlflow_core.errors import StoreError, nearest
from mlflow_core.online.backend import OnlineBackend, StoredRow
from mlflow_core.online.codec import microseconds
from mlflow_core.online.keys import encode_keys
from mlflow_core.online.layout import codec_of
from mlflow_core.spec import FeatureView

__all__ = ["CREATED", "EVENT_TIME", "Written", "stored_rows", "write_materialised", "write_table"]

EVENT_TIME = "__event_time"
CREATED = "__created"


class Written(NamedTuple):
    """What became of a table's rows.

    Attributes:
        rows: Rows given.
        changed: Stored rows that are new or have a greater version than before.
        dropped_keys: Rows left out for a null in their key.
    """

    rows: int
    changed: int
    dropped_keys: int


def write_materialised(
    backend: OnlineBackend, view: FeatureView, table: pa.Table, boundary: int, schema: pa.Schema | None = None
) -> int:
    """Store what a materialisation computed; ``write_table`` that returns only how many stored rows changed."""
    return write_table(backend, view, table, boundary, schema).changed


def write_table(
    backend: OnlineBackend, view: FeatureView, table: pa.Table, boundary: int, schema: pa.Schema | None = None
) -> Written:
    """Store what a materialisation computed.

    Args:
        backend: The online store.
        view: The view.
        table: One row an entity: key columns, features, ``__event_time`` (timestamp of the latest-value event,
            null where there is none), optionally ``__created`` (timestamp that orders versions of one event).
        boundary: What it was computed for, microseconds since epoch, UTC.
        schema: The types that readers expect of the features; by default the table's own.

    Returns:
        How many rows were given, changed the store, and had a null key.

    Raises:
        StoreError: A column is missing or of another type, or the store cannot be written.
    """
    rows = stored_rows(view, table, boundary, schema)
    return Written(table.num_rows, backend.write(view.name, rows), table.num_rows - len(rows))


def stored_rows(
    view: FeatureView, table: pa.Table, boundary: int, schema: pa.Schema | None = None
) -> list[StoredRow]:
    """Pack a materialised table's rows; see ``write_table``.

    The version's time is the boundary if the view has windows or its events have an identity, since then a value
    can change without a newer event; otherwise the time of the row's own event.
    """
    table = table.combine_chunks()
    if EVENT_TIME not in table.column_names:
        raise StoreError(
            f'has no column "{EVENT_TIME}"', object=view.title, hint=nearest(EVENT_TIME, table.column_names)
        )
    values = codec_of(view, schema or table.schema).encode(table, table.column(EVENT_TIME))
    keys = encode_keys(table, view.keys)
    if view.windows or view.source.event_id is not None:
        times = [boundary] * table.num_rows
        sequences = [0] * table.num_rows
    else:
        times = _microseconds(table.column(EVENT_TIME), boundary)
        sequences = (
            _microseconds(table.column(CREATED), 0) if CREATED in table.column_names else [0] * table.num_rows
        )
    return [
        StoredRow(key, time, sequence, value)
        for key, time, sequence, value in zip(keys, times, sequences, values, strict=True)
        if key is not None
    ]


def _microseconds(column: pa.ChunkedArray, missing: int) -> list[int]:
    times: list[int] = microseconds(column).fill_null(missing).to_pylist()
    return times
