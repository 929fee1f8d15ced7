"""When a schedule that waits for something is looked at and started: not too often, often enough, once for one arrival.

What was found before the last start stands beside the schedule in the metadata database, and is replaced when a start
has ended: a scheduler that dies in between leaves it as it was, so that the next one starts what the first could not
finish; one that looks after it finds nothing new. Looks at nothing and starts nothing: the scheduler does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlflow_core.config.times import format_duration
from mlflow_core.metadata import Schedule
from mlflow_core.spec import Schedule as Declared
from mlflow_core.spec import TrainingPipeline
from mlflow_core.workflow.schedule.conditions import Sight, declared_condition

__all__ = [
    "Verdict",
    "after_failed_look",
    "after_look",
    "after_start",
    "declared_watch",
    "is_watch",
    "seen_first",
]

_LONGEST_PAUSE_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a look.

    Attributes:
        why: Why to start, one sentence; None where there is no reason.
        next_us: When to look again where nothing is started, microseconds since the epoch, UTC.
        seen: What is kept in mind.
        found: What a start is for, which is kept in mind once it has ended; None where that is not known.
    """

    why: str | None
    next_us: int
    seen: Mapping[str, Any]
    found: Mapping[str, Any] | None


def is_watch(schedule: Schedule) -> bool:
    """Whether a schedule waits for a condition."""
    return "when" in schedule.triggers


def declared_watch(declared: Declared, pipeline: TrainingPipeline | None = None) -> dict[str, Any]:
    """Write what a schedule waits for as the JSON that stands in the metadata database.

    Args:
        declared: A schedule with a condition.
        pipeline: What it starts, where that trains a model.
    """
    if declared.when is None:
        raise AssertionError("a schedule without a condition waits for nothing")
    least = declared.at_least_every
    return {
        "when": declared_condition(declared.when, pipeline),
        "look_us": int(declared.when.look),
        "at_most_us": int(declared.at_most_every),
        "at_least_us": None if least is None else int(least),
    }


def seen_first(sight: Sight | None, now_us: int) -> dict[str, Any]:
    """What is kept in mind of a schedule that comes into force: what is there already is no arrival.

    Args:
        sight: What there is; None where it could not be looked at, and then the first look says it.
        now_us: Now, microseconds since the epoch, UTC.
    """
    found = None if sight is None else dict(sight.found)
    told = None if sight is None else sight.told
    return {"started_with": found, "last": found, "told": told, "since_us": now_us}


def after_look(schedule: Schedule, sight: Sight, now_us: int) -> Verdict:
    """Say what follows from what was seen.

    Args:
        schedule: The schedule.
        sight: What was seen.
        now_us: Now, microseconds since the epoch, UTC.
    """
    kept = {name: value for name, value in schedule.seen.items() if name not in ("problem", "failures")}
    seen = {**kept, "last": dict(sight.found), "told": sight.told, "looked_us": now_us}
    seen.setdefault("since_us", now_us)
    first = schedule.seen.get("started_with") is None
    if first:
        seen["started_with"] = dict(sight.found)
    why = (None if first else sight.why) or _overdue(schedule, now_us)
    earliest = _earliest(schedule)
    if why is not None and now_us < earliest:
        return Verdict(None, earliest, seen, None)
    return Verdict(why, _next_look(schedule, now_us, 1), seen, dict(sight.found))


def after_failed_look(schedule: Schedule, problem: str, now_us: int) -> Verdict:
    """Say what follows where nothing could be seen: it is looked at again, later each time; what is overdue is started.

    Args:
        schedule: The schedule.
        problem: Why nothing could be seen.
        now_us: Now, microseconds since the epoch, UTC.
    """
    failures = int(schedule.seen.get("failures", 0)) + 1
    seen = {
        "since_us": now_us,
        **schedule.seen,
        "problem": problem,
        "failures": failures,
        "looked_us": now_us,
    }
    later = _next_look(schedule, now_us, 2 ** min(failures, 16))
    return Verdict(_overdue(schedule, now_us), later, seen, None)


def after_start(schedule: Schedule, verdict: Verdict | None, started_us: int) -> tuple[int, dict[str, Any]]:
    """Say when to look again after a start, and what to keep in mind.

    Args:
        schedule: The schedule.
        verdict: What the start followed from; None where no look came before it.
        started_us: When it was, microseconds since the epoch, UTC.
    """
    seen = {**(schedule.seen if verdict is None else verdict.seen), "started_us": started_us}
    if verdict is not None and verdict.found is not None:
        seen["started_with"] = dict(verdict.found)
    triggers = schedule.triggers
    pause, least = max(triggers["at_most_us"], triggers["look_us"]), triggers["at_least_us"]
    return started_us + (pause if least is None else min(pause, least)), seen


def _earliest(schedule: Schedule) -> int:
    started = schedule.seen.get("started_us")
    return 0 if started is None else int(started) + int(schedule.triggers["at_most_us"])


def _latest(schedule: Schedule) -> int | None:
    """By when it has to be started whether or not its condition holds."""
    least = schedule.triggers.get("at_least_us")
    since = schedule.seen.get("started_us") or schedule.seen.get("since_us")
    return None if least is None or since is None else int(since) + int(least)


def _overdue(schedule: Schedule, now_us: int) -> str | None:
    latest = _latest(schedule)
    if latest is None or now_us < latest:
        return None
    return f"nothing was reason enough for {format_duration(int(schedule.triggers['at_least_us']))}"


def _next_look(schedule: Schedule, now_us: int, times: int) -> int:
    look = int(schedule.triggers["look_us"])
    later = now_us + max(look, min(look * times, _LONGEST_PAUSE_US))
    latest = _latest(schedule)
    return later if latest is None or latest <= now_us else min(later, latest)
