"""What time it is: the system's clock, a fixed one, or one that runs beside the system's.

Every part that needs "now" takes a ``Clock``; nothing else asks the operating system. Historical data is
read and served on a clock of its own time (``--clock``, ``--at``), so that no TTL has run out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mlflow_core.config.times import format_duration, format_time, parse_duration, parse_time
from mlflow_core.errors import UsageError


@runtime_checkable
class Clock(Protocol):
    """Says what time it is."""

    def now_us(self) -> int:
        """Now, in microseconds since the epoch, UTC."""
        ...


@dataclass(frozen=True)
class SystemClock:
    """The operating system's clock."""

    def now_us(self) -> int:
        """Now, in microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000

    def __str__(self) -> str:
        return "system"


@dataclass(frozen=True)
class FixedClock:
    """A clock that stands still.

    Args:
        us: The moment it always shows, in microseconds since the epoch, UTC.
    """

    us: int

    def now_us(self) -> int:
        """The fixed moment, in microseconds since the epoch, UTC."""
        return self.us

    def __str__(self) -> str:
        return format_time(self.us)


@dataclass(frozen=True)
class ShiftedClock:
    """A clock that runs at the system's pace, a constant distance away from it.

    Args:
        offset_us: Microseconds added to the system's time; negative for the past.
    """

    offset_us: int

    def now_us(self) -> int:
        """The system's time plus the offset, in microseconds since the epoch, UTC."""
        return SystemClock().now_us() + self.offset_us

    def __str__(self) -> str:
        return f"{'-' if self.offset_us < 0 else '+'}{format_duration(abs(self.offset_us))}"


def parse_clock(text: str) -> Clock:
    """Read a clock from a setting or an option.

    Args:
        text: ``system``; an ISO-8601 time, at which the clock stands still; ``+2h`` or ``-30d``, a distance
            from the system's clock; or ``from:<ISO-8601 time>``, which starts there now and then runs.

    Raises:
        UsageError: The text is none of these.

    Example:
        >>> parse_clock("2013-11-15T12:30Z").now_us()
        1384518600000000
    """
    text = text.strip()
    try:
        if text == "system":
            return SystemClock()
        if text.startswith("from:"):
            return ShiftedClock(parse_time(text.removeprefix("from:")) - SystemClock().now_us())
        if text[:1] in ("+", "-"):
            return ShiftedClock(parse_duration(text[1:]) * (-1 if text[0] == "-" else 1))
        return FixedClock(parse_time(text))
    except UsageError as error:
        raise UsageError(
            f'"{text}" is not a clock',
            expected='"system", a time such as 2013-11-15T12:30Z, a distance such as -30d, or from:<time>',
        ) from error
