"""``mlcore runs``: what was run, with which steps, figures and files."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.runs_again import cancel, reproduce, resume
from mlflow_core.cli.runs_compare import compare, diff_data
from mlflow_core.cli.runs_logs import logs
from mlflow_core.cli.runs_mirror import import_runs, mirror
from mlflow_core.cli.runs_why import why

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_core.metadata.records import Metric, Run, Step

__all__ = ["app", "list_runs", "show"]

app = typer.Typer(
    help="List, show and compare runs.", rich_markup_mode=None, add_completion=False, no_args_is_help=True
)


@app.callback()
def runs() -> None:
    """List, show and compare runs."""


@app.command("list")
def list_runs(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Argument(help="Only this pipeline's runs.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
) -> None:
    """List runs, the newest first; a run's id begins with when it began.

    Example: mlcore runs list late_arrival
    """
    call = invocation(context)
    now = _now_us()
    found = call.metadata.list_runs(pipeline=pipeline, limit=limit)
    latest = call.metadata.latest_metrics([run.id for run in found])
    rows = [
        (
            run.id,
            run.pipeline if run.kind == "train" else f"{run.pipeline} ({run.kind})",
            _state(run, now),
            _seconds(run),
            _metric(latest[run.id]),
        )
        for run in found
    ]
    call.out.table([asdict(run) for run in found], ("run", "pipeline", "state", "took", "figure"), rows)


@app.command()
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of it, or latest.")] = "latest",
) -> None:
    """Show a run: its state, steps, parameters, figures and files.

    Example: mlcore runs show latest
    """
    call = invocation(context)
    store = call.metadata
    found = store.get_run(run)
    steps, params, files = (
        store.list_steps(found.id),
        store.get_params(found.id),
        store.list_artifacts(found.id),
    )
    final = store.latest_metrics([found.id])[found.id]
    data = {
        **asdict(found),
        "steps": [asdict(step) for step in steps],
        "params": params,
        "metrics": {name: asdict(metric) for name, metric in final.items()},
        "artifacts": [asdict(file) for file in files],
    }
    lines = [
        f"run {found.id} of {found.pipeline}: {_state(found, _now_us())}, by {found.principal}, {_seconds(found)}"
    ]
    lines += [f"error    {found.error}"] if found.error else []
    lines += [f"with     {', '.join(f'{name} {version}' for name, version in found.environment.items())}"]
    lines += [f"step     {step.name:<20}{step.state:<11}{_seconds(step)}{_about(step)}" for step in steps]
    for name, metric in final.items():
        interval = (
            f"  ({metric.low:.4f} to {metric.high:.4f})"
            if metric.low is not None and metric.high is not None
            else ""
        )
        lines.append(f"metric   {name:<32}{metric.value:.4f}{interval}")
    lines += [f"param    {name:<32}{_short(value)}" for name, value in params.items()]
    lines += [f"file     {file.name:<20}{file.size:,} bytes  {file.uri}" for file in files]
    call.result(data, "\n".join(lines))


app.command()(compare)
app.command("diff-data")(diff_data)
app.command()(logs)
app.command()(why)
app.command()(resume)
app.command()(cancel)
app.command()(reproduce)
app.command()(mirror)
app.command("import")(import_runs)


def _now_us() -> int:
    """The time that it is, by which leases are counted, whatever clock the project has."""
    from mlflow_core.config import SystemClock

    return SystemClock().now_us()


def _state(run: Run, now_us: int) -> str:
    return "lost" if run.is_lost(now_us) else run.state.value


def _seconds(one: Run | Step) -> str:
    if one.started_us is None or one.ended_us is None:
        return "running"
    return f"{(one.ended_us - one.started_us) / 1e6:.1f} s"


def _about(step: Step) -> str:
    """What else is worth a word: what it used, or that nothing was done; which attempt it was, how it ended."""
    told = ["found"] if step.cache_hit else _used(step)
    told += [f"attempt {step.attempt}"] if step.attempt > 1 else []
    told += [step.exit_reason] if step.exit_reason else []
    return f"  {', '.join(told)}" if told else ""


def _used(step: Step) -> list[str]:
    told = [] if step.cpu_us is None else [f"cpu {step.cpu_us / 1e6:.1f} s"]
    return told + ([] if step.memory_bytes is None else [f"memory {step.memory_bytes / 1e6:,.0f} MB"])


def _metric(metrics: Mapping[str, Metric]) -> str:
    """Show the first figure of the test part, or the first of all where there is none."""
    names = [name for name in metrics if name.startswith("test.")] or list(metrics)
    return (
        f"{names[0].removeprefix('test.').removeprefix('search.')} {metrics[names[0]].value:.4f}"
        if names
        else ""
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
