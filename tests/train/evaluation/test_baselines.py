"""Baselines: what the label is anyway, for every task, and a logistic regression of a few columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Family, LogisticRegression, Rate, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.baselines import fit_baseline
from mlflow_core.train.evaluation.metrics import measure
from tests.train.made import table, write

CLASSES = XGBoost(objective="multi:softprob", classes=4)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """Labels of three of four classes, which hang on the carrier, and a quantity."""

    def more(seed: int) -> pa.Table:
        made, random = table(900, seed), np.random.default_rng(seed)
        of_carrier = [0 if one == "B6" else 2 for one in made["carrier"].to_pylist()]
        kinds = np.where(random.random(900) < 0.3, 1, of_carrier)
        return made.append_column("kind", pa.array(kinds)).append_column("late_by", made["amount"])

    folder = tmp_path_factory.mktemp("labelled")
    return write(
        folder, {part: [more(n)] for n, part in enumerate(("train", "validate", "test"))}, label="kind"
    )


def test_baselines_predict_the_rate_and_a_logistic_regression_of_the_request(data: TrainingData) -> None:
    test, train = data.read("test"), data.read("train")
    y = test.column("label").to_numpy().astype(float)

    rate, logistic = fit_baseline(Rate(), data), fit_baseline(LogisticRegression(), data)

    assert set(rate.predict(test)) == {train.column("label").to_numpy().astype(float).mean()}
    assert logistic.columns == ("carrier", "hour")
    assert 0.55 < measure("auc", y, logistic.predict(test)) < 0.8
    unseen = test.set_column(
        test.column_names.index("carrier"), "carrier", pa.array([None] * len(y), pa.string())
    )
    assert np.isfinite(logistic.predict(unseen)).all()


def test_the_rate_of_classes_is_the_share_of_each_also_of_one_that_never_came(labelled: TrainingData) -> None:
    train, test = labelled.read("train"), labelled.read("test")

    said = fit_baseline(Rate(), labelled, CLASSES).predict(test)

    assert said.shape == (900, 4)
    assert said[0].tolist() == [(train["kind"].to_numpy() == one).mean() for one in range(4)]
    assert said[0, 3] == 0


def test_a_logistic_regression_of_classes_gives_each_its_column(labelled: TrainingData) -> None:
    test = labelled.read("test")
    y = test["kind"].to_numpy().astype(float)

    said = fit_baseline(LogisticRegression(), labelled, CLASSES).predict(test)

    assert said.shape == (900, 4)
    assert said.sum(axis=1) == pytest.approx(np.ones(900))
    assert (said[:, 3] == 0).all()
    rate = fit_baseline(Rate(), labelled, CLASSES).predict(test)
    assert measure("log_loss", y, said) < measure("log_loss", y, rate) - 0.1


def test_baselines_beside_a_family_are_those_of_its_members(labelled: TrainingData) -> None:
    test, family = labelled.read("test"), Family(trainer=CLASSES, by=("carrier",))

    for baseline in (Rate(), LogisticRegression()):
        own, alone = (fit_baseline(baseline, labelled, one).predict(test) for one in (family, CLASSES))
        assert own.shape == (900, 4)
        np.testing.assert_array_equal(own, alone)


def test_the_rate_of_several_targets_is_the_mean_of_each(labelled: TrainingData) -> None:
    trainer = XGBoost(objective="reg:squarederror", targets=("amount", "hour"))
    train, test = labelled.read("train"), labelled.read("test")

    said = fit_baseline(Rate(), labelled, trainer).predict(test)

    assert said.shape == (900, 3)
    assert said[4] == pytest.approx([train[name].to_numpy().mean() for name in ("kind", "amount", "hour")])


def test_the_rate_of_a_quantity_is_its_mean_and_of_quantiles_its_own(labelled: TrainingData) -> None:
    shifted = TrainingData(labelled.shards, "late_by", labelled.features)
    train, test = labelled.read("train")["late_by"].to_numpy(), labelled.read("test")
    quantiles = XGBoost(objective="reg:quantileerror", quantiles=(0.1, 0.9))

    assert fit_baseline(Rate(), shifted, XGBoost(objective="reg:squarederror")).predict(test)[
        5
    ] == pytest.approx(train.mean())
    assert fit_baseline(Rate(), shifted, quantiles).predict(test)[7] == pytest.approx(
        np.quantile(train, [0.1, 0.9])
    )


def test_a_baseline_that_cannot_be_fitted_says_why(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r'"horu" is not a feature of the dataset.*Did you mean "hour"'):
        fit_baseline(LogisticRegression(columns=("horu",)), data)
    bare = TrainingData(data.shards, data.label, data.features)
    with pytest.raises(TrainError, match="names no columns, and no feature comes from the request"):
        fit_baseline(LogisticRegression(), bare)
    with pytest.raises(TrainError, match='predicts classes, and the task is "regression"'):
        fit_baseline(LogisticRegression(), data, XGBoost(objective="reg:squarederror"))
    holes = table(20, 1).set_column(7, "label", pa.array([None] + [True] * 19))
    with pytest.raises(TrainError, match='label "label" in the part "train" is empty, null or infinite'):
        fit_baseline(Rate(), write(tmp_path / "holes", {"train": [holes]}))
