"""scikit-learn estimators as ONNX: trees by hand where the converter forgets missing values, the rest by skl2onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Sklearn
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.onnx.export import export_onnx
from mlflow_core.train.models.onnx.scorer import OnnxScorer
from tests.train.made import fit, table, write


def winds(rows: int, seed: int) -> pa.Table:
    made = table(rows, seed)
    return made.append_column("wind", pa.array(np.digitize(made["gust"].to_numpy(), [5.0, 10.0])))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    parts = {part: [winds(1200, seed)] for seed, part in enumerate(("train", "validate", "test"))}
    return write(tmp_path_factory.mktemp("data"), parts)


LABELS = {"binary": "label", "multiclass": "wind", "regression": "amount", "anomaly": ""}
FEW = {"n_estimators": 7}
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("ensemble:RandomForestClassifier", FEW, "binary"),
    ("ensemble:RandomForestClassifier", FEW, "multiclass"),
    ("ensemble:RandomForestRegressor", FEW, "regression"),
    ("ensemble:ExtraTreesClassifier", FEW, "binary"),
    ("ensemble:ExtraTreesRegressor", FEW, "regression"),
    ("ensemble:IsolationForest", FEW, "anomaly"),
    ("ensemble:IsolationForest", {**FEW, "max_features": 3}, "anomaly"),
    ("ensemble:HistGradientBoostingClassifier", {"max_iter": 12}, "binary"),
    ("ensemble:HistGradientBoostingClassifier", {"max_iter": 5}, "multiclass"),
    ("ensemble:HistGradientBoostingClassifier", {"max_iter": 5, "categorical_features": []}, "binary"),
    ("ensemble:HistGradientBoostingRegressor", {"max_iter": 12}, "regression"),
    (
        "ensemble:HistGradientBoostingRegressor",
        {"max_iter": 5, "loss": "quantile", "quantile": 0.9},
        "regression",
    ),
    ("ensemble:GradientBoostingClassifier", FEW, "binary"),
    ("tree:DecisionTreeClassifier", {"max_depth": 5}, "multiclass"),
    ("tree:DecisionTreeRegressor", {"max_depth": 5}, "regression"),
    ("linear_model:LogisticRegression", {}, "binary"),
    ("linear_model:LogisticRegression", {}, "multiclass"),
    ("linear_model:Ridge", {}, "regression"),
    ("neural_network:MLPRegressor", {"hidden_layer_sizes": [8], "max_iter": 3}, "regression"),
    ("svm:OneClassSVM", {}, "anomaly"),
    ("mixture:GaussianMixture", {"n_components": 3}, "anomaly"),
]


@pytest.mark.parametrize(
    ("estimator", "arguments", "objective"), CASES, ids=[f"{a} {c}" for a, _, c in CASES]
)
def test_an_estimator_predicts_the_same_as_onnx(
    shards: TrainingData, tmp_path: Path, estimator: str, arguments: dict[str, Any], objective: str
) -> None:
    features = tuple(name for name in shards.features if objective != "multiclass" or name != "hour")
    data = TrainingData(shards.shards, LABELS[objective], features)
    model = fit(
        Sklearn(estimator=f"sklearn.{estimator}", arguments=arguments, objective=objective, seed=1),
        data,
        workdir=tmp_path,
    )
    rows = winds(800, 9)

    exported = export_onnx(model, tmp_path / "onnx", rows)

    assert exported.missing > 50
    assert exported.greatest_relative <= 1e-5
    again = OnnxScorer.load(tmp_path / "onnx")
    columns = {name: rows[name].to_pylist()[:20] for name in features}
    np.testing.assert_allclose(
        again.predict_columns(columns), model.predict_columns(columns), rtol=1e-4, atol=1e-5
    )


def test_what_the_converter_does_not_know_is_refused_by_name(shards: TrainingData, tmp_path: Path) -> None:
    model = fit(
        Sklearn(estimator="sklearn.covariance:EllipticEnvelope", objective="anomaly"),
        shards,
        workdir=tmp_path,
    )

    with pytest.raises(
        TrainError, match=r"EllipticEnvelope: skl2onnx cannot write it.*Use the native format"
    ):
        export_onnx(model, tmp_path / "onnx", winds(50, 9))
    assert not (tmp_path / "onnx").exists()
