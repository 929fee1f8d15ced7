"""The truth of cron lines in a time zone: look at the zone's clock in every minute that passes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
NAMES = ("minute", "hour", "day", "month", "weekday")
LEAST = {"minute": 0, "hour": 0, "day": 1, "month": 1, "weekday": 0}
MOST = {"minute": 59, "hour": 23, "day": 31, "month": 12, "weekday": 6}


def moments(cron: str, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Every moment in (after, until] that a line means, both on a full minute, UTC."""
    clock = ZoneInfo(zone)
    both = cron.split()[1].startswith("*")
    found = []
    now = after
    while now < until:
        now += MINUTE
        here, before = now.astimezone(clock), (now - MINUTE).astimezone(clock)
        hands, last = here.replace(tzinfo=None, fold=0), before.replace(tzinfo=None, fold=0)
        shown_again = here.fold == 1
        left_out = list(minutes_between(last, hands))
        if any(matches(cron, one) for one in left_out) or (
            matches(cron, hands) and (both or not shown_again)
        ):
            found.append(now)
    return found


def minutes_between(last: datetime, hands: datetime) -> Iterator[datetime]:
    """The hands that a clock leaves out when it jumps forward from one minute to another."""
    while (last := last + MINUTE) < hands:
        yield last


def matches(cron: str, hands: datetime) -> bool:
    values = dict(
        zip(
            NAMES,
            (hands.minute, hands.hour, hands.day, hands.month, hands.isoweekday() % 7),
            strict=True,
        )
    )
    fields = dict(zip(NAMES, cron.split(), strict=True))
    fits = {name: values[name] in allowed(name, text) for name, text in fields.items()}
    either = fields["day"] != "*" and fields["weekday"] != "*"  # both are written: one of them is enough
    day = any((fits["day"], fits["weekday"])) if either else all((fits["day"], fits["weekday"]))
    return day and fits["minute"] and fits["hour"] and fits["month"]


@cache
def allowed(name: str, text: str) -> frozenset[int]:
    """The values of one field: ``*``, ``*/n``, ``a``, ``a-b``, and lists of them."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first = LEAST[name] if span == "*" else int(low)
        last = MOST[name] if span == "*" else int(high or low)
        found |= set(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def as_time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
