"""``mlcore runs mirror`` and ``mlcore runs import``: copies of our runs in MLflow, and MLflow's runs taken over."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_core.workflow.mirror.importing import Import
    from mlflow_core.workflow.mirror.mirroring import Copied, Stores

__all__ = ["import_runs", "mirror"]


def mirror(
    context: typer.Context,
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs' ids, the beginnings of them, or latest.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every run of a pipeline that has ended.")
    ] = False,
) -> None:
    """Copy runs to the MLflow server of the section [mlflow], as far as they are missing there.

    Example: mlcore runs mirror --all
    """
    from mlflow_core.workflow.mirror.mirroring import ended_runs_of, mirror_runs

    call = invocation(context)
    if bool(runs) == everything:
        raise UsageError("say which runs to copy", expected="runs' ids, or --all")
    chosen = (
        ended_runs_of(call.metadata) if everything else [call.metadata.get_run(one) for one in runs or ()]
    )
    copied = mirror_runs(_stores(call), chosen, progress=call.progress())
    call.result([asdict(one) for one in copied], _copied_text(copied))
    if any(one.error is not None for one in copied):
        raise typer.Exit(ExitCode.FAILED)


def import_runs(
    context: typer.Context,
    source: Annotated[str, typer.Option("--from", help="MLflow's address: http://..., sqlite:///FILE.")],
    experiment: Annotated[str | None, typer.Option(help="Only this experiment's runs.")] = None,
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="Copy the runs' files too, and those of models they logged.")
    ] = False,
) -> None:
    """Take runs of an MLflow server over, each once: params, metrics with their history, tags, status, times.

    Example: mlcore runs import --from http://127.0.0.1:5000 --experiment Default
    """
    from mlflow_core.workflow.mirror import importing
    from mlflow_core.workflow.mirror.process import server_of

    call = invocation(context)
    server = server_of(call.settings, tracking_uri=source, folder=Path.cwd())
    done = importing.import_runs(
        _stores(call), server, experiment=experiment, files=artifacts, progress=call.progress()
    )
    call.result(_import_data(done), _import_text(done))


def _stores(call: Invocation) -> Stores:
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.mirror.mirroring import Stores

    return Stores(call.settings, call.metadata, ArtifactStore(call.settings.artifact_location()))


def _copied_text(copied: Sequence[Copied]) -> str:
    lines = []
    for one in copied:
        model = f", model version {one.version}" if one.version is not None else ""
        if one.error is not None:
            lines.append(f"run {one.run_id} was not copied: {one.error}")
        elif one.made:
            lines.append(f"run {one.run_id} is copied: {one.mlflow_run}{model}")
        lines += [f"  {warning}" for warning in one.warnings]
    there = sum(not one.made and one.error is None for one in copied)
    made, failed = sum(one.made for one in copied), sum(one.error is not None for one in copied)
    lines.append(f"{made} copied, {there} there already, {failed} failed")
    return "\n".join(lines)


def _import_data(done: Import) -> dict[str, Any]:
    return {
        "server": done.server,
        "experiments": list(done.experiments),
        "runs": [asdict(one) for one in done.runs],
        "left_out": [asdict(one) for one in done.left_out],
        "deleted": done.deleted,
    }


def _import_text(done: Import) -> str:
    lines = []
    for one in done.runs:
        if one.new:
            lines.append(f"run {one.run_id} is {one.mlflow_run} of {one.experiment}")
            lines += [f"  {note}" for note in one.notes]
    lines += [f"left out {one.mlflow_run} of {one.experiment}: {one.why}" for one in done.left_out]
    new = sum(one.new for one in done.runs)
    lines.append(
        f"{new} imported, {len(done.runs) - new} there already, {len(done.left_out)} left out, "
        f"{done.deleted} deleted in MLflow"
    )
    return "\n".join(lines)
