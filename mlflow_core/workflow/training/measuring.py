"""The steps that say what a model is worth: its evaluation on the test part, and what the other clocks pretend."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.metadata import Metric
from mlflow_core.spec import ClockName
from mlflow_core.train.evaluation.baselines import fit_baseline
from mlflow_core.train.evaluation.evaluate import Evaluation, evaluate
from mlflow_core.train.evaluation.kept import keep_evaluation, kept_evaluation, kept_predictions
from mlflow_core.train.evaluation.truth import truth_of
from mlflow_core.train.models.model import Model
from mlflow_core.workflow.champion import CHAMPION, champion_of
from mlflow_core.workflow.clocks import ClockComparison, compare_clocks
from mlflow_core.workflow.dataset import StoredDataset
from mlflow_core.workflow.graph import Node, NodeContext, Output
from mlflow_core.workflow.reporting import Measured
from mlflow_core.workflow.told import Told
from mlflow_core.workflow.training.recipe import DATASET, EVALUATE, TRAIN, Recipe

__all__ = [
    "CLOCKS",
    "EVALUATION",
    "clocks_node",
    "evaluate_node",
    "measured_by",
    "read_clocks",
    "read_evaluation",
]

CLOCKS, EVALUATION = "compare_clocks", "evaluation.json"
_COMPARISON = "comparison.json"

Floats = NDArray[np.float64]


def evaluate_node(recipe: Recipe) -> Node:
    """The step that measures the model on the test part, beside its baselines and the champion."""
    spec, champion = recipe.spec, recipe.champion
    params = {
        "model": spec.model,
        "metrics": list(spec.evaluate),
        "slices": list(spec.slices),
        "baselines": [one.model_dump(mode="json") for one in spec.baselines],
        "trainer": recipe.trainer_settings,
        "seed": spec.trainer.seed,
        "resamples": recipe.resamples,
    }
    data = {CHAMPION: champion.artifact_digest} if champion is not None else {}
    return Node(
        EVALUATE,
        (DATASET, TRAIN),
        recipe.key(EVALUATE, params=params, data=data, code=recipe.trainer_code),
        partial(_evaluate, recipe),
        leaves="evaluation",
    )


def clocks_node(recipe: Recipe, clocks: tuple[ClockName, ...]) -> Node:
    """The step that holds the models of other clocks against the model in question.

    Args:
        recipe: The run.
        clocks: The other clocks; there is a training set and a model of each.
    """
    metric = recipe.spec.gate.metric if recipe.spec.gate else recipe.spec.evaluate[0]
    params = {
        "metric": metric,
        "resamples": recipe.resamples,
        "seed": recipe.spec.trainer.seed,
        "trainer": recipe.trainer_settings,
    }
    needs = [DATASET, TRAIN]
    for clock in clocks:
        needs += [f"{DATASET}_{clock}", f"{TRAIN}_{clock}"]
    return Node(
        CLOCKS,
        tuple(needs),
        recipe.key(CLOCKS, params=params, code=recipe.trainer_code),
        partial(_compare, recipe, clocks, metric),
        leaves="clocks",
    )


def read_evaluation(context: NodeContext) -> Evaluation:
    """Read what the evaluation left for a later step."""
    return kept_evaluation(_fetched(context.artifacts, context.inputs[EVALUATE], context.draft / EVALUATE))


def read_clocks(artifacts: ArtifactStore, output: Output, folder: Path) -> ClockComparison:
    """Read what the comparison of clocks left.

    Args:
        artifacts: Where it is.
        output: Of the step.
        folder: A new folder for its files.
    """
    _fetched(artifacts, output, folder)
    return ClockComparison.of_json(json.loads((folder / _COMPARISON).read_text()), kept_evaluation(folder))


def measured_by(recipe: Recipe, dataset: StoredDataset, model: Model, context: NodeContext) -> Measured:
    """Put together what the evaluation measured, and on what."""
    evaluation = read_evaluation(context)
    test = dataset.data.read("test")
    return Measured(
        test=test,
        truth=truth_of(recipe.spec.trainer, test, dataset.data.label, outputs=model.outputs),
        predictions=kept_predictions(context.draft / EVALUATE, evaluation),
        evaluation=evaluation,
        champion=CHAMPION if CHAMPION in evaluation.models[1:] else None,
    )


def _fetched(artifacts: ArtifactStore, output: Output, folder: Path) -> Path:
    return folder if folder.exists() else artifacts.fetch_tree(output.digest, folder)


def _evaluate(recipe: Recipe, context: NodeContext) -> Output:
    spec, dataset, model = recipe.spec, recipe.dataset(context), recipe.model(context)
    data, test = dataset.data, dataset.data.read("test")
    predictions: dict[str, Floats] = {spec.model: model.predict(test)}
    champion = champion_of(recipe.workspace, recipe.champion, spec, dataset, context.draft / CHAMPION)
    if champion is not None:
        predictions[CHAMPION] = champion.predict(test)
    for baseline in spec.baselines:
        fitted = fit_baseline(baseline, data, spec.trainer)
        predictions[fitted.name] = fitted.predict(test)
    evaluation = evaluate(
        truth_of(spec.trainer, test, data.label, outputs=model.outputs),
        predictions,
        spec.evaluate,
        test.select(list(spec.slices)) if spec.slices else None,
        times=test[data.time_column].cast(pa.int64()).to_numpy(),
        count=recipe.resamples,
        seed=spec.trainer.seed,
        progress=context.progress,
    )
    _tell_scores(context.told, spec.model, evaluation)
    folder = keep_evaluation(context.draft / "evaluation", evaluation, predictions)
    path = folder / EVALUATION
    path.write_bytes(orjson.dumps(evaluation.to_json(), option=orjson.OPT_SORT_KEYS))
    context.told.keep(path.name, path)
    return Output(context.artifacts.put_tree(folder).digest, "files")


def _tell_scores(told: Told, model: str, evaluation: Evaluation) -> None:
    scores = [
        (f"test.{metric}" if one == model else f"test.{metric}.{one}", evaluation.score(metric, one))
        for metric in evaluation.metrics
        for one in evaluation.models
    ]
    told.intervals(Metric(name, found.value, 0, found.low, found.high) for name, found in scores)


def _compare(recipe: Recipe, clocks: tuple[ClockName, ...], metric: str, context: NodeContext) -> Output:
    deployed = recipe.dataset(context)
    others = {
        clock: (recipe.dataset(context, f"{DATASET}_{clock}"), recipe.model(context, f"{TRAIN}_{clock}"))
        for clock in clocks
    }
    found = compare_clocks(
        recipe.spec.trainer,
        (deployed.manifest["clock"], deployed, recipe.model(context)),
        others,
        metric,
        count=recipe.resamples,
        seed=recipe.spec.trainer.seed,
        progress=context.progress,
    )
    folder = keep_evaluation(context.draft / "clocks", found.evaluation)
    shown = context.draft / "clocks.json"
    shown.write_bytes(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2))
    context.told.keep(shown.name, shown)
    (folder / _COMPARISON).write_text(json.dumps(found.whole(), indent=1, sort_keys=True))
    return Output(context.artifacts.put_tree(folder).digest, "files")
