"""The steps that lead to a model: its training set, the search for settings, the training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

from mlflow_core.engine.dataset.compute import sources_of
from mlflow_core.errors import SourceError
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.sources import seen
from mlflow_core.spec import ClockName
from mlflow_core.train import TrainContext, fit
from mlflow_core.train.identity import settings_of
from mlflow_core.train.search.trial import with_one_rank
from mlflow_core.workflow.champion import champion_of
from mlflow_core.workflow.dataset import fingerprints_of
from mlflow_core.workflow.graph import Node, NodeContext, Output
from mlflow_core.workflow.kept_trainings import KeptTrainings, may_be_driven
from mlflow_core.workflow.keys import content_of
from mlflow_core.workflow.pipeline_dataset import build_for_pipeline
from mlflow_core.workflow.rewritten import remembered
from mlflow_core.workflow.searching import search_of, search_settings
from mlflow_core.workflow.training.recipe import DATASET, SEARCH, TRAIN, Recipe
from mlflow_core.workflow.training_folder import TrainingFolder, training_folder

__all__ = ["FOUND", "dataset_node", "search_node", "train_node"]

FOUND = "search.json"
"""Under which name a run has what its search found, trial by trial."""

_ERASURES = "erasures"
_NEVER_DECIDE = {"parallel", "within"}  # how a search runs, not what it looks at
_WHOLE = "whole"


def dataset_node(recipe: Recipe, clock: ClockName | None, name: str = DATASET) -> Node:
    """The step that builds a training set.

    Args:
        recipe: The run.
        clock: Which events the features see; None for the dataset's own.
        name: The step's name.
    """
    plan, spec = recipe.plan_under(clock), recipe.spec
    now = {name: seen(one, recipe.workspace.base) for name, one in sources_of(plan).items()}
    data = remembered(now, recipe.workspace.remembered_files)
    if recipe.workspace.erasures:
        data[_ERASURES] = f"sha256:{recipe.workspace.erasures.digest}"
    key_data = recipe.recorded.get(name, data)
    spine, label = spec.data.spine, spec.data.label
    sources = {f"source {one.name}": fingerprint(one) for one in (spine.source, plan.label.source)}
    params: dict[str, Any] = {
        "clock": plan.clock,
        "split": spec.data.split.model_dump(mode="json"),
        "spine": spine.model_dump(mode="json", exclude={"source"}),
        "label": label.model_dump(mode="json", exclude={"source", "entity"}),
        "carried": list(spec.carried),
    }
    if label.entity is not None:
        params["label"]["keys"] = list(label.entity.keys)
    return Node(
        name,
        (),
        recipe.key(name, params=params, features={**fingerprints_of(plan), **sources}, data=data),
        partial(_build, recipe, clock, name, key_data),
    )


def search_node(recipe: Recipe, *, after: tuple[str, ...] = ()) -> Node:
    """The step that looks for better settings; one whose time was up goes on when the pipeline is run again.

    Args:
        recipe: The run.
        after: Steps that have to have ended well before.
    """
    searched = search_of(recipe.spec).model_dump(mode="json", exclude=_NEVER_DECIDE)
    params = {"trainer": settings_of(with_one_rank(recipe.spec.trainer)), "search": searched}
    return Node(
        SEARCH,
        (DATASET,),
        recipe.key(SEARCH, params=params, code=recipe.trainer_code),
        partial(_search, recipe),
        after=after,
        # What ended well in the very run that goes on stays as it is.
        holds=None if SEARCH in recipe.recorded else partial(_is_whole, recipe),
    )


def train_node(
    recipe: Recipe,
    *,
    dataset: str = DATASET,
    name: str = TRAIN,
    prefix: str = "",
    after: tuple[str, ...] = (),
) -> Node:
    """The step that trains a model.

    Args:
        recipe: The run.
        dataset: The step whose training set it reads.
        name: The step's name.
        prefix: What its settings and figures begin with, where a run trains more than one model.
        after: Steps that have to have ended well before.
    """
    searched = recipe.spec.search is not None
    return Node(
        name,
        (dataset, SEARCH) if searched else (dataset,),
        recipe.key(name, params={"trainer": recipe.trainer_settings}, code=recipe.trainer_code),
        partial(_train, recipe, dataset, prefix),
        after=after,
        leaves="model" if name == TRAIN else f"model_{name.removeprefix(f'{TRAIN}_')}",
        # What ended well in the very run that goes on is not done again.
        fresh=(recipe.options.fresh or recipe.options.profile) and name not in recipe.recorded,
    )


def _build(
    recipe: Recipe, clock: ClockName | None, name: str, data: Mapping[str, str], context: NodeContext
) -> Output:
    stored, record = build_for_pipeline(
        recipe.workspace, recipe.spec, clock=clock, client=context.client, progress=context.progress
    )
    moved = [source for source, was in stored.sources.items() if was != content_of(data.get(source))]
    if moved:
        # What was built is not what the step's key says.
        raise SourceError(
            f"source {', '.join(moved)} changed since the run began",
            object=f'dataset of "{recipe.spec.name}"',
            hint="Run the pipeline again.",
        )
    if name == DATASET:
        context.told.dataset(record.id)
    for warning in stored.warnings:
        context.told.warn(warning)
    return Output(stored.artifact.digest, "dataset")


def _search(recipe: Recipe, context: NodeContext) -> Output:
    dataset = recipe.dataset(context)
    _refuse_early(recipe, context)
    found = search_settings(
        recipe.spec,
        dataset,
        _training_context(recipe, context, prefix="search."),
        settings=recipe.workspace.settings,
        metadata=recipe.workspace.metadata,
        run_id=context.run_id,
    )
    path = context.draft / FOUND
    path.write_bytes(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2))
    context.told.keep(FOUND, path)
    if not found.left:  # else they may become others while the same run goes on, and a run's params do not
        context.told.params({f"{SEARCH}.{name}": value for name, value in found.best.settings.items()})
    if found.best.value is not None:
        context.told.metrics({f"{SEARCH}.{found.study.metric}": found.best.value})
    for note in found.notes:
        context.told.warn(note)
    # Which study found them, and how long that took, is not of it: the same settings found again are the same output.
    chosen = {"settings": dict(found.best.settings), _WHOLE: not found.left}
    kept = context.artifacts.put_bytes(orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS), name=SEARCH)
    return Output(kept.digest, "value")


def _is_whole(recipe: Recipe, output: Output) -> bool:
    """Whether all trials of a search had ended when it was found."""
    told: dict[str, Any] = orjson.loads(recipe.workspace.artifacts.read_bytes(output.digest))
    return bool(told[_WHOLE])


def _train(recipe: Recipe, dataset_step: str, prefix: str, context: NodeContext) -> Output:
    dataset, trainer = recipe.dataset(context, dataset_step), recipe.trainer(context)
    if dataset_step == DATASET:  # the search may have been found, by which nothing was refused
        _refuse_early(recipe, context)
    place = training_folder(
        recipe.workspace.trainings,
        KeptTrainings(context.artifacts, may_be_driven(recipe.workspace.metadata)),
        trainer,
        dataset.artifact.digest,
        run=context.run_id,
        fresh=recipe.options.fresh,
    )
    # The checkpoints go when the step is written down: a driver that dies before trains nothing again.
    folder = context.held.enter_context(place)
    if folder.begun:
        context.told.warn("a training that was interrupted went on from its last checkpoint")
    model = fit(trainer, dataset.data, _training_context(recipe, context, prefix=prefix, folder=folder))
    manifest = dataset.manifest
    model = model.with_metadata(
        service=recipe.spec.data.features.name,
        clock=manifest["clock"],
        dataset=dataset.artifact.digest,
        fingerprints=dict(manifest["fingerprints"]),
    )
    kept = context.artifacts.put_tree(model.save(context.draft / "model"), name="model")
    return Output(kept.digest, "model")


def _refuse_early(recipe: Recipe, context: NodeContext) -> None:
    """Nothing is trained that could not be compared with the champion afterwards."""
    champion_of(
        recipe.workspace, recipe.champion, recipe.spec, recipe.dataset(context), context.draft / "champion"
    )


def _training_context(
    recipe: Recipe, context: NodeContext, *, prefix: str, folder: TrainingFolder | None = None
) -> TrainContext:
    return TrainContext(
        workdir=context.draft / "work" if folder is None else folder.path,
        client=context.client,
        recorder=context.told.prefixed(prefix),
        progress=context.progress,
        cache=recipe.workspace.layouts.folder,
        profile=recipe.options.profile,
        checkpoints=None if folder is None else _reached(folder, context),
    )


def _reached(folder: TrainingFolder, context: NodeContext) -> str | None:
    """Where checkpoints are; beside the rest of the training where the store is in this process, which no worker reaches."""
    unreached = context.client is not None and folder.checkpoints.startswith("memory:")
    return None if unreached else folder.checkpoints
