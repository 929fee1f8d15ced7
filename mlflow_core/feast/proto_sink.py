"""What materialised rows are written with into stores of Feast's own: protobuf, through the interface that all have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.feature_view import FeatureView as FeastView
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import RepoConfig
from feast.utils import _convert_arrow_to_proto

from mlflow_core.algebra.types import TIME
from mlflow_core.engine.sink import Sunk
from mlflow_core.engine.views.snapshot import CREATED, EVENT_TIME
from mlflow_core.errors import PlanError, StoreError
from mlflow_core.feast.packed_sink import patiently
from mlflow_core.spec import FeatureView

__all__ = ["ProtoSink"]

_ROWS_A_WRITE = 5_000


@dataclass(slots=True)
class ProtoSink:
    """Writes rows as protobuf, through the interface that every online store of Feast's has.

    Args:
        config: Feast's configuration, which names the store.
        feast_view: Feast's view.
        view: Its declaration.
        boundary: What its rows are computed for, microseconds since epoch, UTC.
        store: The store, opened; a worker opens one of its own.
    """

    config: RepoConfig
    feast_view: FeastView
    view: FeatureView
    boundary: int
    store: OnlineStore | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        return ProtoSink, (self.config, self.feast_view, self.view, self.boundary)

    def write(self, table: pa.Table) -> Sunk:
        """Write rows; see ``mlflow_core.engine.sink.Sink``. Which of them changed anything, such a store does not tell."""
        if self.store is None:
            self.store = get_online_store_from_config(self.config.online_store)
        for first in range(0, table.num_rows, _ROWS_A_WRITE):
            rows = self._rows(table.slice(first, _ROWS_A_WRITE))
            patiently(self.view.title, lambda rows=rows: self._write(rows))  # type: ignore[misc]
        return Sunk(table.num_rows, table.num_rows)

    def close(self) -> None:
        """Do nothing: such a store has no way to be closed that all of them know."""

    def _write(self, rows: list[Any]) -> None:
        assert self.store is not None
        try:
            self.store.online_write_batch(self.config, self.feast_view, rows, None)
        except Exception as error:  # each store has errors of its own
            raise StoreError(
                f"the online store did not take its rows: {type(error).__name__}: {error}",
                object=self.view.title,
            ) from error

    def _rows(self, table: pa.Table) -> list[Any]:
        source = self.feast_view.batch_source
        if source is None:
            raise PlanError("has no batch source", object=self.view.title, place=self.view.place)
        boundary = pa.scalar(self.boundary, pa.int64()).cast(TIME)
        times = table[EVENT_TIME].combine_chunks().cast(TIME).fill_null(boundary)
        if self.view.windows:
            # A window's value changes without a newer event, and Redis takes no value of a time it has already.
            times = pa.repeat(boundary, table.num_rows)
        named = table.drop_columns([EVENT_TIME, CREATED]).append_column(source.timestamp_field, times)
        if source.created_timestamp_column:
            named = named.append_column(source.created_timestamp_column, table[CREATED])
        if not self.view.keys:
            named = named.append_column(
                DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * named.num_rows, pa.string())
            )
        join_keys = {column.name: column.dtype.to_value_type() for column in self.feast_view.entity_columns}
        # Feast converts only the first chunk of a table.
        rows: list[Any] = _convert_arrow_to_proto(named.combine_chunks(), self.feast_view, join_keys)
        return rows
