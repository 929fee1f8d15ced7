"""The form that columns have inside, whatever they came from."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from mlflow_core.algebra.columns import settled, settled_table, settled_type, without_nan
from mlflow_core.algebra.types import TIME


def one(array: pa.Array) -> pa.ChunkedArray:
    return settled(pa.chunked_array([array]))


def test_nanoseconds_are_floored_also_before_1970() -> None:
    made = one(pa.array([1_999, -1, -1_000, None], pa.timestamp("ns")))
    assert made.cast(pa.int64()).to_pylist() == [1, -1, -1, None]
    assert made.type == TIME


def test_a_time_elsewhere_is_the_same_moment_in_utc_and_a_naive_one_is_utc() -> None:
    noon = dt.datetime(2013, 1, 1, 12)
    elsewhere = pa.array([noon.replace(tzinfo=dt.UTC)], pa.timestamp("ms", tz="America/New_York"))
    assert one(elsewhere).to_pylist() == [noon.replace(tzinfo=dt.UTC)]
    assert one(pa.array([noon], pa.timestamp("s"))).to_pylist() == [noon.replace(tzinfo=dt.UTC)]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array(["a", None]).dictionary_encode(), pa.string()),
        (pa.array([1], pa.int8()), pa.int32()),
        (pa.array([1], pa.uint32()), pa.int64()),
        (pa.array([Decimal("1.25")]), pa.float64()),
        (pa.array(["a"], pa.large_string()), pa.string()),
        (pa.array([b"ab"], pa.binary(2)), pa.binary()),
        (pa.array([dt.date(2013, 1, 1)]), TIME),
        (pa.array([[1, None], None, []], pa.large_list(pa.int8())), pa.list_(pa.int32())),
    ],
)
def test_values_survive_the_change_of_type(array: pa.Array, kind: pa.DataType) -> None:
    made = one(array)
    assert made.type == kind == settled_type(array.type)
    if kind != TIME:
        assert [float(v) if isinstance(v, Decimal) else v for v in array.to_pylist()] == made.to_pylist()


def test_lists_cut_out_of_a_longer_array_keep_their_items() -> None:
    lists = pa.array([[9, 9], [1, 2], None, [3]], pa.list_(pa.int16())).slice(1)
    assert one(lists).to_pylist() == [[1, 2], None, [3]]


def test_a_number_too_large_for_int64_is_an_error() -> None:
    with pytest.raises(pa.ArrowInvalid):
        one(pa.array([2**64 - 1], pa.uint64()))


def test_nans_become_nulls_and_other_columns_are_left_alone() -> None:
    floats = pa.chunked_array([pa.array([1.0, float("nan"), None])])
    assert without_nan(floats).to_pylist() == [1.0, None, None]
    names = pa.chunked_array([pa.array(["nan"])])
    assert without_nan(names) is names


def test_a_table_keeps_its_names_and_rows() -> None:
    made = settled_table(
        pa.table({"b": pa.array([2, 1], pa.int8()), "a": pa.array(["x", "y"]).dictionary_encode()})
    )
    assert made.to_pydict() == {"b": [2, 1], "a": ["x", "y"]}
