"""Which files a source is read from, each with what changes when its content does."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from mlflow_core.errors import SourceError
from mlflow_core.sources import files_of
from mlflow_core.spec import DeltaSource, ParquetSource, SqlSource

TABLE = pa.table({"k": ["a"], "t": pa.array([0], pa.timestamp("us", "UTC"))})


def test_a_file_that_is_written_anew_changes_and_its_neighbour_does_not(tmp_path):
    for name in ("a", "b"):
        pq.write_table(TABLE, tmp_path / f"{name}.parquet")
        os.utime(tmp_path / f"{name}.parquet", (1, 1))
    source = ParquetSource("s", path="*.parquet", event_time="t")
    before = files_of(source, str(tmp_path))

    pq.write_table(pa.concat_tables([TABLE, TABLE]), tmp_path / "a.parquet")
    after = files_of(source, str(tmp_path))

    assert [*before] == [*after] == ["a.parquet", "b.parquet"]
    assert [name for name in before if before[name] != after[name]] == ["a.parquet"]


def test_a_table_of_files_names_those_of_its_version(tmp_path):
    write_deltalake(tmp_path / "table", TABLE)
    source = DeltaSource("s", path="table", event_time="t")
    before = files_of(source, str(tmp_path))

    write_deltalake(tmp_path / "table", TABLE, mode="append")

    assert len(before) == 1
    assert before.items() < files_of(source, str(tmp_path)).items()


def test_a_sql_table_has_no_files():
    assert files_of(SqlSource("s", url="sqlite://", table="events", event_time="t"), ".") == {}


def test_a_source_without_files_is_an_error(tmp_path):
    with pytest.raises(SourceError):
        files_of(ParquetSource("s", path="*.parquet", event_time="t"), str(tmp_path))
