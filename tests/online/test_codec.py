"""The row codec: whatever Arrow can hold of our types comes back as it was, and damage is never read as data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.errors import StoreError
from mlflow_core.online.codec import EVENT_ABSENT, RowCodec
from mlflow_core.online.head import (
    KIND_AT,
    LAYOUT,
    LAYOUT_AT,
    SCHEMA_AT,
    Kind,
    is_tombstone,
    tombstone,
    version_bytes,
    version_of,
)
from mlflow_core.spec import DType
from tests.online.of_every_type import INT64, TIMES, same, to_arrow, values_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FEW = st.integers(0, 6)


def encoded(
    codec: RowCodec, table: pa.Table, times: list[int] | None = None, event_times: pa.Array | None = None
) -> list[bytes]:
    """Rows of versions that do not matter unless they are given."""
    n = table.num_rows
    versions = np.zeros(n, np.int64) if times is None else np.array(times, np.int64)
    return codec.encode(table, versions, np.zeros(n, np.int64), event_times)


FIXED = [
    dtype for dtype in DType if dtype.item is dtype and dtype not in (DType.STRING, DType.BYTES, DType.MAP)
]


@st.composite
def tables(draw, dtypes=tuple(DType), n=FEW):
    """Types, columns of values, versions, and event times or None for a codec that has none of its own."""
    kinds = draw(st.lists(st.sampled_from(dtypes), min_size=1, max_size=20))
    rows = draw(n)
    columns = [draw(st.lists(values_of(dtype), min_size=rows, max_size=rows)) for dtype in kinds]
    versions = draw(st.lists(st.tuples(INT64, INT64), min_size=rows, max_size=rows))
    events = draw(st.none() | st.lists(st.none() | TIMES, min_size=rows, max_size=rows))
    return kinds, columns, versions, events


def packed(case) -> tuple[RowCodec, list[bytes]]:
    dtypes, columns, versions, events = case
    table = pa.table(
        {
            f"c{i}": to_arrow(values, dtype)
            for i, (values, dtype) in enumerate(zip(columns, dtypes, strict=True))
        }
    )
    codec = RowCodec(table.schema, timed=events is not None)
    times, sequences = (np.array([version[i] for version in versions], np.int64) for i in (0, 1))
    event_times = None if events is None else pa.array(events, pa.int64())
    return codec, codec.encode(table, times, sequences, event_times)


def assert_same_as_written(codec: RowCodec, rows: list[bytes], case) -> None:
    _, columns, versions, events = case
    block = codec.decode(rows)
    assert len(block.columns) == len(columns)
    for got, wanted in zip(block.columns, columns, strict=True):
        assert same(list(got), wanted), (got, wanted)
    if events is None:
        assert block.event_times is None
    else:
        assert block.event_times == [EVENT_ABSENT if time is None else time for time in events]
    assert [version_of(row) for row in rows] == versions


@settings(max_examples=300, deadline=None)
@given(tables())
def test_every_type_with_nulls_comes_back_as_it_was_written(case):
    codec, rows = packed(case)
    assert_same_as_written(codec, rows, case)


@settings(max_examples=150, deadline=None)
@given(
    tables(dtypes=FIXED, n=st.integers(8, 20)) | tables(n=st.integers(8, 12)),
    st.randoms(use_true_random=False),
)
def test_many_rows_decode_as_each_of_them_does(case, random):
    codec, rows = packed(case)
    assert_same_as_written(codec, rows, case)
    random.shuffle(rows)
    whole, each = codec.decode(rows), [codec.decode([row]) for row in rows]
    for i, column in enumerate(whole.columns):
        assert same(list(column), [block.columns[i][0] for block in each])
    if codec.timed:
        assert whole.event_times == [block.event_times[0] for block in each]


def test_no_rows_decode_to_empty_columns():
    schema = pa.schema([("x", pa.int64()), ("s", pa.string())])
    assert [list(column) for column in RowCodec(schema).decode([]).columns] == [[], []]
    assert RowCodec(schema, timed=True).decode([]).event_times == []


@settings(max_examples=300)
@given(st.tuples(INT64, INT64), st.tuples(INT64, INT64))
def test_versions_compare_as_their_bytes_do(one, other):
    assert (version_bytes(*one) < version_bytes(*other)) == (one < other)
    assert version_of(version_bytes(*one)) == one
    assert version_of(tombstone(*one)) == one


@pytest.mark.parametrize("version", [(2**63, 0), (0, -(2**63) - 1)])
def test_a_version_that_is_no_int64_is_refused(version):
    with pytest.raises(StoreError, match=r"a version is no pair of int64: \("):
        version_bytes(*version)


GOLDEN = {
    "version": "80 00 00 00 00 00 00 07  7f ff ff ff ff ff ff fe",
    "layout and kind": "02 01",
    "schema": "10 fd 23 a2 22 0b 14 37",
    "event": "03 00 00 00 00 00 00 00",
    "nulls": "04",
    "half": "00 00 00 00 00 00 e0 3f",
    "yes": "01",
    "none": "00 00 00 00",
    "name's and codes' ends": "03 00 00 00  18 00 00 00",
    "id": "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
    "name": "00 c3 bc",
    "codes": "02 00 00 00  02  07 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00",
}


@pytest.mark.parametrize("timed", [False, True])
def test_the_layout_is_to_the_byte_the_documented_one(timed):
    """Whoever changes it changes ``LAYOUT``, too: rows that lie in stores must not be read as something else."""
    table = pa.table(
        {
            "half": [0.5],
            "yes": [True],
            "none": pa.array([None], pa.int32()),
            "name": ["ü"],
            "codes": pa.array([[7, None]], pa.list_(pa.int64())),
            "id": to_arrow([UUID(int=1)], DType.UUID),
        }
    )
    codec = RowCodec(table.schema, "last 1h", timed=timed)
    (row,) = codec.encode(table, np.array([7]), np.array([-2]), pa.array([3]) if timed else None)
    parts = [part for name, part in GOLDEN.items() if timed or name != "event"]
    assert row == bytes.fromhex("".join(parts))
    assert (version_of(row), row[SCHEMA_AT], is_tombstone(row)) == ((7, -2), codec.schema_hash, False)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_row_cut_at_any_byte_or_with_bytes_added_is_refused(data):
    case = data.draw(tables(n=st.just(1)))
    codec, (row,) = packed(case)
    cut = data.draw(st.integers(0, len(row) - 1))
    many = data.draw(st.sampled_from([1, 9]))
    for damaged in (row[:cut], row + b"\0"):
        rows = [row] * many
        rows[data.draw(st.integers(0, many - 1))] = damaged
        with pytest.raises(StoreError, match="truncated or damaged"):
            codec.decode(rows)


ONE = RowCodec(pa.schema([("x", pa.int64())]), definition="last 1h")
ROW = encoded(ONE, pa.table({"x": [1]}))[0]


def changed(at: int, byte: int) -> bytes:
    return ROW[:at] + bytes([byte]) + ROW[at + 1 :]


def test_a_row_of_a_newer_layout_is_refused_with_what_to_do():
    with pytest.raises(
        StoreError, match=rf"has layout 9, this reader knows layout {LAYOUT}.*Upgrade this process"
    ):
        ONE.decode([ROW, changed(LAYOUT_AT, 9)])


def test_a_row_of_another_kind_is_refused_by_its_name():
    with pytest.raises(StoreError, match="of kind tile"):
        ONE.decode([changed(KIND_AT, Kind.TILE)])
    with pytest.raises(StoreError, match="of kind tombstone"):
        ONE.decode([tombstone(7, 0)])
    with pytest.raises(StoreError, match=r"of kind unknown \(77\)"):
        ONE.decode([changed(KIND_AT, 77)])


def test_a_tombstone_is_known_whichever_layout_wrote_it_and_no_row_is_one():
    buried = tombstone(-5, 2**63 - 1)
    assert is_tombstone(buried)
    assert version_of(buried) == (-5, 2**63 - 1)
    assert is_tombstone(buried[:LAYOUT_AT] + b"\xff" + buried[KIND_AT:])
    assert not is_tombstone(ROW)
    assert not is_tombstone(b"")


@pytest.mark.parametrize(
    "other",
    [
        RowCodec(pa.schema([("y", pa.int64())]), definition="last 1h"),
        RowCodec(pa.schema([("x", pa.float64())]), definition="last 1h"),
        RowCodec(pa.schema([("x", pa.int64())]), definition="last 2h"),
        RowCodec(pa.schema([("x", pa.int64()), ("y", pa.int64())]), definition="last 1h"),
    ],
    ids=["name", "type", "definition", "one more"],
)
def test_a_row_of_another_schema_is_refused_and_never_guessed(other):
    with pytest.raises(StoreError, match=r"another definition of its view.*materialise the view again"):
        other.decode([ROW])
    assert ROW[SCHEMA_AT] != other.schema_hash


def test_narrow_numbers_dictionaries_and_large_strings_have_the_layout_of_the_type_that_holds_them():
    written = RowCodec(
        pa.schema([("i", pa.int8()), ("s", pa.dictionary(pa.int32(), pa.string())), ("l", pa.large_string())])
    )
    read = RowCodec(pa.schema([("i", pa.int32()), ("s", pa.string()), ("l", pa.string())]))
    table = pa.table(
        {
            "i": pa.array([-3], pa.int8()),
            "s": pa.array(["EWR"]).dictionary_encode(),
            "l": pa.array(["JFK"], pa.large_string()),
        }
    )
    assert [list(one) for one in read.decode(encoded(written, table)).columns] == [[-3], ["EWR"], ["JFK"]]


def test_nanoseconds_are_floored_and_naive_times_are_utc():
    codec = RowCodec(pa.schema([("t", pa.timestamp("us", "UTC"))]), timed=True)
    before_epoch = encoded(
        codec, pa.table({"t": pa.array([-1], pa.timestamp("ns"))}), None, pa.array([1999], pa.timestamp("ns"))
    )
    assert codec.decode(before_epoch).event_times == [1]
    assert list(codec.decode(before_epoch).columns[0]) == [-1]


def test_chunked_tables_are_packed_whole():
    chunk = pa.table({"x": [1, 2], "s": ["a", None]})
    table = pa.concat_tables([chunk, chunk, chunk.slice(1)])
    codec = RowCodec(table.schema, timed=True)
    times = pa.chunked_array([pa.array([1, 2]), pa.array([3, None, 5])])
    block = codec.decode(encoded(codec, table, None, times))
    assert [list(one) for one in block.columns] == [[1, 2, 1, 2, 2], ["a", None, "a", None, None]]
    assert block.event_times == [1, 2, 3, EVENT_ABSENT, 5]


def test_a_missing_feature_or_one_of_another_type_is_named():
    codec = RowCodec(pa.schema([("x", pa.int64())]), timed=True)
    with pytest.raises(StoreError, match='feature "x" is missing'):
        encoded(codec, pa.table({"y": [1]}))
    with pytest.raises(StoreError, match='feature "x" is string'):
        encoded(codec, pa.table({"x": ["one"]}))
    with pytest.raises(StoreError, match="2 event times were given for 1 rows"):
        encoded(codec, pa.table({"x": [1]}), None, pa.array([1, 2]))


@pytest.mark.parametrize("timed", [False, True])
def test_fifty_floats_take_their_own_bytes_and_a_header(timed):
    codec = RowCodec(pa.schema([(f"f{i}", pa.float32()) for i in range(50)]), timed=timed)
    table = pa.table({f"f{i}": pa.array([float(i)], pa.float32()) for i in range(50)})
    (row,) = encoded(codec, table)
    assert len(row) == 16 + 1 + 1 + 8 + 8 * timed + 7 + 50 * 4


def test_uuids_that_end_in_zero_bytes_survive():
    codec = RowCodec(pa.schema([("u", pa.uuid())]))
    values = [UUID(int=0), UUID(bytes=b"\1" + bytes(15)), uuid4(), None]
    for times in (1, 3):
        rows = encoded(codec, pa.table({"u": to_arrow(values * times, DType.UUID)}))
        assert list(codec.decode(rows).columns[0]) == values * times


def test_a_time_to_the_microsecond_survives():
    moment = EPOCH + timedelta(days=15_000, microseconds=123_457)
    codec = RowCodec(pa.schema([("t", pa.timestamp("us", "UTC"))]))
    rows = encoded(codec, pa.table({"t": pa.array([moment], pa.timestamp("us", "UTC"))}))
    assert list(codec.decode(rows).columns[0]) == [15_000 * 86_400_000_000 + 123_457]
