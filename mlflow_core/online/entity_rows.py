"""What a caller sends: key columns and request fields, checked against the types that the plan expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_core.algebra.types import arrow_type
from mlflow_core.config.times import parse_time
from mlflow_core.errors import ServeError, StoreError, UsageError, nearest
from mlflow_core.online.keys import encode_key, key_value, shown
from mlflow_core.spec import DType

__all__ = ["checked_columns", "checked_keys", "request_array"]


def checked_columns(entity_rows: Mapping[str, Sequence[Any]], needed: Iterable[str]) -> int:
    """Return how many entity rows there are.

    Raises:
        ServeError: A needed column is missing, or the columns have different lengths.
    """
    missing = [name for name in dict.fromkeys(needed) if name not in entity_rows]
    if missing:
        quoted = ", ".join(f'"{name}"' for name in missing)
        given = f"Given: {', '.join(sorted(entity_rows)) or 'none'}."
        raise ServeError(
            f"the entity rows have no column {quoted}",
            hint=nearest(missing[0], entity_rows) if len(missing) == 1 else given,
        )
    lengths = {name: len(values) for name, values in entity_rows.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ServeError(f"the entity rows' columns have different lengths: {told}")
    return next(iter(lengths.values()), 1)


def checked_keys(
    entity_rows: Mapping[str, Sequence[Any]],
    columns: Sequence[tuple[str, DType]],
    n_rows: int,
    title: str,
) -> list[bytes | None]:
    """Return each entity row's key as canonical bytes, None where a key column is null.

    Args:
        entity_rows: What the caller sent, by column.
        columns: The entity rows' columns that make the key, in the entity's order, with their types.
        n_rows: How many entity rows there are.
        title: The view, for errors.

    Raises:
        ServeError: A value is not of its column's type.
    """
    if not columns:
        return [b""] * n_rows
    keys: list[bytes | None] = []
    for i, values in enumerate(zip(*(entity_rows[column] for column, _ in columns), strict=True)):
        try:
            checked = [
                key_value(value, dtype, column)
                for value, (column, dtype) in zip(values, columns, strict=True)
            ]
        except StoreError as error:
            raise ServeError(
                f"entity row {i}: {error.what}", object=title, expected=error.expected, hint=error.hint
            ) from error
        keys.append(None if None in checked else encode_key(checked))  # type: ignore[arg-type]
    return keys


def request_array(values: Sequence[Any], dtype: DType, name: str) -> pa.Array:
    """Return a request field as Arrow values of its declared type.

    Args:
        values: What the caller sent; a time is a datetime (naive is UTC), ISO-8601 text, or int microseconds
            since epoch, UTC; an int is taken where a float is declared, never the other way round.
        dtype: The declared type.
        name: The field's name, for errors.

    Raises:
        ServeError: A value is not of the type; names the first entity row where it is not.
    """
    wanted = arrow_type(dtype)
    for i, value in enumerate(values):
        if not _fits(value, dtype):
            raise ServeError(
                f'entity row {i}: request field "{name}" was given {shown(value)}', expected=str(dtype)
            )
    try:
        if dtype is DType.TIMESTAMP:
            return pa.array([_microseconds(value) for value in values], pa.int64()).cast(wanted)
        plain = [value.item() if isinstance(value, np.generic) else value for value in values]
        return pa.array(plain, wanted)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UsageError) as error:
        raise ServeError(f'request field "{name}": {error}', expected=str(dtype)) from error


_TAKES: dict[DType, tuple[type, ...]] = {
    DType.BOOL: (bool, np.bool_),
    DType.INT64: (int, np.integer),
    DType.INT32: (int, np.integer),
    DType.FLOAT64: (int, float, np.integer, np.floating),
    DType.FLOAT32: (int, float, np.integer, np.floating),
    DType.STRING: (str,),
    DType.BYTES: (bytes,),
    DType.TIMESTAMP: (datetime, str, int, np.integer, np.datetime64),
}


def _fits(value: Any, dtype: DType) -> bool:
    if value is None or dtype not in _TAKES:
        return True
    if isinstance(value, bool) and dtype is not DType.BOOL:
        return False
    return isinstance(value, _TAKES[dtype])


def _microseconds(value: Any) -> int | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else int(value.astype("datetime64[us]").astype(np.int64))
    return int(value) if isinstance(value, np.integer) else parse_time(value)
