"""A small real repository of native Feast objects on the packed online store, and what its tests ask it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.repo_config import RepoConfig
from feast.types import Float32, Float64, Int64, String
from feast.value_type import ValueType

NOON = datetime(2013, 11, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PACKED = "mlflow_core.feast.online_store.PackedOnlineStore"


def store_in(folder, online=None, clock="2013-11-15T12:00Z", project="flights", registry="registry.db"):
    folder.mkdir(exist_ok=True)
    config = RepoConfig(
        project=project,
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{folder / registry}"},
        offline_store={"type": "file"},
        online_store=online or {"type": PACKED, "path": "data/online.db", "clock": clock},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return FeatureStore(config=config)


CARRIER = Entity(name="carrier_entity", join_keys=["carrier"], value_type=ValueType.STRING)
AIRPORT = Entity(name="airport", join_keys=["airport"], value_type=ValueType.STRING)


def delays_view(folder, ttl=HOUR):
    path = folder / "delays.parquet"
    pq.write_table(
        pa.table(
            {
                "carrier": ["UA", "DL", "AA"],
                "delay": [5.0, 7.0, None],
                "flights": [10, 20, None],
                "event_timestamp": pa.array(
                    [NOON - HOUR / 2, NOON - 2 * HOUR, NOON - HOUR], pa.timestamp("us", "UTC")
                ),
                "created": pa.array([NOON] * 3, pa.timestamp("us", "UTC")),
            }
        ),
        path,
    )
    batch = FileSource(
        name="delays_source",
        path=str(path),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    return FeatureView(
        name="delays",
        entities=[CARRIER],
        ttl=ttl,
        schema=[
            Field(name="carrier", dtype=String),
            Field(name="delay", dtype=Float64),
            Field(name="flights", dtype=Int64),
        ],
        source=PushSource(name="delays_push", batch_source=batch),
    )


def weather_view(folder):
    path = folder / "weather.parquet"
    times = pa.array([NOON - HOUR] * 2, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"airport": ["EWR", "JFK"], "temp": [1.5, 2.5], "event_timestamp": times}), path)
    source = FileSource(name="weather_source", path=str(path), timestamp_field="event_timestamp")
    schema = [Field(name="airport", dtype=String), Field(name="temp", dtype=Float32)]
    return FeatureView(name="weather", entities=[AIRPORT], ttl=timedelta(0), schema=schema, source=source)


def statuses_of(response) -> dict[str, list[str]]:
    names = response.proto.metadata.feature_names.val
    return {
        name: [FieldStatus.Name(status) for status in vector.statuses]
        for name, vector in zip(names, response.proto.results, strict=True)
    }


def rows(**columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
