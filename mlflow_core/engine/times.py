"""Times as int64 microseconds since epoch, UTC: out of any Arrow time column, and sums that saturate.

Naive times are UTC, finer units are floored. Nothing here knows what a time is for.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.algebra.types import TIME
from mlflow_core.errors import SourceError

__all__ = ["EARLIEST", "NEVER", "Flags", "Int64", "floor_to", "frozen", "microseconds", "plus", "time_array"]

A = TypeVar("A", bound=NDArray[Any])
Int64: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

NEVER = int(np.iinfo(np.int64).max)
EARLIEST = int(np.iinfo(np.int64).min)
_A_DAY = 86_400_000_000
_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}


def microseconds(column: pa.ChunkedArray | pa.Array, *, name: str, title: str) -> tuple[Int64, Flags]:
    """Read a time column.

    Args:
        column: Timestamps of any unit and zone, or dates; shape (n,).
        name: The column's name, for the error.
        title: Whose column it is, for the error.

    Returns:
        Microseconds since epoch in UTC, int64 (n,), 0 where null; and what is null, bool (n,).

    Raises:
        SourceError: The column holds no times, or one beyond what int64 microseconds can say.
    """
    kind = column.type
    nulls = np.asarray(column.is_null()) if column.null_count else np.zeros(len(column), np.bool_)
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.int64), nulls
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        unit, raw = ("ms" if pa.types.is_date64(kind) else kind.unit), column.cast(pa.int64())
    elif pa.types.is_date32(kind):
        unit, raw = "day", column.cast(pa.int32()).cast(pa.int64())
    else:
        raise SourceError(
            f'column "{name}" holds {kind}, not times', object=title, expected="a timestamp or date column"
        )
    # Without nulls a column in one piece is only looked at, not copied.
    values = np.asarray(raw.fill_null(0) if raw.null_count else raw, dtype=np.int64)
    if unit == "ns":
        return values // 1_000, nulls
    factor = _A_DAY if unit == "day" else _PER_UNIT[unit]
    if factor == 1:
        return values, nulls
    reach = NEVER // factor
    if len(values) and not -reach <= int(values.min()) <= int(values.max()) <= reach:
        raise SourceError(
            f'column "{name}" holds a time beyond the reach of microseconds in 64 bits', object=title
        )
    return values * factor, nulls


def time_array(values: Int64, nulls: Flags | None = None) -> pa.Array:
    """Return an Arrow column of microsecond UTC times."""
    return pa.array(values, pa.int64(), mask=nulls).cast(TIME)


def plus(times: Int64, delta: int) -> Int64:
    """Add microseconds to times; what would overflow stays at the first or last time."""
    delta = max(EARLIEST, min(NEVER, delta))
    if delta >= 0:
        result: Any = np.where(times > NEVER - delta, NEVER, times + np.int64(delta))
    else:
        result = np.where(times < EARLIEST - delta, EARLIEST, times + np.int64(delta))
    return np.asarray(result, np.int64)


def frozen(values: A) -> A:
    """Return the same numbers as an array that nobody writes to.

    Numba compiles a kernel once more for arrays that are read-only, as those that Arrow owns are; so where they come
    both from Arrow and from elsewhere, all are made so.
    """
    view = values.view()
    view.flags.writeable = False
    return view


def floor_to(times: Int64, step: int) -> Int64:
    """Round times down to multiples of a step (microseconds), counted from the epoch."""
    # A multiple below the first int64 cannot be said; nobody has events within a step of it.
    reachable = np.maximum(times, EARLIEST + step)
    return np.asarray(reachable // np.int64(step) * np.int64(step), np.int64)
