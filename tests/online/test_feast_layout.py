"""Feast's keys and values, read without Feast: held equal to what Feast itself spells and reads."""

from __future__ import annotations

import math
import struct
import time
from datetime import UTC, datetime
from uuid import UUID

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.types import Value_pb2 as messages
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.algebra.types import arrow_type
from mlflow_core.errors import ConfigError, ServeError, StoreError
from mlflow_core.feast.values import from_value, to_value
from mlflow_core.online.feast_layout.form import FeastForm, FeastRows
from mlflow_core.online.feast_layout.keys import fields_of, key_encoder, murmur3
from mlflow_core.online.feast_layout.values import numbers_reader, time_of, value_reader
from mlflow_core.online.feast_layout.wire import numbers_of, varint, varints
from mlflow_core.spec import DType, Entity, FeatureView, ParquetSource

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
FLOAT32 = st.floats(width=32, allow_nan=False)
SECONDS = st.integers(-(2**40), 2**40).map(lambda seconds: seconds * 1_000_000)

VALUES: dict[DType, st.SearchStrategy] = {
    DType.BOOL: st.booleans(),
    DType.INT64: INT64,
    DType.INT32: INT32,
    DType.FLOAT64: st.floats(allow_nan=False),
    DType.FLOAT32: FLOAT32,
    DType.STRING: TEXT,
    DType.BYTES: st.binary(max_size=200),
    DType.TIMESTAMP: SECONDS,
    DType.UUID: st.uuids(),
    DType.BOOL_LIST: st.lists(st.booleans()),
    DType.INT64_LIST: st.lists(INT64),
    DType.INT32_LIST: st.lists(INT32),
    DType.FLOAT64_LIST: st.lists(st.floats(allow_nan=False)),
    DType.FLOAT32_LIST: st.lists(FLOAT32),
    DType.STRING_LIST: st.lists(TEXT),
    DType.BYTES_LIST: st.lists(st.binary(max_size=200)),
    DType.TIMESTAMP_LIST: st.lists(SECONDS | st.none()),
    DType.MAP: st.dictionaries(TEXT, TEXT | st.none(), max_size=5),
}
TYPED = st.sampled_from(list(DType)).flatmap(
    lambda dtype: st.tuples(st.just(dtype), st.lists(VALUES[dtype] | st.none(), min_size=1, max_size=100))
)


