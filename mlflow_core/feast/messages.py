"""The few fields that are read of Feast's messages without Feast, whose import takes seconds: names, tags, column types.

A message is a row of fields, each a number and a value (https://protobuf.dev/programming-guides/encoding). Feast
cannot change a number, for registries hold messages of every release.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

__all__ = ["MESSAGES", "Layout", "columns_in", "name_in", "tags_in"]

_Value: TypeAlias = int | bytes


class Layout(NamedTuple):
    """Where a message of Feast's has what is read of it; ``tests/feast/test_messages.py`` asks Feast.

    Attributes:
        spec: Number of the field with the declaration, or None where that is the message itself.
        tags: Number of the tags in there.
        columns: Numbers of the columns in there: features, and keys where they are kept.
        name: Number of its name in there.
    """

    spec: int | None
    tags: int
    columns: tuple[int, ...] = ()
    name: int = 1


MESSAGES = {
    "projects": Layout(spec=1, tags=3),
    "data_sources": Layout(spec=None, tags=24, name=20),
    "feature_views": Layout(spec=1, tags=5, columns=(12, 4)),
    "on_demand_feature_views": Layout(spec=1, tags=7, columns=(3,)),
    "feature_services": Layout(spec=1, tags=4),
}
"""Table of Feast's SQL registry -> what its rows hold."""

_KEY, _VALUE = 1, 2  # of an entry of a map
_NAME, _TYPE = 1, 2  # of a column
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def name_in(message: bytes, layout: Layout) -> str:
    """Return the name in a message.

    Raises:
        ValueError: It is no message.
    """
    return b"".join(_inside(message, layout, (layout.name,))).decode()


def tags_in(message: bytes, layout: Layout) -> dict[str, str]:
    """Return the tags of a message.

    Raises:
        ValueError: It is no message.
    """
    pairs = [dict(_fields(entry)) for entry in _inside(message, layout, (layout.tags,))]
    return {_text(pair.get(_KEY, b"")): _text(pair.get(_VALUE, b"")) for pair in pairs}


def columns_in(message: bytes, layout: Layout) -> dict[str, int]:
    """Return the columns of a message and Feast's numbers of their types.

    Raises:
        ValueError: It is no message.
    """
    columns = [dict(_fields(column)) for column in _inside(message, layout, layout.columns)]
    return {_text(column.get(_NAME, b"")): _number(column.get(_TYPE, 0)) for column in columns}


def _inside(message: bytes, layout: Layout, numbers: Iterable[int]) -> Iterator[bytes]:
    """Yield the values of some fields of the declaration in a message, field by field."""
    spec = message if layout.spec is None else b"".join(_values(message, layout.spec))
    for number in numbers:
        yield from _values(spec, number)


def _values(message: bytes, number: int) -> Iterator[bytes]:
    for found, value in _fields(message):
        if found == number:
            yield _bytes(value)


def _fields(message: bytes) -> Iterator[tuple[int, _Value]]:
    at = 0
    while at < len(message):
        head, at = _varint(message, at)
        kind = head & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield head >> 3, value
            continue
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, 0)
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif not size:
            raise ValueError(f"a field of a kind that there is not: {kind}")
        if at + size > len(message):
            raise ValueError("a field reaches beyond the end")
        yield head >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a whole number and where it ends: seven bits a byte, the lowest first."""
    number = shift = 0
    while at < len(message):
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
    raise ValueError("a number reaches beyond the end")


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"{value} is where bytes are expected")
    return value


def _text(value: _Value) -> str:
    return _bytes(value).decode()


def _number(value: _Value) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is where a number is expected")
    return value
