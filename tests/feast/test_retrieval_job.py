"""A retrieval's job as Feast's users hold it: the same rows in every form, its explanation, and what may be asked for."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dask
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bytes, Float64, Int64, Map, String
from feast.value_type import ValueType

from mlflow_core.errors import EngineError, MlcoreError, SourceError, UsageError
from mlflow_core.feast.entity_rows import EntityRows

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EXACT = 2**53 + 1
AIRPORT = Entity(name="airport", join_keys=["airport"], value_type=ValueType.STRING)
CUSTOMER = Entity(name="customer", join_keys=["customer"], value_type=ValueType.INT64)


def store_in(folder: Path, objects: Sequence[object], **offline: object) -> FeatureStore:
    kind = "mlflow_core.feast.offline_store.DaskOfflineStore"
    store = FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            offline_store={"type": kind, **offline},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )
    store.apply(list(objects))
    return store


def source_of(folder: Path, name: str, table: pa.Table) -> FileSource:
    pq.write_table(table, folder / f"{name}.parquet")
    return FileSource(name=name, path=str(folder / f"{name}.parquet"), timestamp_field="happened")


def hours(*offsets: int) -> pa.Array:
    return pa.array([NOON + offset * HOUR for offset in offsets], pa.timestamp("us", "UTC"))


def orders(folder: Path) -> FeatureView:
    table = pa.table(
        {
            "customer": [1, 1, 2, 4],
            "happened": hours(-5, -1, -80, -2),
            "amount": [1.0, 2.0, 3.0, 4.0],
            "basket": pa.array([1, EXACT, 3, None], pa.int64()),
        }
    )
    return FeatureView(
        name="orders",
        entities=[CUSTOMER],
        ttl=timedelta(hours=24),
        source=source_of(folder, "orders", table),
        schema=[Field(name="amount", dtype=Float64), Field(name="basket", dtype=Int64)],
    )


ASKED = pd.DataFrame(
    {
        "customer": [3, 1, 2, 1, 4],
        "event_timestamp": [NOON, NOON, NOON, NOON - 2 * HOUR, NOON],
        "row": range(5),
    }
)
REFS = ["orders:amount", "orders:basket"]


def test_the_rows_are_the_same_in_every_form(tmp_path):
    store = store_in(tmp_path, [CUSTOMER, orders(tmp_path)])

    def job():
        return store.get_historical_features(ASKED, REFS)

    frame = job().to_df()
    assert frame["row"].tolist() == list(range(5))
    assert frame["amount"].fillna(-1).tolist() == [-1, 2.0, -1, 1.0, 4.0]
    assert frame["basket"].dtype == pd.Int64Dtype()
    assert frame["basket"].fillna(-1).tolist() == [-1, EXACT, -1, 1, -1]

    table = job().to_arrow()
    assert table["basket"].to_pylist() == [None, EXACT, None, 1, None]
    assert pq.read_table(job().to_parquet("out/rows.parquet")).equals(table)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rows.parquet"]

    lazy = job().to_dask()
    pd.testing.assert_frame_equal(lazy.compute(), frame)
    assert lazy[["amount"]].compute().columns.tolist() == ["amount"]
    computed = job()
    computed.to_arrow()
    pd.testing.assert_frame_equal(computed.to_dask(tmp_path / "kept").compute(), frame)


def test_a_dask_frame_of_many_files_is_in_order_and_knows_its_divisions(tmp_path, monkeypatch):
    monkeypatch.setattr("mlflow_core.feast.retrieval_job.ROWS_PER_SHARD", 2)
    job = store_in(tmp_path, [CUSTOMER, orders(tmp_path)]).get_historical_features(ASKED, REFS)
    frame = job.to_df()
    lazy = job.to_dask("shards")

    assert lazy.npartitions == 3
    assert lazy.divisions == (0, 2, 4, 4)
    pd.testing.assert_frame_equal(lazy.compute(), frame)
    assert {str(part.dtypes["basket"]) for part in lazy.partitions} == {"Int64"}, "one type in all partitions"
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        f"part-0000{i}.parquet" for i in range(3)
    ]
    with pytest.raises(UsageError, match=r"there is something in .*shards already"):
        job.to_dask("shards")
    with pytest.raises(UsageError, match="shards is a folder"):
        job.to_parquet("shards")


def test_bytes_lists_and_maps_stay_themselves_in_a_dask_frame(tmp_path):
    table = pa.table(
        {
            "customer": [1, 2],
            "happened": hours(-1, -1),
            "raw": [b"\xff\x00", None],
            "codes": [[1, 2], None],
            "scores": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    schema = [
        Field(name="raw", dtype=Bytes),
        Field(name="codes", dtype=Array(Int64)),
        Field(name="scores", dtype=Map),
    ]
    view = FeatureView(
        name="rich", entities=[CUSTOMER], source=source_of(tmp_path, "rich", table), schema=schema
    )
    store = store_in(tmp_path, [CUSTOMER, view])
    asked = pd.DataFrame({"customer": [1, 2], "event_timestamp": [NOON, NOON]})
    job = store.get_historical_features(asked, ["rich:raw", "rich:codes", "rich:scores"])

    with dask.config.set({"dataframe.convert-string": True}):
        framed = job.to_dask().compute()

    assert framed["raw"].tolist() == [b"\xff\x00", None]
    assert [None if one is None else list(one) for one in framed["codes"]] == [[1, 2], None]
    assert framed["scores"].tolist() == [[("a", 1)], []]


def test_without_rows_every_form_has_the_columns(tmp_path):
    job = store_in(tmp_path, [CUSTOMER, orders(tmp_path)]).get_historical_features(ASKED.head(0), REFS)
    columns = ["customer", "event_timestamp", "row", "amount", "basket"]
    assert job.to_df().columns.tolist() == columns
    assert job.to_dask().compute().columns.tolist() == columns
    assert pq.read_table(job.to_parquet("none.parquet")).column_names == columns
    assert "given    0 rows" in job.explain()


PROGRAM = """
import sys
from pathlib import Path
from tests.feast.test_retrieval_job import ASKED, CUSTOMER, REFS, orders, store_in

