"""Times as protobuf's JSON has them: RFC 3339 in UTC with ``Z``, and no fraction, three digits or six."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from mlflow_core.errors import StoredRowError

__all__ = ["single_stamp", "stamp", "stamps"]

_EPOCH = date(1970, 1, 1)
_START = datetime(1970, 1, 1)  # orjson is told that it is UTC
_NO_TIME = "1970-01-01T00:00:00Z"
_LEAST, _MOST = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999
_FAR = 221_845_392_000_000_000  # the year 9000: orjson does not know the last of them
_MANY = 8  # from how many times on numpy is faster than a loop
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def stamp(us: int | None) -> str:
    """Return one time.

    Args:
        us: Microseconds since epoch, UTC; None for no time, which is the epoch there.

    Raises:
        StoredRowError: No date is that far from the epoch: the row is damaged.

    Example:
        >>> stamp(1_384_522_200_250_000)
        '2013-11-15T13:30:00.250Z'
    """
    if us is None:
        return _NO_TIME
    if not _LEAST <= us <= _MOST:
        raise StoredRowError(
            f"a stored time of {us} microseconds since the epoch is outside the years 1 to 9999",
            object="online store",
        )
    seconds, fraction = divmod(us, 1_000_000)
    days, second = divmod(seconds, 86_400)
    text = f"{_day(days)}T{second // 3_600:02}:{second // 60 % 60:02}:{second % 60:02}"
    if not fraction:
        return text + "Z"
    return f"{text}.{fraction:06}Z" if fraction % 1_000 else f"{text}.{fraction // 1_000:03}Z"


def stamps(times: Sequence[int | None]) -> bytes:
    """Return times as a JSON list; see ``stamp``.

    Args:
        times: Microseconds since epoch, UTC.
    """
    if None in times or min(times, default=0) < _LEAST or max(times, default=0) > _FAR:  # type: ignore[type-var,operator]
        return orjson.dumps([stamp(time) for time in times])
    moments: Any = (
        np.array(times, np.int64).view("M8[us]")
        if len(times) >= _MANY
        else [_START + timedelta(0, 0, time) for time in times]  # type: ignore[arg-type]
    )
    # orjson has six digits wherever there is a fraction.
    return orjson.dumps(moments, option=_OPTIONS).replace(b'000Z"', b'Z"')


def single_stamp(time: int) -> bytes:
    """Return one time as a JSON text; see ``stamp``."""
    if _LEAST <= time <= _FAR:
        return orjson.dumps(_START + timedelta(0, 0, time), option=_OPTIONS).replace(b'000Z"', b'Z"')
    return orjson.dumps(stamp(time))


@lru_cache(maxsize=16_384)
def _day(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).isoformat()
