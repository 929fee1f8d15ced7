"""When views are materialised by themselves: each as its next boundary becomes available, once, again where it failed.

A view's schedule is called ``view:NAME`` and has no times of its own: they follow from its availability. One run goes to
the last boundary that is available; the values at those before it would be replaced in the same moment, and the run
writes whatever has changed since the one before, so none leaves a gap. How far a view has come is told by the records
of its materialisations, whoever made them: what somebody has done by hand is not done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mlflow_core.config.times import format_time
from mlflow_core.errors import UsageError, nearest
from mlflow_core.metadata import Materialisation, MetadataStore, Schedule
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.project import Project
from mlflow_core.spec import Every, FeatureView

__all__ = [
    "ViewDue",
    "after_view",
    "declared_view",
    "due_times",
    "next_boundary",
    "reached",
    "schedule_name",
    "scheduled_views",
    "view_due",
    "view_of",
    "what_was_said_of",
]

_PREFIX: Final = "view:"
_FIRST_PAUSE_US: Final = 60_000_000
_LONGEST_PAUSE_US: Final = 3_600_000_000
_LOOKED_AT: Final = 100
"""Materialisations of one view that are looked at, the newest first; somebody may have made a few by hand."""


@dataclass(frozen=True, slots=True)
class ViewDue:
    """What a view is due for.

    Attributes:
        boundary_us: The last boundary that is available, microseconds since the epoch, UTC.
        done: Whether it was materialised up to there, as it is declared now.
        missed: How many boundaries lie between the last one that was reached and this one.
        newest: The number of its newest materialisation; 0 where there is none.
    """

    boundary_us: int
    done: bool
    missed: int
    newest: int


def schedule_name(view: str) -> str:
    """Return what a view's schedule is called; no pipeline can have that name."""
    return f"{_PREFIX}{view}"


def view_of(schedule: Schedule) -> str | None:
    """Return which view a schedule materialises; None where it starts a pipeline."""
    view: str | None = schedule.triggers.get("view")
    return view


def scheduled_views(project: Project, materialize: bool | Sequence[str]) -> dict[str, FeatureView]:
    """Return which views of a project are materialised by themselves.

    Args:
        project: The project.
        materialize: As in ``[schedule] materialize``.

    Raises:
        UsageError: A view that is named does not exist, or has no availability.
    """
    able = {name: view for name, view in project.views.items() if view.availability is not None}
    if isinstance(materialize, bool):
        return able if materialize else {}
    for name in materialize:
        if name in able:
            continue
        what = "has no availability" if name in project.views else "is no feature view"
        raise UsageError(
            f'[schedule] materialize: "{name}" {what}, so nothing says when it is due',
            hint=nearest(name, able),
        )
    return {name: able[name] for name in dict.fromkeys(materialize)}


def declared_view(view: FeatureView) -> dict[str, Any]:
    """Write what a view's schedule follows as the JSON that stands in the metadata database.

    Args:
        view: A view with an availability.
    """
    if view.availability is None:
        raise AssertionError("a view without availability is never due")
    availability = orjson.loads(view.availability.canonical_json())
    return {"view": view.name, "availability": availability, "fingerprint": fingerprint(view)}


def next_boundary(triggers: Mapping[str, Any], now_us: int) -> int:
    """Return when the first boundary after a moment becomes available, microseconds since the epoch, UTC."""
    every = _every(triggers)
    return every.boundary(now_us) + every.every + every.delay


def due_times(triggers: Mapping[str, Any], now_us: int, count: int) -> list[int]:
    """Return when the next boundaries become available, microseconds since the epoch, UTC."""
    first, step = next_boundary(triggers, now_us), int(_every(triggers).every)
    return [first + step * number for number in range(count)]


def view_due(schedule: Schedule, metadata: MetadataStore, now_us: int) -> ViewDue:
    """Say what a view is due for at a moment.

    Args:
        schedule: The view's schedule.
        metadata: Where its materialisations are recorded.
        now_us: The moment, microseconds since the epoch, UTC.

    Raises:
        MetadataError: The database cannot be read.
    """
    every, view = _every(schedule.triggers), str(schedule.triggers["view"])
    boundary = every.boundary(now_us)
    found = metadata.list_materialisations(view, limit=_LOOKED_AT)
    as_declared = [one for one in found if one.view_fingerprint == schedule.triggers["fingerprint"]]
    last = max((one.boundary_us for one in as_declared), default=None)
    missed = 0 if last is None else max(0, (boundary - last) // int(every.every) - 1)
    newest = found[0].id if found else 0
    return ViewDue(boundary, last is not None and last >= boundary, missed, newest)


def reached(metadata: MetadataStore, view: str, due: ViewDue) -> Materialisation | None:
    """Return the materialisation that a start has made, if it has come as far as it was to.

    Args:
        metadata: Where it is recorded.
        view: The view.
        due: What it was due for before the start.
    """
    found = metadata.list_materialisations(view, limit=_LOOKED_AT)
    return next((one for one in found if one.id > due.newest and one.boundary_us >= due.boundary_us), None)


def after_view(schedule: Schedule, due: ViewDue, *, failed: bool, now_us: int) -> tuple[int, dict[str, Any]]:
    """Say when a view is due again, and what to keep in mind.

    Args:
        schedule: The view's schedule.
        due: What it was due for.
        failed: Whether that failed; then it is due again after a minute, two, four, up to an hour.
        now_us: Now, microseconds since the epoch, UTC.
    """
    every = _every(schedule.triggers)
    if not failed:
        return due.boundary_us + every.every + every.delay, {"reached": format_time(due.boundary_us)}
    failures = int(schedule.seen.get("failures", 0)) + 1
    pause = min(_FIRST_PAUSE_US * 2 ** min(failures - 1, 16), _LONGEST_PAUSE_US, int(every.every))
    return now_us + pause, {**schedule.seen, "failures": failures}


def what_was_said_of(view: str, output: str) -> str | None:
    """Find what ``mlcore --json materialize`` said went wrong with one of its views.

    Args:
        view: The view.
        output: What it printed.
    """
    begin, end = output.find('{\n  "views"'), output.rfind("\n}\n")
    if begin < 0 or end < begin:
        return None
    try:
        reports = orjson.loads(output[begin : end + 2])["views"]
    except orjson.JSONDecodeError:
        return None
    return next((str(one["error"]) for one in reports if one["view"] == view and one["error"]), None)


def _every(triggers: Mapping[str, Any]) -> Every:
    return Every.from_json(orjson.dumps(triggers["availability"]))
