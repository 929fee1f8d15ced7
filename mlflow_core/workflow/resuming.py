"""Resume a run that failed, crashed, was cancelled, or whose driver is gone: the same run goes on where it ended.

It is walked again with the sources as it saw them first: steps that ended well are found, the others are made. What it
cannot do is to go on with declarations that have changed since: that would be another run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow_core.config.clock import SystemClock
from mlflow_core.config.times import format_time
from mlflow_core.errors import WorkflowError
from mlflow_core.metadata import MetadataStore, Run
from mlflow_core.metadata.records import RunState
from mlflow_core.spec import Pipeline, TrainingPipeline
from mlflow_core.telemetry.progress import Progress
from mlflow_core.workflow.driving import OPTIONS, SPECS
from mlflow_core.workflow.lease import driver_is_gone
from mlflow_core.workflow.specs import changed_specs, specs_of
from mlflow_core.workflow.steps_run import Finished, drive_steps
from mlflow_core.workflow.training.recipe import Options, Recipe
from mlflow_core.workflow.training.result import Trained
from mlflow_core.workflow.training.run import drive
from mlflow_core.workflow.training.tuning import TUNE, Tuned, drive_tuning
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["check_specs", "options_of", "recorded_data", "resume_run", "started_spec"]

_KINDS = ("train", TUNE)


def resume_run(
    workspace: Workspace, run_id: str, *, client: Client | None = None, progress: Progress | None = None
) -> Trained | Tuned | Finished:
    """Go on with a run.

    Args:
        workspace: The project.
        run_id: The run, as for ``MetadataStore.get_run``.
        client: The cluster; None computes on this machine.
        progress: Who is told.

    Returns:
        What it gave, as if it had not been interrupted.

    Raises:
        UnknownNameError: There is no such run, or its pipeline is not declared any more.
        WorkflowError: It has succeeded, another driver is at work on it, or its declarations have changed.
        MlcoreError: As when the pipeline is run.
    """
    metadata = workspace.metadata
    run = metadata.get_run(run_id)
    if run.kind not in _KINDS:
        raise WorkflowError(
            f'is a run of the kind "{run.kind}"', object=f"Run {run.id}", expected="a run of a pipeline"
        )
    spec = started_spec(workspace, run)
    _check_free(run, SystemClock().now_us())
    check_specs(run, specs_of(spec))
    _restart(metadata, run)
    if not isinstance(spec, TrainingPipeline):
        return drive_steps(workspace, spec, run.id, client=client, progress=progress)
    recipe = Recipe(workspace, spec, options_of(run), recorded=recorded_data(metadata, run.id))
    if recipe.options.tune:
        return drive_tuning(recipe, run.id, client=client, progress=progress)
    return drive(recipe, run.id, client=client, progress=progress)


def options_of(run: Run) -> Options:
    """What was asked for when a run of a training pipeline was started."""
    return Options(**run.tags.get(OPTIONS, {}))


def started_spec(workspace: Workspace, run: Run) -> TrainingPipeline | Pipeline:
    """The pipeline of a run as it is declared now, with what was asked for when the run was started.

    Raises:
        UnknownNameError: It is not declared any more.
        SpecError: It was searched, and declares no search any more.
    """
    spec = workspace.any_pipeline(run.pipeline)
    return options_of(run).applied(spec) if isinstance(spec, TrainingPipeline) else spec


def recorded_data(metadata: MetadataStore, run_id: str) -> dict[str, Mapping[str, str]]:
    """What the steps of a run that ended well saw of the world outside, by step: the part ``data`` of their keys."""
    return {
        step.name: step.cache_parts["data"]
        for step in metadata.list_steps(run_id)
        if step.state == RunState.SUCCEEDED and "data" in step.cache_parts
    }


def _check_free(run: Run, now_us: int) -> None:
    if run.state == RunState.SUCCEEDED:
        raise WorkflowError(
            "has succeeded: there is nothing to resume",
            object=f"Run {run.id}",
            hint=f"To run the pipeline again: {_command(run)}",
        )
    alive = run.state == RunState.RUNNING and run.lease_owner is not None and not run.is_lost(now_us)
    if alive and not driver_is_gone(run.lease_owner):
        raise WorkflowError(
            f"is driven by {run.lease_owner}, whose lease ends at {format_time(run.lease_until_us or 0)}",
            object=f"Run {run.id}",
            hint=f"If that process is gone, wait for that time; to end it: mlcore runs cancel {run.id}",
        )


def check_specs(run: Run, now: Mapping[str, str]) -> None:
    """Compare what is declared with what a run was started with; words for people are no change.

    Args:
        run: The run.
        now: As ``specs_of`` says now.

    Raises:
        WorkflowError: Something has changed; names it.
    """
    before = run.code.get(SPECS)
    if before is None:
        raise WorkflowError(
            "does not say which declarations it was started with",
            object=f"Run {run.id}",
            hint=f"Start a new one: {_command(run)}",
        )
    changed = changed_specs(before, now)
    if changed:
        raise WorkflowError(
            f"was started with other declarations; these have changed: {', '.join(changed)}",
            object=f"Run {run.id}",
            hint=f"Start a new run, which takes what can be found: {_command(run)}",
        )


def _command(run: Run) -> str:
    return f"mlcore {TUNE if run.kind == TUNE else 'train'} {run.pipeline}"


def _restart(metadata: MetadataStore, run: Run) -> None:
    """Make the run running; one whose driver is gone ends first, so that its open steps do."""
    if run.state == RunState.RUNNING and run.lease_owner is not None:
        why = f"its driver {run.lease_owner} was lost"
        metadata.finish_run(run.id, RunState.CRASHED, error=why, driver=run.lease_owner)
        metadata.start_run(run.id)
    elif run.state != RunState.RUNNING:
        metadata.start_run(run.id)
