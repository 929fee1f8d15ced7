"""How Feast spells keys on Redis: an entity's bytes, and the names of the fields in its hash.

An entity is its join keys sorted by name, then their values, each with its type and length, little-endian; the type is
that of the column, so an int32 5 is another key than an int64 5. A feature's field is the 32-bit MurmurHash3 of
``view:feature``, a view's event time stands in ``_ts:view``. Taken from Feast 0.67
(``feast.infra.key_encoding_utils``, ``feast.infra.online_stores.helpers``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from mlflow_core.errors import ServeError, StoreError
from mlflow_core.online.keys import shown
from mlflow_core.spec import DType

__all__ = ["KEY_VERSIONS", "fields_of", "key_encoder", "murmur3"]

KEY_VERSIONS = (2, 3)
"""The values of ``entity_key_serialization_version`` that are understood."""

_HEAD = struct.Struct("<II")
_COUNT = struct.Struct("<I")
_BYTES, _STRING, _INT32, _INT64 = 1, 2, 3, 4  # Feast's ValueType
_INTEGERS = {DType.INT32: (struct.Struct("<IIi"), _INT32), DType.INT64: (struct.Struct("<IIq"), _INT64)}
_NO_ENTITY = "__dummy_id"  # the join key of views without an entity, whose value is empty text


def key_encoder(
    columns: Sequence[tuple[str, DType]], *, version: int = 3
) -> Callable[[Sequence[Any]], bytes]:
    """Return what spells the values of some key columns as Feast does.

    Args:
        columns: The key columns with their types; none for a view without an entity.
        version: Feast's ``entity_key_serialization_version``.

    Returns:
        A function of one key's values, in the order of the columns. It raises ``ServeError`` where a number is no
        int32 and should be one.

    Raises:
        StoreError: A column has a type that Feast has no key for.

    Example:
        >>> key_encoder([("id", DType.INT32)])([5]).hex(" ", -4)
        '01000000 02000000 02000000 69640300 00000400 00000500 0000'
    """
    if not columns:
        constant = _spelt_names((_NO_ENTITY,), version) + _HEAD.pack(_STRING, 0)
        return lambda _: constant
    order = sorted(range(len(columns)), key=lambda i: columns[i][0])
    names = _spelt_names([columns[i][0] for i in order], version)
    parts = [(i, _value_encoder(*columns[i])) for i in order]
    if len(parts) == 1:
        [(_, encode)] = parts
        return lambda values: names + encode(values[0])
    return lambda values: names + b"".join([encode(values[i]) for i, encode in parts])


def fields_of(view: str, features: Sequence[str]) -> list[bytes]:
    """Return the fields of a view in an entity's hash: its event time's, then one a feature."""
    return [f"_ts:{view}".encode(), *(murmur3(f"{view}:{name}".encode()) for name in features)]


def murmur3(data: bytes) -> bytes:
    """Return the MurmurHash3 (x86, 32 bits, seed 0) of some bytes, little-endian.

    Source: Austin Appleby, SMHasher, ``MurmurHash3.cpp``.
    """
    state, whole = 0, len(data) & ~3
    for at in range(0, whole, 4):
        state ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        state = (_rotated(state, 13) * 5 + 0xE6546B64) & _MASK
    state ^= _scrambled(int.from_bytes(data[whole:], "little")) ^ len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & _MASK
    state = (state ^ state >> 13) * 0xC2B2AE35 & _MASK
    return (state ^ state >> 16).to_bytes(4, "little")


_MASK = 0xFFFFFFFF


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & _MASK


def _scrambled(word: int) -> int:
    return _rotated(word * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK


def _spelt_names(names: Sequence[str], version: int) -> bytes:
    encoded = [name.encode() for name in names]
    if version < 3:
        return b"".join(_COUNT.pack(_STRING) + name for name in encoded)
    return _COUNT.pack(len(encoded)) + b"".join(_HEAD.pack(_STRING, len(name)) + name for name in encoded)


def _value_encoder(column: str, dtype: DType) -> Callable[[Any], bytes]:
    if dtype in _INTEGERS:
        packed, kind = _INTEGERS[dtype]
        size, pack = packed.size - _HEAD.size, packed.pack

        def integer(value: int) -> bytes:
            try:
                return pack(kind, size, value)
            except struct.error:
                raise ServeError(f'key column "{column}" was given {shown(value)}', expected=dtype) from None

        return integer
    if dtype is DType.STRING:
        return lambda value: _sized(_STRING, value.encode())
    if dtype is DType.BYTES:
        return lambda value: _sized(_BYTES, value)
    raise StoreError(
        f'key column "{column}" is {dtype}, which is no type of a key in a store that Feast wrote',
        expected=", ".join((*_INTEGERS, DType.STRING, DType.BYTES)),
    )


def _sized(kind: int, data: bytes) -> bytes:
    return _HEAD.pack(kind, len(data)) + data
