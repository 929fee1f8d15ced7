"""Parquet sources: files, folders, partitions, globs and URLs; and everything that can be wrong with them."""

from __future__ import annotations

import datetime as dt
import pickle
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.errors import SourceError
from mlflow_core.sources import parquet, parts, read_schema, read_table, snapshot
from mlflow_core.spec import ParquetSource

DAY = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


def source(path: str, **fields: object) -> ParquetSource:
    return ParquetSource("flights", path=path, event_time="at", **fields)


def write(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"at": [DAY] * len(next(iter(columns.values()))), **columns}), path)
    return path


def test_a_file_is_read_with_its_times_in_microseconds_utc(tmp_path: Path) -> None:
    table = pa.table(
        {
            "at": pa.array([1_999, None], pa.timestamp("ns")),
            "carrier": pa.array(["UA", None]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "flights.parquet")
    made = read_table(source("flights.parquet"), str(tmp_path))
    assert made.schema == read_schema(source("flights.parquet"), str(tmp_path))
    assert made.schema == pa.schema([("at", pa.timestamp("us", tz="UTC")), ("carrier", pa.string())])
    assert made.column("at").cast(pa.int64()).to_pylist() == [1, None]


def test_a_folder_is_read_in_path_order_and_notes_of_the_writer_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "data/b.parquet", n=[3, 4])
    write(tmp_path / "data/a/z.parquet", n=[1, 2])
    (tmp_path / "data/_SUCCESS").write_text("")
    (tmp_path / "data/_metadata.parquet").write_text("no parquet")
    (tmp_path / "data/readme.txt").write_text("no parquet")
    assert read_table(source("data"), str(tmp_path)).column("n").to_pylist() == [1, 2, 3, 4]
    assert [part.name for part in parts(source("data"), str(tmp_path))] == ["a/z.parquet", "b.parquet"]


def test_hive_partitions_are_columns_numbers_where_all_are(tmp_path: Path) -> None:
    write(tmp_path / "data/month=1/origin=EWR/x.parquet", n=[1])
    write(tmp_path / "data/month=10/origin=New%20York/x.parquet", n=[2])
    write(tmp_path / "data/month=2/origin=__HIVE_DEFAULT_PARTITION__/x.parquet", n=[3])
    made = read_table(source("data"), str(tmp_path), ["origin", "month", "n"])
    assert made.to_pydict() == {"origin": ["EWR", "New York", None], "month": [1, 10, 2], "n": [1, 2, 3]}


def test_a_partition_with_leading_zeros_is_a_name(tmp_path: Path) -> None:
    write(tmp_path / "data/code=007/x.parquet", n=[1])
    assert read_table(source("data"), str(tmp_path), ["code"]).column("code").to_pylist() == ["007"]


def test_a_glob_takes_what_it_matches_and_keeps_partitions_below_its_fixed_part(tmp_path: Path) -> None:
    write(tmp_path / "data/year=2013/jan.parquet", n=[1])
    write(tmp_path / "data/year=2013/feb.parquet", n=[2])
    write(tmp_path / "data/year=2014/jan.parquet", n=[3])
    made = read_table(source("data/*/jan.parquet"), str(tmp_path), ["year", "n"])
    assert made.to_pydict() == {"year": [2013, 2014], "n": [1, 3]}


def test_an_url_is_read_through_fsspec() -> None:
    fs = fsspec.filesystem("memory")
    with fs.open("/bucket/flights.parquet", "wb") as handle:
        pq.write_table(pa.table({"at": [DAY], "n": [5]}), handle)
    try:
        assert read_table(source("memory://bucket/flights.parquet"), "/nowhere").column("n").to_pylist() == [
            5
        ]
    finally:
        fs.rm("/bucket", recursive=True)


def test_renamed_columns_are_called_as_the_spec_says_and_can_be_chosen(tmp_path: Path) -> None:
    write(tmp_path / "m=1/x.parquet", Carrier=["UA"], n=[1])
    renaming = source(".", rename={"Carrier": "carrier", "m": "month"})
    assert read_schema(renaming, str(tmp_path)).names == ["at", "carrier", "n", "month"]
    made = read_table(renaming, str(tmp_path), ["month", "carrier"])
    assert made.to_pydict() == {"month": [1], "carrier": ["UA"]}


def test_a_part_travels_by_pickle_and_knows_its_rows_and_bytes(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", n=list(range(100)))
    (part,) = parts(source("x.parquet"), str(tmp_path))
    assert part.rows == 100
    assert part.bytes > 100
    assert pickle.loads(pickle.dumps(part)).read(["n"]).equals(part.read(["n"]))


def test_a_large_file_is_cut_at_its_row_groups_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(
        pa.table({"at": [DAY] * 90, "n": list(range(90))}), tmp_path / "x.parquet", row_group_size=10
    )
    monkeypatch.setattr(parquet, "PART_BYTES", 300)
    found = parts(source("x.parquet"), str(tmp_path))
    assert len(found) > 2
    assert sum(part.rows for part in found) == 90
    assert read_table(source("x.parquet"), str(tmp_path)).column("n").to_pylist() == list(range(90))


def test_int32_with_int64_and_nulls_with_anything_make_one_schema(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", n=pa.array([1], pa.int32()), s=pa.nulls(1))
    write(tmp_path / "b.parquet", s=["x"], n=pa.array([2], pa.int64()))
    made = read_table(source("."), str(tmp_path), ["n", "s"])
    assert made.to_pydict() == {"n": [1, 2], "s": [None, "x"]}
    assert made.schema.field("n").type == pa.int64()


def fails(path: str, base: Path, **fields: object) -> str:
    with pytest.raises(SourceError) as caught:
        read_table(source(path, **fields), str(base))
    text = str(caught.value)
    assert 'ParquetSource "flights"' in text
    assert "test_parquet.py:" in text
    return text


def test_a_missing_file_names_the_path_and_where_it_was_looked_for(tmp_path: Path) -> None:
    text = fails("data/flights.parquet", tmp_path)
    assert 'there is no file or folder "data/flights.parquet"' in text
    assert f"Relative paths start at {tmp_path}." in text


def test_a_glob_without_a_match_a_folder_without_data_and_an_unknown_protocol_each_say_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    assert 'no file matches "data/*.parquet"' in fails("data/*.parquet", tmp_path)
    assert 'folder "empty" holds no Parquet file' in fails("empty", tmp_path)
    assert "cannot be listed" in fails("nosuch://bucket/x.parquet", tmp_path)


def test_a_source_without_rows_has_a_schema_but_cannot_be_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"at": pa.array([], pa.timestamp("us"))}), tmp_path / "none.parquet")
    assert read_schema(source("none.parquet"), str(tmp_path)).names == ["at"]
    assert "is empty: 1 part without a row" in fails("none.parquet", tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    good = write(tmp_path / "data/a.parquet", n=[1])
    (tmp_path / "data/b.parquet").write_bytes(good.read_bytes()[:-9])
    text = fails("data", tmp_path)
    assert 'file "b.parquet" cannot be read' in text
    assert "truncated or no Parquet file" in text


def test_a_file_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", n=list(range(10_000)))
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(bytes(data))
    assert 'file "a.parquet" cannot be read' in fails("a.parquet", tmp_path)


def test_files_that_differ_in_their_columns_or_types_are_named_both(tmp_path: Path) -> None:
    write(tmp_path / "lack/a.parquet", n=[1], extra=[1])
    write(tmp_path / "lack/b.parquet", n=[1])
    assert '"b.parquet" lacks column "extra", which "a.parquet" has' in fails("lack", tmp_path)
    write(tmp_path / "types/a.parquet", n=[1])
    write(tmp_path / "types/b.parquet", n=["x"])
    assert 'column "n" is int64 in "a.parquet" and string in "b.parquet"' in fails("types", tmp_path)


def test_a_partition_that_one_file_lacks_is_drift_too(tmp_path: Path) -> None:
    write(tmp_path / "d/month=1/a.parquet", n=[1])
    write(tmp_path / "d/a.parquet", n=[1])
    assert 'lacks column "month"' in fails("d", tmp_path)


def test_renaming_what_is_not_there_or_onto_another_column_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", carrier=["UA"], n=[1])
    assert 'Did you mean "carrier"?' in fails("x.parquet", tmp_path, rename={"carrierx": "c"})
    assert '"carrier" and "n" would both be called "n"' in fails(
        "x.parquet", tmp_path, rename={"carrier": "n"}
    )


def test_asking_for_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", dep_delay=[1])
    with pytest.raises(SourceError, match=r'no column "dep_dealy".*Did you mean "dep_delay"'):
        read_table(source("x.parquet"), str(tmp_path), ["dep_dealy"])


def test_the_snapshot_is_stable_and_changes_with_the_data(tmp_path: Path) -> None:
    write(tmp_path / "d/a.parquet", n=[1])
    before = snapshot(source("d"), str(tmp_path))
    assert snapshot(source("d"), str(tmp_path)) == before
    assert before.startswith("sha256:")
    write(tmp_path / "d/b.parquet", n=[1])
    assert snapshot(source("d"), str(tmp_path)) != before
