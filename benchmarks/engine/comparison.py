"""From two contestants' results to one row: equal first, then the ratio, then the goal."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.engine.equal import same
from benchmarks.engine.job import Job, Result
from benchmarks.results import Row

__all__ = ["LIMITS", "bounded", "compared", "reachable", "timed"]

LIMITS = ("the limit", "the limit, sorted")
"""Contestants that do the least that a plan which parts by key must do, and have no values to compare."""


def compared(
    case: str,
    job: Job,
    ours: Result,
    peer: str,
    theirs: Result,
    *,
    phase: str = "cold",
    peer_phase: str = "cold",
    goal: float | None = None,
    check: bool = True,
) -> Row:
    """Compare wall times, after the values where ``check`` says so.

    Args:
        case: The row's case.
        job: What both did.
        ours: Our result.
        peer: Who else.
        theirs: Their result.
        phase: Which of our times.
        peer_phase: Which of theirs.
        goal: The ratio to reach.
        check: Whether both must hold the same values: not so for the limit, or for another clock.
    """
    equal, note = None, ""
    if not ours.done:
        note = f"ours: {ours.outcome}"
    elif not theirs.done:
        note = f"{peer}: {theirs.outcome}"
    elif check:
        equal = same(ours.out / phase, theirs.out / peer_phase, job.columns, exact=not job.windows)
    mine = ours.seconds.get(phase) if ours.done else None
    return timed(case, mine, peer, _seconds(theirs, peer_phase), goal=goal, equal=equal, note=note)


def timed(
    case: str,
    ours: float | None,
    peer: str,
    theirs: float | None,
    *,
    goal: float | None = None,
    equal: bool | None = None,
    note: str = "",
) -> Row:
    """Compare two wall times; unequal values take no ratio."""
    ratio = None if ours is None or theirs is None or equal is False else theirs / ours
    holds = None if goal is None else ratio is not None and ratio >= goal
    return Row(case, "wall s", ours, peer, theirs, ratio, goal, holds, equal, note)


def bounded(
    case: str, metric: str, ours: float | None, name: str, bound: float, *, goal: float | None = 1.0
) -> Row:
    """Compare a figure that should be small with the most it may be."""
    ratio = None if not ours else bound / ours
    holds = None if goal is None else ratio is not None and ratio >= goal
    return Row(case, metric, ours, name, bound, ratio, goal, holds)


def reachable(case: str, limit: str, least: Result, peer: str, theirs: Result, goal: float) -> Row:
    """Compare a limit with a peer: which ratio no plan of its kind can go beyond.

    Args:
        case: The row's case.
        limit: Which limit.
        least: What it did.
        peer: Who else.
        theirs: Their result.
        goal: The ratio that is asked of ours.
    """
    row = timed(f"{case}, {limit}", _seconds(least, "cold"), peer, _seconds(theirs, "cold"))
    beyond = row.ratio is not None and row.ratio < goal
    return replace(row, note=f"{goal:g} is out of reach" if beyond else "")


def _seconds(result: Result, phase: str) -> float | None:
    if result.done:
        return result.seconds.get(phase)
    # Ended by its time-out: it would have taken longer, so the ratio is at least this.
    return result.limit if result.timed_out else None
