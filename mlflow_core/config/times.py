"""Times and durations as text and as integers: int64 microseconds since the epoch, UTC.

The only place where a time is read from or written as text outside a table. A naive time is UTC and
nanoseconds are floored (docs/concepts.md, "Time and events"). No clock is read here.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from mlflow_core.errors import UsageError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNITS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_DURATION: Final = re.compile(r"(?:\d+(?:us|ms|[smhdw]))+")
_PART: Final = re.compile(r"(\d+)(us|ms|[smhdw])")


def parse_time(value: str | datetime | date) -> int:
    """Read a moment.

    Args:
        value: ISO-8601 text (``2013-11-15``, ``2013-11-15T12:30Z``, ``2013-11-15 07:30:00-05:00``) or a
            datetime or date. Without an offset it is UTC. Digits below the microsecond are floored.

    Returns:
        Microseconds since the epoch, UTC.

    Raises:
        UsageError: The text is no ISO-8601 time.

    Example:
        >>> parse_time("1970-01-01T00:00:01Z")
        1000000
    """
    if isinstance(value, str):
        try:
            moment: date = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise UsageError(
                f'"{value}" is not a time',
                expected="ISO-8601, e.g. 2013-11-15T12:30Z (no offset means UTC)",
            ) from error
    else:
        moment = value
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    # Rebuilt from its parts: a pandas Timestamp is a datetime whose difference keeps nanoseconds.
    whole = datetime(
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        UTC,
    )
    return (whole - EPOCH) // timedelta(microseconds=1)


def format_time(us: int) -> str:
    """Write a moment as ISO-8601 with a final ``Z``, with microseconds only where there are any.

    Args:
        us: Microseconds since the epoch, UTC.

    Raises:
        UsageError: The moment is outside the years 1 to 9999.

    Example:
        >>> format_time(1_000_000)
        '1970-01-01T00:00:01Z'
    """
    try:
        moment = EPOCH + timedelta(microseconds=int(us))
    except OverflowError as error:
        raise UsageError(f"{us} microseconds since the epoch is outside the years 1 to 9999") from error
    return moment.replace(tzinfo=None).isoformat() + "Z"


def parse_duration(text: str) -> int:
    """Read a length of time such as ``90s``, ``24h``, ``14d`` or ``1d12h``.

    Args:
        text: Whole numbers with a unit each: us, ms, s, m, h, d, w.

    Returns:
        Microseconds.

    Raises:
        UsageError: The text is no such duration.

    Example:
        >>> parse_duration("1h30m")
        5400000000
    """
    if not _DURATION.fullmatch(text.strip()):
        raise UsageError(
            f'"{text}" is not a duration', expected="numbers with units, e.g. 90s, 24h, 14d, 1d12h"
        )
    return sum(int(number) * UNITS[unit] for number, unit in _PART.findall(text))


def format_duration(us: int) -> str:
    """Write a length of time in the fewest whole units, the inverse of :func:`parse_duration`.

    Args:
        us: Microseconds, not negative.

    Example:
        >>> format_duration(5_400_000_000)
        '1h30m'
    """
    if us < 0:
        raise UsageError(f"a duration of {us} microseconds is negative")
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, us = divmod(us, UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
