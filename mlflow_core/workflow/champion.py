"""The champion that a gate compares with: found, and known to be comparable, before anything is trained."""

from __future__ import annotations

from pathlib import Path

from mlflow_core.errors import TrainError, UnknownNameError
from mlflow_core.metadata import ModelVersion
from mlflow_core.spec import Family, Trainer, TrainingPipeline
from mlflow_core.spec.metric import task_of
from mlflow_core.train.models.model import Model
from mlflow_core.workflow.dataset import StoredDataset
from mlflow_core.workflow.workspace import Workspace

__all__ = ["CHAMPION", "champion_of", "champion_version"]

CHAMPION = "champion"
"""The alias of the model that others have to be better than."""

_HINT = (
    "Register the new model under another name (register=ml.Register(...)), or promote another version: "
    "mlcore models promote."
)


def champion_version(workspace: Workspace, spec: TrainingPipeline) -> ModelVersion | None:
    """Find the champion if the gate asks for it and there is one."""
    if spec.gate is None or spec.gate.better_than != CHAMPION:
        return None
    try:
        return workspace.metadata.resolve_model(f"{spec.model}@{CHAMPION}")
    except UnknownNameError:
        return None


def champion_of(
    workspace: Workspace,
    version: ModelVersion | None,
    spec: TrainingPipeline,
    dataset: StoredDataset,
    folder: Path,
) -> Model | None:
    """Load the champion, if there is one.

    Args:
        workspace: Where models are registered.
        version: What ``champion_version`` found.
        spec: The pipeline.
        dataset: What it will be tested on.
        folder: Where it is fetched to.

    Raises:
        TrainError: It cannot be read by this version, predicts something else than the pipeline's model will, or
            reads a column that the dataset does not have.
    """
    if version is None:
        return None
    reference = f"{spec.model}@{CHAMPION}"
    try:
        champion = Model.load(workspace.artifacts.fetch_tree(version.artifact_digest, folder))
    except TrainError as error:
        raise TrainError(f"cannot be compared with: {error}", object=reference, hint=_HINT) from error
    if (what := _otherwise(champion, spec.trainer)) is not None:
        raise TrainError(f"cannot be compared with: it {what}", object=reference, hint=_HINT)
    missing = [name for name in champion.features if name not in dataset.manifest["schema"]]
    if missing:
        raise TrainError(
            f'cannot be compared with: it reads "{missing[0]}", which the dataset does not have',
            object=reference,
            hint=_HINT,
        )
    return champion


def _otherwise(champion: Model, trainer: Trainer) -> str | None:
    """What a champion predicts that the trainer's model will not; None if they can be measured side by side."""
    task = task_of(trainer)
    if champion.task != task:
        return f'predicts for the task "{champion.task}", not "{task}"'
    inner = trainer.trainer if isinstance(trainer, Family) else trainer
    told = champion.metadata.get("trainer", {})
    told = told.get("trainer", told)
    mine = inner.model_dump(mode="json")
    for name in {"survival": ("objective",), "quantile": ("quantiles",)}.get(task, ()):
        if told.get(name) != mine.get(name):
            return f"was trained with {name} {told.get(name)}, not {mine.get(name)}"
    return None
