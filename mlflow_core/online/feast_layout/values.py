"""Feast's protobuf ``Value`` read from its bytes, without protobuf: one value in Python, many numbers in numpy.

A value is one field of ``feast/protos/feast/types/Value.proto`` (Feast 0.67): a tag, then the payload. No bytes at
all, or ``null_val``, is a null. What is stored must be of the type that the registry declares; a narrower number is
taken for a wider one, nothing else is. Feast's times are whole seconds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import numpy as np

from mlflow_core.online.feast_layout.wire import (
    EIGHT,
    FOUR,
    SIZED,
    VARINT,
    fields,
    numbers_of,
    signed,
    tag,
    varint,
    varints,
)
from mlflow_core.spec import DType

__all__ = ["Numbers", "numbers_reader", "time_of", "value_reader"]

_NULL_TIME = -(2**63)  # what Feast writes for a null among times
_SECOND = 1_000_000
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")

ReadMany: TypeAlias = Callable[[Sequence[Any]], list[Any] | None]


class Numbers(NamedTuple):
    """How many values of one type of numbers are read at once.

    Attributes:
        read: Of values' bytes, none of them empty; None where any is not plainly of the type, and ``value_reader`` tells
            what it is.
        filler: Stands for a null among them.
        many: From how many on this is faster than reading them one by one.
    """

    read: ReadMany
    filler: bytes
    many: int


def value_reader(dtype: DType) -> Callable[[bytes], Any]:
    """Return what reads one value of a type.

    Args:
        dtype: The type that the registry declares.

    Returns:
        A function of a value's bytes, at least one. It returns what ``online.codec.Block`` holds, and raises
        ``ValueError`` where the bytes are damaged or of another type.

    Example:
        >>> value_reader(DType.STRING)(bytes([0x12, 2]) + b"UA")
        'UA'
    """
    known = {tag(number, written): convert for number, written, convert in _KNOWN[dtype]}

    def read(data: bytes) -> Any:
        found = list(fields(data))
        if len(found) != 1:
            raise ValueError(f"its bytes hold {len(found)} values")
        [(begin, payload)] = found
        if begin in known:
            return known[begin](payload)
        if begin == _NULL:
            return None
        raise ValueError(f"it is of type {_TYPE_NAMES.get(begin >> 3, f'number {begin >> 3}')}")

    return _PLAINLY[dtype](read) if dtype in _PLAINLY else read


def numbers_reader(dtype: DType) -> Numbers | None:
    """Return how many values of a type are read at once; None where they are read one by one."""
    return _NUMBERS.get(dtype)


def time_of(data: bytes) -> int:
    """Return the time in a protobuf ``Timestamp``: microseconds since epoch, UTC; nanoseconds are floored.

    Args:
        data: Its bytes; none are the epoch.

    Raises:
        ValueError: The bytes are damaged.
    """
    seconds = nanoseconds = 0
    for begin, payload in fields(data):
        if begin == _SECONDS:
            seconds = _int64(payload)
        elif begin == _NANOSECONDS:
            nanoseconds = _int64(payload)
        else:
            raise ValueError("its bytes are no time")
    return seconds * _SECOND + nanoseconds // 1000


_SECONDS, _NANOSECONDS = tag(1, VARINT), tag(2, VARINT)
_ITEM = tag(1, SIZED)
_NULL = tag(19, VARINT)
_KEY, _HELD = tag(1, SIZED), tag(2, SIZED)


def _int64(payload: Any) -> int:
    return signed(payload)


def _int32(payload: Any) -> int:
    return int(((payload & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000)


def _moment(payload: Any) -> int | None:
    return _microseconds(signed(payload))


def _microseconds(seconds: int) -> int | None:
    return None if seconds == _NULL_TIME else seconds * _SECOND


def _items(payload: Any) -> list[bytes]:
    """Return the items of a list's message, or the pieces in which its numbers are packed."""
    found = list(fields(payload))
    if any(begin != _ITEM for begin, _ in found):
        raise ValueError("its bytes are no list")
    return [item for _, item in found if isinstance(item, bytes)]


def _numbers(payload: Any) -> list[int]:
    return varints(b"".join(_items(payload)))


def _fixed_numbers(packed: struct.Struct) -> Callable[[Any], list[Any]]:
    code = packed.format[-1]

    def read(payload: Any) -> list[Any]:
        data = b"".join(_items(payload))
        if len(data) % packed.size:
            raise ValueError("its bytes are cut off")
        return list(struct.unpack(f"<{len(data) // packed.size}{code}", data))

    return read


def _map(payload: Any) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for entry in _items(payload):
        key, value = "", None
        for begin, part in fields(entry):
            if begin == _KEY and isinstance(part, bytes):
                key = part.decode()
            elif begin == _HELD and isinstance(part, bytes):
                value = _ITEM_OF_MAP(part) if part else None
            else:
                raise ValueError("its bytes are no map")
        found[key] = value
    return found


def _decoded(payload: Any) -> str:
    text: str = payload.decode()
    return text


def _uuid(payload: Any) -> UUID:
    return UUID(payload.decode())


def _unpacked(packed: struct.Struct) -> Callable[[Any], Any]:
    return lambda payload: packed.unpack(payload)[0]


_Reader: TypeAlias = Callable[[bytes], Any]
_Known: TypeAlias = tuple[tuple[int, int, Callable[[Any], Any]], ...]

