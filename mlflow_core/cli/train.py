"""``mlcore train``: run a pipeline: a training from its dataset to a registered model, or steps alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.dataset import ClockOption

if TYPE_CHECKING:
    from mlflow_core.cli.context import Invocation
    from mlflow_core.workflow.steps_run import Finished
    from mlflow_core.workflow.training import Trained
    from mlflow_core.workflow.workspace import Workspace

__all__ = ["app", "print_result", "train", "trained_data", "trained_text"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_SECONDS = "seconds."


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
            "--fresh",
            help="Train anew, also where the same model was trained before or a checkpoint could be gone on from.",
        ),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Show where the training's time goes: data, compute, communication."),
    ] = False,
) -> None:
    """Build the dataset, train, evaluate, hold the gate, register; what was done before is found, not done again.

    Example: mlcore train late_arrival
    """
    from mlflow_core.cli.workspace import clock_named, cluster_for, open_workspace
    from mlflow_core.spec import TrainingPipeline
    from mlflow_core.workflow.steps_run import run_steps
    from mlflow_core.workflow.training import run_pipeline

    call = invocation(context)
    workspace = open_workspace(call)
    spec = workspace.any_pipeline(pipeline)
    if not isinstance(spec, TrainingPipeline):
        _refuse(clock=clock, compare_clocks=compare_clocks, fresh=fresh, profile=profile)
        with cluster_for(workspace, spec, in_process=in_process) as client:
            finished = run_steps(workspace, spec, client=client, progress=call.progress())
        print_result(call, finished)
        return
    with cluster_for(workspace, spec, in_process=in_process) as client:
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
    print_result(call, trained, spent=_spent(workspace, trained.run_id) if profile else None)


def print_result(
    call: Invocation, done: Trained | Finished, *, spent: Mapping[str, float] | None = None
) -> None:
    """Print what a run gave, and its warnings on standard error.

    Args:
        call: Where to.
        done: What it gave.
        spent: Where the training's time went, in seconds, if that was asked for.
    """
    from mlflow_core.workflow.training import Trained

    for warning in done.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if isinstance(done, Trained):
        data, text = trained_data(done), trained_text(done)
        if spent is not None:
            data, text = {**data, "profile": dict(spent)}, "\n".join([text, *_spent_text(spent)])
        call.result(data, text)
    else:
        call.result(_finished_data(done), _finished_text(done))


def _spent(workspace: Workspace, run_id: str) -> dict[str, float]:
    """Where a training's time went, as its run has it."""
    told = workspace.metadata.latest_metrics([run_id])[run_id]
    return {
        name.removeprefix(_SECONDS): metric.value
        for name, metric in told.items()
        if name.startswith(_SECONDS)
    }


def _spent_text(spent: Mapping[str, float]) -> list[str]:
    rows = sorted(spent.items(), key=lambda one: (one[0] in ("total", "processor"), -one[1]))
    return ["where the training's time went:", *(f"  {name:<18}{seconds:9.3f} s" for name, seconds in rows)]


def _refuse(**given: object) -> None:
    from mlflow_core.errors import UsageError

    for name, value in given.items():
        if value:
            raise UsageError(f"--{name.replace('_', '-')} is for pipelines that train a model")


def _finished_data(done: Finished) -> dict[str, Any]:
    return {
        "run": done.run_id,
        "outputs": {name: {"digest": one.digest, "kind": one.kind} for name, one in done.outputs.items()},
        "seconds": dict(done.seconds),
        "found": list(done.found),
    }


def _finished_text(done: Finished) -> str:
    lines = [f"run {done.run_id}"]
    for name, one in done.outputs.items():
        how = "found" if name in done.found else f"{done.seconds[name]:.1f} s"
        lines.append(f"  {name:<20}{one.kind:<8}{how}")
    return "\n".join(lines)


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
        "found": list(trained.found),
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
    if trained.found:
        lines.append(f"found  {', '.join(trained.found)}: nothing to do (see: mlcore runs why)")
    return "\n".join(lines)
