"""The form that a column has everywhere inside, whatever file, database or expression it came from.

Dictionaries are decoded, times and dates are microseconds in UTC (nanoseconds floored, naive times are UTC),
narrow integers are int32, other integers int64, decimals float64. Nulls stay nulls, rows stay in their order.
"""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.types import TIME

__all__ = ["settled", "settled_schema", "settled_table", "settled_type", "without_nan"]

_MOST_TEXT = 2**31 - 1
"""Bytes that one array of strings can hold."""


def settled_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that columns of an Arrow type have inside; types that no feature can have stay."""
    if pa.types.is_dictionary(kind):
        return settled_type(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(settled_type(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(settled_type(kind.key_type), settled_type(kind.item_type))
    return next((target for matches, target in _TARGETS if matches(kind)), kind)


def settled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bring a column to the form that it has inside.

    Args:
        column: Any Arrow column, shape (n,).

    Returns:
        The same values in ``settled_type``, shape (n,).

    Raises:
        pa.ArrowInvalid: A value does not fit, such as an unsigned integer above 2**63 - 1.
    """
    kind = column.type
    target = settled_type(kind)
    if kind == target:
        return column
    if pa.types.is_dictionary(kind):
        pieces = [piece for chunk in column.chunks for piece in _cut(chunk, _decoded_bytes(chunk))]
        return settled(pa.chunked_array(pieces, type=kind).cast(kind.value_type))
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return _floored(column)
    if pa.types.is_list(target) and kind.value_type != target.value_type:
        return pa.chunked_array([_settled_lists(chunk) for chunk in column.chunks], type=target)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return settled(column.cast(pa.large_string() if target == pa.string() else pa.large_binary()))
    if target in (pa.string(), pa.binary()) and not pa.types.is_fixed_size_binary(kind):
        pieces = [piece for chunk in column.chunks for piece in _cut(chunk, _text_bytes(chunk))]
        return pa.chunked_array(pieces, type=kind).cast(target)
    return column.cast(target)


def settled_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the types that its columns have inside, all nullable, without metadata."""
    return pa.schema([pa.field(field.name, settled_type(field.type)) for field in schema])


def settled_table(table: pa.Table) -> pa.Table:
    """Bring all columns of a table to the form that they have inside."""
    return pa.table([settled(column) for column in table.columns], schema=settled_schema(table.schema))


def without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn the NaNs of a floating column into nulls; other columns stay as they are."""
    if not pa.types.is_floating(column.type):
        return column
    total = pc.sum(column).as_py()
    if total is None or not math.isnan(total):
        return column  # a NaN anywhere would be in the sum, which costs less than to look at each value
    nan = pc.fill_null(pc.is_nan(column), False)
    return pc.if_else(nan, pa.scalar(None, column.type), column)


def _floored(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # A cast truncates towards zero, which moves times before 1970 into the future.
    numbers = column.cast(pa.int64())
    down = pc.divide(numbers, 1_000)
    below = pc.greater(pc.multiply(down, 1_000), numbers)
    return pc.subtract(down, below.cast(pa.int64())).cast(pa.timestamp("us")).cast(TIME)


def _cut(chunk: pa.Array, size: int) -> list[pa.Array]:
    """Cut an array so that the text of each piece fits, as the offsets of strings end at 2 GiB."""
    if size <= _MOST_TEXT or len(chunk) < 2:
        return [chunk]
    half = len(chunk) // 2
    sizes = _decoded_bytes if pa.types.is_dictionary(chunk.type) else _text_bytes
    return [piece for one in (chunk[:half], chunk[half:]) for piece in _cut(one, sizes(one))]


def _text_bytes(chunk: pa.Array) -> int:
    return pc.sum(pc.binary_length(chunk).cast(pa.int64())).as_py() or 0


def _decoded_bytes(chunk: pa.DictionaryArray) -> int:
    """At most: as if every row were the longest value."""
    if not (_is_text(chunk.type.value_type) and len(chunk.dictionary)):
        return 0
    return (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) * len(chunk)


def _is_text(kind: pa.DataType) -> bool:
    return settled_type(kind) in (pa.string(), pa.binary())


def _settled_lists(chunk: pa.Array) -> pa.Array:
    if not pa.types.is_list(chunk.type):
        chunk = chunk.cast(pa.list_(chunk.type.value_type))
    values = settled(pa.chunked_array([chunk.flatten()])).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array([0, *lengths.cumsum().tolist()], pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=chunk.is_null())


_TARGETS = (
    (lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind), TIME),
    (lambda kind: kind in (pa.int8(), pa.int16(), pa.uint8(), pa.uint16()), pa.int32()),
    (lambda kind: kind in (pa.uint32(), pa.uint64()), pa.int64()),
    (pa.types.is_decimal, pa.float64()),
    (pa.types.is_float16, pa.float32()),
    (lambda kind: pa.types.is_large_string(kind) or pa.types.is_string_view(kind), pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
)
