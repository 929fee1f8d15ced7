"""The one mapping between the types that specs name and Arrow's."""

from __future__ import annotations

import functools

import pyarrow as pa

from mlflow_core.errors import SourceError
from mlflow_core.spec import DType

__all__ = ["TIME", "arrow_type", "dtype_of_arrow"]

TIME = pa.timestamp("us", tz="UTC")

_ARROW: dict[DType, pa.DataType] = {
    DType.BOOL: pa.bool_(),
    DType.INT64: pa.int64(),
    DType.INT32: pa.int32(),
    DType.FLOAT64: pa.float64(),
    DType.FLOAT32: pa.float32(),
    DType.STRING: pa.string(),
    DType.BYTES: pa.binary(),
    DType.TIMESTAMP: TIME,
    DType.UUID: pa.uuid(),
    DType.MAP: pa.map_(pa.string(), pa.string()),
}


def arrow_type(dtype: DType) -> pa.DataType:
    """Return the Arrow type that columns of a spec's type have."""
    return pa.list_(_ARROW[dtype.item]) if dtype.item is not dtype else _ARROW[dtype]


def dtype_of_arrow(column: str, kind: pa.DataType) -> DType:
    """Return the spec's type for an Arrow type; narrower numbers and dictionaries go to the type that holds them.

    Args:
        column: The column's name, for the error.
        kind: Its Arrow type.

    Raises:
        SourceError: No feature can have this type.
    """
    dtype = _dtype(kind)
    if dtype is not None:
        return dtype
    raise SourceError(
        f'column "{column}" has type {kind}, which no feature can have',
        expected=", ".join(DType),
        hint="Convert it with an SQL expression in the view's columns.",
    )


@functools.lru_cache(maxsize=256)
def _dtype(kind: pa.DataType) -> DType | None:
    """The spec's type, or None where no feature can have it; the server asks for each column of each answer."""
    if pa.types.is_dictionary(kind):
        return _dtype(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _dtype(kind.value_type)
        return None if item is None else item.list
    return next((dtype for matches, dtype in _MATCHES if matches(kind)), None)


def _is_int32(kind: pa.DataType) -> bool:
    return kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16())


def _is_map_of_strings(kind: pa.DataType) -> bool:
    return bool(pa.types.is_map(kind)) and kind.key_type == pa.string() and kind.item_type == pa.string()


_MATCHES = (
    (pa.types.is_boolean, DType.BOOL),
    (_is_int32, DType.INT32),
    (pa.types.is_integer, DType.INT64),
    (lambda kind: kind in (pa.float16(), pa.float32()), DType.FLOAT32),
    (lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind), DType.FLOAT64),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), DType.STRING),
    (lambda kind: kind == pa.uuid(), DType.UUID),
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), DType.BYTES),
    (lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind), DType.TIMESTAMP),
    (_is_map_of_strings, DType.MAP),
)