def stored(value, dtype: DType) -> bytes:
    """What Feast stores for a value."""
    if value is not None and dtype is DType.TIMESTAMP:
        return Value(unix_timestamp_val=value // 1_000_000).SerializeToString()
    if value is not None and dtype is DType.TIMESTAMP_LIST:
        seconds = [-(2**63) if one is None else one // 1_000_000 for one in value]
        return Value(unix_timestamp_list_val=messages.Int64List(val=seconds)).SerializeToString()
    return to_value(value, dtype, "a").SerializeToString()


def view_of(**types: DType) -> tuple[FeatureView, pa.Schema]:
    source = ParquetSource("events", path="events.parquet", event_time="at")
    view = FeatureView("v", entity=Entity("id"), source=source, features=list(types))
    return view, pa.schema([(name, arrow_type(dtype)) for name, dtype in types.items()])


def rows_of(**types: DType) -> FeastRows:
    view, schema = view_of(**types)
    return FeastForm().rows(view, schema, list(types))


def test_every_type_that_a_feature_can_have_is_read():
    assert set(VALUES) == set(DType)


@given(TYPED)
def test_values_are_read_as_protobuf_reads_them(typed):
    dtype, values = typed
    data = [stored(value, dtype) for value in values]
    expected = [from_value(Value.FromString(one)) for one in data]
    assert expected == values
    block = rows_of(a=dtype).block([(b"", one) for one in data])
    assert block.columns == [values]
    assert [type(one) for one in block.columns[0]] == [type(one) for one in expected]
    assert bool(block.nulls) == (None in values)


@given(st.lists(st.floats(width=32), min_size=30, max_size=60), st.lists(INT64, min_size=70, max_size=90))
def test_numbers_read_at_once_are_those_read_one_by_one(floats, integers):
    for dtype, values in ((DType.FLOAT32, floats), (DType.INT64, integers)):
        data = [stored(value, dtype) for value in values]
        read = value_reader(dtype)
        together = numbers_reader(dtype).read(data)
        assert struct.pack(f"{len(values)}d", *together) == struct.pack(f"{len(values)}d", *map(read, data))


@given(st.lists(INT64, max_size=60))
def test_packed_integers_of_any_length_are_read(values):
    data = messages.Int64List(val=values).SerializeToString()
    assert (
        value_reader(DType.INT64_LIST)(
            Value(int64_list_val=messages.Int64List.FromString(data)).SerializeToString()
        )
        == values
    )


@given(st.binary(min_size=1, max_size=40), st.sampled_from(list(DType)))
def test_bytes_that_are_no_value_are_refused_and_never_end_in_another_error(data, dtype):
    try:
        found = value_reader(dtype)(data)
    except ValueError:
        return
    try:
        truth = Value.FromString(data)
    except Exception:  # what protobuf refuses, too
        pytest.fail(f"protobuf refuses what was read as {found!r}")
    assert truth.WhichOneof("val") is not None


@given(TYPED)
def test_a_value_that_is_cut_off_is_refused(typed):
    dtype, values = typed
    for value in values:
        data = stored(value, dtype)
        for size in range(1, min(len(data), 12)):
            with pytest.raises(ValueError, match=r"its bytes|no more|invalid|unpack"):
                value_reader(dtype)(data[:size])


@given(
    st.sampled_from([dtype for dtype in DType if numbers_reader(dtype)]).flatmap(
        lambda dtype: st.tuples(st.just(dtype), st.lists(VALUES[dtype], min_size=100, max_size=100))
    ),
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=2),
    st.integers(0, 98),
)
def test_among_many_numbers_damage_is_never_read_as_something_else(typed, damage, at):
    dtype, values = typed
    data = [stored(value, dtype) for value in values]
    data[at : at + len(damage)] = damage
    assert len(data) == 100
    read = value_reader(dtype)
    try:
        expected = [read(one) for one in data]
    except ValueError:
        with pytest.raises(StoreError, match="cannot be read"):
            rows_of(a=dtype).block([(b"", one) for one in data])
    else:
        assert rows_of(a=dtype).block([(b"", one) for one in data]).columns == [expected]


def test_damaged_lists_and_maps_are_refused():
    for dtype, number, payload in (
        (DType.FLOAT64_LIST, 15, b"\x0a\x07" + b"\0" * 7),
        (DType.FLOAT64_LIST, 15, b"\x08\x01"),
        (DType.STRING_LIST, 12, b"\x0a\x01\xff"),
        (DType.MAP, 20, b"\x0a\x02\x18\x01"),
        (DType.MAP, 20, b"\x0a\x05\x0a\x01"),
    ):
        tag = number << 3 | 2
        begin = bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])
        with pytest.raises(StoreError, match="cannot be read"):
            rows_of(a=dtype).block([(b"", begin + bytes([len(payload)]) + payload)])


def test_no_rows_are_no_values():
    assert rows_of(a=DType.INT64, b=DType.STRING).block([]) == ([[], []], None, 0)


def test_a_nan_and_infinities_are_values():
    values = [math.nan, math.inf, -math.inf] * 20
    [found] = rows_of(a=DType.FLOAT64).block([(b"", stored(one, DType.FLOAT64)) for one in values]).columns
    assert np.array_equal(found, values, equal_nan=True)


def test_null_val_and_a_null_time_are_null():
    null = Value(null_val=messages.NULL).SerializeToString()
    assert rows_of(a=DType.STRING).block([(b"", null)]).columns == [[None]]
    times = [Value(unix_timestamp_val=-(2**63)).SerializeToString()] * 100
    assert rows_of(a=DType.TIMESTAMP).block([(b"", one) for one in times]).columns == [[None] * 100]


