"""Feast's values as ours and back: what has no counterpart is refused by name."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from feast.protos.feast.types import Value_pb2
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Decimal, Int32, Json, Set, String, Uuid
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.errors import ServeError, StoreError
from mlflow_core.feast.values import dtype_of_feast, from_value, to_value
from mlflow_core.plan.to_feast import feast_type
from mlflow_core.spec import DType

MOMENT = datetime(2013, 1, 1, 5, tzinfo=UTC)
SECONDS = st.integers(-(2**33), 2**33)
ITEMS = {
    DType.BOOL: st.booleans(),
    DType.INT64: st.integers(-(2**63), 2**63 - 1),
    DType.INT32: st.integers(-(2**31), 2**31 - 1),
    DType.FLOAT64: st.floats(allow_nan=False),
    DType.FLOAT32: st.floats(width=32, allow_nan=False),
    DType.STRING: st.text(max_size=9),
    DType.BYTES: st.binary(max_size=9),
    DType.UUID: st.uuids(),
    DType.MAP: st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=4), max_size=4),
}


@given(st.data())
def test_every_value_that_feast_can_say_comes_back(data):
    dtype = data.draw(st.sampled_from([one for one in DType if one.item is not DType.TIMESTAMP]))
    item = ITEMS[dtype.item]
    value = data.draw(st.none() | (item if dtype.item is dtype else st.lists(item, max_size=6)))
    assert from_value(to_value(value, dtype, "x")) == value


def test_every_type_of_ours_has_feasts_type_and_comes_back():
    assert {dtype: dtype_of_feast("x", feast_type(dtype)) for dtype in DType} == {
        dtype: dtype for dtype in DType
    }
    assert dtype_of_feast("x", Json) is DType.STRING
    assert dtype_of_feast("x", Int32) is DType.INT32


@given(SECONDS)
def test_times_are_whole_seconds_in_feast_and_microseconds_here(seconds):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=999_999)
    value = to_value(moment, DType.TIMESTAMP, "x")
    assert value.unix_timestamp_val == seconds
    assert from_value(value) == seconds * 1_000_000
    assert from_value(to_value([moment], DType.TIMESTAMP_LIST, "x")) == [seconds * 1_000_000]


def test_feasts_null_times_are_null():
    assert from_value(Value(unix_timestamp_val=-(2**63))) is None
    assert from_value(Value(unix_timestamp_list_val=Value_pb2.Int64List(val=[-(2**63), 1]))) == [
        None,
        1_000_000,
    ]
    assert from_value(Value()) is None
    assert from_value(Value(null_val=Value_pb2.NULL)) is None


def test_uuids_of_both_kinds_are_uuids():
    assert (
        from_value(Value(time_uuid_val=str(UUID(int=5))))
        == from_value(Value(uuid_val=str(UUID(int=5))))
        == UUID(int=5)
    )
    assert dtype_of_feast("x", Uuid) is DType.UUID


def test_a_null_in_a_list_of_floats_leaves_as_nan_and_in_others_is_refused():
    (value,) = from_value(to_value([None], DType.FLOAT64_LIST, "x"))
    assert math.isnan(value)
    with pytest.raises(ServeError, match='"x" holds a list with a null'):
        to_value(["a", None], DType.STRING_LIST, "x")


@pytest.mark.parametrize("kind", [Set(String), Decimal, Array(Uuid)])
def test_a_type_that_cannot_be_stored_is_named(kind):
    with pytest.raises(
        StoreError, match=r'column "x" has Feast type .* which the packed online store cannot hold'
    ):
        dtype_of_feast("x", kind)


def test_values_that_cannot_be_stored_are_named():
    with pytest.raises(StoreError, match="value of kind decimal_val"):
        from_value(Value(decimal_val="1.5"))
    inner = Value_pb2.Map(val={"a": Value(int64_val=1)})
    with pytest.raises(StoreError, match="a map holds a value of kind int64_val"):
        from_value(Value(map_val=inner))
