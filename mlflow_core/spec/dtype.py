"""The types that a feature, key or request field can have, under the names that specs and the catalogue use."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

__all__ = ["DType", "Timestamp", "dtype_of"]


class DType(StrEnum):
    """A column's type; nullable always, times in UTC microseconds."""

    BOOL = "bool"
    INT64 = "int64"
    INT32 = "int32"
    FLOAT64 = "float64"
    FLOAT32 = "float32"
    STRING = "string"
    BYTES = "bytes"
    TIMESTAMP = "timestamp"
    UUID = "uuid"
    BOOL_LIST = "list<bool>"
    INT64_LIST = "list<int64>"
    INT32_LIST = "list<int32>"
    FLOAT64_LIST = "list<float64>"
    FLOAT32_LIST = "list<float32>"
    STRING_LIST = "list<string>"
    BYTES_LIST = "list<bytes>"
    TIMESTAMP_LIST = "list<timestamp>"
    MAP = "map<string,string>"

    @property
    def item(self) -> DType:
        """The type of a list's items; the type itself where it is no list."""
        return DType(self.value[5:-1]) if self.value.startswith("list<") else self

    @property
    def list(self) -> DType | None:
        """The type of lists whose items are of this type; None for UUIDs, maps and lists, of which there are none."""
        return next((one for one in DType if one is not self and one.item is self), None)


Timestamp = DType.TIMESTAMP

_PYTHON: dict[type, DType] = {
    bool: DType.BOOL,
    int: DType.INT64,
    float: DType.FLOAT64,
    str: DType.STRING,
    bytes: DType.BYTES,
    datetime: DType.TIMESTAMP,
}


def dtype_of(value: object) -> DType:
    """Read a type as a user writes it: ``float``, ``"float64"`` or ``ml.Timestamp``.

    Raises:
        ValueError: It names no type.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, type) and value in _PYTHON:
        return _PYTHON[value]
    if isinstance(value, str) and value in set(DType):
        return DType(value)
    raise ValueError(
        f"is not a type; use bool, int, float, str, bytes, Timestamp or one of {', '.join(DType)}"
    )