folder = Path(sys.argv[1])
frame = store_in(folder, [CUSTOMER, orders(folder)], workdir=str(folder / "work")).get_historical_features(ASKED, REFS).to_dask()
print(len(frame), sum(path.suffix == ".parquet" for path in (folder / "work").rglob("*")))
"""


def test_files_behind_a_dask_frame_are_there_until_the_process_ends(tmp_path, repository):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["5", "1"]
    assert list((tmp_path / "work").iterdir()) == []


def test_on_a_cluster_the_files_are_written_by_its_workers(tmp_path):
    store = store_in(tmp_path, [CUSTOMER, orders(tmp_path)], cluster="local", workdir=str(tmp_path / "work"))
    job = store.get_historical_features(ASKED, REFS)
    assert "route    on Dask: the offline store is configured with cluster: local" in job.explain()
    assert job.to_dask("shards").compute()["basket"].fillna(-1).tolist() == [-1, EXACT, -1, 1, -1]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["layouts"]


def test_native_on_demand_features_are_in_the_files_too(tmp_path):
    view = orders(tmp_path)

    @on_demand_feature_view(sources=[view], schema=[Field(name="twice", dtype=Float64)])
    def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"twice": inputs["amount"] * 2})

    store = store_in(tmp_path, [CUSTOMER, view, doubled])
    job = store.get_historical_features(ASKED, ["orders:amount", "doubled:twice"])
    expected = [-1, 4.0, -1, 2.0, 8.0]
    assert job.to_df()["twice"].fillna(-1).tolist() == expected
    assert job.to_dask().compute()["twice"].fillna(-1).tolist() == expected
    assert pd.read_parquet(job.to_parquet("rows.parquet"))["twice"].fillna(-1).tolist() == expected


def test_an_explanation_says_what_would_be_read_and_reads_no_row(tmp_path, monkeypatch):
    store = store_in(tmp_path, [CUSTOMER, orders(tmp_path)])
    rows = pa.table({"customer": [1, 2], "event_timestamp": hours(0, 3)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    job = store.get_historical_features("rows.parquet", ["orders:amount"])
    with monkeypatch.context() as patched:
        patched.setattr(EntityRows, "table", lambda rows: pytest.fail("the rows were read"))
        told = job.explain()
        assert job.metadata.min_event_timestamp == NOON
        assert job.metadata.max_event_timestamp == NOON + 3 * HOUR
        assert job.metadata.keys == ["customer"]

    assert told.splitlines()[:5] == [
        "orders  clock=event  on customer  1 features of orders",
        "  columns   customer, happened, amount",
        "  events    from 2024-02-29T12:00:00Z until 2024-03-01T15:00:00Z",
        "  reads     1 of 1 file, 4 of 4 events, 96 B of 96 B",
        "  latest    amount, for 1d",
    ]
    assert "given    2 rows, 2024-03-01T12:00:00Z to 2024-03-01T15:00:00Z" in told
    assert "configured with cluster: in-process" in told


def test_one_view_joined_twice_under_aliases_has_the_names_of_each(tmp_path):
    table = pa.table({"airport": ["JFK", "LAX"], "happened": hours(-1, -1), "wind": [10.0, 20.0]})
    weather = FeatureView(
        name="weather",
        entities=[AIRPORT],
        source=source_of(tmp_path, "weather", table),
        schema=[Field(name="wind", dtype=Float64)],
    )
    departs = weather.with_name("departs").with_join_key_map({"airport": "origin"})
    arrives = weather.with_name("arrives").with_join_key_map({"airport": "destination"})
    store = store_in(tmp_path, [AIRPORT, weather, FeatureService(name="flight", features=[departs, arrives])])
    asked = pd.DataFrame(
        {"origin": ["JFK", "LAX", "JFK"], "destination": ["LAX", "XYZ", None], "event_timestamp": [NOON] * 3}
    )
    seen = store.get_historical_features(
        asked, store.get_feature_service("flight"), full_feature_names=True
    ).to_df()
    assert seen["departs__wind"].tolist() == [10.0, 20.0, 10.0]
    assert seen["arrives__wind"].fillna(-1).tolist() == [20.0, -1, -1]


def test_a_view_without_entities_is_the_same_for_every_row_of_its_time(tmp_path):
    table = pa.table({"happened": hours(-3, -1), "rate": [1.5, 2.5]})
    rates = FeatureView(
        name="rates",
        entities=[],
        source=source_of(tmp_path, "rates", table),
        schema=[Field(name="rate", dtype=Float64)],
    )
    store = store_in(tmp_path, [CUSTOMER, orders(tmp_path), rates])
    seen = store.get_historical_features(ASKED, ["orders:amount", "rates:rate"]).to_df()
    assert seen["rate"].tolist() == [2.5, 2.5, 2.5, 1.5, 2.5]
    alone = store.get_historical_features(pd.DataFrame({"event_timestamp": [NOON]}), ["rates:rate"])
    assert alone.to_df()["rate"].tolist() == [2.5]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (ASKED.assign(customer=["1", "2", "3", "4", "5"]), r'"customer".*(string|int64).*(string|int64)'),
        (ASKED.assign(customer=[1.5] * 5), r'"customer".*double'),
        (ASKED.assign(customer=[[1]] * 5), r'"customer".*list'),
        (ASKED.drop(columns="customer"), r'"customer"'),
        (
            ASKED.assign(event_timestamp=[NOON, pd.NaT, NOON, NOON, NOON]),
            r'"event_timestamp" is null in row 1',
        ),
        (ASKED.assign(amount=1.0), r'already have a column "amount"'),
    ],
)
def test_entity_rows_that_do_not_fit_the_views_are_refused_by_the_column(tmp_path, asked, message):
    store = store_in(tmp_path, [CUSTOMER, orders(tmp_path)])
    with pytest.raises((SourceError, UsageError), match=message) as refused:
        store.get_historical_features(asked, REFS).to_df()
    assert isinstance(refused.value, MlcoreError)


def test_null_keys_match_nothing_and_the_last_time_there_is_matches_what_never_expires(tmp_path):
    store = store_in(tmp_path, [CUSTOMER, orders(tmp_path)])
    view = store.get_feature_view("orders")
    view.ttl = timedelta(0)
    store.apply([view])
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999)
    asked = pd.DataFrame(
        {
            "customer": pd.array([1, None], pd.Int64Dtype()),
            "event_timestamp": pd.Series([last] * 2, dtype="datetime64[us]"),
        }
    )
    seen = store.get_historical_features(pa.Table.from_pandas(asked), REFS).to_df()
    assert seen["basket"].fillna(-1).tolist() == [EXACT, -1]
    assert seen["event_timestamp"].tolist() == [pd.Timestamp(last, tz="UTC")] * 2


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # connections to workers that are ended while at work
@pytest.mark.parametrize("cluster", ["in-process", "local"])
def test_a_feature_of_more_text_than_one_array_holds_is_refused_by_its_size(tmp_path, cluster):
    n = 2_100
    text = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["x" * 2**20]))
    table = pa.table({"customer": range(n), "happened": hours(*[-1] * n), "words": text})
    schema = [Field(name="words", dtype=String)]
    view = FeatureView(
        name="long", entities=[CUSTOMER], source=source_of(tmp_path, "long", table), schema=schema
    )
    store = store_in(tmp_path, [CUSTOMER, view], cluster=cluster)
    asked = pa.table({"customer": range(n), "event_timestamp": hours(*[0] * n)})
    with pytest.raises(EngineError, match=r"2\.1 GiB of string cannot be"):
        store.get_historical_features(asked, ["long:words"]).to_arrow()
    gc.collect()  # which closes them here, and not in another test
