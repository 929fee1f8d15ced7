"""Point-in-time retrieval through Feast's public API on our offline store, beside Feast's own store where that errs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Float64, Int64
from feast.value_type import ValueType

from mlflow_core.errors import UsageError

STOCK = {"offline_store": {"type": "dask"}}
OURS = {"offline_store": {"type": "mlflow_core.feast.offline_store.DaskOfflineStore"}}
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def store_of(
    folder: Path,
    events: pd.DataFrame,
    types: dict[str, object],
    *,
    ttl: timedelta | None = None,
    mapping: dict[str, str] | None = None,
) -> FeatureStore:
    folder.mkdir(parents=True)
    events.to_parquet(folder / "events.parquet", index=False)
    store = FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            entity_key_serialization_version=3,
            repo_path=folder,
            **types,
        )
    )
    customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.INT64)
    source = FileSource(
        name="events",
        path=str(folder / "events.parquet"),
        timestamp_field="happened",
        created_timestamp_column="created",
        field_mapping=mapping,
    )
    value = (mapping or {}).get("amount", "amount")
    view = FeatureView(
        name="orders", entities=[customer], ttl=ttl, source=source, schema=[Field(name=value, dtype=Float64)]
    )
    count = FeatureView(
        name="counts",
        entities=[customer],
        ttl=ttl,
        source=source,
        schema=[Field(name="basket", dtype=Int64)],
    )
    store.apply([customer, view, count, FeatureService(name="all", features=[view, count])])
    return store


def events_of(rows: Sequence[tuple[int, datetime, datetime, float, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["customer", "happened", "created", "amount", "basket"])
    return frame.assign(happened=frame.happened.dt.as_unit("us"), created=frame.created.dt.as_unit("us"))


def simple_events() -> pd.DataFrame:
    hour = timedelta(hours=1)
    return events_of(
        [
            (1, NOON - 5 * hour, NOON - 5 * hour, 1.0, 1),
            (1, NOON - 1 * hour, NOON + 1 * hour, 2.0, 2),
            (2, NOON - 80 * hour, NOON - 80 * hour, 3.0, 3),
            (3, NOON + 1 * hour, NOON + 1 * hour, 4.0, 4),
        ]
    )


def ask(rows: Sequence[tuple[int, datetime]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["customer", "event_timestamp"])
    return frame.assign(row=range(len(frame)))


def test_every_entity_row_comes_back_once_and_in_order_where_feasts_store_loses_some(tmp_path: Path) -> None:
    asked = ask([(3, NOON), (1, NOON), (2, NOON), (1, NOON), (99, NOON)])
    refs = ["orders:amount"]
    day = timedelta(days=1)
    ours = (
        store_of(tmp_path / "ours", simple_events(), OURS, ttl=day)
        .get_historical_features(asked, refs)
        .to_df()
    )
    stock = (
        store_of(tmp_path / "stock", simple_events(), STOCK, ttl=day)
        .get_historical_features(asked, refs)
        .to_df()
    )

    assert ours["row"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(ours["amount"], [np.nan, 2.0, np.nan, 2.0, np.nan])
    assert len(stock) < len(asked), "Feast's own store keeps all rows now; this comparison has lost its point"


def test_among_rows_of_one_time_the_last_created_wins_where_feasts_store_picks_any(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    versions = [
        (
            customer,
            NOON - timedelta(hours=1),
            NOON - timedelta(minutes=int(minutes)),
            float(minutes),
            int(minutes),
        )
        for customer in range(50)
        for minutes in rng.permutation(20)
    ]
    asked = ask([(customer, NOON) for customer in range(50)])
    ours = store_of(tmp_path / "ours", events_of(versions), OURS).get_historical_features(
        asked, ["orders:amount"]
    )
    stock = store_of(tmp_path / "stock", events_of(versions), STOCK).get_historical_features(
        asked, ["orders:amount"]
    )

    assert ours.to_df()["amount"].tolist() == [0.0] * 50
    assert (stock.to_df()["amount"] != 0.0).any(), (
        "Feast's own store orders versions now; drop this comparison"
    )


def test_filtering_by_creation_time_hides_what_was_not_there_yet(tmp_path: Path) -> None:
    store = store_of(tmp_path / "ours", simple_events(), OURS)
    asked = ask([(1, NOON), (1, NOON + timedelta(hours=2))])
    seen = store.get_historical_features(asked, ["orders:amount"], filter_by_created_timestamp=True).to_df()
    assert seen["amount"].tolist() == [1.0, 2.0]


def test_full_feature_names_and_field_mappings(tmp_path: Path) -> None:
    store = store_of(tmp_path / "ours", simple_events(), OURS, mapping={"amount": "total"})
    job = store.get_historical_features(
        ask([(1, NOON)]), ["orders:total", "counts:basket"], full_feature_names=True
    )
    assert job.to_df().iloc[0].to_dict() == {
        "customer": 1,
        "event_timestamp": pd.Timestamp(NOON),
        "row": 0,
        "orders__total": 2.0,
        "counts__basket": 2,
    }


@pytest.mark.parametrize("kind", ["pandas", "arrow", "path", "sql", "dask", "naive"])
def test_entity_rows_come_in_any_of_the_usual_forms(tmp_path: Path, kind: str) -> None:
    store = store_of(tmp_path / "ours", simple_events(), OURS)
    asked = ask([(1, NOON), (2, NOON)])
    file = tmp_path / "ours" / "rows.parquet"
    asked.assign(event_timestamp=asked.event_timestamp.dt.as_unit("us")).to_parquet(file, index=False)
    forms = {
        "pandas": lambda: asked,
        "arrow": lambda: pa.Table.from_pandas(asked, preserve_index=False),
        "path": lambda: "rows.parquet",
        "sql": lambda: "SELECT * FROM 'rows.parquet'",
        "dask": lambda: __import__("dask.dataframe").dataframe.from_pandas(asked, npartitions=2),
        "naive": lambda: asked.assign(event_timestamp=asked.event_timestamp.dt.tz_localize(None)),
    }
    seen = store.get_historical_features(forms[kind](), ["orders:amount"]).to_df()
    assert seen["amount"].tolist() == [2.0, 3.0]


def test_the_same_rows_come_back_from_a_local_dask_cluster(tmp_path: Path) -> None:
    asked = ask([(3, NOON), (1, NOON), (2, NOON), (1, NOON), (99, NOON)])
    answers = []
    for cluster in ("in-process", "local"):
        types = {"offline_store": {**OURS["offline_store"], "cluster": cluster}}
        store = store_of(tmp_path / cluster, simple_events(), types)
        answers.append(store.get_historical_features(asked, ["orders:amount", "counts:basket"]).to_arrow())
    assert answers[0].equals(answers[1])


def test_a_cluster_that_is_neither_is_refused(tmp_path: Path) -> None:
    types = {"offline_store": {**OURS["offline_store"], "cluster": "somewhere"}}
    with pytest.raises(ValueError, match="cluster"):
        store_of(tmp_path / "ours", simple_events(), types)


def test_without_entity_rows_each_time_of_an_entitys_event_in_the_range_is_one(tmp_path: Path) -> None:
    store = store_of(tmp_path / "ours", simple_events(), OURS)
    seen = store.get_historical_features(
        features=["orders:amount"], start_date=NOON - timedelta(hours=6), end_date=NOON
    ).to_df()
    assert seen["customer"].tolist() == [1, 1]
    assert seen["amount"].tolist() == [1.0, 2.0]
    assert seen["event_timestamp"].tolist() == [NOON - timedelta(hours=5), NOON - timedelta(hours=1)]


def test_entity_rows_without_a_time_are_refused_with_the_columns_they_have(tmp_path: Path) -> None:
    store = store_of(tmp_path / "ours", simple_events(), OURS)
    with pytest.raises(UsageError, match=r'no column "event_timestamp" \(columns: customer\)'):
        store.get_historical_features(pd.DataFrame({"customer": [1]}), ["orders:amount"]).to_df()


def test_a_query_that_is_no_query_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path / "ours", simple_events(), OURS)
    with pytest.raises(UsageError, match="cannot be selected"):
        store.get_historical_features("SELECT nothing FROM nowhere", ["orders:amount"]).to_df()


def test_a_retrieval_explains_itself_and_is_written_to_parquet_or_a_saved_dataset(tmp_path: Path) -> None:
    store = store_of(tmp_path / "ours", simple_events(), OURS)
    job = store.get_historical_features(ask([(1, NOON)]), ["orders:amount"])
    assert "orders" in job.explain()  # type: ignore[attr-defined]
    written = job.to_parquet("out/rows.parquet")  # type: ignore[attr-defined]
    assert pd.read_parquet(written)["amount"].tolist() == [2.0]

    with pytest.warns(RuntimeWarning, match="experimental"):
        saved = store.create_saved_dataset(
            from_=job, name="kept", storage=SavedDatasetFileStorage(path=str(tmp_path / "kept.parquet"))
        )
    assert saved.to_df()["amount"].tolist() == [2.0]
