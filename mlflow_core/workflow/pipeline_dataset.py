"""The training set of a pipeline: built by the route that fits its size, stored, registered by its content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_core.engine.dataset.compute import sources_of
from mlflow_core.engine.dataset.estimate import rows_of_dataset
from mlflow_core.engine.route import choose_route
from mlflow_core.metadata import DatasetRecord
from mlflow_core.plan.dataset import DatasetPlan
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.sources import files_of
from mlflow_core.spec import ClockName, TrainingPipeline
from mlflow_core.telemetry.progress import Progress
from mlflow_core.workflow.dataset import StoredDataset, build_dataset, plan_of
from mlflow_core.workflow.erasure import check_dataset
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["build_for_pipeline"]

_LISTED = 10_000  # beyond so many files a source is told by its fingerprint alone


def build_for_pipeline(
    workspace: Workspace,
    spec: TrainingPipeline,
    *,
    clock: ClockName | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> tuple[StoredDataset, DatasetRecord]:
    """Build a pipeline's training set, store it and register it by its content.

    Args:
        workspace: The project.
        spec: The pipeline; the columns of its slices and of its trainer are carried along.
        clock: Which events the features see; by default the dataset's own.
        client: A cluster for large retrievals; small ones run in this process anyway.
        progress: Who is told.

    Returns:
        The dataset and its record; the same recipe over the same sources gives the same ones.

    Raises:
        PlanError: The dataset does not fit its sources.
        SourceError: A source cannot be read, or a check does not hold.
        TrainError: Nothing is left to train on.
    """
    erasures = workspace.erasures
    plan = plan_of(spec.data, workspace.base, clock=clock, carry=spec.carried, erasures=erasures)
    route = choose_route(
        plan.retrieval,
        rows_of_dataset(plan, base=workspace.base),
        base=workspace.base,
        client=client,
        workdir=workspace.workdir,
        worth_a_cluster=workspace.settings.cluster.worth_from,
        cache=workspace.layouts,
    )
    stored = build_dataset(
        plan,
        base=workspace.base,
        artifacts=workspace.artifacts,
        workdir=workspace.workdir,
        name=spec.name,
        route=route,
        progress=progress,
    )
    manifest = stored.manifest
    record = workspace.metadata.register_dataset(
        spec.name,
        stored.artifact.digest,
        schema=manifest["schema"],
        rows=manifest["rows"],
        clock=manifest["clock"],
        split=manifest["split"],
        source_snapshot=stored.sources,
        spec_fingerprint=fingerprint(spec.data.features),
        artifact_digest=stored.artifact.digest,
        uri=stored.artifact.uri,
        report={
            "left_out": manifest["left_out"],
            "parts": manifest["parts"],
            "checks": manifest["checks"],
            "warnings": list(plan.warnings),
            "files": _files(plan, workspace.base),
        },
    )
    check_dataset(record, workspace.erasures.since(erasures), workspace.metadata, workspace.artifacts)
    return stored, record


def _files(plan: DatasetPlan, base: str) -> dict[str, dict[str, str]]:
    """Return source -> file -> version, so that two training sets can be told apart by their files."""
    found = {name: files_of(one, base) for name, one in sources_of(plan).items()}
    return {name: files for name, files in found.items() if len(files) <= _LISTED}
