"""What statistics prove about event times, and that leaving out what they prove changes no answer."""

from __future__ import annotations

import datetime as dt
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlflow_core.sources import open_source, parquet, parts, read_table, snapshot
from mlflow_core.spec import ParquetSource

SECOND = 1_000_000


def source(path: str = "x.parquet", event_time: str = "at", **fields: Any) -> ParquetSource:
    return ParquetSource("flights", path=path, event_time=event_time, **fields)


def write(path: Path, times: pa.Array | list[int | None], *, name: str = "at", **options: Any) -> None:
    """Write a file of row groups of two rows; plain numbers are microseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = times if isinstance(times, pa.Array) else pa.array(times, pa.timestamp("us", "UTC"))
    table = pa.table({name: column, "n": list(range(len(column)))})
    pq.write_table(table, path, **{"row_group_size": 2, **options})


def numbers(base: Path, between: tuple[int | None, int | None], **fields: Any) -> list[int]:
    return read_table(source(**fields), str(base), ["n"], between=between).column("n").to_pylist()


@pytest.mark.parametrize(
    ("kind", "raw", "span"),
    [
        (pa.timestamp("us"), [3, 5], (3, 5)),
        (pa.timestamp("us", "America/New_York"), [3, 5], (3, 5)),
        (pa.timestamp("ns", "UTC"), [-1, 1_999], (-1, 1)),
        (pa.timestamp("ns"), [-1, 1_999], (-1, 1)),
        (pa.timestamp("ms"), [-3, 5], (-3_000, 5_000)),
        (pa.timestamp("s"), [2, 3], (2 * SECOND, 3 * SECOND)),
        (pa.date32(), [1, 2], (86_400 * SECOND, 2 * 86_400 * SECOND)),
        (pa.date64(), [86_400_000, 86_400_000], (86_400 * SECOND, 86_400 * SECOND)),
    ],
)
def test_the_span_is_in_microseconds_whatever_unit_and_zone_the_file_has(
    tmp_path: Path, kind: pa.DataType, raw: list[int], span: tuple[int, int]
) -> None:
    stored = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    write(tmp_path / "x.parquet", pa.array(raw, stored).cast(kind))
    (part,) = parts(source(), str(tmp_path))
    assert part.span == span
    read = part.read(["at"]).column("at").cast(pa.int64())
    assert (pc.min(read).as_py(), pc.max(read).as_py()) == span


def test_a_dictionary_of_times_has_the_span_of_its_values(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", pa.array([7, 9], pa.timestamp("us")).dictionary_encode())
    assert [part.span for part in parts(source(), str(tmp_path))] == [(7, 9)]


def test_a_year_9999_is_a_time_like_any_other(tmp_path: Path) -> None:
    late = pa.scalar(dt.datetime(9999, 12, 31, tzinfo=dt.UTC), pa.timestamp("us", "UTC")).cast(pa.int64())
    write(tmp_path / "x.parquet", [0, late.as_py()])
    assert [part.span for part in parts(source(), str(tmp_path))] == [(0, late.as_py())]


@pytest.mark.parametrize("options", [{"write_statistics": False}, {"use_deprecated_int96_timestamps": True}])
def test_without_statistics_nothing_is_known_and_nothing_left_out(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    write(tmp_path / "x.parquet", [1, 2, 3, 4], **options)
    (part,) = parts(source(), str(tmp_path), between=(100, 200))
    assert part.span is None
    assert numbers(tmp_path, (100, 200)) == [0, 1, 2, 3]


def test_text_numbers_and_nested_columns_prove_nothing(tmp_path: Path) -> None:
    for column in (
        pa.array(["2013", "2014"]),
        pa.array([float("nan"), 1.0]),
        pa.array([{"at": 1}, {"at": 2}]),
    ):
        write(tmp_path / "x.parquet", column)
        (part,) = parts(source(), str(tmp_path), between=(10**15, None))
        assert part.span is None
        assert part.rows == 2


def test_a_field_of_a_nested_column_is_not_taken_for_a_column_of_the_same_path(tmp_path: Path) -> None:
    times = pa.array([1, 2], pa.timestamp("us", "UTC"))
    nested = pa.StructArray.from_arrays([pa.array([90, 91], pa.timestamp("us", "UTC"))], names=["b"])
    pq.write_table(pa.table({"a": nested, "a.b": times}), tmp_path / "x.parquet")
    (part,) = parts(source(event_time="a.b"), str(tmp_path))
    assert part.span is None


def test_row_groups_outside_are_not_read_and_both_ends_are_inside(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [0, 10, 20, 30, 40, 50])
    assert numbers(tmp_path, (30, 40)) == [2, 3, 4, 5]
    assert numbers(tmp_path, (31, 39)) == []
    assert numbers(tmp_path, (11, 20)) == [2, 3]
    assert numbers(tmp_path, (None, 19)) == [0, 1]
    assert numbers(tmp_path, (50, None)) == [4, 5]
    assert numbers(tmp_path, (None, None)) == [0, 1, 2, 3, 4, 5]


def test_row_groups_of_null_times_only_are_known_to_hold_none(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [None, None, 10, None])
    assert numbers(tmp_path, (0, 100)) == [2, 3]
    write(tmp_path / "x.parquet", [None, None])
    (part,) = parts(source(), str(tmp_path))
    assert part.span is None
    assert parts(source(), str(tmp_path), between=(0, 100)) == ()


def test_a_renamed_time_column_is_found_by_its_name_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [0, 10, 20, 30], name="Departure")
    renaming = source(rename={"Departure": "at"})
    assert [part.span for part in parts(renaming, str(tmp_path))] == [(0, 30)]
    assert numbers(tmp_path, (15, 40), rename={"Departure": "at"}) == [2, 3]


def test_a_time_in_the_folders_names_is_a_time_and_proves_its_files(tmp_path: Path) -> None:
    for day, n in (("2013-01-01", 1), ("2013-01-02", 2), ("__HIVE_DEFAULT_PARTITION__", 3)):
        path = tmp_path / f"d/at={day}/x.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"n": [n]}), path)
    read = read_table(source("d"), str(tmp_path))
    first = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    assert read.to_pydict() == {"n": [1, 2, 3], "at": [first, first + dt.timedelta(days=1), None]}
    start = int(first.timestamp()) * SECOND
    assert [part.span for part in parts(source("d"), str(tmp_path))][:2] == [
        (start, start),
        (start + 86_400 * SECOND,) * 2,
    ]
    assert numbers(tmp_path, (start + 1, None), path="d") == [2]


def test_parts_that_stay_are_cut_and_called_as_without_pruning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_BYTES", 300)
    write(tmp_path / "x.parquet", list(range(0, 200, 10)))
    everything = parts(source(), str(tmp_path))
    some = parts(source(), str(tmp_path), between=(75, 115))
    assert 0 < len(some) < len(everything)
    assert {part.name for part in some} < {part.name for part in everything}
    assert {part.fingerprint for part in some} < {part.fingerprint for part in everything}


def test_a_fingerprint_belongs_to_one_part_and_stays_while_the_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_BYTES", 300)
    write(tmp_path / "d/a.parquet", list(range(20)))
    write(tmp_path / "d/b.parquet", list(range(20)))
    first = [part.fingerprint for part in parts(source("d"), str(tmp_path))]
    assert len(set(first)) == len(first) > 2
    assert [
        part.fingerprint for part in pickle.loads(pickle.dumps(parts(source("d"), str(tmp_path))))
    ] == first
    write(tmp_path / "d/c.parquet", [1])
    assert [part.fingerprint for part in parts(source("d"), str(tmp_path))][: len(first)] == first
    write(tmp_path / "d/a.parquet", list(range(1, 21)))
    changed = [part.fingerprint for part in parts(source("d"), str(tmp_path))]
    of_b = len([part for part in parts(source("d"), str(tmp_path)) if part.name.startswith("b")])
    assert changed[-1 - of_b : -1] == first[-of_b:]
    assert not set(changed[: -1 - of_b]) & set(first)


def test_a_file_rewritten_within_one_tick_of_the_clock_has_another_fingerprint(tmp_path: Path) -> None:
    made = []
    for times in ([1, 2], [1, 3]):
        write(tmp_path / "x.parquet", times)
        os.utime(tmp_path / "x.parquet", (1_000, 1_000))
        made.append((snapshot(source(), str(tmp_path)), parts(source(), str(tmp_path))[0].fingerprint))
    assert made[0][0] == made[1][0]  # one size, one time of change
    assert made[0][1] != made[1][1]


def test_a_file_replaced_by_one_of_the_same_size_time_and_statistics_has_another_fingerprint(
    tmp_path: Path,
) -> None:
    made = []
    for times in ([1, 2, 3], [2, 1, 3]):
        write(tmp_path / "new.parquet", times)
        os.utime(tmp_path / "new.parquet", (1_000, 1_000))
        if made:
            (tmp_path / "x.parquet").rename(tmp_path / "old.parquet")
        (tmp_path / "new.parquet").rename(tmp_path / "x.parquet")
        (part,) = parts(source(), str(tmp_path))
        made.append((part.file.version, part.file.size, part.footer, part.fingerprint))
    assert made[0][:3] == made[1][:3]
    assert made[0][3] != made[1][3]


def test_a_type_made_wider_by_another_file_changes_how_the_part_is_read(tmp_path: Path) -> None:
    write(tmp_path / "d/a.parquet", [1])
    (alone,) = parts(source("d"), str(tmp_path))
    pq.write_table(
        pa.table({"at": pa.array([1], pa.timestamp("us", "UTC")), "n": pa.nulls(1)}), tmp_path / "d/b.parquet"
    )
    assert parts(source("d"), str(tmp_path))[0].fingerprint == alone.fingerprint
    pq.write_table(
        pa.table({"at": pa.array([1], pa.timestamp("us", "UTC")), "n": pa.array([1], pa.int32())}),
        tmp_path / "d/a.parquet",
    )
    (narrow, _) = parts(source("d"), str(tmp_path))
    write(tmp_path / "d/c.parquet", [1])
    assert parts(source("d"), str(tmp_path))[0].fingerprint != narrow.fingerprint


def test_one_listing_tells_schema_parts_and_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [0, 10, 20, 30])
    listing = open_source(source(), str(tmp_path))
    assert listing.schema.names == ["at", "n"]
    assert listing.parts() == parts(source(), str(tmp_path))
    assert listing.parts((100, 200)) == ()
    assert listing.read(["n"], (0, 15)).column("n").to_pylist() == [0, 1]
    assert listing.fingerprint == snapshot(source(), str(tmp_path))
    assert listing.read(["n"], (100, 200)).schema == pa.schema([("n", pa.int64())])
