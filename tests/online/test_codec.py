"""The row codec: whatever Arrow can hold of our types comes back as it was, and damage is never read as data."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.algebra.types import arrow_type
from mlflow_core.errors import StoreError
from mlflow_core.online.codec import TOMBSTONE, Kind, RowCodec, is_tombstone
from mlflow_core.spec import DType

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.integers(-(2**55), 2**55)
ITEMS = {
    DType.BOOL: st.booleans(),
    DType.INT64: st.integers(-(2**63), 2**63 - 1),
    DType.INT32: st.integers(-(2**31), 2**31 - 1),
    DType.FLOAT64: st.floats(),
    DType.FLOAT32: st.floats(width=32),
    DType.STRING: st.text(max_size=12),
    DType.BYTES: st.binary(max_size=12),
    DType.TIMESTAMP: TIMES,
    DType.UUID: st.uuids(),
    DType.MAP: st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=4), max_size=4),
}


def values_of(dtype: DType) -> st.SearchStrategy:
    item = ITEMS[dtype.item]
    return st.none() | (item if dtype.item is dtype else st.lists(st.none() | item, max_size=9))


def to_arrow(values: list, dtype: DType) -> pa.Array:
    if dtype is DType.UUID:
        storage = pa.array([None if value is None else value.bytes for value in values], pa.binary(16))
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)
    if dtype is DType.TIMESTAMP:
        return pa.array(values, pa.int64()).cast(arrow_type(dtype))
    if dtype is DType.TIMESTAMP_LIST:
        return pa.array(values, pa.list_(pa.int64())).cast(arrow_type(dtype))
    if dtype is DType.MAP:
        return pa.array(
            [None if value is None else list(value.items()) for value in values], arrow_type(dtype)
        )
    return pa.array(values, arrow_type(dtype))


def same(got: object, wanted: object) -> bool:
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(same, got, wanted))
    if isinstance(wanted, float) and isinstance(got, float):
        # to the bit, save for NaN's payload
        return (math.isnan(got) and math.isnan(wanted)) or struct.pack("d", got) == struct.pack("d", wanted)
    return type(got) is type(wanted) and got == wanted


@st.composite
def tables(draw):
    dtypes = draw(st.lists(st.sampled_from(list(DType)), min_size=1, max_size=20))
    n = draw(st.integers(0, 6))
    columns = [draw(st.lists(values_of(dtype), min_size=n, max_size=n)) for dtype in dtypes]
    times = draw(st.lists(st.none() | TIMES, min_size=n, max_size=n))
    return dtypes, columns, times


@settings(max_examples=300, deadline=None)
@given(tables())
def test_every_type_with_nulls_comes_back_as_it_was_written(case):
    dtypes, columns, times = case
    names = [f"c{i}" for i in range(len(dtypes))]
    table = pa.table(
        {name: to_arrow(values, dtype) for name, values, dtype in zip(names, columns, dtypes, strict=True)}
    )
    codec = RowCodec(table.schema)
    rows = [codec.decode(data) for data in codec.encode(table, pa.array(times, pa.int64()))]
    assert [row.event_time for row in rows] == times
    for i, row in enumerate(rows):
        for got, column in zip(row.values, columns, strict=True):
            assert same(got, column[i]), (got, column[i])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_row_cut_at_any_byte_or_with_bytes_added_is_refused(data):
    dtypes = data.draw(st.lists(st.sampled_from(list(DType)), min_size=1, max_size=6))
    table = pa.table(
        {f"c{i}": to_arrow([data.draw(values_of(dtype))], dtype) for i, dtype in enumerate(dtypes)}
    )
    codec = RowCodec(table.schema)
    (row,) = codec.encode(table)
    cut = data.draw(st.integers(0, len(row) - 1))
    with pytest.raises(StoreError):
        codec.decode(row[:cut])
    with pytest.raises(StoreError, match="truncated or damaged"):
        codec.decode(row + b"\0")


def test_a_row_of_a_newer_version_is_refused_with_what_to_do():
    codec = RowCodec(pa.schema([("x", pa.int64())]))
    (row,) = codec.encode(pa.table({"x": [1]}))
    with pytest.raises(
        StoreError, match=r"layout version 9, this reader knows version 1.*Upgrade this process"
    ):
        codec.decode(b"\x09" + row[1:])


def test_a_row_of_another_kind_is_refused_by_its_name():
    codec = RowCodec(pa.schema([("x", pa.int64())]))
    (row,) = codec.encode(pa.table({"x": [1]}))
    with pytest.raises(StoreError, match="of kind tile"):
        codec.decode(row[:1] + bytes([Kind.TILE]) + row[2:])
    with pytest.raises(StoreError, match="of kind tombstone"):
        codec.decode(TOMBSTONE)
    with pytest.raises(StoreError, match=r"of kind unknown \(77\)"):
        codec.decode(row[:1] + b"\x4d" + row[2:])
    assert is_tombstone(TOMBSTONE)
    assert not is_tombstone(row)


@pytest.mark.parametrize(
    "other",
    [
        RowCodec(pa.schema([("y", pa.int64())])),
        RowCodec(pa.schema([("x", pa.float64())])),
        RowCodec(pa.schema([("x", pa.int64())]), definition="last 2h"),
        RowCodec(pa.schema([("x", pa.int64()), ("y", pa.int64())])),
    ],
    ids=["name", "type", "definition", "one more"],
)
def test_a_row_of_another_schema_is_refused_and_never_guessed(other):
    codec = RowCodec(pa.schema([("x", pa.int64())]), definition="last 1h")
    (row,) = codec.encode(pa.table({"x": [1]}))
    with pytest.raises(StoreError, match=r"another definition of its view.*materialise the view again"):
        other.decode(row)


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
    assert read.decode(written.encode(table)[0]).values == (-3, "EWR", "JFK")


def test_nanoseconds_are_floored_and_naive_times_are_utc():
    codec = RowCodec(pa.schema([("t", pa.timestamp("us", "UTC"))]))
    before_epoch = codec.encode(
        pa.table({"t": pa.array([-1], pa.timestamp("ns"))}), pa.array([1999], pa.timestamp("ns"))
    )
    assert codec.decode(before_epoch[0]).event_time == 1
    assert codec.decode(before_epoch[0]).values == (-1,)


def test_chunked_tables_are_packed_whole():
    chunk = pa.table({"x": [1, 2], "s": ["a", None]})
    table = pa.concat_tables([chunk, chunk, chunk.slice(1)])
    codec = RowCodec(table.schema)
    times = pa.chunked_array([pa.array([1, 2]), pa.array([3, None, 5])])
    rows = [codec.decode(data) for data in codec.encode(table, times)]
    assert [row.values for row in rows] == [(1, "a"), (2, None), (1, "a"), (2, None), (2, None)]
    assert [row.event_time for row in rows] == [1, 2, 3, None, 5]


def test_a_missing_feature_or_one_of_another_type_is_named():
    codec = RowCodec(pa.schema([("x", pa.int64())]))
    with pytest.raises(StoreError, match='feature "x" is missing'):
        codec.encode(pa.table({"y": [1]}))
    with pytest.raises(StoreError, match='feature "x" is string'):
        codec.encode(pa.table({"x": ["one"]}))
    with pytest.raises(StoreError, match="2 event times were given for 1 rows"):
        codec.encode(pa.table({"x": [1]}), pa.array([1, 2]))


def test_fifty_floats_take_their_own_bytes_and_a_header():
    codec = RowCodec(pa.schema([(f"f{i}", pa.float32()) for i in range(50)]))
    (row,) = codec.encode(pa.table({f"f{i}": pa.array([float(i)], pa.float32()) for i in range(50)}))
    assert len(row) == 18 + 7 + 50 * 4


def test_uuids_that_end_in_zero_bytes_survive():
    codec = RowCodec(pa.schema([("u", pa.uuid())]))
    values = [UUID(int=0), UUID(bytes=b"\1" + bytes(15)), uuid4(), None]
    assert [
        codec.decode(data).values[0] for data in codec.encode(pa.table({"u": to_arrow(values, DType.UUID)}))
    ] == values


def test_a_time_to_the_microsecond_survives():
    moment = EPOCH + timedelta(days=15_000, microseconds=123_457)
    codec = RowCodec(pa.schema([("t", pa.timestamp("us", "UTC"))]))
    (row,) = codec.encode(pa.table({"t": pa.array([moment], pa.timestamp("us", "UTC"))}))
    assert codec.decode(row).values[0] == 15_000 * 86_400_000_000 + 123_457
