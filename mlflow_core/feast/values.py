"""Feast's types and protobuf values as ours, and back.

Feast's times are whole seconds: a time is floored to its second when it leaves through Feast, and arrives as
one. A null inside a list has no protobuf form either: it leaves as NaN in lists of floats and is refused in
others. JSON text is kept as text. Feast's own Python conversion is not used for values because it turns nulls
inside lists, maps and times into other values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from feast.protos.feast.types import Value_pb2 as feast_values
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from mlflow_core.config.times import parse_time
from mlflow_core.errors import ServeError, StoreError
from mlflow_core.spec import DType

__all__ = ["dtype_of_feast", "from_value", "to_value"]

_SECOND = 1_000_000
_NULL_TIME = -(2**63)

_DTYPES: dict[ValueType, DType] = {
    ValueType.BOOL: DType.BOOL,
    ValueType.INT64: DType.INT64,
    ValueType.INT32: DType.INT32,
    ValueType.DOUBLE: DType.FLOAT64,
    ValueType.FLOAT: DType.FLOAT32,
    ValueType.STRING: DType.STRING,
    ValueType.JSON: DType.STRING,
    ValueType.BYTES: DType.BYTES,
    ValueType.PDF_BYTES: DType.BYTES,
    ValueType.IMAGE_BYTES: DType.BYTES,
    ValueType.UNIX_TIMESTAMP: DType.TIMESTAMP,
    ValueType.UUID: DType.UUID,
    ValueType.TIME_UUID: DType.UUID,
    ValueType.BOOL_LIST: DType.BOOL_LIST,
    ValueType.INT64_LIST: DType.INT64_LIST,
    ValueType.INT32_LIST: DType.INT32_LIST,
    ValueType.DOUBLE_LIST: DType.FLOAT64_LIST,
    ValueType.FLOAT_LIST: DType.FLOAT32_LIST,
    ValueType.STRING_LIST: DType.STRING_LIST,
    ValueType.BYTES_LIST: DType.BYTES_LIST,
    ValueType.UNIX_TIMESTAMP_LIST: DType.TIMESTAMP_LIST,
    ValueType.MAP: DType.MAP,
}
_FIELDS: dict[DType, str] = {
    DType.BOOL: "bool_val",
    DType.INT64: "int64_val",
    DType.INT32: "int32_val",
    DType.FLOAT64: "double_val",
    DType.FLOAT32: "float_val",
    DType.STRING: "string_val",
    DType.BYTES: "bytes_val",
}
_LISTS: dict[DType, tuple[str, Callable[..., Any]]] = {
    DType.BOOL_LIST: ("bool_list_val", feast_values.BoolList),
    DType.INT64_LIST: ("int64_list_val", feast_values.Int64List),
    DType.INT32_LIST: ("int32_list_val", feast_values.Int32List),
    DType.FLOAT64_LIST: ("double_list_val", feast_values.DoubleList),
    DType.FLOAT32_LIST: ("float_list_val", feast_values.FloatList),
    DType.STRING_LIST: ("string_list_val", feast_values.StringList),
    DType.BYTES_LIST: ("bytes_list_val", feast_values.BytesList),
}


def dtype_of_feast(column: str, kind: Any) -> DType:
    """Return our type for a Feast field's.

    Args:
        column: The field's name, for the error.
        kind: Its Feast type.

    Raises:
        StoreError: There is no type of ours that holds it.
    """
    value_type = kind.to_value_type()
    if value_type not in _DTYPES:
        raise StoreError(
            f'column "{column}" has Feast type {kind}, which the packed online store cannot hold',
            expected=", ".join(sorted(one.name for one in _DTYPES)),
        )
    return _DTYPES[value_type]


def to_value(value: Any, dtype: DType, column: str) -> Value:
    """Return a value as Feast's protobuf.

    Args:
        value: As ``online.answer`` gives it; None becomes the value that is not set.
        dtype: Its type.
        column: Its column, for the error.

    Raises:
        ServeError: A list with a null, which Feast's protobuf cannot say.
    """
    if value is None:
        return Value()
    if dtype in _FIELDS:
        return Value(**{_FIELDS[dtype]: value})
    if dtype is DType.TIMESTAMP:
        return Value(unix_timestamp_val=_seconds(value))
    if dtype is DType.UUID:
        return Value(uuid_val=str(value))
    if dtype is DType.MAP:
        entries = {key: Value() if item is None else Value(string_val=item) for key, item in value.items()}
        return Value(map_val=feast_values.Map(val=entries))
    if dtype in (DType.FLOAT64_LIST, DType.FLOAT32_LIST):
        value = [math.nan if item is None else item for item in value]
    elif None in value:
        raise ServeError(
            f'"{column}" holds a list with a null, which Feast\'s values cannot carry',
            hint="Read it through mlcore serve or the client, which can.",
        )
    if dtype is DType.TIMESTAMP_LIST:
        return Value(unix_timestamp_list_val=feast_values.Int64List(val=map(_seconds, value)))
    field, made = _LISTS[dtype]
    return Value(**{field: made(val=value)})


def from_value(value: Value) -> Any:
    """Return Feast's protobuf value as Python's.

    Returns:
        None where it is not set; times as int microseconds since epoch, UTC; maps as dicts of strings.

    Raises:
        StoreError: A value of a kind that we do not hold, or a map whose values are no strings.
    """
    field = value.WhichOneof("val")
    if field is None or field == "null_val":
        return None
    held = getattr(value, field)
    if field == "unix_timestamp_val":
        return None if held == _NULL_TIME else held * _SECOND
    if field == "unix_timestamp_list_val":
        return [None if item == _NULL_TIME else item * _SECOND for item in held.val]
    if field in ("uuid_val", "time_uuid_val"):
        return UUID(held)
    if field == "map_val":
        return {key: _text(item) for key, item in held.val.items()}
    if field == "json_val" or field in _FIELDS.values():
        return held
    if field in {name for name, _ in _LISTS.values()}:
        return list(held.val)
    raise StoreError(f"a Feast value of kind {field} cannot be stored here")


def _seconds(moment: datetime) -> int:
    return parse_time(moment) // _SECOND


def _text(item: Value) -> str | None:
    kind = item.WhichOneof("val")
    if kind is None:
        return None
    if kind != "string_val":
        raise StoreError(f"a map holds a value of kind {kind}", expected="strings")
    return str(item.string_val)
