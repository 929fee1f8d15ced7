"""Views and tables small enough to check by eye, and the compute core asked about them."""

from __future__ import annotations

import pyarrow as pa

from mlflow_core.engine.views.view import compute_view
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import Entity, FeatureView, ParquetSource

US = pa.timestamp("us", "UTC")


def source_of(**columns) -> ParquetSource:
    return ParquetSource("s", path="s.parquet", event_time="t", **columns)


def view_of(*features, keys=("k",), source=None, **fields) -> FeatureView:
    entity = Entity("e", keys=keys) if keys else None
    return FeatureView("v", entity=entity, source=source or source_of(), features=features, **fields)


def times(*values) -> pa.Array:
    return pa.array(values, pa.int64()).cast(US)


def asked(view, events, rows, clock="event", features=None) -> dict:
    read = ViewRead(view, features or view.feature_names, clock, tuple((key, key) for key in view.keys))
    return compute_view(pa.table(events), pa.table(rows), read).to_pydict()
