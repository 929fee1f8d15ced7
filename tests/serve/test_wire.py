"""How values go into JSON and come back: nothing is lost, nothing is guessed."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.serve.wire import column_writer, read_text, read_value
from mlflow_core.spec import DType

MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
VALUES: dict[DType, st.SearchStrategy[Any]] = {
    DType.BOOL: st.booleans(),
    DType.INT64: st.integers(-(2**63), 2**63 - 1),
    DType.INT32: st.integers(-(2**31), 2**31 - 1),
    DType.FLOAT64: st.floats(),
    DType.FLOAT32: st.floats(width=32),
    DType.STRING: st.text(),
    DType.BYTES: st.binary(),
    DType.TIMESTAMP: MOMENTS,
    DType.UUID: st.uuids(),
    DType.MAP: st.dictionaries(st.text(), st.none() | st.text()),
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other) and type(one) is type(other)


@given(st.data())
@pytest.mark.parametrize("dtype", list(DType))
def test_what_is_written_is_read_back_the_same(dtype: DType, data: st.DataObject) -> None:
    one = st.none() | VALUES[dtype.item]
    values = data.draw(st.lists(one if dtype.item is dtype else st.none() | st.lists(one)))

    write = column_writer(dtype)
    sent = orjson.loads(orjson.dumps(values if write is None else write(values)))
    back = [read_value(value, dtype) for value in sent]

    assert same(back, values)


@pytest.mark.parametrize(
    ("value", "dtype", "read"),
    [
        (3.0, DType.INT64, 3),
        ("9223372036854775807", DType.INT64, 2**63 - 1),
        (3, DType.FLOAT64, 3.0),
        ("NaN", DType.FLOAT64, math.nan),
        ("2024-01-10", DType.TIMESTAMP, datetime(2024, 1, 10, tzinfo=UTC)),
        ("2024-01-10T12:00:00+02:00", DType.TIMESTAMP, datetime(2024, 1, 10, 10, tzinfo=UTC)),
        (1_000_000, DType.TIMESTAMP, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("{12345678123456781234567812345678}", DType.UUID, UUID("12345678123456781234567812345678")),
        ([1, None], DType.INT64_LIST, [1, None]),
        (None, DType.STRING, None),
    ],
)
def test_other_ways_of_writing_a_value_are_read(value: Any, dtype: DType, read: Any) -> None:
    assert same(read_value(value, dtype), read)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, DType.BOOL),
        (True, DType.INT64),
        (1.5, DType.INT64),
        (1e300, DType.INT64),
        (2**63, DType.INT64),
        (2**31, DType.INT32),
        ("1.0", DType.INT64),
        ("1_0", DType.INT64),
        (" 1", DType.INT64),
        ("\u0661", DType.INT64),
        ("9" * 5000, DType.INT64),
        ("1.0", DType.FLOAT64),
        (False, DType.FLOAT64),
        (1, DType.STRING),
        ("yesterday", DType.TIMESTAMP),
        (1.5, DType.TIMESTAMP),
        (10**18, DType.TIMESTAMP),
        ("0001-01-01T00:00:00+14:00", DType.TIMESTAMP),
        ("9999-12-31T23:59:59-14:00", DType.TIMESTAMP),
        ("not base64!", DType.BYTES),
        ("1234", DType.UUID),
        (["a"], DType.INT64_LIST),
        ("a", DType.STRING_LIST),
        ({"a": 1}, DType.MAP),
        ([], DType.MAP),
    ],
)
def test_a_value_of_another_type_is_no_value(value: Any, dtype: DType) -> None:
    with pytest.raises(ValueError):
        read_value(value, dtype)


@pytest.mark.parametrize(
    ("text", "dtype", "read"),
    [
        ("", DType.INT64, None),
        ("true", DType.BOOL, True),
        ("7", DType.INT64, 7),
        ("7", DType.STRING, "7"),
        ("-1.5e3", DType.FLOAT64, -1500.0),
        ("Infinity", DType.FLOAT64, math.inf),
        ("2024-01-10T10:30Z", DType.TIMESTAMP, datetime(2024, 1, 10, 10, 30, tzinfo=UTC)),
        ('["a", "b"]', DType.STRING_LIST, ["a", "b"]),
        ('{"a": "b"}', DType.MAP, {"a": "b"}),
    ],
)
def test_words_of_a_command_line_are_read_by_the_columns_type(text: str, dtype: DType, read: Any) -> None:
    assert same(read_text(text, dtype), read)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("yes", DType.BOOL),
        ("1.5", DType.INT64),
        ("ten", DType.FLOAT64),
        ("inf", DType.FLOAT64),
        ("[1", DType.INT64_LIST),
    ],
)
def test_a_word_of_another_type_is_no_value(text: str, dtype: DType) -> None:
    with pytest.raises(ValueError):
        read_text(text, dtype)
