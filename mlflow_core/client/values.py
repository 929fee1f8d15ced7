"""Values between Python and the server's JSON; the server's side is described in ``mlflow_core.serve.wire``.

The answer names each feature's type, so that what JSON cannot say comes back as it was: integers beyond 2**53,
NaN and infinities, times, bytes and UUIDs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

__all__ = ["read_column", "write_columns", "write_rows"]


def write_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as JSON can carry them.

    Args:
        rows: One mapping a row; values are None, bool, int, float, str, bytes, UUID, datetime (naive is UTC),
            numpy scalars, and lists and mappings of these.

    Raises:
        TypeError: A value has no JSON form here.
    """
    return [{name: _written(value) for name, value in row.items()} for row in rows]


def write_columns(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return columns as JSON can carry them; see ``write_rows``."""
    return {name: [_written(value) for value in values] for name, values in columns.items()}


def read_column(values: Sequence[Any], dtype: str) -> list[Any]:
    """Return the values of one column as Python's.

    Args:
        values: JSON values.
        dtype: The type that the server names: ``int64``, ``timestamp``, ``list<bytes>`` and so on.

    Returns:
        int, float, str, bytes, UUID, aware datetime, lists of these; None for null.
    """
    read = _READ.get(dtype.removeprefix("list<").removesuffix(">"))
    if read is None:
        return list(values)
    if dtype.startswith("list<"):
        return [
            None if value is None else [None if one is None else read(one) for one in value]
            for value in values
        ]
    return [None if value is None else read(value) for value in values]


def _written(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if value - value == 0 else _NOT_FINITE[str(value)]
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, UUID):
        return str(value)
    return _written_many(value)


def _written_many(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _written(one) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [_written(one) for one in value]
    plain = getattr(value, "tolist", None)  # numpy's scalars and arrays, without importing numpy
    if plain is None:
        raise TypeError(f"{value!r} ({type(value).__name__}) cannot be sent")
    return _written(plain())


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_READ: dict[str, Callable[[Any], Any]] = {
    "int64": int,
    "float64": float,
    "float32": float,
    "timestamp": lambda text: datetime.fromisoformat(text).astimezone(UTC),
    "bytes": base64.b64decode,
    "uuid": UUID,
}
