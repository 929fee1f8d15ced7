"""Functions of arrays for on-demand features: calendar parts of times, the same offline and online.

Times are ``datetime64[us]`` in UTC; a missing time (NaT) gives NaN, so results are float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["day_of_week", "hour", "minute_of_day", "month"]

Times = NDArray[np.datetime64]
Floats = NDArray[np.float64]

_HOUR = 3_600_000_000
_MINUTE = 60_000_000
_DAY = 86_400_000_000


def hour(times: Times | Any) -> Floats:
    """Return the hour of the day in UTC, 0.0 to 23.0; shape (n,), NaN for missing times.

    Example:
        >>> hour(np.array(["2013-01-01T10:59", "NaT"], dtype="datetime64[us]")).tolist()
        [10.0, nan]
    """
    return _part(times, lambda us: us % _DAY // _HOUR)


def minute_of_day(times: Times | Any) -> Floats:
    """Return the minutes since midnight in UTC, 0.0 to 1439.0; shape (n,), NaN for missing times."""
    return _part(times, lambda us: us % _DAY // _MINUTE)


def day_of_week(times: Times | Any) -> Floats:
    """Return the day of the week in UTC, Monday 0.0 to Sunday 6.0; shape (n,), NaN for missing times."""
    return _part(times, lambda us: (us // _DAY + 3) % 7)


def month(times: Times | Any) -> Floats:
    """Return the month in UTC, 1.0 to 12.0; shape (n,), NaN for missing times."""
    months = np.asarray(times, dtype="datetime64[us]").astype("datetime64[M]")
    return np.where(np.isnat(months), np.nan, months.astype(np.int64) % 12 + 1.0)


def _part(times: Times | Any, of_microseconds: Any) -> Floats:
    moments = np.asarray(times, dtype="datetime64[us]")
    return np.where(np.isnat(moments), np.nan, of_microseconds(moments.astype(np.int64)).astype(np.float64))
