"""A materialised table written to a backend, as a run's sink does it, without the run."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from mlflow_core.online.backend import OnlineBackend
from mlflow_core.online.write import packed_rows
from mlflow_core.spec import FeatureView


class Written(NamedTuple):
    """Rows given, rows that changed the store, and rows left out for a null in their key."""

    rows: int
    changed: int
    dropped_keys: int


def write_table(
    backend: OnlineBackend, view: FeatureView, table: pa.Table, boundary: int, schema: pa.Schema | None = None
) -> Written:
    place, rows = packed_rows(view, table, boundary, schema)
    return Written(table.num_rows, backend.write(place, rows), table.num_rows - len(rows))
