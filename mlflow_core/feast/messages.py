"""The few fields that are read of Feast's messages without Feast, whose import takes seconds: names, tags, column types.

Bytes become fields in ``online.feast_layout.wire``; what their numbers mean is said here. Feast cannot change a number,
for registries hold messages of every release.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from mlflow_core.online.feast_layout.wire import fields

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
    pairs = [_by_number(entry) for entry in _inside(message, layout, (layout.tags,))]
    return {_text(pair.get(_KEY, b"")): _text(pair.get(_VALUE, b"")) for pair in pairs}


def columns_in(message: bytes, layout: Layout) -> dict[str, int]:
    """Return the columns of a message and Feast's numbers of their types.

    Raises:
        ValueError: It is no message.
    """
    columns = [_by_number(column) for column in _inside(message, layout, layout.columns)]
    return {_text(column.get(_NAME, b"")): _number(column.get(_TYPE, 0)) for column in columns}


def _inside(message: bytes, layout: Layout, numbers: Iterable[int]) -> Iterator[bytes]:
    """Yield the values of some fields of the declaration in a message, field by field."""
    spec = message if layout.spec is None else b"".join(_values(message, layout.spec))
    for number in numbers:
        yield from _values(spec, number)


def _values(message: bytes, number: int) -> Iterator[bytes]:
    for found, value in fields(message):
        if found >> 3 == number:
            yield _bytes(value)


def _by_number(message: bytes) -> dict[int, _Value]:
    """Return the fields of a message of which each is there once."""
    return {found >> 3: value for found, value in fields(message)}


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
