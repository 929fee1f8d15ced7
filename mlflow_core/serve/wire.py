"""Values in JSON: how each type is written and read, so that nothing is lost or guessed.

======================  ==========================================  =================================================
type                    written                                     read
======================  ==========================================  =================================================
bool, string            as they are                                 as they are; a number is no string
int64, int32            number; beyond +-2**53 as decimal text,      number without fraction (``3`` or ``3.0``), or
                        since many readers would round it           decimal text; must fit the type
float64, float32        number; ``"NaN"``, ``"Infinity"``,           number, or that text
                        ``"-Infinity"`` as text
timestamp               ``2013-11-15T12:30:00Z``, digits below       ISO-8601 text (no offset is UTC), or whole
                        the second only where there are any         microseconds since epoch, UTC
bytes                   base64 (RFC 4648, padded)                   the same
uuid                    ``8-4-4-4-12`` hexadecimal                  any spelling of a UUID
list                    array                                       array; items may be null
map<string,string>      object                                      object of strings
null                    ``null``                                    ``null``; as a key it matches nothing
======================  ==========================================  =================================================

The same readers serve ``key=value`` on a command line, where everything starts as text.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from mlflow_core.config.times import format_time, parse_time
from mlflow_core.errors import UsageError
from mlflow_core.spec import DType

__all__ = ["Reader", "Writer", "column_reader", "column_writer", "read_text", "read_value"]

Writer: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
"""From the values of a column to JSON values."""

Reader: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
"""From JSON values, as ``orjson.loads`` gives them, to the values of a column; shape (n_rows,) each."""

_EXACT = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile("-?[0-9]{1,19}")  # int() would also read "1_0", " 1" and digits of other scripts
_TEXT_OF = {math.inf: "Infinity", -math.inf: "-Infinity"}
_NUMBER_OF = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BOOLS = {"true": True, "false": False}


def read_value(value: Any, dtype: DType) -> Any:
    """Read one JSON value.

    Args:
        value: What ``orjson.loads`` gave.
        dtype: The type it must have.

    Returns:
        None, bool, int, float, str, bytes, ``UUID``, aware ``datetime``, a list or a dict of these.

    Raises:
        ValueError: It is not of the type.
    """
    if value is None:
        return None
    if dtype.item is not dtype:
        if not isinstance(value, list):
            raise ValueError
        return [read_value(one, dtype.item) for one in value]
    return _READ[dtype](value)


def column_reader(dtype: DType) -> Reader:
    """Return what reads the JSON values of one column; it raises ``ValueError`` where one of them is not of the type.

    Args:
        dtype: The type they must have.
    """
    if dtype is DType.INT64:
        return _read_ints
    if dtype.item is not dtype:
        return lambda values: [read_value(value, dtype) for value in values]
    plain, read = _PLAIN.get(dtype), _READ[dtype]

    def column(values: Sequence[Any]) -> Sequence[Any]:
        if plain is not None and set(map(type, values)) == {plain}:
            return values
        return [None if value is None else read(value) for value in values]

    return column


def read_text(text: str, dtype: DType) -> Any:
    """Read one value of a command line; nothing at all is null.

    Args:
        text: What stands behind the ``=``.
        dtype: The type it must have.

    Raises:
        ValueError: It is not of the type.

    Example:
        >>> read_text("3", DType.INT64), read_text("3", DType.STRING), read_text("", DType.STRING)
        (3, '3', None)
    """
    if text == "":
        return None
    if dtype is DType.BOOL:
        if text not in _BOOLS:
            raise ValueError
        return _BOOLS[text]
    if dtype in (DType.FLOAT64, DType.FLOAT32) and text not in _NUMBER_OF:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    if dtype.item is not dtype or dtype is DType.MAP:
        return read_value(orjson.loads(text), dtype)
    return read_value(text, dtype)


def column_writer(dtype: DType) -> Writer | None:
    """Return what makes JSON values of a column's values; None where they are their own.

    Args:
        dtype: The column's type.
    """
    if dtype in (DType.FLOAT64, DType.FLOAT32):
        return _write_floats
    if dtype is DType.INT64:
        return _write_ints
    write = _WRITE.get(dtype.item)
    if write is None:
        return None
    if dtype.item is not dtype:
        return lambda values: [
            None if many is None else [None if one is None else write(one) for one in many] for many in values
        ]
    return lambda values: [None if value is None else write(value) for value in values]


def _read_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _int_of(bits: int) -> Callable[[Any], int]:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def read(value: Any) -> int:
        whole = isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT
        if whole or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
            number = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            raise ValueError
        if not least <= number <= most:
            raise ValueError
        return number

    return read


def _read_ints(values: Sequence[Any]) -> Sequence[Any]:
    if len(values) == 1 and values[0].__class__ is int:  # one key: most requests
        if -(2**63) <= values[0] < 2**63:
            return values
        raise ValueError
    if set(map(type, values)) == {int}:
        if min(values) >= -(2**63) and max(values) < 2**63:
            return values
        raise ValueError
    read = _READ[DType.INT64]
    return [None if value is None else read(value) for value in values]


def _read_float(value: Any) -> float:
    if isinstance(value, str) and value in _NUMBER_OF:
        return _NUMBER_OF[value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError


def _read_time(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = parse_time(value)
        except (UsageError, OverflowError) as error:  # no time, or before year 1 or after 9999 as UTC
            raise ValueError from error
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError as error:
        raise ValueError from error


def _read_bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _read_uuid(value: Any) -> UUID:
    if not isinstance(value, str):
        raise ValueError
    return UUID(value)


def _read_map(value: Any) -> dict[str, str | None]:
    if not isinstance(value, dict) or not all(one is None or isinstance(one, str) for one in value.values()):
        raise ValueError
    return value


# Types of JSON values that need no reading.
_PLAIN: dict[DType, type] = {DType.STRING: str, DType.FLOAT64: float, DType.BOOL: bool}

_READ: dict[DType, Callable[[Any], Any]] = {
    DType.BOOL: _read_bool,
    DType.INT64: _int_of(64),
    DType.INT32: _int_of(32),
    DType.FLOAT64: _read_float,
    DType.FLOAT32: _read_float,
    DType.STRING: _read_text,
    DType.BYTES: _read_bytes,
    DType.TIMESTAMP: _read_time,
    DType.UUID: _read_uuid,
    DType.MAP: _read_map,
}


def _write_int(value: int) -> int | str:
    return value if -_EXACT <= value <= _EXACT else str(value)


def _write_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return _TEXT_OF.get(value, "NaN")


def _write_floats(values: Sequence[Any]) -> Sequence[Any]:
    try:
        total = sum(values)
    except TypeError:  # a null among them
        return [None if value is None else _write_float(value) for value in values]
    # Most columns are all finite, and then so is their sum, unless it overflows.
    return values if total - total == 0 else [_write_float(value) for value in values]


def _write_ints(values: Sequence[Any]) -> Sequence[Any]:
    try:
        if not values or (min(values) >= -_EXACT and max(values) <= _EXACT):
            return values
    except TypeError:  # a null among them
        pass
    return [None if value is None else _write_int(value) for value in values]


def _write_time(value: Any) -> str:
    return format_time(value if isinstance(value, int) else parse_time(value))


_WRITE: dict[DType, Callable[[Any], Any]] = {
    DType.INT64: _write_int,
    DType.FLOAT64: _write_float,
    DType.FLOAT32: _write_float,
    DType.TIMESTAMP: _write_time,
    DType.BYTES: lambda value: base64.b64encode(value).decode(),
    DType.UUID: str,
    DType.MAP: dict,
}
