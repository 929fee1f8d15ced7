"""Materialisation through Feast's public API: boundaries, watermarks, failures, and stores that are not ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feast import BatchFeatureView, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import String

import mlflow_core as ml
from mlflow_core import sources
from mlflow_core.config.clock import FixedClock
from mlflow_core.errors import PlanError, SourceError
from mlflow_core.feast.compute_engine import boundary_of
from mlflow_core.plan.project import Project
from mlflow_core.plan.schema import view_schema
from mlflow_core.plan.to_feast import to_feast

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def orders(folder: Path) -> ml.FeatureView:
    times = [NOON - 5 * HOUR, NOON - 30 * MINUTE, NOON + 5 * MINUTE, NOON + 90 * MINUTE]
    frame = pd.DataFrame(
        {
            "customer": ["a", "b", "a", "b"],
            "amount": [1.0, 2.0, 4.0, 8.0],
            "happened": pd.Series(times).dt.as_unit("us"),
        }
    )
    frame.to_parquet(folder / "orders.parquet", index=False)
    return ml.FeatureView(
        "orders",
        entity=ml.Entity("customer"),
        source=ml.ParquetSource("orders", path="orders.parquet", event_time="happened"),
        features=["amount", ml.Agg("amount", ["sum", "count"], over="2h")],
        ttl="3h",
        availability=ml.Every("1h", delay="10m"),
    )


def store_of(folder: Path, view: ml.FeatureView, **sections: object) -> FeatureStore:
    store = FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            entity_key_serialization_version=3,
            repo_path=folder,
            offline_store={"type": "mlflow_core.feast.offline_store.DaskOfflineStore"},
            batch_engine={"type": "mlflow_core.feast.compute_engine.DaskComputeEngine"},
            **sections,
        )
    )
    assert view.entity is not None
    project = Project(
        name="shop",
        root=folder,
        repo=folder,
        entities={"customer": view.entity},
        sources={"orders": view.source},
        views={"orders": view},
        on_demand={},
        services={},
        pipelines={},
        native=(),
    )
    schema = view_schema(view, sources.read_schema(view.source, str(folder)))
    store.apply(to_feast(project, {"orders": schema}))
    return store


def ours(clock: datetime) -> dict[str, str]:
    return {
        "type": "mlflow_core.feast.online_store.PackedOnlineStore",
        "path": "online.db",
        "clock": clock.isoformat(),
    }


def read(store: FeatureStore) -> dict[str, list[object]]:
    names = ["orders:amount", "orders:amount_sum_2h", "orders:amount_count_2h"]
    answer = store.get_online_features(features=names, entity_rows=[{"customer": c} for c in "abc"]).to_dict()
    return {name: answer[name] for name in ("amount", "amount_sum_2h", "amount_count_2h")}


def test_a_materialisation_reaches_the_last_boundary_whose_delay_has_passed(tmp_path: Path) -> None:
    view = orders(tmp_path)
    assert boundary_of(view, NOON + 5 * MINUTE, FixedClock(us(NOON + 9 * MINUTE))) == us(NOON - HOUR)
    assert boundary_of(view, NOON + 5 * MINUTE, FixedClock(us(NOON + 10 * MINUTE))) == us(NOON)
    assert boundary_of(view, NOON - MINUTE, FixedClock(us(NOON + 10 * MINUTE))) == us(NOON - HOUR)


def test_values_are_those_of_the_boundary_and_the_watermark_is_the_boundary(tmp_path: Path) -> None:
    store = store_of(tmp_path, orders(tmp_path), online_store=ours(NOON + 20 * MINUTE))
    store.materialize(NOON - HOUR, NOON + 20 * MINUTE)

    # The event at 12:05 is after the boundary at 12:00; a's only earlier one is 5 h old: beyond the ttl of 3 h.
    assert read(store) == {
        "amount": [None, 2.0, None],
        "amount_sum_2h": [None, 2.0, None],
        "amount_count_2h": [0, 1, 0],
    }
    assert store.get_feature_view("orders").materialization_intervals[-1][1] == NOON


def test_a_later_boundary_replaces_windows_that_emptied(tmp_path: Path) -> None:
    view = orders(tmp_path)
    for end in (NOON + 20 * MINUTE, NOON + 5 * HOUR):
        store = store_of(tmp_path, view, online_store=ours(end))
        store.materialize_incremental(end)
    # At 17:00 the last two hours are empty for everybody; latest values are past their ttl at 17:00 too.
    assert read(store) == {
        "amount": [None, None, None],
        "amount_sum_2h": [None, None, None],
        "amount_count_2h": [0, 0, 0],
    }


def test_an_earlier_boundary_does_not_undo_a_later_one(tmp_path: Path) -> None:
    view = orders(tmp_path)
    late = store_of(tmp_path, view, online_store=ours(NOON + 2 * HOUR))
    late.materialize(NOON - HOUR, NOON + 2 * HOUR)
    before = read(late)
    late.materialize(NOON - HOUR, NOON)
    assert read(late) == before


def test_a_version_of_the_same_event_created_later_replaces_the_stored_one(tmp_path: Path) -> None:
    def view_over(rows: list[tuple[str, float, datetime]]) -> ml.FeatureView:
        frame = pd.DataFrame(rows, columns=["customer", "amount", "created"])
        frame = frame.assign(
            created=frame.created.dt.as_unit("us"), happened=pd.Timestamp(NOON).as_unit("us")
        )
        frame.to_parquet(tmp_path / "orders.parquet", index=False)
        source = ml.ParquetSource("orders", path="orders.parquet", event_time="happened", created="created")
        return ml.FeatureView("orders", entity=ml.Entity("customer"), source=source, features="amount")

    def amount() -> object:
        answer = store.get_online_features(features=["orders:amount"], entity_rows=[{"customer": "a"}])
        return answer.to_dict()["amount"][0]

    rows = [("a", 1.0, NOON)]
    store = store_of(tmp_path, view_over(rows), online_store=ours(NOON + HOUR))
    store.materialize(NOON - HOUR, NOON + HOUR)
    assert amount() == 1.0
    view_over([*rows, ("a", 2.0, NOON + MINUTE)])
    store.materialize(NOON - HOUR, NOON + HOUR)
    assert amount() == 2.0
    view_over(rows)
    store.materialize(NOON - HOUR, NOON + HOUR)
    assert amount() == 2.0, "an older version must not come back"


def test_a_source_that_cannot_be_read_fails_and_leaves_values_and_watermark_as_they_were(
    tmp_path: Path,
) -> None:
    store = store_of(tmp_path, orders(tmp_path), online_store=ours(NOON + 2 * HOUR))
    store.materialize(NOON - HOUR, NOON + 20 * MINUTE)
    before, marks = read(store), store.get_feature_view("orders").materialization_intervals
    (tmp_path / "orders.parquet").write_bytes(b"PAR1 but not really")

    with pytest.raises(SourceError, match=r"orders\.parquet"):
        store.materialize(NOON - HOUR, NOON + 2 * HOUR)
    assert read(store) == before
    assert store.get_feature_view("orders").materialization_intervals == marks


@pytest.mark.parametrize("cluster", ["in-process", "local"])
def test_feasts_own_online_store_is_written_through_its_own_interface(tmp_path: Path, cluster: str) -> None:
    path = str(tmp_path / "stock.db")
    store = store_of(tmp_path, orders(tmp_path), online_store={"type": "sqlite", "path": path})
    store.config.batch_engine_config = {
        "type": "mlflow_core.feast.compute_engine.DaskComputeEngine",
        "cluster": cluster,
    }
    store.materialize(NOON - HOUR, NOON + 20 * MINUTE)
    answer = store.get_online_features(
        features=["orders:amount_sum_2h"], entity_rows=[{"customer": "b"}]
    ).to_dict()
    assert answer["amount_sum_2h"] == [2.0]


def test_a_local_cluster_gives_the_same_values(tmp_path: Path) -> None:
    view = orders(tmp_path)
    store = store_of(tmp_path, view, online_store=ours(NOON + 20 * MINUTE))
    store.config.batch_engine_config = {
        "type": "mlflow_core.feast.compute_engine.DaskComputeEngine",
        "cluster": "local",
    }
    store.materialize(NOON - HOUR, NOON + 20 * MINUTE)
    assert read(store)["amount_sum_2h"] == [None, 2.0, None]


@pytest.mark.filterwarnings("ignore:Batch feature views are experimental:RuntimeWarning")
def test_a_view_that_cannot_be_computed_does_not_stop_the_others_or_touch_their_states(
    tmp_path: Path,
) -> None:
    store = store_of(tmp_path, orders(tmp_path), online_store=ours(NOON + 20 * MINUTE))
    times = pd.Series([NOON - HOUR]).dt.as_unit("us")
    pd.DataFrame({"customer": ["a"], "city": ["x"], "happened": times}).to_parquet(tmp_path / "homes.parquet")
    source = FileSource(name="homes", path="homes.parquet", timestamp_field="happened")
    customer = store.get_entity("customer")
    schema = [Field(name="customer", dtype=String), Field(name="city", dtype=String)]
    homes = FeatureView(name="homes", entities=[customer], schema=schema, source=source)
    moved = BatchFeatureView(
        name="a_moved",
        entities=[customer],
        schema=schema,
        source=source,
        mode="python",
        udf=_moved,
        online=True,
    )
    store.apply([source, homes, moved])
    before = store.get_feature_view("a_moved").state

    with pytest.raises(PlanError, match="a_moved"):
        store.materialize(NOON - HOUR, NOON + 20 * MINUTE)

    assert read(store)["amount_sum_2h"] == [None, 2.0, None]
    answer = store.get_online_features(features=["homes:city"], entity_rows=[{"customer": "a"}]).to_dict()
    assert answer["city"] == ["x"]
    states = {view.name: view.state.name for view in store.list_batch_feature_views()}
    assert states == {"orders": "AVAILABLE_ONLINE", "homes": "AVAILABLE_ONLINE", "a_moved": before.name}


def _moved(rows):
    return rows


def test_a_failure_that_nobody_foresaw_is_its_views_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, orders(tmp_path), online_store=ours(NOON + 20 * MINUTE))
    before = store.get_feature_view("orders").state

    def full(*_: object) -> int:
        raise MemoryError("no room for the rows")

    monkeypatch.setattr("mlflow_core.online.sqlite.SqliteBackend.write", full)
    with pytest.raises(MemoryError, match="no room"):
        store.materialize(NOON - HOUR, NOON + 20 * MINUTE)
    assert store.get_feature_view("orders").state is before
    assert store.get_feature_view("orders").materialization_intervals == []
