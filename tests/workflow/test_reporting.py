"""The report and the card of a run say what features did to predictions, whatever the kind of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mlflow_core as ml
from mlflow_core.workflow.training import run_pipeline

TRAINERS = {
    "sklearn": ml.Sklearn(estimator="sklearn.linear_model:LogisticRegression"),
    "family": ml.Family(trainer=ml.XGBoost(rounds=5), by=("breakdowns_14d",), least_rows=50),
    "torch": ml.Torch(module=ml.MLP(hidden=(8,), embedding=4), epochs=1, device="cpu"),
}


@pytest.mark.parametrize("kind", TRAINERS)
def test_a_model_of_any_kind_is_explained_in_report_and_card(workspace, kind):
    spec = workspace.pipeline("breakdown").model_copy(update={"trainer": TRAINERS[kind]})
    told = replace(workspace, project=replace(workspace.project, pipelines={"breakdown": spec}))

    trained = run_pipeline(told, "breakdown")

    assert "contribution to the prediction (probability)" in trained.report.read_text()
    files = {file.name: file for file in workspace.metadata.list_artifacts(trained.run_id)}
    card = workspace.artifacts.read_bytes(files["model_card.md"].digest).decode()
    assert "Moves by: the mean absolute contribution to a prediction, in probability." in card
    assert "by predictions: features join each of 64 background rows" in card
