"""From what a command line opened to what workflows act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

from mlflow_core.errors import UsageError, nearest
from mlflow_core.spec import ClockName, Pipeline

if TYPE_CHECKING:
    from distributed import Client

    from mlflow_core.cli.context import Invocation
    from mlflow_core.spec import TrainingPipeline
    from mlflow_core.workflow.workspace import Workspace

__all__ = ["clock_named", "cluster_for", "open_workspace"]


def open_workspace(call: Invocation) -> Workspace:
    """Open the project of this call, checked against its data.

    Raises:
        PlanError: The declarations do not load or do not fit.
        MetadataError: The metadata database cannot be used.
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.workspace import Workspace

    _ = call.schemas
    return Workspace(
        project=call.project,
        settings=call.settings,
        metadata=call.metadata,
        artifacts=ArtifactStore(call.settings.artifact_location()),
    )


@contextmanager
def cluster_for(
    workspace: Workspace, spec: TrainingPipeline | Pipeline, *, in_process: bool
) -> Iterator[Client | None]:
    """Open the cluster that a pipeline runs on for the time of a ``with`` block; None where it needs none.

    Steps of a user's own run in processes of this machine unless the settings name another cluster.

    Args:
        workspace: The project.
        spec: The pipeline.
        in_process: Start none.
    """
    cluster = workspace.settings.cluster
    local = isinstance(spec, Pipeline) and cluster.profile == "local" and cluster.address is None
    if in_process or local:
        yield None
        return
    with workspace.cluster() as client:
        yield client


def clock_named(name: str | None) -> ClockName | None:
    """Read the name of a clock.

    Raises:
        UsageError: It is none of event, known and served.
    """
    known: tuple[ClockName, ...] = get_args(ClockName)
    for clock in known:
        if clock == name:
            return clock
    if name is None:
        return None
    raise UsageError(f'"{name}" is no clock', hint=nearest(name, known))
