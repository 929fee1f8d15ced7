"""Feast's own views and sources as Feast's callers write them: mappings, keys among the features, folders, checks."""

from __future__ import annotations

from datetime import timedelta, timezone
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureView, Field, FileSource, StreamFeatureView
from feast.data_source import PushSource
from feast.dqm.errors import ValidationFailed
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Float64, Int64

from mlflow_core.errors import UsageError
from mlflow_core.feast.offline_store import DaskOfflineStore
from mlflow_core.feast.retrieval_job import EngineRetrievalJob
from mlflow_core.feast.saving import place_to_save, save_rows
from mlflow_core.sources.parquet import ParquetPart
from tests.feast.stock_and_ours import CUSTOMER, HOUR, NOON, OURS, STOCK, store_in, write_orders

ASKED = pd.DataFrame({"customer": [1, 2], "event_timestamp": [NOON, NOON]})


def mapped(path: Path, mapping: dict[str, str], **times: str) -> FeatureView:
    value = mapping.get("amount", "amount")
    return FeatureView(
        name="orders",
        entities=[CUSTOMER],
        schema=[Field(name="customer", dtype=Int64), Field(name=value, dtype=Float64)],
        source=FileSource(
            name="orders_source",
            path=str(path),
            field_mapping=mapping,
            **{"timestamp_field": "happened"} | times,
        ),
    )


def test_a_mapping_of_a_column_that_is_not_there_is_passed_over_as_feast_does(tmp_path: Path) -> None:
    path = write_orders(tmp_path, [(1, 1.0, NOON)])
    store = store_in(tmp_path, **OURS)
    store.apply([CUSTOMER, mapped(path, {"absent": "elsewhere", "amount": "total"})])
    assert store.get_historical_features(ASKED[:1], ["orders:total"]).to_df()["total"].tolist() == [1.0]


@pytest.mark.parametrize("engine", ["ours", "feast's"])
def test_mapped_columns_are_materialised_by_either_engine(tmp_path: Path, engine: str) -> None:
    path = write_orders(tmp_path, [(1, 1.0, NOON - HOUR), (1, 2.0, NOON), (2, 4.0, NOON)])
    sections = OURS if engine == "ours" else OURS | {"batch_engine": STOCK["batch_engine"]}
    store = store_in(tmp_path, **sections)
    view = mapped(path, {"happened": "at", "amount": "total", "absent": "elsewhere"}, timestamp_field="at")
    store.apply([CUSTOMER, view])
    store.materialize(NOON - 2 * HOUR, NOON)
    answer = store.get_online_features(["orders:total"], [{"customer": one} for one in (1, 2)]).to_dict()
    assert answer["total"] == [2.0, 4.0]


@pytest.mark.parametrize("names", [("happened", "amount"), ("at", "total")], ids=["the file's", "mapped"])
def test_rows_are_pulled_under_the_names_asked_for(tmp_path: Path, names: tuple[str, str]) -> None:
    time, value = names
    path = write_orders(tmp_path, [(1, 1.0, NOON - HOUR), (1, 2.0, NOON), (2, 4.0, NOON)], unit="ns")
    store = store_in(tmp_path, **OURS)
    source = mapped(path, {"happened": "at", "amount": "total"}, timestamp_field="at").batch_source
    new_york = timezone(timedelta(hours=-5))
    since, until = NOON - 2 * HOUR, NOON.astimezone(new_york)
    arguments = (store.config, source, ["customer"], [value], time, None, since, until)
    latest = DaskOfflineStore.pull_latest_from_table_or_query(*arguments).to_arrow().sort_by("customer")
    assert latest.select(["customer", value, time]).to_pydict() == {
        "customer": [1, 2],
        value: [2.0, 4.0],
        time: [NOON, NOON],
    }
    assert DaskOfflineStore.pull_all_from_table_or_query(*arguments).to_arrow().num_rows == 3


@pytest.mark.filterwarnings("ignore:Stream feature views are experimental:RuntimeWarning")
def test_a_pushed_view_whose_schema_names_its_key_is_read(tmp_path: Path) -> None:
    path = write_orders(tmp_path, [(1, 1.0, NOON - HOUR)])
    batch = FileSource(name="orders_source", path=str(path), timestamp_field="happened")
    view = StreamFeatureView(
        name="pushed",
        entities=[CUSTOMER],
        schema=[Field(name="amount", dtype=Float64), Field(name="customer", dtype=Int64)],
        ttl=timedelta(days=2),
        source=PushSource(name="pushed_orders", batch_source=batch),
    )
    store = store_in(tmp_path, **OURS)
    store.apply([CUSTOMER, view])
    found = store.get_historical_features(ASKED, ["pushed:amount", "pushed:customer"]).to_df()
    assert found["customer"].tolist() == [1, 2]
    assert found["amount"].fillna(0.0).tolist() == [1.0, 0.0]


