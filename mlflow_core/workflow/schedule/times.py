"""Which moments a cron line means in a time zone, also where clocks are put forward or back.

A line is matched against the hands of the zone's clock. An hour that the clock leaves out in spring would lose a
run: what falls into it is started at the first moment after it. An hour that it shows twice in autumn would give a
second run: what has a fixed hour is started the first time only, what runs all the hours (an hour field that begins with
``*``) is started in both. ``tests/oracle/schedules.py`` is the naive truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

__all__ = ["count_between", "next_time", "times_after"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_A_WHILE = timedelta(hours=26)  # no clock was ever put forward or back by more than a day
_MINUTE = timedelta(minutes=1)
_COUNTED = 100_000


def next_time(cron: str, zone: str, after_us: int) -> int | None:
    """Return the first moment after another that a cron line means.

    Args:
        cron: Five fields, or a nickname such as ``@daily``.
        zone: The time zone of its hours.
        after_us: Microseconds since the epoch, UTC.

    Returns:
        Microseconds since the epoch, UTC; None where the line never comes (30 February).

    Example:
        >>> from mlflow_core.config.times import format_time, parse_time
        >>> format_time(next_time("30 2 * * *", "Europe/Berlin", parse_time("2026-03-28T12:00Z")))
        '2026-03-29T01:00:00Z'
    """
    return next(times_after(cron, zone, after_us), None)


def times_after(cron: str, zone: str, after_us: int) -> Iterator[int]:
    """Yield the moments after another that a cron line means, in order; see ``next_time``."""
    clock = ZoneInfo(zone)
    after = _EPOCH + timedelta(microseconds=after_us)
    both = _runs_all_hours(cron)
    told = after
    # What the clock shows a second time comes after later hands seen once: it waits here until it is its turn.
    waiting: list[datetime] = []
    for hands in _matching(cron, _hands_before(clock, after)):
        first, second = _moments(hands, clock)
        while waiting and waiting[0] <= first:
            if waiting[0] > told:
                told = waiting[0]
                yield _us(told)
            waiting.pop(0)
        if both and second is not None:
            waiting.append(second)
        if first > told:
            told = first
            yield _us(told)


def count_between(cron: str, zone: str, after_us: int, until_us: int) -> int:
    """Count the moments after one and until another, at most a hundred thousand."""
    found = islice(times_after(cron, zone, after_us), _COUNTED)
    return sum(1 for _ in _while_until(found, until_us))


def _while_until(times: Iterator[int], until_us: int) -> Iterator[int]:
    for time in times:
        if time > until_us:
            return
        yield time


def _matching(cron: str, start: datetime) -> Iterator[datetime]:
    """The hands, without a zone, that match a line from a start on."""
    from croniter import CroniterBadDateError, croniter

    found = croniter(cron, start - _MINUTE)
    while True:
        try:
            hands = found.get_next(datetime)
        except CroniterBadDateError:
            return
        yield hands


def _hands_before(clock: ZoneInfo, after: datetime) -> datetime:
    """From which hands on a match can mean a moment after another: earlier ones where the clock was changed lately."""
    now, before = after.astimezone(clock), (after - _A_WHILE).astimezone(clock)
    ahead = (after + _A_WHILE).astimezone(clock)
    if now.utcoffset() == before.utcoffset() == ahead.utcoffset():
        return now.replace(tzinfo=None, second=0, microsecond=0)
    return before.replace(tzinfo=None, second=0, microsecond=0)


def _moments(hands: datetime, clock: ZoneInfo) -> tuple[datetime, datetime | None]:
    """When the clock shows some hands, and when again; the first moment after them where it leaves them out."""
    early, late = (hands.replace(tzinfo=clock, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early == late:
        return early, None
    if early.astimezone(clock).replace(tzinfo=None) == hands:
        return early, late
    return _end_of_gap(hands, clock), None


def _end_of_gap(hands: datetime, clock: ZoneInfo) -> datetime:
    # The two readings of hands that do not exist lie on the two sides of the change.
    early, late = sorted(hands.replace(tzinfo=clock, fold=fold).astimezone(UTC) for fold in (0, 1))
    before = early.astimezone(clock).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(clock).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


def _runs_all_hours(cron: str) -> bool:
    return cron == "@hourly" or (not cron.startswith("@") and cron.split()[1].startswith("*"))


def _us(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
