"""When what is watched is looked at and started, as numbers: not too often, often enough, later after each failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlflow_core.metadata import Schedule
from mlflow_core.workflow.schedule.conditions import Sight
from mlflow_core.workflow.schedule.watching import after_failed_look, after_look, after_start, seen_first

MINUTE = 60_000_000
HOUR = 60 * MINUTE
OLD, NEW = {"snapshot": "old"}, {"snapshot": "new"}


def watched(seen: dict[str, Any], *, at_least_us: int | None = None) -> Schedule:
    triggers = {
        "when": {"kind": "fresh"},
        "look_us": MINUTE,
        "at_most_us": 10 * MINUTE,
        "at_least_us": at_least_us,
    }
    return Schedule(
        **{"id": 1, "name": "late", "pipeline": "late", "cron": None, "zone": "UTC", "triggers": triggers},
        **{
            "seen": seen,
            "paused": False,
            "next_us": 0,
            "last_run": None,
            "last_us": None,
            "last_error": None,
        },
        **{"lease_owner": None, "lease_until_us": None, "principal": "ada", "established": "os"},
        **{"created_us": 0, "changed_us": 0},
    )


def same() -> Sight:
    return Sight(OLD, None, "orders old")


def other() -> Sight:
    return Sight(NEW, "orders has changed", "orders new")


def test_where_nothing_is_new_it_is_looked_at_again_after_a_while() -> None:
    verdict = after_look(watched(seen_first(same(), 0)), same(), HOUR)

    assert (verdict.why, verdict.next_us) == (None, HOUR + MINUTE)
    assert verdict.seen["told"] == "orders old"


def test_an_arrival_starts_and_is_in_mind_once_the_start_has_ended() -> None:
    one = watched(seen_first(same(), 0))
    verdict = after_look(one, other(), HOUR)
    next_us, seen = after_start(one, verdict, HOUR)

    assert verdict.why == "orders has changed"
    assert (next_us, seen["started_with"], seen["started_us"]) == (HOUR + 10 * MINUTE, NEW, HOUR)
    assert one.seen["started_with"] == OLD  # until then a scheduler that looks finds the arrival


def test_an_arrival_soon_after_a_start_waits_for_its_time() -> None:
    seen = {**seen_first(same(), 0), "started_us": HOUR}
    early = after_look(watched(seen), other(), HOUR + 9 * MINUTE)
    late = after_look(replace(watched(seen), seen=early.seen), other(), early.next_us)

    assert (early.why, early.next_us) == (None, HOUR + 10 * MINUTE)
    assert early.seen["started_with"] == OLD
    assert late.why == "orders has changed"


def test_after_the_longest_time_it_is_started_whatever_was_seen() -> None:
    seen = seen_first(same(), 0)
    one = watched(seen, at_least_us=HOUR)

    assert after_look(one, same(), HOUR - 30_000_000).next_us == HOUR  # and not a minute later
    assert after_look(one, same(), HOUR).why == "nothing was reason enough for 1h"
    failed = after_failed_look(one, "the share is away", HOUR)
    assert (failed.why, failed.found) == ("nothing was reason enough for 1h", None)
    _, after = after_start(one, failed, HOUR)
    assert after["started_with"] == OLD  # what has arrived unseen is still an arrival
    assert after_look(watched(after, at_least_us=HOUR), same(), 2 * HOUR - 1).why is None


def test_looks_that_are_further_apart_than_the_longest_time_do_not_make_it_longer() -> None:
    one = watched(seen_first(same(), 0), at_least_us=HOUR)
    rarely = replace(one, triggers={**one.triggers, "look_us": 90 * MINUTE})

    verdict = after_look(rarely, same(), HOUR)
    assert verdict.why is not None
    assert after_start(rarely, verdict, HOUR)[0] == 2 * HOUR


def test_looks_that_fail_come_later_each_time_up_to_an_hour_and_say_why() -> None:
    one, now, pauses = watched(seen_first(None, 0)), 0, []
    for _ in range(10):
        verdict = after_failed_look(one, "the share is away", now)
        pauses.append((verdict.next_us - now) // MINUTE)
        one, now = replace(one, seen=verdict.seen), verdict.next_us

    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert (one.seen["problem"], one.seen["failures"]) == ("the share is away", 10)
    better = after_look(one, other(), now)
    assert better.why is None  # nobody knows what was there before: this is the first that was seen
    assert better.seen["started_with"] == NEW
    assert {"problem", "failures"}.isdisjoint(better.seen)
