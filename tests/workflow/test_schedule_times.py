"""Which moments a cron line means: held to a clock that is looked at every minute, above all where it is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlflow_core.config.times import format_time, parse_time
from mlflow_core.workflow.schedule.times import count_between, next_time, times_after
from tests.oracle.schedules import moments

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# Days on which clocks are changed: by an hour, by half an hour, at midnight, over a whole day; and none.
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),
    "America/Sao_Paulo": ("2018-02-18", "2018-11-04"),
    "Pacific/Apia": ("2011-12-30", "2011-12-31"),
    "Asia/Kolkata": ("2026-03-29",),
    "UTC": ("2026-03-29",),
}


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def field(least: int, most: int) -> st.SearchStrategy[str]:
    one = st.integers(least, most).map(str)
    # A range of one value is refused; one of all values beside a day of the month, crons read differently.
    ranges = st.tuples(st.integers(least, most - 2), st.integers(1, most - 1)).map(
        lambda ends: f"{ends[0]}-{min(ends[0] + ends[1], most - (ends[0] == least))}"
    )
    steps = st.sampled_from(["*/2", "*/5", "*/15"])
    return st.one_of(st.just("*"), one, ranges, steps, st.lists(one, min_size=2, max_size=3).map(",".join))


hours = st.one_of(st.sampled_from(["0", "1", "2", "3", "1-3", "23", "0,2,3"]), field(0, 23))
days = st.one_of(st.just("*"), st.integers(1, 28).map(str))
lines = st.tuples(field(0, 59), hours, days, st.just("*"), st.one_of(st.just("*"), field(0, 6))).map(" ".join)
places = st.sampled_from(
    [
        (zone, datetime.fromisoformat(day).replace(tzinfo=UTC))
        for zone, all_ in CHANGES.items()
        for day in all_
    ]
)


@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(lines, places, st.integers(0, 2 * 24 * 60))
def test_the_moments_around_a_change_of_clocks_are_those_of_somebody_who_looks_every_minute(
    cron: str, place: tuple[str, datetime], minutes: int
) -> None:
    if cron.split()[2] != "*" and cron.split()[4].startswith("*/"):
        cron = " ".join(
            [*cron.split()[:4], "*"]
        )  # what "*/n" beside a day of the month means, crons disagree on
    zone, day = place
    after = day - DAY + timedelta(minutes=minutes)
    until = day + 2 * DAY

    found = []
    for time in times_after(cron, zone, us(after)):
        if time > us(until):
            break
        found.append(time)

    assert found == [us(one) for one in moments(cron, zone, after, until)]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # In spring 02:30 is left out in Berlin: it runs when 03:00 begins, and on the next day at 02:30 again.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00Z",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        # In autumn 02:30 comes twice: it runs the first time.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        # What runs every hour runs in both.
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
        ),
        ("0 6 * * *", "Europe/Berlin", "2026-07-01T00:00Z", ["2026-07-01T04:00:00Z", "2026-07-02T04:00:00Z"]),
        ("@daily", "UTC", "2026-01-01T00:00Z", ["2026-01-02T00:00:00Z"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", ["2028-02-29T00:00:00Z"]),
    ],
)
def test_a_line_means_these_moments(cron: str, zone: str, after: str, expected: list[str]) -> None:
    found = islice(times_after(cron, zone, parse_time(after)), len(expected))

    assert [format_time(one) for one in found] == expected


def test_a_line_that_never_comes_has_no_moment() -> None:
    assert next_time("0 0 30 2 *", "UTC", 0) is None


def test_moments_are_counted() -> None:
    start = parse_time("2026-01-01T00:00Z")

    assert count_between("*/15 * * * *", "UTC", start, start + 3600 * 1_000_000) == 4
    assert count_between("0 0 * * *", "UTC", start, start) == 0
