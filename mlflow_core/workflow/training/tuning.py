"""Search a training pipeline's settings and stop there: its training set and its study, no model and nothing registered.

The steps are those of a training, by the same runner, so that a training with the same parts finds what they left; the
study goes on where it ended, whoever asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from mlflow_core.config.times import parse_duration
from mlflow_core.errors import UsageError
from mlflow_core.spec import ClockName
from mlflow_core.telemetry.progress import Progress
from mlflow_core.train.search.recorder import StudyFacts, Trial
from mlflow_core.train.search.run import plan_search
from mlflow_core.workflow.driving import Driven, begun, driving
from mlflow_core.workflow.graph import Output
from mlflow_core.workflow.searching import search_of, study_place
from mlflow_core.workflow.training.fitting import FOUND
from mlflow_core.workflow.training.nodes import graph_of
from mlflow_core.workflow.training.recipe import DATASET, Options, Recipe
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["TUNE", "Tuned", "drive_tuning", "plan_tuning", "run_tuning"]

TUNE = "tune"
"""The kind of such runs."""


@dataclass(frozen=True)
class Tuned:
    """What a search gave.

    Attributes:
        run_id: The run.
        pipeline: The pipeline's name.
        options: What was asked for.
        study: What was searched.
        place: Where the study is kept.
        dataset: Digest of the training set that trials were trained on.
        asked: How many trials the search has.
        best: The best trial that keeps all conditions.
        trials: The trials by number, also those that earlier runs had finished.
        importance: Share of each dimension in how good trials are; empty where too few reached their end.
        seconds: How long each step took.
        found: The steps whose output was found, so that they did nothing.
        warnings: What a person should know.
    """

    run_id: str
    pipeline: str
    options: Options
    study: StudyFacts
    place: str
    dataset: str
    asked: int
    best: Trial
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]
    seconds: Mapping[str, float]
    found: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def first(self) -> Trial:
        """The first trial that reached its end: the settings that ``start`` puts first, or the sampler's first."""
        return next(one for one in self.trials if one.state == "succeeded" and one.value is not None)

    @property
    def gain(self) -> float:
        """By how much the best trial is better than the first one; below 0 where the first misses a condition."""
        gain = float(self.best.value or 0.0) - float(self.first.value or 0.0)
        return gain if self.study.direction == "maximize" else 0.0 - gain

    @property
    def left(self) -> int:
        """How many trials have not ended, because the time was up."""
        return self.asked - sum(one.state != "running" for one in self.trials)

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(one.state == state for one in self.trials)


def plan_tuning(
    workspace: Workspace,
    name: str,
    *,
    trials: int | None = None,
    parallel: int | None = None,
    within: str | None = None,
    clock: ClockName | None = None,
) -> Recipe:
    """Plan a search of a training pipeline's settings, and check it against its trainer; nothing is run.

    Args:
        workspace: The project.
        name: The pipeline; it declares a search.
        trials: How many trials; by default as many as the search declares.
        parallel: Trials at the same time; by default as the search says.
        within: How long the search may take, e.g. ``30m``; by default as the search says.
        clock: Which events the features see; by default the dataset's own.

    Raises:
        UnknownNameError: There is no such pipeline.
        SpecError: It declares no search, or one that its trainer does not take.
        UsageError: A number or length of time is none.
        TrainError: There is nothing to judge trials by, or a library is not installed.
    """
    for word, number in (("trials", trials), ("parallel", parallel)):
        if number is not None and number < 1:
            raise UsageError(f"{word} is {number}", expected="at least 1")
    options = Options(clock, tune=True, trials=trials, parallel=parallel, within=_checked(within))
    spec = options.applied(workspace.pipeline(name))
    plan_search(spec.trainer, search_of(spec))
    return Recipe(workspace, spec, options)


def run_tuning(recipe: Recipe, *, client: Client | None = None, progress: Progress | None = None) -> Tuned:
    """Search settings; no model is trained with what is found, and nothing registered.

    Args:
        recipe: As ``plan_tuning`` gave it.
        client: The cluster on which trials run; None runs them one after the other in this process.
        progress: Who is told.

    Returns:
        The best settings, and what became of the trials.

    Raises:
        TrainError: No trial succeeded or kept the conditions, or another process runs the study.
        RunCancelled: Somebody cancelled the run.
    """
    spec, options = recipe.spec, recipe.options.to_json()
    run_id = begun(recipe.workspace, spec, seed=search_of(spec).seed, kind=TUNE, options=options)
    return drive_tuning(recipe, run_id, client=client, progress=progress)


def drive_tuning(
    recipe: Recipe,
    run_id: str,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Drive a search's run that is running to its end.

    Args:
        recipe: What it does; its options say that nothing comes after the search.
        run_id: The run; nobody else drives it.
        client: The cluster; None runs trials in this process.
        progress: Who is told.

    Raises:
        MetadataError: Another driver has it.
        MlcoreError: As for ``run_tuning``.
    """
    with driving(recipe.workspace, run_id, recipe.packages, client=client, progress=progress) as driven:
        outputs = driven.runner.run(graph_of(recipe))
        return _tuned(recipe, driven, outputs)


def _checked(within: str | None) -> str | None:
    """Refuse what is no length of time, and none at all."""
    if within is None:
        return None
    if parse_duration(within) <= 0:
        raise UsageError(f'"{within}" is no time to search in', expected="a length of time, e.g. 30m")
    return within


def _tuned(recipe: Recipe, driven: Driven, outputs: Mapping[str, Output]) -> Tuned:
    """Read what the search left: the same whether it was run or found."""
    workspace, run_id = recipe.workspace, driven.journal.run_id
    files = {one.name: one.digest for one in workspace.metadata.list_artifacts(run_id)}
    told: dict[str, Any] = orjson.loads(workspace.artifacts.read_bytes(files[FOUND]))
    trials = tuple(Trial.from_json(one) for one in told["trials"])
    return Tuned(
        run_id=run_id,
        pipeline=recipe.spec.name,
        options=recipe.options,
        study=StudyFacts(**told["study"]),
        place=study_place(workspace.settings, workspace.metadata),
        dataset=outputs[DATASET].digest,
        asked=told["asked"],
        best=next(one for one in trials if one.number == told["best"]),
        trials=trials,
        importance=told["importance"],
        seconds=driven.seconds,
        found=driven.found,
        warnings=driven.warnings,
    )