# Type -> fields of Value that can hold it: number, how it is written, what makes a Python value of the payload.
_KNOWN: dict[DType, _Known] = {
    DType.BOOL: ((7, VARINT, bool),),
    DType.INT32: ((3, VARINT, _int32),),
    DType.INT64: ((4, VARINT, _int64), (3, VARINT, _int32)),
    DType.FLOAT32: ((6, FOUR, _unpacked(_FLOAT)),),
    DType.FLOAT64: ((5, EIGHT, _unpacked(_DOUBLE)), (6, FOUR, _unpacked(_FLOAT))),
    DType.STRING: ((2, SIZED, _decoded), (32, SIZED, _decoded)),
    DType.BYTES: ((1, SIZED, bytes),),
    DType.TIMESTAMP: ((8, VARINT, _moment),),
    DType.UUID: ((36, SIZED, _uuid), (37, SIZED, _uuid)),
    DType.BYTES_LIST: ((11, SIZED, _items),),
    DType.STRING_LIST: ((12, SIZED, lambda payload: [item.decode() for item in _items(payload)]),),
    DType.INT32_LIST: ((13, SIZED, _numbers),),
    DType.INT64_LIST: ((14, SIZED, _numbers),),
    DType.FLOAT64_LIST: ((15, SIZED, _fixed_numbers(_DOUBLE)),),
    DType.FLOAT32_LIST: ((16, SIZED, _fixed_numbers(_FLOAT)),),
    DType.BOOL_LIST: ((17, SIZED, lambda payload: [bool(one) for one in _numbers(payload)]),),
    DType.TIMESTAMP_LIST: ((18, SIZED, lambda payload: list(map(_microseconds, _numbers(payload)))),),
    DType.MAP: ((20, SIZED, _map),),
}
_TYPE_NAMES = {number: str(dtype) for dtype, known in reversed(_KNOWN.items()) for number, _, _ in known}


def _plain_fixed(begin: int, packed: struct.Struct) -> Callable[[_Reader], _Reader]:
    size, unpack = packed.size + 1, packed.unpack_from

    def of(read: _Reader) -> _Reader:
        return lambda data: unpack(data, 1)[0] if len(data) == size and data[0] == begin else read(data)

    return of


def _plain_varint(begin: int, convert: Callable[[Any], Any]) -> Callable[[_Reader], _Reader]:
    def of(read: _Reader) -> _Reader:
        def plainly(data: bytes) -> Any:
            if data[0] != begin:
                return read(data)
            number, end = varint(data, 1)
            return convert(number) if end == len(data) else read(data)

        return plainly

    return of


def _plain_text(read: _Reader) -> _Reader:
    begin = tag(2, SIZED)

    def plainly(data: bytes) -> Any:
        # Longer text has more than one byte of size.
        if data[0] == begin and 2 <= len(data) < 0x82 and data[1] == len(data) - 2:
            return data[2:].decode()
        return read(data)

    return plainly


# What nearly all values look like, told by their first bytes.
_PLAINLY: dict[DType, Callable[[_Reader], _Reader]] = {
    DType.FLOAT64: _plain_fixed(tag(5, EIGHT), _DOUBLE),
    DType.FLOAT32: _plain_fixed(tag(6, FOUR), _FLOAT),
    DType.INT64: _plain_varint(tag(4, VARINT), _int64),
    DType.INT32: _plain_varint(tag(3, VARINT), _int32),
    DType.TIMESTAMP: _plain_varint(tag(8, VARINT), _moment),
    DType.BOOL: _plain_varint(tag(7, VARINT), bool),
    DType.STRING: _plain_text,
}


def _many_fixed(begin: int, packed: struct.Struct) -> Numbers:
    record = np.dtype([("tag", "u1"), ("value", packed.format)])
    size = record.itemsize

    def read(values: Sequence[bytes]) -> list[Any] | None:
        if set(map(len, values)) != {size}:
            return None
        records = np.frombuffer(b"".join(values), record)
        if (records["tag"] != begin).any():
            return None
        found: list[Any] = records["value"].tolist()
        return found

    return Numbers(read, bytes([begin]) + bytes(packed.size), 24)


def _many_varints(begin: int, convert: Callable[[Any], list[Any] | None]) -> Numbers:
    def read(values: Sequence[bytes]) -> list[Any] | None:
        # A tag is a varint as well: they take turns, and each value ends with its second one.
        try:
            found, ends = numbers_of(b"".join(values))
        except ValueError:
            return None
        n = len(values)
        if len(found) != 2 * n or (found[::2] != begin).any():
            return None
        if (ends[1::2] != np.fromiter(map(len, values), np.intp, n).cumsum()).any():
            return None
        return convert(found[1::2])

    return Numbers(read, bytes([begin, 0]), 40)


def _many_moments(seconds: Any) -> list[Any] | None:
    found = [one * _SECOND for one in seconds.tolist()]
    return None if _NULL_TIME * _SECOND in found else found


_NUMBERS: dict[DType, Numbers] = {
    DType.FLOAT64: _many_fixed(tag(5, EIGHT), _DOUBLE),
    DType.FLOAT32: _many_fixed(tag(6, FOUR), _FLOAT),
    DType.INT64: _many_varints(tag(4, VARINT), lambda found: found.tolist()),
    DType.INT32: _many_varints(tag(3, VARINT), lambda found: found.astype(np.int32).tolist()),
    DType.BOOL: _many_varints(tag(7, VARINT), lambda found: (found != 0).tolist()),
    DType.TIMESTAMP: _many_varints(tag(8, VARINT), _many_moments),
}

_ITEM_OF_MAP = value_reader(DType.STRING)
