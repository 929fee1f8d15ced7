"""Run a pipeline that is made of users' steps alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_core.spec import Pipeline
from mlflow_core.telemetry.progress import Progress
from mlflow_core.workflow.driving import begun, driving
from mlflow_core.workflow.environment import (
    digest_of_environment,
    digest_of_package,
    installed,
)
from mlflow_core.workflow.graph import Graph, Output
from mlflow_core.workflow.keys import KeyParts
from mlflow_core.workflow.user_steps import step_node
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Finished", "drive_steps", "graph_of_steps", "run_steps"]

_SEED = 0


@dataclass(frozen=True)
class Finished:
    """What a run of steps gave.

    Attributes:
        run_id: The run.
        outputs: By step.
        seconds: How long each step took.
        found: The steps whose output was found, so that they did nothing.
        warnings: What a person should know.
    """

    run_id: str
    outputs: Mapping[str, Output]
    seconds: Mapping[str, float]
    found: tuple[str, ...]
    warnings: tuple[str, ...]


def run_steps(
    workspace: Workspace, spec: Pipeline, *, client: Client | None = None, progress: Progress | None = None
) -> Finished:
    """Run a pipeline of steps; those whose output can be found from an earlier run do nothing.

    Args:
        workspace: The project.
        spec: The pipeline.
        client: The cluster; None runs the steps on this machine.
        progress: Who is told.

    Raises:
        StepFailed: A step raised an error.
        StepCrashed: A step's process was lost, more often than it may be tried again.
        StepTimeout: A step took too long, more often than it may be tried again.
        RunCancelled: Somebody cancelled the run.
    """
    run_id = begun(workspace, spec, seed=_SEED)
    return drive_steps(workspace, spec, run_id, client=client, progress=progress)


def drive_steps(
    workspace: Workspace,
    spec: Pipeline,
    run_id: str,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
    finds: bool = True,
) -> Finished:
    """Drive a run of steps that is running to its end; as for ``run_steps``.

    Args:
        workspace: The project.
        spec: The pipeline.
        run_id: The run.
        client: The cluster.
        progress: Who is told.
        finds: Whether outputs that can be found are taken.
    """
    packages = installed()
    with driving(workspace, run_id, packages, client=client, progress=progress, finds=finds) as driven:
        outputs = driven.runner.run(graph_of_steps(workspace, spec, packages))
        return Finished(run_id, outputs, driven.seconds, driven.found, driven.warnings)


def graph_of_steps(workspace: Workspace, spec: Pipeline, packages: Mapping[str, str]) -> Graph:
    """Plan a run of steps.

    Args:
        workspace: The project.
        spec: The pipeline.
        packages: The environment.
    """
    environment_digest = digest_of_environment(packages)

    def key(_step: str, *, params: Mapping[str, Any], code: Mapping[str, str]) -> KeyParts:
        return KeyParts(
            code={"mlflow_core": digest_of_package(), **code}, params=params, environment=environment_digest
        )

    return Graph.of(step_node(step, workspace, key, products={}, seed=_SEED) for step in spec.steps)
