"""Faults of Feast's own stores and engines, each run beside ours on the same data.

Lost entity rows, random ties and what is known when are in ``test_faults_of_time.py``; expired values served online
are in ``test_online_store.py``. Each test shows Feast's answer first, so that it says when it has lost its point.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import BatchFeatureView, Field
from feast.aggregation import Aggregation
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView as OnDemandProto
from feast.types import Float64, Int64
from feast.utils import _convert_arrow_to_proto
from feast.value_type import ValueType
from sqlalchemy import create_engine, text

import mlflow_core as ml
from mlflow_core.engine.views.snapshot import CREATED, EVENT_TIME
from mlflow_core.feast.packed_sink import PackedSink
from mlflow_core.feast.proto_sink import ProtoSink
from mlflow_core.feast.stored_view import schema_of_stored, stored_view
from mlflow_core.plan.from_feast import view_of
from mlflow_core.plan.shim import shim_text
from tests.feast.on_demand_of_orders import doubled, orders
from tests.feast.stock_and_ours import (
    CUSTOMER,
    HOUR,
    MINUTE,
    NOON,
    OURS,
    PACKED,
    STOCK,
    apply_ours,
    close,
    native_orders,
    native_source,
    store_in,
    write_orders,
)


@pytest.mark.filterwarnings("ignore:Batch feature views are experimental:RuntimeWarning")
def test_windows_are_refused_or_lost_by_feast_and_the_same_in_training_and_serving_by_ours(
    tmp_path: Path,
) -> None:
    happened = [
        (1, 100.0, NOON - 2 * HOUR),  # on the open edge of (10:00, 12:00]
        (1, 1.0, NOON - 2 * HOUR + MINUTE),
        (1, 2.0, NOON),
        (1, 50.0, NOON + MINUTE),
        (2, 4.0, NOON - 3 * HOUR),
    ]
    asked = pd.DataFrame({"customer": [1, 2, 1, 3], "event_timestamp": [NOON, NOON, NOON - 2 * HOUR, NOON]})

    path = write_orders(tmp_path / "stock", happened)
    stock = store_in(tmp_path / "stock", **STOCK)
    name = "sum_amount_7200s"
    view = BatchFeatureView(
        name="orders",
        entities=[CUSTOMER],
        mode="python",
        source=native_source(path),
        online=True,
        schema=[Field(name="customer", dtype=Int64), Field(name=name, dtype=Float64)],
        aggregations=[Aggregation(column="amount", function="sum", time_window=2 * HOUR)],
    )
    stock.apply([CUSTOMER, view])
    assert not getattr(stock.registry.get_any_feature_view("orders", "shop"), "aggregations", [])
    with pytest.raises(KeyError, match=name):
        stock.get_historical_features(asked, [f"orders:{name}"]).to_df()
    with pytest.raises(KeyError, match=name):
        stock.materialize(NOON - 10 * HOUR, NOON)
    provider = stock._get_provider()
    engine = LocalComputeEngine(
        backend="pandas",
        repo_config=stock.config,
        offline_store=provider.offline_store,
        online_store=provider.online_store,
    )
    job = engine._materialize_one(stock.registry, MaterializationTask("shop", view, NOON - 10 * HOUR, NOON))
    assert job.status() is MaterializationJobStatus.ERROR
    assert str(job.error()) == "Time window aggregation is not supported in the local compute engine."

    write_orders(tmp_path / "ours", happened)
    ours = store_in(tmp_path / "ours", **OURS, online_store=PACKED)
    declared = ml.FeatureView(
        "orders",
        entity=ml.Entity("customer"),
        source=ml.ParquetSource("orders", path="orders.parquet", event_time="happened"),
        features=[ml.Agg("amount", ["sum", "count"], over="2h")],
        availability=ml.Every("1h"),
    )
    apply_ours(ours, tmp_path / "ours", declared)
    wanted = ["orders:amount_sum_2h", "orders:amount_count_2h"]
    trained = ours.get_historical_features(asked, wanted).to_df()
    sums, counts = trained["amount_sum_2h"], trained["amount_count_2h"]
    assert [None if pd.isna(value) else value for value in sums] == [3.0, None, 100.0, None]
    assert counts.tolist() == [2, 0, 1, 0]

    ours.materialize(NOON - 10 * HOUR, NOON)
    served = ours.get_online_features(wanted, [{"customer": customer} for customer in (1, 2, 3)]).to_dict()
    assert served["amount_sum_2h"] == [3.0, None, None]
    assert served["amount_count_2h"] == [2, 0, 0]
    close(ours)


def test_a_window_that_changes_without_a_newer_event_has_a_newer_time_in_feasts_store(tmp_path: Path) -> None:
    """Feast's Redis store takes no value whose time is not greater than that of the one it has."""
    write_orders(tmp_path, [(1, 2.0, NOON - HOUR)])
    store = store_in(tmp_path, **OURS)
    declared = ml.FeatureView(
        "orders",
        entity=ml.Entity("customer"),
        source=ml.ParquetSource("orders", path="orders.parquet", event_time="happened"),
        features=[ml.Agg("amount", "sum", over="2h", name="spent")],
        availability=ml.Every("1h"),
    )
    apply_ours(store, tmp_path, declared)
    found = []
    for end in (NOON, NOON + 2 * HOUR):
        store.materialize(NOON - 10 * HOUR, end)
        answer = store.get_online_features(["orders:spent"], [{"customer": 1}])
        [moment] = answer.proto.results[1].event_timestamps
        found.append((answer.to_dict()["spent"], moment.ToDatetime(UTC)))
    assert found == [([2.0], NOON), ([None], NOON + 2 * HOUR)]
    close(store)


