"""What a caller sends: key columns and request fields, checked against the types that the plan expects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from mlflow_core.algebra.types import arrow_type
from mlflow_core.config.times import parse_time
from mlflow_core.errors import ServeError, StoreError, UsageError, nearest
from mlflow_core.online.keys import PlainSpeller, encode_key, key_value, plain_speller, shown
from mlflow_core.spec import DType

__all__ = ["KeyReader", "checked_columns", "key_reader", "request_array"]

KeyReader: TypeAlias = Callable[[Mapping[str, Sequence[Any]], int], tuple[list[bytes], list[int] | None]]


def checked_columns(entity_rows: Mapping[str, Sequence[Any]], needed: Collection[str]) -> int:
    """Return how many entity rows there are.

    Raises:
        ServeError: A needed column is missing, or the columns have different lengths.
    """
    different = set(map(len, entity_rows.values()))
    if len(different) == 1 and all(map(entity_rows.__contains__, needed)):
        return different.pop()
    missing = [name for name in dict.fromkeys(needed) if name not in entity_rows]
    if missing:
        quoted = ", ".join(f'"{name}"' for name in missing)
        given = f"Given: {', '.join(sorted(entity_rows)) or 'none'}."
        raise ServeError(
            f"the entity rows have no column {quoted}",
            hint=nearest(missing[0], entity_rows) if len(missing) == 1 else given,
        )
    if different:
        told = ", ".join(f"{name} {len(values)}" for name, values in entity_rows.items())
        raise ServeError(f"the entity rows' columns have different lengths: {told}")
    return 1


def key_reader(
    columns: Sequence[tuple[str, DType]], title: str, encode: Callable[[Sequence[Any]], bytes]
) -> KeyReader:
    """Return what reads keys from entity rows: the keys that are not null, and at which rows they stand.

    Args:
        columns: The entity rows' columns that make the key, in the entity's order, with their types.
        title: The view, for errors.
        encode: Spells the values of one key as the store's.

    Returns:
        A function of entity rows by column and their number; its places are None where every row has a key. It
        raises ``ServeError`` where a value is not of its column's type.
    """
    names = tuple(column for column, _ in columns)
    plainly = [(name, plain_speller(dtype)) for name, dtype in columns] if encode is encode_key else []
    single = plainly[0] if len(plainly) == 1 else None

    def read(entity_rows: Mapping[str, Sequence[Any]], n_rows: int) -> tuple[list[bytes], list[int] | None]:
        if not columns:
            return [encode(())] * n_rows, None
        plain = single[1](entity_rows[single[0]]) if single is not None else _plain_keys(entity_rows, plainly)
        if plain is not None:
            return plain, None
        keys: list[bytes] = []
        rows: list[int] = []
        for i, values in enumerate(zip(*(entity_rows[name] for name in names), strict=True)):
            checked = _checked(values, columns, i, title)
            if None not in checked:
                keys.append(encode(checked))
                rows.append(i)
        return keys, None if len(rows) == n_rows else rows

    return read


def _plain_keys(
    entity_rows: Mapping[str, Sequence[Any]], plainly: Sequence[tuple[str, PlainSpeller]]
) -> list[bytes] | None:
    """Return the packed keys where each value is plainly of its column's type, else None."""
    spelled = []
    for column, spell in plainly:
        plain = spell(entity_rows[column])
        if plain is None:
            return None
        spelled.append(plain)
    return list(map(b"".join, zip(*spelled, strict=True))) if spelled else None


def _checked(values: Sequence[Any], columns: Sequence[tuple[str, DType]], row: int, title: str) -> list[Any]:
    try:
        return [
            key_value(value, dtype, column) for value, (column, dtype) in zip(values, columns, strict=True)
        ]
    except StoreError as error:
        raise ServeError(
            f"entity row {row}: {error.what}", object=title, expected=error.expected, hint=error.hint
        ) from error


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