def test_json_time_uuids_and_narrower_numbers_are_held_by_their_types():
    uuid = UUID(int=7)
    for dtype, value, expected in (
        (DType.STRING, Value(json_val='{"a": 1}'), '{"a": 1}'),
        (DType.UUID, Value(time_uuid_val=str(uuid)), uuid),
        (DType.INT64, Value(int32_val=-5), -5),
        (DType.FLOAT64, Value(float_val=0.5), 0.5),
    ):
        data = value.SerializeToString()
        assert rows_of(a=dtype).block([(b"", data)]).columns == [[expected]]
        assert rows_of(a=dtype).block([(b"", data)] * 100).columns == [[expected] * 100]


@pytest.mark.parametrize("n", [1, 100])
def test_a_value_of_another_type_is_refused_with_both_types(n):
    rows = rows_of(a=DType.FLOAT64)
    good = (b"", stored(1.0, DType.FLOAT64))
    bad = (b"", stored("UA", DType.STRING))
    with pytest.raises(StoreError, match=r'feature "a".*of type string.*float64'):
        rows.block([good] * (n - 1) + [bad])
    with pytest.raises(StoreError, match="of type number 44"):
        rows.block([(b"", Value(decimal_val="1.5").SerializeToString())])


def test_two_values_in_one_and_a_map_of_numbers_are_refused():
    twice = stored(1.0, DType.FLOAT64) * 2
    for n in (1, 100):
        with pytest.raises(StoreError, match="hold 2 values"):
            rows_of(a=DType.FLOAT64).block([(b"", twice)] * n)
    numbers = Value(map_val=messages.Map(val={"a": Value(int64_val=1)})).SerializeToString()
    with pytest.raises(StoreError, match="of type int64"):
        rows_of(a=DType.MAP).block([(b"", numbers)])


def test_a_varint_without_an_end_is_refused():
    for read in (lambda data: varint(data, 0), varints, numbers_of):
        with pytest.raises(ValueError, match="its bytes"):
            read(b"\xff" * 11 + b"\x01")
        with pytest.raises(ValueError, match="cut off"):
            read(b"\x01\xff"[1:])


def test_rows_of_many_types_keep_their_columns_apart():
    types = {f"f{i}": dtype for i, dtype in enumerate([*DType, *DType])}
    rng = np.random.default_rng(5)
    samples = {
        DType.BOOL: True, DType.INT64: -3, DType.INT32: 3, DType.FLOAT64: 0.5, DType.FLOAT32: 0.25,
        DType.STRING: "x", DType.BYTES: b"x", DType.TIMESTAMP: 5_000_000, DType.UUID: UUID(int=1),
        DType.BOOL_LIST: [True], DType.INT64_LIST: [1], DType.INT32_LIST: [1, 2], DType.FLOAT64_LIST: [0.5],
        DType.FLOAT32_LIST: [], DType.STRING_LIST: ["a"], DType.BYTES_LIST: [b"a"],
        DType.TIMESTAMP_LIST: [1_000_000], DType.MAP: {"a": "b"},
    }  # fmt: skip
    table = [[None if rng.random() < 0.2 else samples[dtype] for dtype in types.values()] for _ in range(80)]
    rows = [
        (b"", *(stored(one, dtype) for one, dtype in zip(row, types.values(), strict=True))) for row in table
    ]
    block = rows_of(**types).block(rows)
    assert block.columns == [list(column) for column in zip(*table, strict=True)]
    assert block.nulls == sum(1 << i for i, column in enumerate(block.columns) if None in column)


def test_a_feature_that_a_row_has_no_field_for_is_null_and_a_row_without_time_is_absent():
    rows = rows_of(a=DType.INT64, b=DType.STRING)
    assert rows.absent([(None, None, None), (b"", b"", None), (b"\x08\x01", None, b"")]) == [0]
    assert rows.block([(b"", b"", None)] * 50).columns == [[None] * 50] * 2


@given(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),
    st.integers(0, 999),
)
def test_times_are_read_to_the_microsecond(moment, nanoseconds):
    stamp = Timestamp()
    stamp.FromDatetime(moment.replace(tzinfo=UTC))
    expected = stamp.ToMicroseconds()
    stamp.nanos += nanoseconds
    assert time_of(stamp.SerializeToString()) == expected


