"""What is known of a run of a training pipeline before it begins; the steps of its graph are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import orjson

from mlflow_core.metadata import ModelVersion
from mlflow_core.plan.dataset import DatasetPlan
from mlflow_core.spec import ClockName, Duration, Trainer, TrainingPipeline
from mlflow_core.train.identity import paths_of, settings_of
from mlflow_core.train.models.model import Model
from mlflow_core.train.search.space import apply_settings
from mlflow_core.workflow.champion import CHAMPION, champion_version
from mlflow_core.workflow.code import digest_of_path
from mlflow_core.workflow.dataset import StoredDataset, open_dataset, plan_of
from mlflow_core.workflow.environment import digest_of_environment, digest_of_package, installed
from mlflow_core.workflow.graph import NodeContext, Output
from mlflow_core.workflow.keys import KeyParts
from mlflow_core.workflow.searching import search_of
from mlflow_core.workflow.workspace import Workspace

__all__ = ["DATASET", "EVALUATE", "RESAMPLES", "SEARCH", "TRAIN", "Options", "Recipe"]

RESAMPLES = 1000
"""How many resamples the intervals of figures rest on."""

DATASET, SEARCH, TRAIN, EVALUATE = "dataset", "search", "train", "evaluate"

_AFTER_A_SEARCH: Mapping[str, Any] = {
    "evaluate": (),
    "baselines": (),
    "gate": None,
    "register_as": None,
    "steps": (),
}


@dataclass(frozen=True)
class Options:
    """What a caller may ask for besides the pipeline.

    Attributes:
        clock: Which events the features see; by default the dataset's own.
        compare: Also train under the other clocks and say what each pretends.
        fresh: Train anew, also where a training was interrupted or its model could be found.
        profile: Record where the training's time goes, for which it has to be done.
        tune: Only search for settings, and train and register nothing.
        trials: How many trials a search has; by default as many as it declares. As the next two for ``tune`` alone.
        parallel: Trials at the same time.
        within: How long the search may take, e.g. ``30m``.
    """

    clock: ClockName | None = None
    compare: bool = False
    fresh: bool = False
    profile: bool = False
    tune: bool = False
    trials: int | None = None
    parallel: int | None = None
    within: str | None = None

    def applied(self, spec: TrainingPipeline) -> TrainingPipeline:
        """A pipeline as it is run with these: of one that is only searched nothing that comes after the search.

        Args:
            spec: The pipeline as declared.

        Raises:
            SpecError: It is to be searched, and declares no search.
        """
        if not self.tune:
            return spec
        within = None if self.within is None else Duration(self.within)
        asked = {"trials": self.trials, "parallel": self.parallel, "within": within}
        given = {name: value for name, value in asked.items() if value is not None}
        return spec.model_copy(update={"search": search_of(spec).model_copy(update=given), **_AFTER_A_SEARCH})

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class Recipe:
    """A pipeline with everything that its steps' keys are made of.

    Attributes:
        workspace: The project.
        spec: The pipeline.
        options: What was asked for.
        recorded: By step the part ``data`` of its key as an earlier attempt of this run recorded it: a run that goes
            on sees its sources as it saw them first.
        shown_run: The run that reports name; by default the one that writes them.
        resamples: How many resamples the intervals rest on.
    """

    workspace: Workspace
    spec: TrainingPipeline
    options: Options = Options()
    recorded: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    shown_run: str | None = None
    resamples: int = RESAMPLES

    @cached_property
    def packages(self) -> Mapping[str, str]:
        """The environment: the version of each installed package."""
        return installed()

    @cached_property
    def environment(self) -> str:
        """Its digest."""
        return digest_of_environment(self.packages)

    @cached_property
    def plan(self) -> DatasetPlan:
        """The plan of the training set of the model in question."""
        return self.plan_under(self.options.clock)

    @cached_property
    def champion(self) -> ModelVersion | None:
        """The model that the gate compares with, if it does and there is one; what it was then, if that is recorded."""
        if EVALUATE not in self.recorded:
            return champion_version(self.workspace, self.spec)
        digest = self.recorded[EVALUATE].get(CHAMPION)
        if digest is None:
            return None
        versions = self.workspace.metadata.list_versions(self.spec.model)
        return next((one for one in versions if one.artifact_digest == digest), None)

    def plan_under(self, clock: ClockName | None) -> DatasetPlan:
        """The plan of the training set under a clock."""
        return plan_of(
            self.spec.data,
            self.workspace.base,
            clock=clock,
            carry=self.spec.carried,
            erasures=self.workspace.erasures,
        )

    def key(
        self,
        step: str,
        *,
        params: Mapping[str, Any],
        code: Mapping[str, str] | None = None,
        features: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
    ) -> KeyParts:
        """The key of a step, with what all steps depend on."""
        return KeyParts(
            code={"mlflow_core": digest_of_package(), **(code or {})},
            params=params,
            features=features or {},
            data=self.recorded.get(step, data or {}),
            environment=self.environment,
        )

    @cached_property
    def trainer_settings(self) -> dict[str, Any]:
        """The trainer's settings that decide its model."""
        return settings_of(self.spec.trainer)

    @cached_property
    def trainer_code(self) -> dict[str, str]:
        """Digests of the project's own code that trains and predicts: of a network or estimator of the user's."""
        project = self.workspace.project
        found: dict[str, str] = {}
        for path in paths_of(self.spec.trainer):
            found |= digest_of_path(path, project=(project.root, project.repo))
        return found

    def dataset(self, context: NodeContext, name: str = DATASET) -> StoredDataset:
        """Open the training set that a step needs."""
        about = context.artifacts.about(context.inputs[name].digest, name=name)
        # Beside the drafts of all steps: what has to be fetched is fetched once in a run, and gone with it.
        return open_dataset(about, context.artifacts, fetched=context.draft.parent / "fetched")

    def model(self, context: NodeContext, name: str = TRAIN) -> Model:
        """Fetch the model that a step needs."""
        return self.fetched_model(context.inputs[name], context)

    def fetched_model(self, output: Output, context: NodeContext) -> Model:
        """Fetch a model into the step's draft."""
        folder = context.draft / f"model-{output.digest[-12:]}"
        if not folder.exists():
            context.artifacts.fetch_tree(output.digest, folder)
        return Model.load(folder)

    def trainer(self, context: NodeContext) -> Trainer:
        """The trainer to train with: the pipeline's own, with the settings that the search found."""
        if self.spec.search is None:
            return self.spec.trainer
        told = orjson.loads(context.artifacts.read_bytes(context.inputs[SEARCH].digest))
        return apply_settings(self.spec.trainer, told["settings"])
