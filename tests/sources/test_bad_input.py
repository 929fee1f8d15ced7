"""What may be wrong with files: an error that names the source and the file, or a result that is written down here."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.algebra import columns
from mlflow_core.errors import SourceError
from mlflow_core.sources import parts, read_schema, read_table
from mlflow_core.spec import ParquetSource

TIME = pa.timestamp("us", "UTC")
DAY = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


def source(path: str = "d", **fields: Any) -> ParquetSource:
    return ParquetSource("flights", path=path, event_time="at", **fields)


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(next(iter(columns.values())))
    pq.write_table(pa.table({"at": pa.array([DAY] * n, TIME), **columns}), path)
    return path


def column(base: Path, name: str, path: str = "d") -> list[Any]:
    return read_table(source(path), str(base), [name]).column(name).to_pylist()


def fails(base: Path, path: str = "d") -> str:
    with pytest.raises(SourceError) as caught:
        read_table(source(path), str(base))
    text = str(caught.value)
    assert 'ParquetSource "flights"' in text
    assert "\n" not in text
    return text


@contextmanager
def without_rights() -> Iterator[Path]:
    """A folder that everyone may enter, while this process has only the rights of everyone."""
    folder = Path(tempfile.mkdtemp(prefix="mlcore-rights-"))
    folder.chmod(0o755)
    write(folder / "seen/x.parquet", n=[1])
    read_table(source("seen"), str(folder))  # whatever is imported late is imported now
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    # The superuser may read everything, so without this nothing would be forbidden.
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_that_may_not_be_read_is_named_with_the_reason() -> None:
    with without_rights() as base:
        write(base / "d/a.parquet", n=[1])
        write(base / "d/b.parquet", n=[1]).chmod(0)
        with as_nobody():
            text = fails(base)
    assert 'file "b.parquet" cannot be read' in text
    assert "Permission denied" in text
    assert "truncated" not in text


@pytest.mark.parametrize("path", ["d", "d/*/*.parquet"])
def test_a_folder_that_may_not_be_entered_is_no_empty_folder(path: str) -> None:
    with without_rights() as base:
        write(base / "d/open/a.parquet", n=[1])
        write(base / "d/shut/a.parquet", n=[1])
        (base / "d/shut").chmod(0)
        with as_nobody():
            text = fails(base, path)
        (base / "d/shut").chmod(0o755)
    assert f'"{path}" cannot be listed' in text
    assert "Permission denied" in text


def test_unsorted_and_repeated_rows_come_as_they_stand_in_the_file(tmp_path: Path) -> None:
    times = pa.array([5, 1, 5, 5], TIME)
    pq.write_table(pa.table({"at": times, "n": [1, 2, 1, 1]}), tmp_path / "x.parquet")
    assert read_table(source("x.parquet"), str(tmp_path)).equals(pa.table({"at": times, "n": [1, 2, 1, 1]}))
    assert parts(source("x.parquet"), str(tmp_path))[0].span == (1, 5)


def test_columns_in_another_order_are_found_by_their_names(tmp_path: Path) -> None:
    write(tmp_path / "d/a.parquet", n=[1], s=["x"])
    write(tmp_path / "d/b.parquet", s=["y"], n=[2])
    assert read_table(source(), str(tmp_path)).select(["n", "s"]).to_pydict() == {
        "n": [1, 2],
        "s": ["x", "y"],
    }


def test_a_column_of_nulls_only_in_one_file_has_the_others_type_and_in_all_files_none(tmp_path: Path) -> None:
    write(tmp_path / "d/a.parquet", n=pa.nulls(1), m=pa.nulls(1))
    write(tmp_path / "d/b.parquet", n=[2], m=pa.nulls(1))
    assert column(tmp_path, "n") == [None, 2]
    assert read_schema(source(), str(tmp_path)).field("m").type == pa.null()
    assert column(tmp_path, "m") == [None, None]


def test_files_of_other_zones_and_units_and_naive_ones_mean_the_same_moments(tmp_path: Path) -> None:
    kinds = [
        pa.timestamp("us"),
        pa.timestamp("ns", "America/New_York"),
        pa.timestamp("ms", "UTC"),
        pa.timestamp("s"),
    ]
    for n, kind in enumerate(kinds):
        path = tmp_path / f"d/{n}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"at": pa.array([DAY], TIME).cast(kind)}), path)
    assert column(tmp_path, "at") == [DAY] * 4


def test_the_last_moment_of_the_calendar_is_kept_and_one_beyond_microseconds_is_refused(
    tmp_path: Path,
) -> None:
    last = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC)
    pq.write_table(pa.table({"at": pa.array([last], TIME)}), tmp_path / "x.parquet")
    assert column(tmp_path, "at", "x.parquet") == [last]
    pq.write_table(pa.table({"at": pa.array([2**62], pa.timestamp("ms"))}), tmp_path / "x.parquet")
    assert 'x.parquet: column "at" does not fit timestamp[us, tz=UTC]' in fails(tmp_path, "x.parquet")


def test_nan_and_infinities_are_values_and_stay(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", f=[float("nan"), float("inf"), -float("inf"), None])
    made = read_table(source("x.parquet"), str(tmp_path)).column("f")
    assert str(made.to_pylist()) == "[nan, inf, -inf, None]"


def test_bytes_that_are_no_utf8_in_a_text_column_are_refused_with_the_columns_name(tmp_path: Path) -> None:
    bad = pa.array([b"UA", b"\xff\xfe"], pa.binary()).view(pa.string())
    write(tmp_path / "x.parquet", carrier=bad)
    text = fails(tmp_path, "x.parquet")
    assert 'x.parquet: column "carrier" does not fit string' in text
    assert "write it in UTF-8" in text
    write(tmp_path / "x.parquet", carrier=bad.view(pa.binary()))
    assert column(tmp_path, "carrier", "x.parquet") == [b"UA", b"\xff\xfe"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([DAY], TIME), pa.array([1]), pa.array([2])], names=["at", "n", "n"])
    pq.write_table(table, tmp_path / "x.parquet")
    assert 'file "x.parquet" has two columns called "n"' in fails(tmp_path, "x.parquet")


def test_a_file_that_changed_or_went_since_it_was_listed_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d/a.parquet", n=[1])
    (part,) = parts(source(), str(tmp_path))
    write(path, n=[1, 2])
    with pytest.raises(SourceError, match=r'file "a.parquet" has changed since it was listed'):
        part.read()
    (part,) = parts(source(), str(tmp_path))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r'file "a.parquet" has changed since it was listed'):
        part.read()
    path.unlink()
    with pytest.raises(SourceError, match=r'file "a.parquet" is gone since it was listed'):
        part.read()


def test_a_file_replaced_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d/a.parquet", n=[1])
    (part,) = parts(source(), str(tmp_path))
    read_row_groups = pq.ParquetFile.read_row_groups

    def read_then_replace(*args: Any, **options: Any) -> pa.Table:
        table = read_row_groups(*args, **options)
        write(tmp_path / "new.parquet", n=[7, 8]).replace(path)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", read_then_replace)
    with pytest.raises(SourceError, match=r'file "a.parquet" has changed since it was listed'):
        part.read()


@pytest.mark.parametrize("kind", [pa.large_string(), pa.large_binary(), pa.string_view()])
def test_text_beyond_what_one_array_holds_is_cut_into_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    monkeypatch.setattr(columns, "_MOST_TEXT", 10)
    values = pa.array(["abcdef", None, "ghijkl", "m", ""], pa.string()).cast(kind)
    made = columns.settled(pa.chunked_array([values]))
    assert made.num_chunks > 1
    assert made.cast(kind).to_pylist() == values.to_pylist()
    repeated = pa.chunked_array([pa.array(["abcdef", None, "ghijkl", "abcdef"]).dictionary_encode()])
    assert columns.settled(repeated).num_chunks > 1
    assert columns.settled(repeated).to_pylist() == ["abcdef", None, "ghijkl", "abcdef"]


@pytest.mark.long
def test_a_column_of_more_than_2_gib_of_text_is_read(tmp_path: Path) -> None:
    value = "x" * 2**20
    rows = 2_100
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))
    write(tmp_path / "x.parquet", s=text)
    made = read_table(source("x.parquet"), str(tmp_path), ["s"]).column("s")
    assert made.type == pa.string()
    assert made.num_chunks > 1
    assert made.nbytes > 2**31
    assert made[rows - 1].as_py() == value