def test_a_time_that_cannot_be_read_is_refused_and_no_bytes_are_the_epoch():
    rows = rows_of(a=DType.INT64)
    assert rows.times([(b"",), (b"\x08\x01",)]) == [0, 1_000_000]
    with pytest.raises(StoreError, match="event time"):
        rows.times([(b"\x08",)])
    with pytest.raises(StoreError, match="event time"):
        rows.times([(b"\x1a\x00",)])


@given(st.binary(max_size=64))
def test_murmur3_is_that_of_the_package_that_feast_uses(data):
    assert murmur3(data) == mmh3.hash(data, signed=False).to_bytes(4, "little")


def test_fields_are_named_as_feast_names_them():
    assert fields_of("carrier_delay", ["mean", "größe"]) == [
        b"_ts:carrier_delay",
        _mmh3("carrier_delay:mean"),
        _mmh3("carrier_delay:größe"),
    ]


KEYS = {
    DType.INT64: (INT64, "int64_val"),
    DType.INT32: (INT32, "int32_val"),
    DType.STRING: (TEXT, "string_val"),
    DType.BYTES: (st.binary(max_size=50), "bytes_val"),
}
KEY = st.lists(
    st.sampled_from(list(KEYS)).flatmap(lambda dtype: st.tuples(st.just(dtype), KEYS[dtype][0])),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore:Serialization of entity key")
@given(parts=KEY, names=st.permutations(["b", "a", "größe", "Z"]))
def test_keys_are_spelt_as_feast_spells_them(version, parts, names):
    columns = [(name, dtype) for name, (dtype, _) in zip(names, parts, strict=False)]
    message = EntityKey(
        join_keys=[name for name, _ in columns],
        entity_values=[Value(**{KEYS[dtype][1]: value}) for dtype, value in parts],
    )
    encode = FeastForm(version).key_encoder(columns)
    expected = serialize_entity_key(message, entity_key_serialization_version=version)
    assert encode([value for _, value in parts]) == expected


def test_a_view_without_an_entity_has_feasts_own_key():
    message = EntityKey(join_keys=["__dummy_id"], entity_values=[Value(string_val="")])
    assert key_encoder([])(()) == serialize_entity_key(message, entity_key_serialization_version=3)


def test_a_number_that_is_no_int32_is_refused_where_the_column_is():
    encode = key_encoder([("id", DType.INT32)])
    with pytest.raises(ServeError, match=r'"id" was given 2147483648.*int32'):
        encode([2**31])


@pytest.mark.parametrize("dtype", [DType.UUID, DType.TIMESTAMP, DType.FLOAT64])
def test_a_key_of_a_type_that_feast_has_no_key_for_is_refused(dtype):
    with pytest.raises(StoreError, match=f'"id" is {dtype}'):
        key_encoder([("id", dtype)])


def test_another_spelling_of_keys_is_refused():
    with pytest.raises(ConfigError, match=r"entity_key_serialization_version is 1.*2 or 3"):
        FeastForm(1)


def test_a_feature_without_a_type_is_refused():
    view, schema = view_of(a=DType.INT64)
    with pytest.raises(StoreError, match=r'no type for feature "aa".*"a"'):
        FeastForm().rows(view, schema, ["aa"])


def test_how_long_reading_takes_is_shown(record_property):
    n, k, told = 100, 50, []
    for dtype, sample in (
        (DType.FLOAT64, 0.1),
        (DType.INT64, 123_456),
        (DType.STRING, "EWR"),
        (DType.FLOAT64, None),
    ):
        rows = rows_of(**{f"f{i}": dtype for i in range(k)})
        row = (b"\x08\xc0\xc4\x07", *[stored(sample, dtype)] * k)
        for count in (1, n):
            many = [row] * count
            best = math.inf
            for _ in range(5):
                started = time.perf_counter()
                block = rows.block(many)
                best = min(best, time.perf_counter() - started)
            assert block.columns[0] == [sample] * count
            what = "nulls" if sample is None else dtype
            told.append(f"{count} x {k} {what}: {best * 1e6 / count / k:.3f} us a value")
    record_property("figures", "\n".join(told))
