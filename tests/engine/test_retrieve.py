"""Retrieval of a whole service: several views, on-demand features, names, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.engine.retrieve import retrieve, retrieve_to_shards
from mlflow_core.errors import SourceError, UsageError
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan, plan_retrieval
from mlflow_core.spec import Agg, Entity, FeatureService, FeatureView, ParquetSource, on_demand

US = pa.timestamp("us", "UTC")
FLIGHTS = ParquetSource("flights", path="flights.parquet", event_time="t", known_at="known")
WEATHER = ParquetSource("weather", path="weather.parquet", event_time="hour")
CARRIER = FeatureView(
    "carrier",
    entity=Entity("carrier"),
    source=FLIGHTS,
    features=["delay", Agg("delay", "mean", over="1h", name="mean")],
)
AIRPORT = FeatureView(
    "airport", entity=Entity("origin"), source=WEATHER, features=["wind", "delay"], ttl="10us"
)


@on_demand(inputs=[CARRIER[["mean"]], AIRPORT[["wind"]]], request={"miles": float})
def derived(x):
    return {"per_mile": x["mean"] / x["miles"], "windy": x["wind"] > 20}


@on_demand(inputs=[CARRIER[["delay"]], AIRPORT[["delay"]]])
def both(x):
    return {"more": x["carrier__delay"] + x["airport__delay"]}


SERVICE = FeatureService("model", [CARRIER[["mean"]], AIRPORT[["wind"]], derived])


def times(*values) -> pa.Array:
    return pa.array(values, pa.int64()).cast(US)


@pytest.fixture
def base(tmp_path: Path) -> str:
    pq.write_table(
        pa.table(
            {
                "carrier": ["UA", "UA", None],
                "t": times(10, 20, 5),
                "known": times(15, 60, 5),
                "delay": [4.0, 8.0, 1.0],
            }
        ),
        tmp_path / "flights.parquet",
    )
    pq.write_table(
        pa.table({"origin": ["EWR", "JFK"], "hour": times(10, 10), "wind": [30.0, 5.0], "delay": [1.0, 2.0]}),
        tmp_path / "weather.parquet",
    )
    return str(tmp_path)


def rows() -> pa.Table:
    return pa.table(
        {
            "carrier": ["UA", "UA", "XX", "UA"],
            "origin": ["EWR", "JFK", "EWR", "EWR"],
            "event_timestamp": pa.array([20, 70, 20, 20], pa.int64()).cast(pa.timestamp("us")),
            "miles": [2.0, 3.0, 4.0, 2.0],
            "tail": ["a", "b", "c", "a"],
        }
    )


def test_rows_keep_their_order_and_columns_and_get_the_services_features(base):
    out = retrieve(plan_retrieval(SERVICE), rows(), base=base)

    assert out.column_names == [
        "carrier",
        "origin",
        "event_timestamp",
        "miles",
        "tail",
        "mean",
        "wind",
        "per_mile",
        "windy",
    ]
    assert out.schema.field("event_timestamp").type == US
    assert out["tail"].to_pylist() == ["a", "b", "c", "a"]
    assert out["mean"].to_pylist() == [4.0, 6.0, None, 4.0]
    assert out["wind"].to_pylist() == [30.0, None, 30.0, 30.0]
    assert out["per_mile"].to_pylist() == [2.0, 2.0, None, 2.0]
    assert out["windy"].to_pylist() == [True, False, True, True]


def test_full_names_carry_the_view(base):
    out = retrieve(plan_retrieval(SERVICE, full_feature_names=True), rows(), base=base)

    assert out.column_names[5:] == ["carrier__mean", "airport__wind", "derived__per_mile", "derived__windy"]


def test_views_that_only_feed_on_demand_features_are_read_and_not_put_out(base):
    plan = plan_retrieval(FeatureService("model", [CARRIER[["mean"]], both]))

    out = retrieve(plan, rows(), base=base)

    assert out.column_names[5:] == ["mean", "more"]
    assert out["more"].to_pylist() == [5.0, None, None, 5.0]


def test_a_feature_that_only_feeds_on_demand_features_never_stands_in_for_one_of_the_same_name(base):
    first = plan_retrieval(FeatureService("model", [CARRIER[["delay"]], both]))
    second = plan_retrieval(FeatureService("model", [AIRPORT[["wind"]], CARRIER[["delay"]], both]))

    for plan in (first, second):
        out = retrieve(plan, rows(), base=base)
        assert out["delay"].to_pylist() == [4.0, 8.0, None, 4.0]
        assert out["more"].to_pylist() == [5.0, None, None, 5.0]


def test_one_view_joined_twice_under_two_prefixes_keeps_both_answers_apart(base):
    read = plan_retrieval(FeatureService("model", [AIRPORT[["wind"]]])).reads[0]
    joined = [replace(read, keys=(("origin", name),), prefix=name) for name in ("from", "to")]
    table = rows().rename_columns(["carrier", "from", "event_timestamp", "miles", "tail"])
    table = table.append_column("to", pa.array(["JFK", "EWR", None, "JFK"]))
    early = table.set_column(2, "event_timestamp", times(20, 20, 20, 20))

    out = retrieve(RetrievalPlan(tuple(joined), (), ("from__wind", "to__wind")), early, base=base)

    assert out["from__wind"].to_pylist() == [30.0, 5.0, 30.0, 30.0]
    assert out["to__wind"].to_pylist() == [5.0, 30.0, None, 5.0]


def test_of_a_view_joined_twice_on_demand_features_read_the_one_under_its_own_keys(base):
    plan = plan_retrieval(FeatureService("model", [AIRPORT[["wind"]], derived]))
    moved = replace(plan.reads[0], keys=(("origin", "to"),), prefix="to")
    table = rows().append_column("to", pa.array(["JFK"] * 4))

    out = retrieve(replace(plan, reads=(moved, *plan.reads)), table, base=base)

    assert out["windy"].to_pylist() == [True, False, True, True]


def test_an_entity_row_column_of_another_name_joins_where_the_plan_says_so(base):
    read = plan_retrieval(FeatureService("model", [AIRPORT[["wind"]]])).reads[0]
    moved = type(read)(read.view, read.features, read.clock, (("origin", "dest"),), prefix="dest")
    plan = RetrievalPlan((moved,), (), ("dest__wind",))

    out = retrieve(
        plan, rows().rename_columns(["carrier", "dest", "event_timestamp", "miles", "tail"]), base=base
    )

    assert out["dest__wind"].to_pylist() == [30.0, None, 30.0, 30.0]


def test_some_features_of_an_on_demand_function_are_kept_and_unknown_ones_refused(base):
    plan = plan_retrieval(SERVICE)

    some = RetrievalPlan(plan.reads, (OnDemandRead(derived, ("windy",)),), plan.columns)
    assert retrieve(some, rows(), base=base).column_names[5:] == ["mean", "wind", "windy"]
    with pytest.raises(UsageError, match=r'has no feature "wind_y"\. Did you mean "windy"'):
        retrieve(
            RetrievalPlan(plan.reads, (OnDemandRead(derived, ("wind_y",)),), plan.columns), rows(), base=base
        )


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        ("event_timestamp", 'entity rows: no time column "event_timestamp"'),
        ("carrier", 'entity rows: no key column "carrier"'),
        ("miles", 'entity rows: no column "miles", which OnDemand "derived" reads from the request'),
    ],
)
def test_a_column_missing_from_the_entity_rows_is_named(base, drop, said):
    with pytest.raises(SourceError, match=said):
        retrieve(plan_retrieval(SERVICE), rows().drop_columns([drop]), base=base)


def test_no_entity_rows_give_no_rows_in_one_empty_shard(base, tmp_path):
    shards = retrieve_to_shards(plan_retrieval(SERVICE), rows().slice(0, 0), base=base, out=tmp_path / "out")

    assert [pq.read_table(shard).num_rows for shard in shards] == [0]
    assert pq.read_schema(shards[0]).names[-1] == "windy"


def test_a_missing_file_is_named_and_nothing_is_written(base, tmp_path):
    (tmp_path / "weather.parquet").unlink()

    with pytest.raises(SourceError, match=r"weather\.parquet"):
        retrieve_to_shards(plan_retrieval(SERVICE), rows(), base=base, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shards_can_be_read_back_with_the_types_of_the_table(base, tmp_path):
    table = retrieve(plan_retrieval(SERVICE), rows(), base=base)
    shards = retrieve_to_shards(
        plan_retrieval(SERVICE), rows(), base=base, out=tmp_path / "out", rows_per_shard=3
    )

    assert [pq.read_metadata(shard).num_rows for shard in shards] == [3, 1]
    assert pa.concat_tables([pq.read_table(shard) for shard in shards]).equals(table)
    assert np.isfinite(pq.read_table(shards[0])["mean"].to_numpy()[0])
