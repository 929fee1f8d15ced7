"""``mlcore materialize``: bring the online store up to a boundary, through the one path that Feast has for it.

What a boundary's values are and where it lies is decided by Feast's compute engine, ours; this verb asks for it,
reports what came of it view by view, and records it. Feast's own prints are kept off the terminal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.materialize_report import ends_of, report_of, text_of
from mlflow_core.cli.words import ClockOption, PerformanceReportOption, clock_of_call
from mlflow_core.errors import UnknownNameError, UsageError, nearest

if TYPE_CHECKING:
    from feast import FeatureStore

    from mlflow_core.feast.compute_engine import EngineJob
    from mlflow_core.feast.view_run import Rewrite

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
            "--from",
            metavar="TIME",
            help="Write again what can have changed since then; by default since the last run.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write all entities again, whether they can have changed or not.")
    ] = False,
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
    if full and start is not None:
        raise UsageError("--full writes everything again, whatever --from says", hint="Give one of them.")
    make_importable(call.root)  # transforms of sources are the project's own code
    store = call.open_store(clock=str(now))
    wanted = _known_views(store, views or ())
    started = now.now_us()
    asked = _Asked(wanted, since, until, "all" if full else "changes" if start is None else "since")
    jobs, failure = _materialised(call, store, asked, performance_report)
    ends = ends_of([job.seconds for job in jobs], started, now.now_us())
    reports = [report_of(call, job, started, ended) for job, ended in zip(jobs, ends, strict=True)]
    for report in reports:
        if report["error"] is None:
            _record(call, report, (None if start is None else since, until))
    call.result({"views": reports}, text_of(reports, width=call.out.width))
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


class _Asked(NamedTuple):
    """Which views, from when to when, and what of them is written."""

    views: list[str] | None
    since: int
    until: int
    rewrite: Rewrite


def _materialised(
    call: Invocation, store: FeatureStore, asked: _Asked, performance_report: Path | None
) -> tuple[Sequence[EngineJob], BaseException | None]:
    """Run Feast's materialize and return the engine's jobs, with the first error among them."""
    from datetime import UTC, datetime, timedelta

    from mlflow_core.feast.compute_engine import DaskComputeEngine
    from mlflow_core.feast.erasures import erasures_of_records

    provider: Any = store._get_provider()  # Feast offers no other way to the engine
    engine = provider.batch_engine
    if not isinstance(engine, DaskComputeEngine):
        raise UsageError(
            f"the project's batch_engine is {type(engine).__name__}, which reports nothing",
            expected="type: mlflow_core.feast.compute_engine.DaskComputeEngine",
            hint="Use the command of Feast with it.",
        )
    engine.performance_report = None if performance_report is None else str(performance_report)
    engine.rewrite, engine.progress = asked.rewrite, call.progress()
    # The list of this environment, whatever the repository's folder says.
    engine.erasures = lambda _: erasures_of_records(call.metadata.list_erasures())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            store.materialize(
                start_date=epoch + timedelta(microseconds=asked.since),
                end_date=epoch + timedelta(microseconds=asked.until),
                feature_views=asked.views,
            )
    except Exception as error:
        jobs = engine.last_jobs
        if not any(job.failure is error for job in jobs):
            raise
        return jobs, error
    return engine.last_jobs, None


def _record(call: Invocation, report: dict[str, Any], interval: tuple[int | None, int]) -> None:
    call.metadata.record_materialisation(
        report["view"],
        report["boundary_us"],
        rows=report["rows"] - report["skipped"],
        started_us=report["started_us"],
        ended_us=report["ended_us"],
        interval=interval,
        nulls=report["nulls"],
        dropped_keys=report["dropped_keys"],
        missed=report["missed"],
        view_fingerprint=report["fingerprint"],
    )
