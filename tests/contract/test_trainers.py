"""What every trainer promises: fit, predict, save, load, export, all to the same values; the same seed, the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from mlflow_core import train
from mlflow_core.errors import TrainError
from mlflow_core.spec.network import MLP
from mlflow_core.spec.trainer import Sklearn, Torch, Trainer, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.onnx.export import export_onnx
from mlflow_core.train.models.onnx.scorer import OnnxScorer
from mlflow_core.train.models.scorer import Scorer
from tests.train.made import table, write


def rows_of(rows: int, seed: int) -> pa.Table:
    made = table(rows, seed)
    delay = np.nan_to_num(made["delay"].to_numpy(), nan=10.0)
    return made.append_column("late_class", pa.array(np.digitize(delay, [0.0, 20.0])))


@dataclass(frozen=True)
class Case:
    """A trainer, what its label is, and what its model must be."""

    trainer: Trainer
    label: str
    task: str
    outputs: int = 0


NETWORK = MLP(hidden=(32,), numbers="plain", dropout=0.0)
FAST = {"epochs": 4, "batch_size": 256, "learning_rate": 1e-2, "device": "cpu", "seed": 3}
SK = "sklearn."
CASES = {
    "xgboost binary": Case(XGBoost(rounds=20, seed=3), "label", "classification"),
    "xgboost classes": Case(
        XGBoost(objective="multi:softprob", classes=3, rounds=10, seed=3), "late_class", "multiclass", 3
    ),
    "xgboost quantity": Case(
        XGBoost(objective="reg:squarederror", rounds=10, seed=3), "amount", "regression"
    ),
    "xgboost quantiles": Case(
        XGBoost(objective="reg:quantileerror", quantiles=(0.1, 0.5, 0.9), rounds=10, seed=3),
        "amount",
        "quantile",
        3,
    ),
    "torch binary": Case(Torch(module=NETWORK, **FAST), "label", "classification"),
    "torch classes": Case(
        Torch(module=NETWORK, objective="multiclass", classes=3, **FAST), "late_class", "multiclass", 3
    ),
    "torch quantity": Case(Torch(module=NETWORK, objective="regression", **FAST), "amount", "regression"),
    "torch quantiles": Case(
        Torch(module=NETWORK, objective="quantile", quantiles=(0.1, 0.5, 0.9), **FAST),
        "amount",
        "quantile",
        3,
    ),
    "sklearn binary": Case(
        Sklearn(estimator=SK + "linear_model:LogisticRegression", seed=3), "label", "classification"
    ),
    "sklearn classes": Case(
        Sklearn(
            estimator=SK + "ensemble:HistGradientBoostingClassifier",
            arguments={"max_iter": 10},
            objective="multiclass",
            seed=3,
        ),
        "late_class",
        "multiclass",
        3,
    ),
    "sklearn quantity": Case(
        Sklearn(
            estimator=SK + "ensemble:RandomForestRegressor",
            arguments={"n_estimators": 10},
            objective="regression",
        ),
        "amount",
        "regression",
    ),
    "sklearn anomaly": Case(
        Sklearn(estimator=SK + "ensemble:IsolationForest", objective="anomaly", seed=3), "label", "anomaly"
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    folder = tmp_path_factory.mktemp("data")
    train_part = [rows_of(1500, 1), rows_of(1000, 2)]
    return write(folder, {"train": train_part, "validate": [rows_of(600, 3)], "test": [rows_of(900, 4)]})


def fitted(case: Case, data: TrainingData, folder: Path) -> Model:
    return train.fit(case.trainer, replace(data, label=case.label), train.TrainContext(workdir=folder))


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case: Case, data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fitted(case, data, tmp_path_factory.mktemp("work"))


def test_a_model_says_what_it_is(case: Case, model: Model) -> None:
    assert isinstance(model.scorer, Scorer)
    assert (model.kind, model.task) == (case.trainer.kind, case.task)
    assert len(model.outputs) == case.outputs
    assert len(set(model.outputs)) == case.outputs
    assert model.features == ("delay", "gust", "late", "carrier", "hour")
    assert model.request == ("carrier", "hour")
    assert model.metadata["trainer"] == case.trainer.model_dump(mode="json")
    assert set(model.scorer.importance()) <= set(model.preprocessing.columns)


def test_it_predicts_float64_of_the_promised_shape_and_range(
    case: Case, model: Model, data: TrainingData
) -> None:
    rows = data.read("test")

    found = model.predict(rows)

    assert found.dtype == np.float64
    assert found.shape == ((900, case.outputs) if case.outputs else (900,))
    assert np.isfinite(found).all()
    assert model.predict(rows.slice(0, 0)).shape == found[:0].shape
    if case.task in ("classification", "multiclass"):
        assert ((found >= 0) & (found <= 1)).all()
    if case.task == "multiclass":
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)


def test_it_has_learned_something(case: Case, model: Model, data: TrainingData) -> None:
    test = data.read("test")
    found, truth = model.predict(test), test[case.label].to_numpy().astype(float)

    match case.task:
        case "classification":
            assert roc_auc_score(truth, found) > 0.65
        case "multiclass":
            assert (found.argmax(axis=1) == truth).mean() > 0.6
        case "regression":
            assert np.corrcoef(found, truth)[0, 1] > 0.8
        case "quantile":
            shares = (truth[:, None] <= found).mean(axis=0)
            assert (np.diff(shares) > 0.1).all()
        case "anomaly":
            usual = np.abs(np.nan_to_num(test["delay"].to_numpy(), nan=10.0) - 10.0)
            assert found[usual > 45].mean() > found[usual < 10].mean()


def test_a_request_of_python_values_and_one_row_score_as_the_table_does(
    model: Model, data: TrainingData
) -> None:
    rows = data.read("test").slice(0, 64)
    columns = {name: rows[name].to_pylist() for name in model.features}

    found = model.predict(rows)

    np.testing.assert_array_equal(model.predict_columns(columns), found)
    for row in (0, 63):
        one = {name: values[row : row + 1] for name, values in columns.items()}
        np.testing.assert_allclose(model.predict_columns(one)[0], found[row], atol=1e-6 * np.abs(found).max())


def test_a_row_of_which_nothing_is_known_is_predicted(model: Model) -> None:
    unknown = {name: [None] for name in model.features}

    assert np.isfinite(model.predict_columns(unknown)).all()
    np.testing.assert_array_equal(
        model.predict_columns({**unknown, "carrier": ["ZZ"]}), model.predict_columns(unknown)
    )


def test_a_saved_model_is_loaded_as_it_was(model: Model, data: TrainingData, tmp_path: Path) -> None:
    rows = data.read("test")

    again = Model.load(model.save(tmp_path / "model"))

    assert again == model
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    again.save(tmp_path / "again")
    for path in (tmp_path / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_same_seed_gives_the_same_bytes(
    case: Case, model: Model, data: TrainingData, tmp_path: Path
) -> None:
    again = fitted(case, data, tmp_path / "work")

    assert dict(again.scorer.files()) == dict(model.scorer.files())
    assert again == model


def test_a_damaged_file_is_refused(model: Model, tmp_path: Path) -> None:
    for number, name in enumerate([*model.scorer.files(), "model.json"]):
        folder = model.save(tmp_path / f"model{number}")
        path = folder / name
        content = path.read_bytes()

        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(TrainError, match=f"{name}: the file is not the one that was saved"):
            Model.load(folder)
        path.unlink()
        with pytest.raises(TrainError, match=f"{name}: there is no such file"):
            Model.load(folder)


def test_a_file_that_is_damaged_under_a_fitting_digest_is_refused_too(model: Model, tmp_path: Path) -> None:
    kind = type(model.scorer)
    facts = model.scorer.facts()

    for name, content in model.scorer.files().items():
        files = {**model.scorer.files(), name: content[: len(content) // 2]}
        with pytest.raises(TrainError, match=name):
            kind.load(files, facts, model.preprocessing, place=str(tmp_path))
    with pytest.raises(TrainError, match="there is no"):
        kind.load({}, facts, model.preprocessing, place=str(tmp_path))


def test_it_is_exported_and_predicts_the_same_as_onnx(
    model: Model, data: TrainingData, tmp_path: Path
) -> None:
    rows = data.read("test")

    exported = export_onnx(model, tmp_path / "onnx", rows)

    assert (exported.rows, exported.greatest_relative <= 1e-5) == (900, True)
    again = OnnxScorer.load(tmp_path / "onnx")
    assert again.outputs == model.outputs
    np.testing.assert_allclose(
        again.predict(rows), model.predict(rows), atol=1e-5 * np.abs(model.predict(rows)).max()
    )
