"""Keys as bytes: one canonical, collision-free spelling of an entity's key values, the same for every path in.

Each value is written with its type and, where it varies, its length, so that ("a", "bc") and ("ab", "c"), or 1
and "1", never meet. Integers of any width are one type. What type a key column has is decided by its schema,
not by the value that someone sent: ``key_value`` checks a sent value against it.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import StoreError, nearest
from mlflow_core.spec import DType

__all__ = [
    "KEY_TYPES",
    "PlainSpeller",
    "decode_key",
    "encode_key",
    "encode_keys",
    "key_records",
    "key_value",
    "plain_speller",
    "shortened",
    "shown",
]

KEY_TYPES = (DType.INT64, DType.INT32, DType.STRING, DType.BYTES, DType.UUID)
_INT, _STRING, _BYTES, _UUID = b"\x01", b"\x02", b"\x03", b"\x04"
_INT64 = struct.Struct(">q")
_LENGTH = struct.Struct(">I")
_INT_KEY = struct.Struct(">cq")
_SIZED_KEY = struct.Struct(">cI")


def encode_key(values: Sequence[int | str | bytes | UUID]) -> bytes:
    """Return the canonical bytes of a key.

    Args:
        values: The key's values in the order of the entity's key columns; none for a view without an entity.

    Raises:
        StoreError: A value is null, or no int64, string, bytes or UUID.

    Example:
        >>> encode_key(("a", "bc")) == encode_key(("ab", "c")), encode_key((1,)) == encode_key(("1",))
        (False, False)
    """
    return b"".join(map(_encoded, values))


def decode_key(key: bytes) -> tuple[int | str | bytes | UUID, ...]:
    """Return a key's values.

    Args:
        key: From ``encode_key``.

    Raises:
        StoreError: The bytes are no key.

    Example:
        >>> decode_key(encode_key((1, "bc")))
        (1, 'bc')
    """
    values: list[int | str | bytes | UUID] = []
    at = 0
    try:
        while at < len(key):
            kind, at = key[at : at + 1], at + 1
            size = {_INT: 8, _UUID: 16}.get(kind)
            if size is None:
                [size] = _LENGTH.unpack_from(key, at)
                at += _LENGTH.size
            part, at = key[at : at + size], at + size
            values.append(_DECODED[kind](part))
    except (struct.error, KeyError, ValueError) as error:
        raise StoreError(f"{len(key)} bytes are no key") from error
    if at > len(key):
        raise StoreError(f"a key of {len(key)} bytes is truncated")
    return tuple(values)


def encode_keys(table: pa.Table, columns: Sequence[str]) -> list[bytes | None]:
    """Return the canonical bytes of each row's key.

    Args:
        table: Rows with the key columns.
        columns: The key columns, in the entity's order.

    Returns:
        One key a row, None where a key column is null; shape (n_rows,).

    Raises:
        StoreError: A key column is missing or cannot be one.
    """
    if not columns:
        return [b""] * table.num_rows
    encoded = [_encoded_column(table, name) for name in columns]
    if len(encoded) == 1:
        return encoded[0]
    return [None if None in parts else b"".join(parts) for parts in zip(*encoded, strict=True)]


def key_records(table: pa.Table, columns: Sequence[str]) -> npt.NDArray[Any] | None:
    """Return the canonical bytes of each row's key side by side, where all of them have one length.

    Args:
        table: Rows with the key columns.
        columns: The key columns, in the entity's order.

    Returns:
        One record a row, whose bytes are what ``encode_keys`` gives; shape (n_rows,). None where a key column is no
        column of integers, or has a null.
    """
    found = [table.column(name) for name in columns if name in table.column_names]
    if not columns or len(found) < len(columns):
        return None
    if any(not pa.types.is_integer(column.type) or column.null_count for column in found):
        return None
    names = [(f"kind{i}", f"value{i}") for i in range(len(found))]
    records = np.empty(
        table.num_rows, [field for kind, value in names for field in ((kind, "S1"), (value, ">i8"))]
    )
    for name, column, (kind, value) in zip(columns, found, names, strict=True):
        records[kind], records[value] = _INT, _integers(name, column).to_numpy(zero_copy_only=False)
    return records


PlainSpeller: TypeAlias = Callable[[Sequence[Any]], "list[bytes] | None"]
"""From sent values of one key column to what ``encode_key`` makes of each; None if any is null, of another type, or out of
range: then ``key_value`` says what it is."""


def plain_speller(dtype: DType) -> PlainSpeller:
    """Return what spells sent values of one key column, if each of them is just what the column's type is in Python.

    Most are, and spelling them together takes a fraction of the time of checking each.

    Args:
        dtype: The column's type.

    Example:
        >>> plain_speller(DType.INT64)([1, 2]) == [encode_key((1,)), encode_key((2,))]
        True
        >>> plain_speller(DType.INT64)([1, None]) is None
        True
    """
    if dtype in (DType.INT64, DType.INT32):
        return _plain_integers
    return _plain_texts if dtype is DType.STRING else _nothing_plain


def _plain_integers(values: Sequence[Any]) -> list[bytes] | None:
    try:
        if len(values) == 1:
            return [_INT_KEY.pack(_INT, values[0])] if values[0].__class__ is int else None
        if set(map(type, values)) == {int}:
            return list(map(_INT_KEY.pack, repeat(_INT), values))
    except struct.error:  # beyond int64
        pass
    return None


def _plain_texts(values: Sequence[Any]) -> list[bytes] | None:
    try:
        if set(map(type, values)) == {str}:
            return [_SIZED_KEY.pack(_STRING, len(data)) + data for data in map(str.encode, values)]
    except UnicodeEncodeError:  # half a character
        pass
    return None


def _nothing_plain(values: Sequence[Any]) -> None:
    del values


def key_value(value: Any, dtype: DType, column: str) -> int | str | bytes | UUID | None:
    """Check a key value that someone sent against its column's type.

    Args:
        value: An int (numpy's too), str, bytes or UUID; a UUID may be sent as text; None is a null key.
        dtype: The key column's type.
        column: The column's name, for the error.

    Raises:
        StoreError: The value is not of the column's type.
    """
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if dtype in (DType.INT64, DType.INT32) and type(value) is int and -(2**63) <= value < 2**63:
        return value
    if dtype is DType.STRING and isinstance(value, str) and _is_text(value):
        return value
    if dtype is DType.BYTES and isinstance(value, bytes):
        return value
    if dtype is DType.UUID:
        if isinstance(value, UUID):
            return value
        if isinstance(value, str):
            try:
                return UUID(value)
            except ValueError:
                pass  # said below, with the column's name
    raise StoreError(f'key column "{column}" was given {shown(value)}', expected=str(dtype))


def shown(value: object) -> str:
    """Return how a message shows a value that does not fit: its first characters and its type."""
    return f"{shortened(value)} ({type(value).__name__})"


def shortened(value: object) -> str:
    """Return a value's first characters, at most 80, however deep or long it is."""
    text = reprlib.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_DECODED: dict[bytes, Callable[[bytes], int | str | bytes | UUID]] = {
    _INT: lambda part: int(_INT64.unpack(part)[0]),
    _STRING: bytes.decode,
    _BYTES: bytes,
    _UUID: lambda part: UUID(bytes=part),
}


def _is_text(value: str) -> bool:
    """Say whether text has no half characters (lone surrogates), which UTF-8 cannot hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encoded(value: Any) -> bytes:
    if isinstance(value, np.integer):
        value = int(value)
    if type(value) is int and -(2**63) <= value < 2**63:
        return _INT + _INT64.pack(value)
    if isinstance(value, str):
        return _sized(_STRING, value.encode())
    if isinstance(value, bytes):
        return _sized(_BYTES, value)
    if isinstance(value, UUID):
        return _UUID + value.bytes
    raise StoreError(
        f"{value!r} ({type(value).__name__}) cannot be part of a key", expected="int64, string, bytes or UUID"
    )


def _sized(kind: bytes, data: bytes) -> bytes:
    return kind + _LENGTH.pack(len(data)) + data


def _encoded_column(table: pa.Table, name: str) -> list[bytes | None]:
    if name not in table.column_names:
        raise StoreError(f'key column "{name}" is missing', hint=nearest(name, table.column_names))
    column = table.column(name)
    dtype = dtype_of_arrow(name, column.type)
    if dtype not in KEY_TYPES:
        raise StoreError(f'key column "{name}" is {column.type}', expected=", ".join(KEY_TYPES))
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if dtype in (DType.INT64, DType.INT32):
        return _encoded_integers(name, whole)
    if dtype is DType.UUID:
        return [None if value is None else _UUID + value for value in whole.storage.to_pylist()]
    kind = _STRING if dtype is DType.STRING else _BYTES
    data = whole.cast(arrow_type(dtype)).cast(pa.binary()).to_pylist()
    return [None if value is None else _sized(kind, value) for value in data]


def _integers(name: str, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    try:
        return whole.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise StoreError(f'key column "{name}": {error}', expected="int64") from error


def _encoded_integers(name: str, column: pa.Array) -> list[bytes | None]:
    filled = _integers(name, column).fill_null(0)
    records = np.empty(len(column), np.dtype([("kind", "S1"), ("value", ">i8")]))
    records["kind"], records["value"] = _INT, filled.to_numpy(zero_copy_only=False)
    packed = records.tobytes()
    valid = column.is_valid().to_pylist()
    return [packed[9 * i : 9 * i + 9] if valid[i] else None for i in range(len(column))]
