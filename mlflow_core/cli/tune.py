"""``mlcore tune``: search a training pipeline's settings, without training the model that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.dataset import ClockOption

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_core.cli.context import Invocation
    from mlflow_core.workflow.training.tuning import Tuned

__all__ = ["app", "print_tuned", "tune", "tuned_data", "tuned_text"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def tune(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="The pipeline whose search is run.")],
    trials: Annotated[
        int | None, typer.Option(help="How many trials; by default as many as the search declares.", min=1)
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(help="Trials at the same time; by default as the search says, or one a worker.", min=1),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="How long it may take, e.g. 30m; called again, it goes on with what is left."
        ),
    ] = None,
    clock: ClockOption = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Start no cluster; right for small data.")
    ] = False,
) -> None:
    """Build the dataset and search settings; train no model with them, and register nothing.

    A trial that has ended is never run again. A training with the same parts takes what was found.

    Example: mlcore tune late_arrival --trials 60 --timeout 30m
    """
    from mlflow_core.cli.workspace import clock_named, cluster_for, open_workspace
    from mlflow_core.workflow.training.tuning import plan_tuning, run_tuning

    call = invocation(context)
    workspace = open_workspace(call)
    recipe = plan_tuning(
        workspace, pipeline, trials=trials, parallel=parallel, within=timeout, clock=clock_named(clock)
    )
    with cluster_for(workspace, recipe.spec, in_process=in_process) as client:
        tuned = run_tuning(recipe, client=client, progress=call.progress())
    print_tuned(call, tuned)


def print_tuned(call: Invocation, tuned: Tuned) -> None:
    """Print what a search gave, and its warnings on standard error."""
    for warning in tuned.warnings:
        typer.echo(f"warning: {warning}", err=True)
    call.result(tuned_data(tuned), tuned_text(tuned, root=call.root, width=call.out.width))


def tuned_data(tuned: Tuned) -> dict[str, Any]:
    """Return what a search gave as JSON-able values."""
    study, best, first = tuned.study, tuned.best, tuned.first
    return {
        "run": tuned.run_id,
        "pipeline": tuned.pipeline,
        "dataset": tuned.dataset,
        "study": {
            "name": study.name,
            "place": tuned.place,
            "metric": study.metric,
            "direction": study.direction,
        },
        "best": {"trial": best.number, "value": best.value, "settings": dict(best.settings)},
        "first": {"trial": first.number, "value": first.value, "settings": dict(first.settings)},
        "gain": tuned.gain,
        "importance": dict(tuned.importance),
        "trials": {
            "asked": tuned.asked,
            "left": tuned.left,
            **{state: tuned.count(state) for state in ("succeeded", "pruned", "failed")},
        },
        "seconds": dict(tuned.seconds),
        "found": list(tuned.found),
    }


def tuned_text(tuned: Tuned, *, root: Path, width: int) -> str:
    """Return what a search gave as lines for a person, with its settings as a table.

    Args:
        tuned: What it gave.
        root: The project's folder; what lies in it is told from there on.
        width: Columns a line may have.
    """
    from mlflow_core.cli.output import table

    study, best, first = tuned.study, tuned.best, tuned.first
    better = "greater" if study.direction == "maximize" else "smaller"
    ended = f"{tuned.count('succeeded')} to the end, {tuned.count('pruned')} ended early, {tuned.count('failed')} failed"
    left = f", {tuned.left} left" if tuned.left else ""
    lines = [
        f"run {tuned.run_id}",
        f"study   {study.name}, in {tuned.place.removeprefix(f'{root}/')}",
        f"trials  {ended}{left}",
        f"best    trial {best.number}: {study.metric} {best.value:.6g} ({better} is better)",
        f"gain    {tuned.gain:+.4g} over trial {first.number}, the first to reach its end, with {first.value:.6g}",
    ]
    if "search" in tuned.found:
        lines.append(f"found   {', '.join(tuned.found)}: nothing to do (see: mlcore runs why)")
    rows = [
        (name, _short(value), _short(first.settings.get(name)), _share(tuned.importance.get(name)))
        for name, value in sorted(best.settings.items())
    ]
    heading = ("setting", "best", f"trial {first.number}", "importance")
    return "\n".join([*lines, "", table(heading, rows, width=width), "", *_next(tuned)])


def _next(tuned: Tuned) -> list[str]:
    """What to type to train with what was found; a search with another number of trials is another step."""
    options = tuned.options
    clock = f" --clock {options.clock}" if options.clock else ""
    train = f"$ mlcore train {tuned.pipeline}{clock}"
    if options.trials is None:
        return [train]
    return [f"write trials={options.trials} into the pipeline's search, and then:", train]


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _share(importance: float | None) -> str:
    return "" if importance is None else f"{importance:.0%}"
