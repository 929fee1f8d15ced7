"""``mlcore train``: run a training pipeline from its dataset to a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.dataset import ClockOption

if TYPE_CHECKING:
    from mlflow_core.workflow.training import Trained

__all__ = ["app", "train"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def train(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="The pipeline to run.")],
    clock: ClockOption = None,
    compare_clocks: Annotated[
        bool,
        typer.Option(
            "--compare-clocks", help="Also train under the other clocks, and say what they pretend."
        ),
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Start no cluster; right for small data.")
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Train anew where an interrupted training could go on from a checkpoint."
        ),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Show where the training's time goes: data, compute, communication."),
    ] = False,
) -> None:
    """Build the dataset, train, evaluate, hold the gate, register; each step is recorded.

    Example: mlcore train late_arrival
    """
    from contextlib import nullcontext

    from mlflow_core.cli.workspace import clock_named, open_workspace
    from mlflow_core.workflow.training import run_pipeline

    call = invocation(context)
    workspace = open_workspace(call)
    workspace.pipeline(pipeline)
    with nullcontext() if in_process else workspace.cluster() as client:
        trained = run_pipeline(
            workspace,
            pipeline,
            clock=clock_named(clock),
            compare=compare_clocks,
            client=client,
            progress=call.progress(),
            fresh=fresh,
            profile=profile,
        )
    for warning in trained.warnings:
        typer.echo(f"warning: {warning}", err=True)
    call.result(trained_data(trained), trained_text(trained))


def trained_data(trained: Trained) -> dict[str, Any]:
    """Return what a run gave as JSON-able values."""
    return {
        "run": trained.run_id,
        "model": trained.model,
        "version": trained.version,
        "alias": trained.alias,
        "dataset": trained.dataset.artifact.digest,
        "rows": dict(trained.dataset.manifest["rows"]),
        "report": str(trained.report),
        "clocks": trained.clocks.to_json() if trained.clocks is not None else None,
        "scores": trained.evaluation.to_json()["scores"],
        "seconds": dict(trained.seconds),
    }


def trained_text(trained: Trained) -> str:
    """Return what a run gave as lines for a person."""
    evaluation = trained.evaluation
    lines = [f"run {trained.run_id}"]
    for metric in evaluation.metrics:
        told = evaluation.score(metric)
        lines.append(f"  {metric:<18}{told.value:.4f}  ({told.low:.4f} to {told.high:.4f})")
    first = evaluation.metrics[0]
    for other in evaluation.models[1:]:
        gain = evaluation.difference(first, evaluation.models[0], other)
        lines.append(
            f"  better than {other}: {first} {gain.value:+.4f}  ({gain.low:+.4f} to {gain.high:+.4f})"
        )
    if trained.clocks is not None:
        lines.append("what each clock says:")
        lines += [f"  {line}" for line in trained.clocks.describe().splitlines()]
    lines.append(f"model  {trained.model}:{trained.version}, alias {trained.alias}")
    lines.append(f"report {trained.report}")
    return "\n".join(lines)
