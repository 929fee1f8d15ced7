"""``mlcore materialize``: bring the online store up to a boundary, through the one path that Feast has for it.

What a boundary's values are and where it lies is decided by Feast's compute engine, ours; this verb asks for it,
reports what came of it view by view, and records it. Feast's own prints are kept off the terminal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.words import ClockOption, PerformanceReportOption, clock_of_call
from mlflow_core.errors import UnknownNameError, UsageError, nearest

if TYPE_CHECKING:
    from feast import FeatureStore

    from mlflow_core.feast.compute_engine import EngineJob

__all__ = ["app", "materialize"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def materialize(
    context: typer.Context,
    views: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIEW...", help="Which views; by default all.", show_default=False),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Only events since then, for views of latest values alone."
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Up to which time; by default now.")
    ] = None,
    clock: ClockOption = None,
    performance_report: PerformanceReportOption = None,
) -> None:
    """Write features to the online store, each view at its last boundary.

    Example: mlcore materialize --to 2013-11-15T12:00Z
    """
    from mlflow_core.config import parse_time
    from mlflow_core.serve.features import make_importable

    call = invocation(context)
    now = clock_of_call(call, clock=clock)
    until = now.now_us() if end is None else parse_time(end)
    since = 0 if start is None else parse_time(start)
    if since > until:
        raise UsageError("--from is after --to")
    make_importable(call.root)  # transforms of sources are the project's own code
    store = call.open_store(clock=str(now))
    wanted = _known_views(store, views or ())
    started = now.now_us()
    jobs, failure = _materialised(call, store, wanted, since, until, performance_report)
    reports = [_report(call, job, started, now.now_us()) for job in jobs]
    for report in reports:
        if report["error"] is None:
            _record(call, report, (None if start is None else since, until))
    call.result({"views": reports}, _text(call, reports))
    if failure is not None:
        raise failure


def _known_views(store: FeatureStore, names: Sequence[str]) -> list[str] | None:
    from mlflow_core.feast.transaction import registry_errors

    with registry_errors(str(store.config.registry.path)):
        known = [view.name for view in store.registry.list_feature_views(store.project) if view.online]
    for name in names:
        if name not in known:
            raise UnknownNameError(f'there is no feature view "{name}"', hint=nearest(name, known))
    if not known:
        raise UsageError("no feature view has been applied", hint="Run: mlcore apply")
    return list(names) or known


def _materialised(
    call: Invocation,
    store: FeatureStore,
    views: list[str] | None,
    since: int,
    until: int,
    performance_report: Path | None,
) -> tuple[Sequence[EngineJob], BaseException | None]:
    """Run Feast's materialize and return the engine's jobs, with the first error among them."""
    from datetime import UTC, datetime, timedelta

    from mlflow_core.feast.compute_engine import DaskComputeEngine

    provider: Any = store._get_provider()  # Feast offers no other way to the engine
    engine = provider.batch_engine
    if not isinstance(engine, DaskComputeEngine):
        raise UsageError(
            f"the project's batch_engine is {type(engine).__name__}, which reports nothing",
            expected="type: mlflow_core.feast.compute_engine.DaskComputeEngine",
            hint="Use the command of Feast with it.",
        )
    engine.performance_report = None if performance_report is None else str(performance_report)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    progress = call.progress()
    with progress.stage(f"materialising {len(views or ())} views"):
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                store.materialize(
                    start_date=epoch + timedelta(microseconds=since),
                    end_date=epoch + timedelta(microseconds=until),
                    feature_views=views,
                )
        except Exception as error:
            jobs = engine.last_jobs
            if not any(job.failure is error for job in jobs):
                raise
            return jobs, error
    return engine.last_jobs, None


def _report(call: Invocation, job: EngineJob, started: int, ended: int) -> dict[str, Any]:
    from mlflow_core.config.times import format_duration, format_time
    from mlflow_core.plan.fingerprint import fingerprint
    from mlflow_core.plan.from_feast import view_of

    report = {
        "view": job.task.feature_view.name,
        "boundary": format_time(job.boundary),
        "boundary_us": job.boundary,
        "written": job.written,
        "error": None if job.failure is None else str(job.failure) or type(job.failure).__name__,
        "started_us": started,
        "ended_us": ended,
    }
    if job.materialised is None:  # perhaps it could not even be read what the view is
        empty = {"rows": 0, "nulls": {}, "dropped_keys": 0, "dropped_times": 0, "missed": False}
        return {**report, **empty, "late": None}
    view, found = view_of(job.task.feature_view, repo_path=call.repo), job.materialised.report
    before = call.metadata.last_boundary(view.name)
    again = before is not None and before >= job.boundary  # a boundary is missed by its first run only
    delay = view.availability.delay if view.availability is not None else None
    late = 0 if delay is None or again else ended - job.boundary - delay
    return {
        **report,
        "rows": found.rows,
        "nulls": dict(found.nulls),
        "dropped_keys": found.dropped_keys,
        "dropped_times": found.dropped_times,
        "missed": late > 0,
        "late": format_duration(_rounded(late)) if late > 0 else None,
        "fingerprint": fingerprint(view),
    }


def _rounded(us: int) -> int:
    """Cut what nobody reads: beyond a day the minutes, beyond a second the microseconds."""
    unit = 3_600_000_000 if us >= 86_400_000_000 else 1_000_000 if us >= 1_000_000 else 1
    return us // unit * unit


def _record(call: Invocation, report: dict[str, Any], interval: tuple[int | None, int]) -> None:
    call.metadata.record_materialisation(
        report["view"],
        report["boundary_us"],
        rows=report["rows"],
        started_us=report["started_us"],
        ended_us=report["ended_us"],
        interval=interval,
        nulls=report["nulls"],
        dropped_keys=report["dropped_keys"],
        missed=report["missed"],
        view_fingerprint=report["fingerprint"],
    )


def _text(call: Invocation, reports: Sequence[dict[str, Any]]) -> str:
    from mlflow_core.cli.output import table

    timeless = any(report["dropped_times"] for report in reports)
    no_time = ("no time",) if timeless else ()
    columns = ("view", "boundary (UTC)", "rows", "nulls", "no key", *no_time, "written", "late")
    rows = [
        (
            report["view"],
            report["boundary"].removesuffix(":00Z"),
            report["rows"],
            sum(report["nulls"].values()),
            report["dropped_keys"],
            *((report["dropped_times"],) if timeless else ()),
            "failed" if report["error"] else report["written"],
            report["late"],
        )
        for report in reports
    ]
    text = table(columns, rows, width=call.out.width)
    if any(report["missed"] for report in reports):
        text += (
            "\n\nlate: this run ended so long after its boundary and the view's delay (a missed boundary)."
        )
    return text
