"""One small shop in Feast's own stores and in ours, on the same file of orders."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64, Int64
from feast.value_type import ValueType

import mlflow_core as ml
from mlflow_core import sources
from mlflow_core.plan.project import Project
from mlflow_core.plan.schema import view_schema
from mlflow_core.plan.to_feast import to_feast

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
CUSTOMER = Entity(name="customer", join_keys=["customer"], value_type=ValueType.INT64)
OURS = {
    "offline_store": {"type": "mlflow_core.feast.offline_store.DaskOfflineStore"},
    "batch_engine": {"type": "mlflow_core.feast.compute_engine.DaskComputeEngine"},
}
PACKED = {
    "type": "mlflow_core.feast.online_store.PackedOnlineStore",
    "path": "online.db",
    "clock": (NOON + MINUTE).isoformat(),
}
STOCK = {
    "offline_store": {"type": "dask"},
    "batch_engine": {"type": "local", "backend": "pandas"},
}


def store_in(folder: Path, **sections: object) -> FeatureStore:
    folder.mkdir(exist_ok=True)
    sections.setdefault("online_store", {"type": "sqlite", "path": str(folder / "stock.db")})
    return FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            entity_key_serialization_version=3,
            repo_path=folder,
            **sections,
        )
    )


def close(store: FeatureStore) -> None:
    asyncio.run(store._get_provider().online_store.close())


def write_orders(folder: Path, rows: list[tuple[int, float, datetime]], unit: str = "us") -> Path:
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame(rows, columns=["customer", "amount", "happened"])
    frame = frame.assign(happened=pd.to_datetime(frame.happened, utc=True).dt.as_unit(unit))
    pq.write_table(
        pa.Table.from_pandas(frame, preserve_index=False), folder / "orders.parquet", version="2.6"
    )
    return folder / "orders.parquet"


def native_source(path: Path) -> FileSource:
    return FileSource(name="orders_source", path=str(path), timestamp_field="happened")


def native_orders(path: Path) -> FeatureView:
    schema = [Field(name="customer", dtype=Int64), Field(name="amount", dtype=Float64)]
    return FeatureView(name="orders", entities=[CUSTOMER], schema=schema, source=native_source(path))


def apply_ours(
    store: FeatureStore, folder: Path, view: ml.FeatureView, on_demand: dict[str, ml.OnDemand] | None = None
) -> None:
    assert view.entity is not None
    project = Project(
        name="shop",
        root=folder,
        repo=folder,
        entities={view.entity.name: view.entity},
        sources={view.source.name: view.source},
        views={view.name: view},
        on_demand=on_demand or {},
        services={},
        pipelines={},
        native=(),
    )
    schema = view_schema(view, sources.read_schema(view.source, str(folder)))
    store.apply(to_feast(project, {view.name: schema}))
