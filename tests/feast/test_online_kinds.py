"""Feast's types, keys and kinds of views on the packed online store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, FileSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Float64, Int64, Map, String, UnixTimestamp, Uuid
from feast.value_type import ValueType

from tests.feast.online_repository import CARRIER, NOON, delays_view, rows, statuses_of, store_in


def test_keys_of_feasts_integers_of_both_widths_are_one_key(tmp_path):
    store = store_in(tmp_path / "repo")
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"plane": [1], "x": [1.0], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))}),
        path,
    )
    entity = Entity(name="plane", join_keys=["plane"], value_type=ValueType.INT64)
    source = FileSource(name="planes", path=str(path), timestamp_field="event_timestamp")
    schema = [Field(name="plane", dtype=Int64), Field(name="x", dtype=Float64)]
    view = FeatureView(name="planes", entities=[entity], schema=schema, source=source, ttl=timedelta(0))
    store.apply([entity, view])
    online = store._get_provider().online_store
    wide, narrow = (
        EntityKey(join_keys=["plane"], entity_values=[value])
        for value in (Value(int64_val=7), Value(int32_val=7))
    )
    online.online_write_batch(store.config, view, [(narrow, {"x": Value(double_val=0.5)}, NOON, None)], None)
    for key in (wide, narrow):
        ((time, values),) = online.online_read(store.config, view, [key], ["x"])
        assert (time, values) == (NOON, {"x": Value(double_val=0.5)})
    assert online.online_read(
        store.config, view, [EntityKey(join_keys=["plane"], entity_values=[Value(int64_val=8)])]
    ) == [(None, None)]


def test_every_type_goes_through_feast_and_comes_back(tmp_path):
    store = store_in(tmp_path / "repo")
    path = tmp_path / "kinds.parquet"
    pq.write_table(
        pa.table({"carrier": ["UA"], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))}), path
    )
    schema = [
        Field(name="carrier", dtype=String),
        Field(name="id", dtype=Uuid),
        Field(name="seen", dtype=UnixTimestamp),
        Field(name="labels", dtype=Map),
        Field(name="last", dtype=Array(String)),
        Field(name="times", dtype=Array(UnixTimestamp)),
        Field(name="numbers", dtype=Array(Int64)),
    ]
    source = FileSource(name="kinds", path=str(path), timestamp_field="event_timestamp")
    view = FeatureView(name="kinds", entities=[CARRIER], schema=schema, source=source, ttl=timedelta(0))
    store.apply([CARRIER, view])
    frame = pd.DataFrame(
        {
            "carrier": ["UA", "DL"],
            "id": ["00000000-0000-0000-0000-000000000005", None],
            "seen": [pd.Timestamp("2013-01-01T05:00:00Z"), None],
            "labels": [{"a": "b"}, None],
            "last": [["EWR", "JFK"], None],
            "times": [[pd.Timestamp("2013-01-01T05:00:00Z")], None],
            "numbers": [[1, 2, 3], None],
            "event_timestamp": [NOON, NOON],
        }
    )
    store.write_to_online_store("kinds", frame)
    names = [field.name for field in schema[1:]]
    got = store.get_online_features([f"kinds:{name}" for name in names], rows(carrier=["UA", "DL"]))
    moment = datetime(2013, 1, 1, 5, tzinfo=UTC)
    expected = [UUID(int=5), moment, {"a": "b"}, ["EWR", "JFK"], [moment], [1, 2, 3]]
    assert {name: got.to_dict()[name][0] for name in names} == dict(zip(names, expected, strict=True))
    assert {name: statuses_of(got)[name][1] for name in names} == dict.fromkeys(names, "NULL_VALUE")


def test_a_view_without_an_entity_and_an_on_demand_view_written_online(tmp_path):
    store = store_in(tmp_path / "repo")
    path = tmp_path / "whole.parquet"
    times = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"total": [3], "event_timestamp": times}), path)
    source = FileSource(name="whole", path=str(path), timestamp_field="event_timestamp")
    whole = FeatureView(name="whole", entities=[], schema=[Field(name="total", dtype=Int64)], source=source)

    @on_demand_feature_view(
        entities=[CARRIER],
        sources=[delays_view(tmp_path)],
        schema=[Field(name="twice", dtype=Float64)],
        mode="pandas",
        write_to_online_store=True,
    )
    def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"twice": inputs["delay"] * 2})

    store.apply([CARRIER, delays_view(tmp_path), whole, doubled])
    online = store._get_provider().online_store
    nobody = EntityKey(join_keys=["__dummy_id"], entity_values=[Value(string_val="")])
    applied = store.get_feature_view("whole")
    online.online_write_batch(
        store.config, applied, [(nobody, {"total": Value(int64_val=3)}, NOON, None)], None
    )
    assert (
        online.online_read(store.config, applied, [nobody] * 2) == [(NOON, {"total": Value(int64_val=3)})] * 2
    )
    key = EntityKey(join_keys=["carrier"], entity_values=[Value(string_val="UA")])
    written = store.get_on_demand_feature_view("doubled")
    online.online_write_batch(
        store.config, written, [(key, {"twice": Value(double_val=10.0)}, NOON, None)], None
    )
    response = store.get_online_features(["whole:total", "doubled:twice"], rows(carrier=["UA", "??"]))
    assert response.to_dict() == {"carrier": ["UA", "??"], "total": [3, 3], "twice": [10.0, None]}
    assert statuses_of(response)["twice"] == ["PRESENT", "NOT_FOUND"]