def test_a_range_is_asked_under_the_names_of_the_alias(tmp_path: Path) -> None:
    path = write_orders(tmp_path, [(1, 1.0, NOON - HOUR), (1, 2.0, NOON)])
    store = store_in(tmp_path, **OURS)
    view = mapped(path, {})
    store.apply([CUSTOMER, view])
    buyer = view.with_name("buyer").with_join_key_map({"customer": "buyer_id"})
    job = DaskOfflineStore.get_historical_features(
        store.config, [buyer], ["buyer:amount"], None, store.registry, "shop", start_date=NOON, end_date=NOON
    )
    assert job.to_df()[["buyer_id", "amount"]].to_dict("list") == {"buyer_id": [1], "amount": [2.0]}


def test_a_saved_dataset_replaces_a_folder_of_parquet_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    storage = SavedDatasetFileStorage(path=str(folder))
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        place_to_save(storage, repo_path=str(tmp_path), allow_overwrite=False)
    for value in (1, 2):
        place = place_to_save(storage, repo_path=str(tmp_path), allow_overwrite=True)
        save_rows(pa.table({"x": [value]}), place)
        assert pq.read_table(folder)["x"].to_pylist() == [value]
    assert [found.name for found in tmp_path.iterdir()] == ["kept"]

    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt too"):
        place_to_save(storage, repo_path=str(tmp_path), allow_overwrite=True)
    for elsewhere in ("s3://bucket/kept", "gs://bucket/kept.parquet"):
        with pytest.raises(UsageError, match="cannot be kept in"):
            place_to_save(SavedDatasetFileStorage(path=elsewhere), repo_path=".", allow_overwrite=True)


def test_rows_are_checked_as_they_are_given_out(tmp_path: Path) -> None:
    """Feast checks pandas' floats where an integer is beside a null; a reference of a saved dataset has integers."""

    class Profile:
        def validate(self, frame: pd.DataFrame) -> object:
            return type("Found", (), {"is_success": str(frame["n"].dtype) == "Int64", "errors": []})()

    job = EngineRetrievalJob(lambda: pa.table({"n": [1, None]}), describe=lambda: "", repo_path=str(tmp_path))
    reference = type("Reference", (), {"profile": Profile()})()
    assert job.to_df(validation_reference=reference)["n"].tolist()[0] == 1
    other = EngineRetrievalJob(lambda: pa.table({"n": [1, 2]}), describe=lambda: "", repo_path=str(tmp_path))
    with pytest.raises(ValidationFailed):
        other.to_arrow(validation_reference=reference)


def test_of_keys_of_several_columns_the_latest_row_comes_with_its_lists_and_one_without_a_key_is_nobodys(
    tmp_path: Path,
) -> None:
    times = pa.array([NOON - 2 * HOUR, NOON - HOUR, NOON, NOON, NOON], pa.timestamp("us", "UTC"))
    values = {
        "codes": pa.array([[1], [2, 3], None, [4], [5]], pa.list_(pa.int64())),
        "scores": pa.array([[("a", 1)], [("b", 2)], None, [], []], pa.map_(pa.string(), pa.int64())),
        "raw": [b"\x00", b"\xff", None, b"", b""],
    }
    keys = {"shop": ["x", "x", "y", None, "x"], "customer": pa.array([1, 1, 1, 1, None], pa.int64())}
    pq.write_table(pa.table({**keys, "happened": times, **values}), tmp_path / "rich.parquet")
    source = FileSource(name="rich", path=str(tmp_path / "rich.parquet"), timestamp_field="happened")
    config = store_in(tmp_path, **OURS).config
    asked = (list(keys), list(values), "happened", None, NOON - 9 * HOUR, NOON)

    every = DaskOfflineStore.pull_all_from_table_or_query(config, source, *asked).to_arrow()
    latest = DaskOfflineStore.pull_latest_from_table_or_query(config, source, *asked).to_arrow()

    assert every.select(list(values)).equals(pa.table(values))
    assert latest.select(["shop", "customer"]).to_pylist() == [
        {"shop": "x", "customer": 1},
        {"shop": "y", "customer": 1},
    ]
    assert latest.select(list(values)).equals(pa.table(values).slice(1, 2))


def test_a_range_is_planned_without_reading_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_orders(tmp_path, [(1, 1.0, NOON), (2, 2.0, NOON - HOUR)])
    store = store_in(tmp_path, **OURS)
    store.apply([CUSTOMER, mapped(path, {})])
    with monkeypatch.context() as unreadable:
        unreadable.setattr(ParquetPart, "read", lambda *_: pytest.fail("a row was read"))
        job = store.get_historical_features(None, ["orders:amount"], start_date=NOON, end_date=NOON)
    assert job.to_arrow().to_pylist() == [{"customer": 1, "event_timestamp": NOON, "amount": 1.0}]
