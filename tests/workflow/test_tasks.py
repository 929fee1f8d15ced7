"""A pipeline run of every task: what was trained is measured, reported, registered, and predicts the same once loaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mlflow_core as ml
from mlflow_core.train.evaluation.baselines import fit_baseline
from mlflow_core.train.models.model import Model
from mlflow_core.workflow.pipeline_dataset import build_for_pipeline
from mlflow_core.workflow.training import run_pipeline

TREES = {"rounds": 8, "max_depth": 2, "seed": 1}
NET = {"epochs": 2, "batch_size": 128, "device": "cpu", "seed": 1}
FOREST = "sklearn.ensemble:RandomForestClassifier"
SMALL = ml.MLP(hidden=(8,))

CASES = {
    "trees of classes": (ml.XGBoost(objective="multi:softprob", classes=2, **TREES), True, ("0", "1")),
    "trees of quantiles": (
        ml.XGBoost(objective="reg:quantileerror", quantiles=(0.2, 0.9), **TREES),
        True,
        ("0.2", "0.9"),
    ),
    "trees of one quantile": (ml.XGBoost(objective="reg:quantileerror", quantiles=(0.5,), **TREES), True, ()),
    "trees of a ranking": (ml.XGBoost(objective="rank:ndcg", group="machine", **TREES), False, ()),
    "trees of targets": (
        ml.XGBoost(objective="reg:squarederror", targets=("vibration",), **TREES),
        True,
        ("breaks", "vibration"),
    ),
    "trees for all targets": (
        ml.XGBoost(
            objective="reg:squarederror",
            targets=("vibration",),
            params={"multi_strategy": "multi_output_tree"},
            **TREES,
        ),
        True,
        ("breaks", "vibration"),
    ),
    "a network of a probability": (ml.Torch(module=SMALL, **NET), True, ()),
    "a network of one quantile": (
        ml.Torch(module=SMALL, objective="quantile", quantiles=(0.5,), **NET),
        True,
        (),
    ),
    "a network of what is usual": (
        ml.Torch(module=ml.Autoencoder(), objective="reconstruction", **NET),
        False,
        (),
    ),
    "an estimator of a probability": (
        ml.Sklearn(estimator=FOREST, arguments={"n_estimators": 5}),
        True,
        (),
    ),
    "an estimator of what is usual": (
        ml.Sklearn(
            estimator="sklearn.ensemble:IsolationForest", arguments={"n_estimators": 5}, objective="anomaly"
        ),
        False,
        (),
    ),
    "a family of classes": (
        ml.Family(
            trainer=ml.XGBoost(objective="multi:softprob", classes=2, **TREES),
            by=("breakdowns_14d",),
            least_rows=20,
        ),
        True,
        ("0", "1"),
    ),
}
"""By name the trainer, whether the label's rate is a baseline of it, and the outputs' names."""


def with_trainer(workspace, trainer, *, rate):
    """The example's workspace, its pipeline trained otherwise."""
    spec = workspace.pipeline("breakdown")
    made = ml.TrainingPipeline(
        "breakdown",
        data=spec.data,
        trainer=trainer,
        slices=("machine",),
        baselines=(ml.Rate(),) if rate else (),
        register=spec.register_as,
    )
    return replace(workspace, project=replace(workspace.project, pipelines={"breakdown": made}))


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_of_each_task_runs_and_its_model_predicts_the_same_once_loaded(
    workspace, name, monkeypatch
):
    monkeypatch.setattr("mlflow_core.workflow.training.run.RESAMPLES", 50)
    trainer, rate, outputs = CASES[name]
    changed = with_trainer(workspace, trainer, rate=rate)

    trained = run_pipeline(changed, "breakdown")

    spec = changed.pipeline("breakdown")
    assert trained.evaluation.metrics == spec.evaluate
    assert trained.evaluation.models == (("breakdown", "rate") if rate else ("breakdown",))
    assert np.isfinite(trained.evaluation.score(spec.evaluate[0]).value)
    assert {one.column for one in trained.evaluation.slices} == {"machine"}
    assert ("trained without a label" in trained.report.read_text()) == (trained.evaluation.task == "anomaly")
    version = workspace.metadata.resolve_model("breakdown@candidate")
    model = Model.load(workspace.artifacts.fetch_tree(version.artifact_digest, workspace.workdir / "fetched"))
    rows = trained.dataset.data.read("test")
    found = model.predict(rows)
    assert model.outputs == outputs
    assert model.label == ("" if model.task == "anomaly" else "breaks")
    assert found.shape == ((len(rows), len(outputs)) if outputs else (len(rows),))
    assert np.ptp(found) > 0
    columns = {name: rows.column(name).to_pylist() for name in model.features}
    np.testing.assert_array_equal(model.predict_columns(columns), found)


def test_a_rate_of_several_targets_is_the_mean_of_each(workspace):
    changed = with_trainer(workspace, CASES["trees of targets"][0], rate=True)
    dataset, _ = build_for_pipeline(changed, changed.pipeline("breakdown"))

    train = dataset.data.read("train")
    said = fit_baseline(ml.Rate(), dataset.data, changed.pipeline("breakdown").trainer).predict(train)

    means = [np.mean(train[name].to_numpy().astype(float)) for name in ("breaks", "vibration")]
    np.testing.assert_allclose(said, np.tile(means, (len(train), 1)))