@pytest.mark.parametrize("online", ["feast's sqlite", "packed"])
def test_a_table_in_several_chunks_is_written_whole_where_feast_takes_the_first(
    tmp_path: Path, online: str
) -> None:
    customers = range(40)
    path = write_orders(tmp_path, [(1, 0.0, NOON)])
    store = store_in(tmp_path, **OURS, **({"online_store": PACKED} if online == "packed" else {}))
    store.apply([CUSTOMER, native_orders(path)])
    view = store.get_feature_view("orders")
    times = pa.array([NOON] * len(customers), pa.timestamp("us", "UTC"))
    columns = {"customer": list(customers), "amount": [customer / 2 for customer in customers]}
    rows = pa.table({**columns, EVENT_TIME: times, CREATED: times})
    table = pa.concat_tables([rows.slice(0, 15), rows.slice(15)])
    by_feast = _convert_arrow_to_proto(
        table.rename_columns({EVENT_TIME: "happened"}), native_orders(path), {"customer": ValueType.INT64}
    )
    assert len(by_feast) == 15

    kept = store._get_provider().online_store
    boundary = int(NOON.timestamp()) * 1_000_000
    if online == "packed":
        sink = PackedSink(kept.backend(store.config), stored_view(view), boundary, schema_of_stored(view))
    else:
        sink = ProtoSink(store.config, view, view_of(view, repo_path=str(tmp_path)), boundary, kept)
    assert sink.write(table).rows == len(customers)
    answer = store.get_online_features(["orders:amount"], [{"customer": one} for one in customers]).to_dict()
    assert answer["amount"] == [customer / 2 for customer in customers]
    close(store)


