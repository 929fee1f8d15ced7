"""Rows that go to a source's files: nothing lost where several write at once, nothing written where it cannot be read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Float64, Int64
from feast.value_type import ValueType

from mlflow_core.errors import UsageError
from mlflow_core.feast.appending import append_to_source
from mlflow_core.feast.retrieval_job import EngineRetrievalJob

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
