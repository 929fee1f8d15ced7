"""Run a training pipeline: plan its graph, and have it walked, with everything written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_core.errors import GateFailed
from mlflow_core.spec import ClockName
from mlflow_core.telemetry.progress import Progress
from mlflow_core.train.evaluation.baselines import check_baselines
from mlflow_core.workflow.driving import begun, driving
from mlflow_core.workflow.graph import Output
from mlflow_core.workflow.training.nodes import graph_of
from mlflow_core.workflow.training.recipe import RESAMPLES, Options, Recipe
from mlflow_core.workflow.training.releasing import REPORT
from mlflow_core.workflow.training.result import Trained, show_report, trained
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["drive", "run_pipeline"]


def run_pipeline(
    workspace: Workspace,
    name: str,
    *,
    clock: ClockName | None = None,
    compare: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
    fresh: bool = False,
    profile: bool = False,
) -> Trained:
    """Run a training pipeline; steps whose output can be found from an earlier run do nothing.

    Args:
        workspace: The project.
        name: The pipeline.
        clock: Which events the features see; by default the dataset's own.
        compare: Also train under the other clocks and say what each pretends.
        client: The cluster that trains; None trains in this process.
        progress: Who is told.
        fresh: Whether to train anew, also where a model of the same was trained, or a training was interrupted.
        profile: Whether to record where the training's time goes.

    Returns:
        The registered model and everything that was measured.

    Raises:
        UnknownNameError: There is no such pipeline.
        GateFailed: The gate does not hold; the run, its figures and its report are kept, nothing is registered.
        TrainError: The data or the settings cannot be trained with, or a baseline's library is not installed.
        RunCancelled: Somebody cancelled the run.
    """
    spec = workspace.pipeline(name)
    check_baselines(spec.baselines)
    recipe = Recipe(workspace, spec, Options(clock, compare, fresh, profile), resamples=RESAMPLES)
    run_id = begun(workspace, spec, seed=spec.trainer.seed, options=recipe.options.to_json())
    return drive(recipe, run_id, client=client, progress=progress)


def drive(
    recipe: Recipe,
    run_id: str,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
    finds: bool = True,
) -> Trained:
    """Drive a run that is running to its end.

    Args:
        recipe: What it does.
        run_id: The run; nobody else drives it.
        client: The cluster; None trains in this process.
        progress: Who is told.
        finds: Whether outputs that can be found are taken.

    Raises:
        MetadataError: Another driver has it.
        MlcoreError: As for ``run_pipeline``.
    """
    with driving(
        recipe.workspace, run_id, recipe.packages, client=client, progress=progress, finds=finds
    ) as driven:
        try:
            outputs = driven.runner.run(graph_of(recipe))
        except GateFailed:
            report = driven.journal.steps[REPORT].output_digest
            if report is not None:
                show_report(recipe, run_id, Output(report, "files"))
            raise
        return trained(recipe, driven, outputs)
