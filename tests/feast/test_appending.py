"""Rows that go to a source's files: nothing lost where several write at once, nothing written where it cannot be read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.types import Float64, Int64
from feast.value_type import ValueType

from mlflow_core.errors import UsageError
from mlflow_core.feast.appending import append_to_log, append_to_source
from mlflow_core.feast.retrieval_job import EngineRetrievalJob
from mlflow_core.sources import read_table
from mlflow_core.spec import ParquetSource

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def view_on(path: str) -> FeatureView:
    schema = [Field(name="customer", dtype=Int64), Field(name="amount", dtype=Float64)]
    return FeatureView(
        name="orders",
        entities=[Entity(name="customer", join_keys=["customer"], value_type=ValueType.INT64)],
        source=FileSource(name="events", path=path, timestamp_field="happened"),
        schema=schema,
    )


def events(*customers: int) -> pa.Table:
    times = pa.array([NOON] * len(customers), pa.timestamp("us", "UTC"))
    return pa.table({"customer": customers, "amount": [1.0] * len(customers), "happened": times})


@pytest.mark.parametrize("path", ["events.parquet", "events", "events/*.parquet"])
def test_of_rows_that_many_write_at_once_none_is_lost(tmp_path: Path, path: str) -> None:
    if path == "events":
        (tmp_path / path).mkdir()
    view = view_on(path)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda customer: append_to_source(view, events(customer), repo_path=str(tmp_path)), range(40)
            )
        )
    read = pq.read_table(tmp_path / path.removesuffix("/*.parquet"))
    assert sorted(read["customer"].to_pylist()) == list(range(40))
    assert all(not file.name.startswith((".", "*")) for file in tmp_path.rglob("*"))


def test_a_pattern_of_folders_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be appended to \(\"years/\*/\*.parquet\"\)"):
        append_to_source(view_on("years/*/*.parquet"), events(1), repo_path=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_integers_beside_nulls_stay_integers_in_a_frame() -> None:
    big = 2**53 + 1
    table = pa.table({"n": [big, None], "m": [1, 2], "f": [1.5, None]})
    frame = EngineRetrievalJob(lambda: table, describe="", repo_path=".").to_df()
    assert frame["n"].tolist()[0] == big
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "n": "Int64",
        "m": "int64",
        "f": "float64",
    }


def test_a_column_that_does_not_fit_the_source_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.int64())
    held = pa.table({"customer": [1], "scores": pa.array([[("a", 1)]], kind)})
    pq.write_table(held, tmp_path / "events.parquet")
    frame = pd.DataFrame({"customer": [2], "scores": [{"b": 2}]})
    with pytest.raises(UsageError, match=r'source "events": column "scores" .* pd.ArrowDtype'):
        append_to_source(view_on("events.parquet"), pa.Table.from_pandas(frame), repo_path=str(tmp_path))
    text = held.set_column(0, "customer", [["two"]])
    with pytest.raises(UsageError, match='column "customer" of the written rows does not fit int64'):
        append_to_source(view_on("events.parquet"), text, repo_path=str(tmp_path))
    assert pq.read_table(tmp_path / "events.parquet").equals(held)

    fitting = frame.assign(scores=pd.Series([[("b", 2)]], dtype=pd.ArrowDtype(kind)))
    append_to_source(view_on("events.parquet"), pa.Table.from_pandas(fitting), repo_path=str(tmp_path))
    assert pq.read_table(tmp_path / "events.parquet")["scores"].to_pylist() == [[("a", 1)], [("b", 2)]]


def test_logged_features_are_parted_into_folders_that_are_read_again(tmp_path: Path) -> None:
    destination = FileLoggingDestination(path="log", partition_by=["day", "customer"])
    days = pa.array([NOON.date(), NOON.date(), None], pa.date32())
    logged = pa.table(
        {
            "customer": ["a/b", "ü", "a/b"],
            "amount": [1.0, 2.0, 3.0],
            "day": days,
            "at": events(1, 2, 3)["happened"],
        }
    )
    append_to_log(logged, destination, repo_path=str(tmp_path))
    append_to_log(logged.slice(0, 1), destination, repo_path=str(tmp_path))

    folders = sorted(
        file.parent.relative_to(tmp_path / "log").as_posix() for file in tmp_path.rglob("*.parquet")
    )
    assert folders == [
        "day=2024-03-01/customer=%C3%BC",
        *["day=2024-03-01/customer=a%2Fb"] * 2,
        "day=__HIVE_DEFAULT_PARTITION__/customer=a%2Fb",
    ]
    read = read_table(ParquetSource("log", path="log", event_time="at"), str(tmp_path))
    found = sorted(zip(*(read[name].to_pylist() for name in ("amount", "customer", "day")), strict=True))
    assert found == [
        (1.0, "a/b", "2024-03-01"),
        (1.0, "a/b", "2024-03-01"),
        (2.0, "ü", "2024-03-01"),
        (3.0, "a/b", None),
    ]


def test_a_log_that_cannot_be_kept_so_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no column "dya", which their folder is parted by'):
        append_to_log(
            events(1), FileLoggingDestination(path="log", partition_by=["dya"]), repo_path=str(tmp_path)
        )
    with pytest.raises(UsageError, match="cannot be logged to s3://bucket/log"):
        append_to_log(events(1), FileLoggingDestination(path="s3://bucket/log"), repo_path=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
