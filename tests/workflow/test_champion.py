"""The champion of a gate: comparable, or told before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mlflow_core as ml
from mlflow_core.errors import TrainError
from mlflow_core.workflow.champion import champion_of, champion_version
from mlflow_core.workflow.pipeline_dataset import build_for_pipeline
from mlflow_core.workflow.training import run_pipeline

GATE = ml.Gate(metric="auc", better_than="champion")


def pipeline(spec, **changes):
    fields = {name: getattr(spec, name) for name in ("data", "trainer", "slices")}
    return ml.TrainingPipeline("breakdown", register=spec.register_as, **{**fields, **changes})


@pytest.fixture
def promoted(workspace):
    """A workspace with a champion, and its dataset."""
    trained = run_pipeline(workspace, "breakdown")
    workspace.metadata.move_alias("breakdown", "champion", trained.version, "the first")
    spec = workspace.pipeline("breakdown")
    return workspace, spec, build_for_pipeline(workspace, spec)[0]


def champion_for(workspace, spec, dataset, folder):
    """The champion of a pipeline, if its gate asks for one."""
    return champion_of(workspace, champion_version(workspace, spec), spec, dataset, folder)


def test_a_gate_that_asks_for_no_champion_gets_none_and_one_that_does_gets_it(promoted, tmp_path):
    workspace, spec, dataset = promoted

    assert champion_for(workspace, pipeline(spec), dataset, tmp_path / "a") is None
    champion = champion_for(workspace, pipeline(spec, gate=GATE), dataset, tmp_path / "b")
    assert champion.metadata["service"] == "machine_health"
    other = pipeline(spec, gate=GATE).model_copy(update={"register_as": ml.Register("another")})
    assert champion_for(workspace, other, dataset, tmp_path / "c") is None


def test_a_champion_that_predicts_something_else_is_refused(promoted, tmp_path):
    workspace, spec, dataset = promoted
    regression = pipeline(
        spec,
        trainer=ml.XGBoost(objective="reg:squarederror"),
        evaluate=["rmse"],
        gate=ml.Gate(metric="rmse", better_than="champion"),
    )

    with pytest.raises(TrainError, match='predicts for the task "classification", not "regression"'):
        champion_for(workspace, regression, dataset, tmp_path / "a")


def test_a_champion_that_reads_a_column_that_is_gone_is_refused_before_training(promoted, tmp_path):
    workspace, spec, dataset = promoted
    column = dataset.data.features[0]
    schema = {name: kind for name, kind in dataset.manifest["schema"].items() if name != column}
    without = replace(dataset, manifest={**dataset.manifest, "schema": schema})

    with pytest.raises(TrainError, match=f'reads "{column}", which the dataset does not have'):
        champion_for(workspace, pipeline(spec, gate=GATE), without, tmp_path / "a")
