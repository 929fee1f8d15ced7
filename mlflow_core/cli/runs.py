"""``mlcore runs``: what was run, with which steps, figures and files."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.runs_again import cancel, reproduce, resume
from mlflow_core.cli.runs_compare import compare, diff_data
from mlflow_core.cli.runs_list import list_runs
from mlflow_core.cli.runs_logs import logs
from mlflow_core.cli.runs_mirror import import_runs, mirror
from mlflow_core.cli.runs_why import why
from mlflow_core.cli.runs_words import LOST, param_text, seconds, state_of

if TYPE_CHECKING:
    from mlflow_core.metadata.records import Step

__all__ = ["app", "show"]

app = typer.Typer(
    help="List, show and compare runs.", rich_markup_mode=None, add_completion=False, no_args_is_help=True
)


@app.callback()
def runs() -> None:
    """List, show and compare runs."""


app.command("list")(list_runs)


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
    state = state_of(found)
    steps, params, files = (
        store.list_steps(found.id),
        store.get_params(found.id),
        store.list_artifacts(found.id),
    )
    final = store.latest_metrics([found.id])[found.id]
    data = {
        **asdict(found),
        "lost": state == LOST,
        "steps": [asdict(step) for step in steps],
        "params": params,
        "metrics": {name: asdict(metric) for name, metric in final.items()},
        "artifacts": [asdict(file) for file in files],
    }
    lines = [
        f"run {found.id} of {found.pipeline}: {state}, by {found.principal}, {seconds(found, state=state)}"
    ]
    lines += [f"error    {found.error}"] if found.error else []
    lines += [f"with     {', '.join(f'{name} {version}' for name, version in found.environment.items())}"]
    lines += [f"step     {step.name:<20}{step.state:<11}{seconds(step)}{_about(step)}" for step in steps]
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


def _about(step: Step) -> str:
    """What else is worth a word: what it used, or that nothing was done; which attempt it was, how it ended."""
    told = ["found"] if step.cache_hit else _used(step)
    told += [f"attempt {step.attempt}"] if step.attempt > 1 else []
    told += [step.exit_reason] if step.exit_reason else []
    return f"  {', '.join(told)}" if told else ""


def _used(step: Step) -> list[str]:
    told = [] if step.cpu_us is None else [f"cpu {step.cpu_us / 1e6:.1f} s"]
    return told + ([] if step.memory_bytes is None else [f"memory {step.memory_bytes / 1e6:,.0f} MB"])


def _short(value: object) -> str:
    text = param_text(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
