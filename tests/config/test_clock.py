"""Clocks, times and durations, exact to the microsecond."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.config import (
    Clock,
    FixedClock,
    ShiftedClock,
    SystemClock,
    format_duration,
    format_time,
    os_principal,
    parse_clock,
    parse_duration,
    parse_time,
)
from mlflow_core.errors import UsageError

NOON = 1_384_518_600_000_000  # 2013-11-15T12:30Z


@pytest.mark.parametrize(
    "value",
    [
        "2013-11-15T12:30Z",
        "2013-11-15 12:30",
        "2013-11-15T12:30:00.000000999",  # nanoseconds are floored
        "2013-11-15T07:30:00-05:00",
        datetime(2013, 11, 15, 12, 30),
        datetime(2013, 11, 15, 13, 30, tzinfo=timezone(timedelta(hours=1))),
        pd.Timestamp("2013-11-15T12:30:00.000000999Z"),
        pd.Timestamp("2013-11-15T07:30:00", tz="America/New_York"),
    ],
)
def test_one_moment_written_in_many_ways_is_one_number(value: str | datetime) -> None:
    assert parse_time(value) == NOON


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_every_microsecond_survives_being_written_and_read(us: int) -> None:
    assert parse_time(format_time(us)) == us


@given(st.integers(0, 10**18))
def test_every_duration_survives_being_written_and_read(us: int) -> None:
    assert parse_duration(format_duration(us)) == us


def test_a_time_before_the_epoch_is_floored_too() -> None:
    assert parse_time(pd.Timestamp("1969-12-31T23:59:59.999999999Z")) == -1


@pytest.mark.parametrize("text", ["", "tomorrow", "2013-13-01", "15.11.2013"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="2013-11-15T12:30Z"):
        parse_time(text)


@pytest.mark.parametrize("text", ["", "5", "h", "1.5h", "-1h", "1y"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="24h"):
        parse_duration(text)


def test_a_moment_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(UsageError, match="9999"):
        format_time(10**20)


def test_each_clock_is_read_from_its_text() -> None:
    assert parse_clock("system") == SystemClock()
    assert parse_clock("2013-11-15T12:30Z") == FixedClock(NOON)
    assert parse_clock("+2h") == ShiftedClock(7_200_000_000)
    assert parse_clock("-1d12h") == ShiftedClock(-129_600_000_000)
    for text in ("system", "2013-11-15T12:30:00Z", "+2h", "-1d12h"):
        clock = parse_clock(text)
        assert isinstance(clock, Clock)
        assert str(clock) == text


def test_a_clock_from_a_time_starts_there_and_runs() -> None:
    clock = parse_clock("from:2013-11-15T12:30Z")
    first = clock.now_us()
    time.sleep(0.002)
    assert 0 <= first - NOON < 5_000_000
    assert clock.now_us() >= first + 2_000


def test_the_system_clock_is_now() -> None:
    now = parse_time(datetime.now(UTC))
    assert abs(SystemClock().now_us() - now) < 5_000_000


@pytest.mark.parametrize("text", ["", "never", "+soon", "from:", "from:x"])
def test_what_is_no_clock_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a clock"):
        parse_clock(text)


def test_the_operating_systems_user_is_a_claim_not_a_token() -> None:
    principal = os_principal()
    assert principal.name
    assert principal.established == "os"
