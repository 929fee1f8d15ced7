"""What ``mlcore materialize`` tells of a run, view by view: as data for ``--json`` and the metadata, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_core.cli.context import Invocation
    from mlflow_core.feast.compute_engine import EngineJob

__all__ = ["ends_of", "report_of", "text_of"]


def ends_of(seconds: Sequence[float], started: int, ended: int) -> list[int]:
    """Return when each view's run ended: a view is not late because another one took long.

    Args:
        seconds: How long each took from the start of the call.
        started: When the command began, microseconds since epoch, UTC, by a clock that may stand still.
        ended: When the last of them had ended.

    Example:
        >>> ends_of([1.0, 3.0], 0, 3_500_000)
        [1500000, 3500000]
    """
    longest = max(seconds, default=0.0)
    return [max(started, ended - round((longest - one) * 1e6)) for one in seconds]


def report_of(call: Invocation, job: EngineJob, started: int, ended: int) -> dict[str, Any]:
    """Return what became of a view.

    Args:
        call: The command's invocation.
        job: The view's job, ended.
        started: When the command began, microseconds since epoch, UTC.
        ended: When the view had ended.

    Returns:
        ``rows`` are the entities at the boundary, ``skipped`` those whose row cannot have changed; the others were
        computed, ``nulls`` are theirs, and ``written`` changed the store. All keys are always there.
    """
    from mlflow_core.config.times import format_duration, format_time

    found = job.report
    missed = _missed(call, job, ended)
    written = 0 if found is None else found.sunk.rows
    failed = job.failure is not None
    return {
        "view": job.task.feature_view.name,
        "boundary": format_time(job.boundary),
        "boundary_us": job.boundary,
        "since": None if found is None or found.since is None else format_time(found.since),
        "why_all": job.why_all,
        "completes": None if job.completes is None else format_time(job.completes),
        "rows": 0 if found is None else found.rows,
        "written": job.written,
        "skipped": 0 if found is None else found.skipped,
        "sent": written,
        "bytes": 0 if found is None else found.sunk.bytes,
        "nulls": {} if found is None else dict(found.nulls),
        "events": 0 if found is None else found.events,
        "dropped_keys": 0 if found is None else found.dropped_keys,
        "dropped_times": 0 if found is None else found.dropped_times,
        "lag_us": ended - job.boundary,
        "lag": format_duration(_rounded(max(0, ended - job.boundary))),
        "missed": missed > 0,
        "late": format_duration(_rounded(missed)) if missed > 0 else None,
        "seconds": round(job.seconds, 3),
        "rows_per_s": round(written / job.seconds) if job.seconds > 0 else 0,
        "half_new": failed and written > 0,
        "error": None if not failed else str(job.failure) or type(job.failure).__name__,
        "started_us": started,
        "ended_us": ended,
        "fingerprint": None if failed else _fingerprint(call, job),
    }


def text_of(reports: Sequence[dict[str, Any]], *, width: int) -> str:
    """Return the reports as a table, and what has to be said beside it.

    Args:
        reports: From ``report_of``.
        width: Columns a line may have.
    """
    from mlflow_core.cli.output import table

    timeless = any(report["dropped_times"] for report in reports)
    no_time = ("no time",) if timeless else ()
    columns = ("view", "boundary (UTC)", "rows", "nulls", "no key", *no_time, "written", "same", "late")
    rows = [
        (
            report["view"],
            report["boundary"].removesuffix(":00Z"),
            report["rows"],
            sum(report["nulls"].values()),
            report["dropped_keys"],
            *((report["dropped_times"],) if timeless else ()),
            "failed" if report["error"] else report["written"],
            report["skipped"],
            report["late"],
        )
        for report in reports
    ]
    lines = [table(columns, rows, width=width), *_notes(reports)]
    if any(report["missed"] for report in reports):
        lines.append(
            "\nlate: this run ended so long after its boundary and the view's delay (a missed boundary)."
        )
    return "\n".join(lines)


def _notes(reports: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    for report in reports:
        if report["completes"] is not None and report["error"] is None:
            notes.append(f"{report['view']}: completed a run to {report['completes']} that had not finished.")
        if report["half_new"]:
            notes.append(
                f"{report['view']}: failed after {report['sent']:,} rows were written. "
                "It is half new until the next run completes it."
            )
    sent, seconds = sum(one["sent"] for one in reports), max((one["seconds"] for one in reports), default=0)
    if seconds >= 2:
        notes.append(f"{sent:,} rows in {seconds:.1f} s, {sent / seconds:,.0f} a second.")
    return ["", *notes] if notes else []


def _missed(call: Invocation, job: EngineJob, ended: int) -> int:
    """By how many microseconds a run missed its boundary's delay; a boundary is missed by its first run only."""
    if job.failure is not None:
        return 0
    view = _view(call, job)
    before = call.metadata.last_boundary(view.name)
    if view.availability is None or (before is not None and before >= job.boundary):
        return 0
    return max(0, ended - job.boundary - int(view.availability.delay))


def _fingerprint(call: Invocation, job: EngineJob) -> str:
    from mlflow_core.plan.fingerprint import fingerprint

    return fingerprint(_view(call, job))


def _view(call: Invocation, job: EngineJob) -> Any:
    from mlflow_core.plan.from_feast import view_of

    return view_of(job.task.feature_view, repo_path=call.repo)


def _rounded(us: int) -> int:
    """Cut what nobody reads: beyond a day the minutes, beyond a second the microseconds."""
    unit = 3_600_000_000 if us >= 86_400_000_000 else 1_000_000 if us >= 1_000_000 else 1
    return us // unit * unit
