"""From what servers did to rows: equal first, then ratios, then goals."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.online.hard import KINDS
from benchmarks.online.serving import COMPACT, FEASTS, Driven, Figures
from benchmarks.online.world import Case
from benchmarks.results import Row

__all__ = ["hard_rows", "serving_rows", "versus"]

RATE = {"1 x 10": 40.0, "1 x 50": 40.0, "10 x 50": 30.0, "100 x 50": 40.0}
RATE_IN_FRONT = {"100 x 50": 18.0}
LATENCY = {"1 x 10": 15.0, "1 x 50": 15.0}
REDIS_CPU = {"100 x 50": 4.5}
# The goals are for one process against one worker; more workers are shown beside it.
NOTE = 60  # characters of a reason
WITH_GOALS = ("feast serve", "feast serve, lasting")


def serving_rows(
    ours: Driven, front: Driven | None, peers: Sequence[Driven], cases: Sequence[Case]
) -> list[Row]:
    """Compare our server with each peer: Feast's route, our compact one, and ours in front of Feast's layout."""
    rows: list[Row] = []
    for case in cases:
        for peer in peers:
            theirs, goals = peer.figures.get((FEASTS.path, case.name)), peer.name in WITH_GOALS
            mine = ours.figures.get((FEASTS.path, case.name))
            rows += _case_rows(case.name, mine, peer.name, theirs, goals, _why(ours, FEASTS.path, case))
            compact = ours.figures.get((COMPACT.path, case.name))
            why = _why(ours, COMPACT.path, case)
            rows += _case_rows(f"{case.name}, {COMPACT.path}", compact, peer.name, theirs, False, why)[:3]
            if front is not None:
                rows.append(_front_row(case, front, peer.name, theirs, goals))
    return rows


def hard_rows(ours: Driven, peers: Sequence[Driven]) -> list[Row]:
    """Count wrong or lost cells on hard data, by kind, for one peer: what Feast answers depends on no option."""
    peer = next((one for one in peers if one.wrong), None)
    if peer is None:
        return []
    metric = "wrong or lost values"
    return [
        Row(
            f"hard data: {kind}",
            metric,
            float(ours.wrong[kind]) if ours.wrong else None,
            peer.name,
            float(peer.wrong[kind]),
            None,
        )
        for kind in KINDS
    ]


def versus(
    case: str,
    metric: str,
    ours: float | None,
    peer: str,
    theirs: float | None,
    *,
    goal: float | None = None,
    more_is_better: bool = False,
    equal: bool | None = None,
    note: str = "",
) -> Row:
    """Compare two figures; unequal values take no ratio."""
    ratio = None
    if ours and theirs and equal is not False:
        ratio = ours / theirs if more_is_better else theirs / ours
    holds = None if goal is None else ratio is not None and ratio >= goal
    return Row(case, metric, ours, peer, theirs, ratio, goal, holds, equal, note)


def _case_rows(
    case: str, mine: Figures | None, peer: str, theirs: Figures | None, goals: bool, why: str
) -> list[Row]:
    equal = None if mine is None or theirs is None else mine.equal and theirs.equal
    note = why if mine is None else "" if theirs is not None else f"{peer}: no answer"
    if mine is not None and not mine.equal:
        note = f"ours differs: {dict(mine.differing)}"
    elif theirs is not None and not theirs.equal:
        note = f"{peer} differs: {dict(theirs.differing)}"

    def row(metric: str, read, goal: float | None, more_is_better: bool = False) -> Row:
        return versus(
            case,
            metric,
            None if mine is None else read(mine),
            peer,
            None if theirs is None else read(theirs),
            goal=goal if goals else None,
            more_is_better=more_is_better,
            equal=equal,
            note=note,
        )

    return [
        row("requests/s", lambda one: one.load.rate, RATE.get(case), more_is_better=True),
        row("p50 ms", lambda one: one.load.p50_ms, LATENCY.get(case)),
        row("p99 ms", lambda one: one.load.p99_ms, LATENCY.get(case)),
        row("server CPU us a request", lambda one: one.cpu_us, None),
        row("Redis CPU us a request", lambda one: one.redis_us, REDIS_CPU.get(case)),
    ]


def _front_row(case: Case, front: Driven, peer: str, theirs: Figures | None, goals: bool) -> Row:
    mine = front.figures.get((FEASTS.path, case.name))
    return versus(
        f"{case.name} on Feast's layout",
        "requests/s",
        None if mine is None else mine.load.rate,
        peer,
        None if theirs is None else theirs.load.rate,
        goal=RATE_IN_FRONT.get(case.name) if goals else None,
        more_is_better=True,
        equal=None if mine is None or theirs is None else mine.equal and theirs.equal,
        note=_why(front, FEASTS.path, case)
        if mine is None
        else ""
        if mine.equal
        else f"{dict(mine.differing)}",
    )


def _why(driven: Driven, path: str, case: Case) -> str:
    found = driven.failures.get("start", driven.failures.get(f"{path} {case.name}", "not run"))
    return f"ours: {found[:NOTE]}"