def test_nanosecond_parquet_is_read_where_the_sql_of_feasts_duckdb_store_fails(tmp_path: Path) -> None:
    """Feast's store asks for rows of a range by a cast that DuckDB does not have; ibis, which sends it, is an extra."""
    path = write_orders(
        tmp_path, [(1, 1.0, NOON - 5 * HOUR), (1, 2.0, NOON - HOUR), (2, 4.0, NOON)], unit="ns"
    )
    assert pq.read_schema(path).field("happened").type == pa.timestamp("ns", "UTC")
    with (
        duckdb.connect() as con,
        pytest.raises(duckdb.ConversionException, match="TIMESTAMPTZ_NS -> TIMESTAMP"),
    ):
        con.execute(f"SELECT * FROM '{path}' WHERE CAST(happened AS TIMESTAMP) >= TIMESTAMP '2024-01-01'")

    store = store_in(tmp_path, **OURS)
    store.apply([CUSTOMER, native_orders(path)])
    store.materialize(NOON - 10 * HOUR, NOON)
    answer = store.get_online_features(["orders:amount"], [{"customer": one} for one in (1, 2)]).to_dict()
    assert answer["amount"] == [2.0, 4.0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ibis", "ignore:fetch_arrow_table:DeprecationWarning")
def test_feasts_duckdb_store_materialises_microseconds_and_fails_on_nanoseconds(tmp_path: Path) -> None:
    for unit in ("us", "ns"):
        path = write_orders(tmp_path / unit, [(1, 2.0, NOON - HOUR)], unit)
        store = store_in(tmp_path / unit, offline_store={"type": "duckdb"})
        store.apply([CUSTOMER, native_orders(path)])
        if unit == "us":
            store.materialize(NOON - 10 * HOUR, NOON)
            assert store.get_online_features(["orders:amount"], [{"customer": 1}]).to_dict()["amount"] == [
                2.0
            ]
        else:
            with pytest.raises(duckdb.ConversionException, match="TIMESTAMPTZ_NS -> TIMESTAMP"):
                store.materialize(NOON - 10 * HOUR, NOON)


def test_an_on_demand_feature_of_one_row_gives_one_value_for_three_in_feast_and_three_in_ours(
    tmp_path: Path,
) -> None:
    happened = [(1, 1.0, NOON), (2, 2.0, NOON), (3, 4.0, NOON)]
    asked = [{"customer": customer} for customer in (1, 2, 3)]

    path = write_orders(tmp_path / "stock", happened)
    stock = store_in(tmp_path / "stock", **STOCK)
    stock.apply([CUSTOMER, native_orders(path), native_doubled(path)])
    stock.materialize(NOON - HOUR, NOON + MINUTE)
    answer = stock.get_online_features(["orders:amount", "native_doubled:twice"], asked).to_dict()
    assert answer["amount"] == [1.0, 2.0, 4.0]
    assert answer["twice"] == [2.0], "Feast answers every row now; this comparison has lost its point"

    write_orders(tmp_path / "ours", happened)
    ours = store_in(tmp_path / "ours", **OURS, online_store=PACKED)
    apply_ours(ours, tmp_path / "ours", orders, {"doubled": doubled})
    ours.materialize(NOON - HOUR, NOON + MINUTE)
    answer = ours.get_online_features(["orders:amount", "doubled:twice"], asked).to_dict()
    assert (answer["amount"], answer["twice"]) == ([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    close(ours)


def native_doubled(path: Path):
    @on_demand_feature_view(
        sources=[native_orders(path)],
        schema=[Field(name="twice", dtype=Float64)],
        mode="python",
        singleton=True,
    )
    def native_doubled(inputs):
        return {"twice": inputs["amount"] * 2}

    return native_doubled


def test_feasts_registry_holds_code_that_runs_when_it_is_read_and_ours_a_name(tmp_path: Path) -> None:
    path = write_orders(tmp_path / "stock", [(1, 1.0, NOON)])
    stock = store_in(tmp_path / "stock")
    stock.apply([CUSTOMER, native_orders(path), native_doubled(path)])
    stored = stored_on_demand(tmp_path / "stock")
    function = stored.spec.feature_transformation.user_defined_function
    assert 'inputs["amount"] * 2' in function.body_text
    assert function.body, "no pickled function beside the text any more"

    ran = tmp_path / "ran"
    function.body_text = f"open({str(ran)!r}, 'w').close()\n"
    with create_engine(f"sqlite:///{tmp_path}/stock/registry.db").begin() as con:
        con.execute(
            text("UPDATE on_demand_feature_views SET feature_view_proto = :proto"),
            {"proto": stored.SerializeToString()},
        )
    assert not ran.exists()
    store_in(tmp_path / "stock").get_on_demand_feature_view("native_doubled")
    assert ran.exists(), "Feast no longer runs what its registry holds; this comparison has lost its point"

    write_orders(tmp_path / "ours", [(1, 1.0, NOON)])
    ours = store_in(tmp_path / "ours", **OURS, online_store=PACKED)
    apply_ours(ours, tmp_path / "ours", orders, {"doubled": doubled})
    stored = stored_on_demand(tmp_path / "ours")
    function = stored.spec.feature_transformation.user_defined_function
    assert function.body == b""
    assert function.body_text == shim_text("tests.feast.on_demand_of_orders:doubled")
    assert b"* 2" not in stored.SerializeToString()
    close(ours)


def stored_on_demand(folder: Path) -> OnDemandProto:
    with create_engine(f"sqlite:///{folder}/registry.db").connect() as con:
        (proto,) = con.execute(text("SELECT feature_view_proto FROM on_demand_feature_views")).one()
    return OnDemandProto.FromString(proto)
