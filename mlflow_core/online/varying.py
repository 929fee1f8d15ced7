"""The part of a stored row whose length varies: text, bytes, lists and maps.

An empty byte string stands for null, so every value that is not null has at least one byte: text and bytes
start with a zero byte, lists and maps with their count. A list is ``count (uint32), null bits, items``; items
of fixed width stand one after the other, others follow the uint32 offsets of their ends. A map is the length of
its keys' list, that list, and the list of its values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from mlflow_core.errors import StoreError
from mlflow_core.spec import DType

__all__ = ["VARYING", "encode_varying", "varying_decoder"]

_COUNT = struct.Struct("<I")
_ITEM: dict[DType, tuple[str, Any]] = {
    DType.BOOL: ("?", False),
    DType.INT64: ("q", 0),
    DType.INT32: ("i", 0),
    DType.FLOAT64: ("d", 0.0),
    DType.FLOAT32: ("f", 0.0),
    DType.TIMESTAMP: ("q", 0),
}
VARYING: frozenset[DType] = frozenset(
    dtype for dtype in DType if dtype in (DType.STRING, DType.BYTES, DType.MAP) or dtype.item is not dtype
)


def encode_varying(column: pa.Array, dtype: DType) -> list[bytes]:
    """Pack a column of text, bytes, lists or maps.

    Args:
        column: The values, of the type's own Arrow type.
        dtype: One of ``VARYING``.

    Returns:
        One byte string a value, empty for null; shape (n_rows,).
    """
    if dtype in (DType.STRING, DType.BYTES):
        return [b"" if value is None else b"\0" + value for value in column.cast(pa.binary()).to_pylist()]
    if dtype is DType.MAP:
        return [b"" if value is None else _packed_map(value) for value in column.to_pylist()]
    if dtype.item is DType.TIMESTAMP:
        column = column.cast(pa.list_(pa.int64()))
    elif dtype.item is DType.STRING:
        column = column.cast(pa.list_(pa.binary()))
    pack = _packer(dtype.item)
    return [b"" if value is None else pack(value) for value in column.to_pylist()]


def varying_decoder(dtype: DType) -> Callable[[bytes], Any]:
    """Return what reads one value of a type back that is not null.

    Args:
        dtype: One of ``VARYING``.

    Returns:
        A function of what ``encode_varying`` wrote for the value; it returns ``str``, ``bytes``, a list (times as int
        microseconds) or a dict of strings, and raises ``struct.error`` or ``ValueError`` where the bytes are damaged.
    """
    if dtype is DType.STRING:
        return _unpacked_text
    if dtype is DType.BYTES:
        return _unpacked_raw
    if dtype is DType.MAP:
        return _unpacked_map
    if dtype.item is DType.STRING:
        return _unpacked_texts
    if dtype.item is DType.BYTES:
        return _unpacked_bytes
    code, _ = _ITEM[dtype.item]
    return lambda data: _unpacked_fixed(data, code)


def _packer(item: DType) -> Callable[[Sequence[Any]], bytes]:
    if item in (DType.STRING, DType.BYTES):
        return _packed_bytes
    code, empty = _ITEM[item]

    def pack(values: Sequence[Any]) -> bytes:
        filled = [empty if value is None else value for value in values]
        return _head(values) + struct.pack(f"<{len(filled)}{code}", *filled)

    return pack


def _head(values: Sequence[Any]) -> bytes:
    bits = sum(1 << i for i, value in enumerate(values) if value is None)
    return _COUNT.pack(len(values)) + bits.to_bytes((len(values) + 7) // 8, "little")


def _packed_bytes(values: Sequence[bytes | None]) -> bytes:
    items = [value or b"" for value in values]
    ends, end = [], 0
    for item in items:
        end += len(item)
        ends.append(end)
    if end > 0xFFFFFFFF:
        raise StoreError("a list is longer than 4 GiB")
    return b"".join([_head(values), struct.pack(f"<{len(ends)}I", *ends), *items])


def _packed_map(pairs: Sequence[tuple[str, str | None]]) -> bytes:
    entries = dict(pairs)  # of two entries with one key the later counts
    keys = _packed_bytes([key.encode() for key in entries])
    values = _packed_bytes([None if value is None else value.encode() for value in entries.values()])
    return _COUNT.pack(len(keys)) + keys + values


def _counted(data: bytes) -> tuple[int, int, int]:
    (count,) = _COUNT.unpack_from(data)
    start = _COUNT.size + (count + 7) // 8
    return count, int.from_bytes(data[_COUNT.size : start], "little"), start


def _with_nulls(values: list[Any], bits: int) -> list[Any]:
    if not bits:
        return values
    return [None if bits >> i & 1 else value for i, value in enumerate(values)]


def _unpacked_text(data: bytes) -> str:
    return data[1:].decode()


def _unpacked_raw(data: bytes) -> bytes:
    return data[1:]


def _unpacked_map(data: bytes) -> dict[str, str | None]:
    (length,) = _COUNT.unpack_from(data)
    keys = _unpacked_texts(data[_COUNT.size : _COUNT.size + length])
    return dict(zip(keys, _unpacked_texts(data[_COUNT.size + length :]), strict=True))


def _unpacked_fixed(data: bytes, code: str) -> list[Any]:
    count, bits, start = _counted(data)
    return _with_nulls(list(struct.unpack(f"<{count}{code}", data[start:])), bits)


def _unpacked_bytes(data: bytes) -> list[Any]:
    count, bits, start = _counted(data)
    ends = struct.unpack_from(f"<{count}I", data, start)
    base = start + 4 * count
    if len(data) != base + (ends[-1] if ends else 0):
        raise ValueError("a list's length is not that of its items")
    starts = (0, *ends)[:count]
    return _with_nulls([data[base + a : base + b] for a, b in zip(starts, ends, strict=True)], bits)


def _unpacked_texts(data: bytes) -> list[Any]:
    return [None if value is None else value.decode() for value in _unpacked_bytes(data)]
