"""Fitting scikit-learn estimators: equal to scikit-learn's own, missing values and categories, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed.system
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.linear_model import LogisticRegression, Ridge

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Sklearn
from mlflow_core.train import TrainContext
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.encoding import Encoding
from mlflow_core.train.sklearn.fit import check_memory
from mlflow_core.train.sklearn.fit import fit as fit_sklearn
from tests.train.made import fit, table, training_set, write

LOGISTIC = Sklearn(estimator="sklearn.linear_model:LogisticRegression")
BOOSTING = Sklearn(
    estimator="sklearn.ensemble:HistGradientBoostingClassifier", arguments={"max_iter": 20}, seed=3
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_set(tmp_path_factory.mktemp("data"))


def column(rows: pa.Table, name: str) -> NDArray[np.float64]:
    found: NDArray[np.float64] = rows[name].to_numpy().astype(float)
    return found


def by_hand(rows: pa.Table, of: pa.Table) -> NDArray[np.float64]:
    """Standardised numbers with the mean for missing, and a column for each carrier: what a linear model should see."""
    columns = []
    for name in ("delay", "gust", "late"):
        known = column(of, name)
        mean, deviation = np.nanmean(known), np.nanstd(known)
        columns.append((np.nan_to_num(column(rows, name), nan=mean) - mean) / deviation)
    carrier = np.array([str(one) for one in rows["carrier"].to_pylist()])
    columns += [(carrier == one).astype(float) for one in ("AA", "B6", "DL", "UA")]
    hour = column(of, "hour")
    columns.append((column(rows, "hour") - hour.mean()) / hour.std())
    return np.column_stack(columns)


def test_a_linear_model_is_the_one_fitted_by_hand_on_standardised_numbers(
    data: TrainingData, tmp_path: Path
) -> None:
    train, test = data.read("train"), data.read("test")

    model = fit(LOGISTIC, data, workdir=tmp_path)

    own = LogisticRegression(random_state=0).fit(by_hand(train, train), column(train, "label"))
    np.testing.assert_allclose(
        model.predict(test), own.predict_proba(by_hand(test, train))[:, 1], rtol=1e-5, atol=1e-6
    )
    assert model.notes == (
        'feature "delay" is missing in 353 of 3,500 training rows; the estimator takes its mean, 9.22682, there',
    )
    assert sum(model.scorer.importance().values()) == pytest.approx(1)


def test_boosting_sees_missing_values_and_codes_as_they_are(data: TrainingData, tmp_path: Path) -> None:
    train, test = data.read("train"), data.read("test")

    model = fit(BOOSTING, data, workdir=tmp_path)

    own = HistGradientBoostingClassifier(max_iter=20, random_state=3, categorical_features=[3])
    own.fit(model.preprocessing.matrix(train), column(train, "label"))
    np.testing.assert_array_equal(
        model.predict(test), own.predict_proba(model.preprocessing.matrix(test))[:, 1]
    )
    assert model.notes == ()


def test_a_regression_learns_the_quantity(data: TrainingData, tmp_path: Path) -> None:
    of = replace(data, label="amount")
    train, test = data.read("train"), data.read("test")

    model = fit(Sklearn(estimator="sklearn.linear_model:Ridge", objective="regression"), of, workdir=tmp_path)

    own = Ridge(random_state=0).fit(by_hand(train, train), column(train, "amount"))
    np.testing.assert_allclose(model.predict(test), own.predict(by_hand(test, train)), rtol=1e-4, atol=1e-4)
    assert (model.task, model.outputs) == ("regression", ())


def test_an_unusual_row_has_a_greater_score_and_no_label_is_read(data: TrainingData, tmp_path: Path) -> None:
    trainer = Sklearn(estimator="sklearn.ensemble:IsolationForest", objective="anomaly", seed=5)
    rows = table(200, 9)
    far = rows.set_column(rows.column_names.index("delay"), "delay", pa.array([5000.0] * 200))

    model = fit(trainer, replace(data, label="no such column"), workdir=tmp_path)

    assert (model.task, model.label) == ("anomaly", "")
    assert (model.predict(far) > model.predict(rows)).mean() > 0.95
    train = data.read("train")
    seen = model.scorer.encoding.apply(model.preprocessing.matrix(train))
    own = IsolationForest(random_state=5).fit(seen)
    np.testing.assert_array_equal(model.predict(train), -own.score_samples(seen))


def test_the_seed_decides_and_the_same_seed_gives_the_same_bytes(data: TrainingData, tmp_path: Path) -> None:
    forest = Sklearn(
        estimator="sklearn.ensemble:RandomForestClassifier",
        arguments={"n_estimators": 8, "n_jobs": 2},
        seed=1,
    )

    first, again, other = (
        fit(trainer, data, workdir=tmp_path)
        for trainer in (forest, forest, forest.model_copy(update={"seed": 2}))
    )

    assert first.scorer.skops == again.scorer.skops
    assert first.scorer.skops != other.scorer.skops


def test_a_row_of_weight_two_counts_as_two_rows(tmp_path: Path) -> None:
    rows = table(400, 1)
    twice = np.arange(400) % 3 == 0
    weighed = rows.append_column("times", pa.array(np.where(twice, 2.0, 1.0)))
    repeated = pa.concat_tables([rows, rows.filter(pa.array(twice))])
    rest = {"validate": [weighed], "test": [weighed]}
    trainer = Sklearn(estimator="sklearn.naive_bayes:GaussianNB", weight="times")
    numbers = ("gust", "hour")

    weights = fit(
        trainer, write(tmp_path / "a", {"train": [weighed], **rest}, features=numbers), workdir=tmp_path
    )
    copies = fit(
        trainer.model_copy(update={"weight": None}),
        write(tmp_path / "b", {"train": [repeated], **rest}, features=numbers),
        workdir=tmp_path,
    )

    np.testing.assert_allclose(weights.predict(rows), copies.predict(rows), rtol=1e-5)


def test_what_scikit_learn_warns_of_is_noted(data: TrainingData, tmp_path: Path) -> None:
    trainer = Sklearn(estimator="sklearn.neural_network:MLPClassifier", arguments={"max_iter": 2})

    model = fit(trainer, data, workdir=tmp_path)

    assert any(
        note.startswith("MLPClassifier: Stochastic Optimizer: Maximum iterations") for note in model.notes
    )


@pytest.mark.parametrize(
    ("estimator", "more", "said"),
    [
        (
            "sklearn.linear_model:LogisticRegresion",
            {},
            r'no "LogisticRegresion".*Did you mean "LogisticRegression',
        ),
        ("sklearn.lineer:Ridge", {}, "cannot be imported"),
        ("os:path", {}, "is no import path of an estimator"),
        ("sklearn.linear_model:Ridge", {}, 'does not go with the objective "binary".*Expected a classifier'),
        ("sklearn.linear_model:LogisticRegression", {"objective": "anomaly"}, "IsolationForest"),
        ("sklearn.svm:LinearSVC", {}, "gives no probabilities"),
        ("sklearn.linear_model:LogisticRegression", {"arguments": {"c": 1.0}}, r'has no argument "c"'),
        ("sklearn.linear_model:LogisticRegression", {"arguments": {"C": -1.0}}, "refuses: .*'C' parameter"),
        ("sklearn.neighbors:KNeighborsClassifier", {"weight": "gust"}, "takes no weights"),
    ],
)
def test_an_estimator_that_cannot_be_fitted_says_why(
    data: TrainingData, tmp_path: Path, estimator: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(TrainError, match=said):
        fit(Sklearn(estimator=estimator, **more), data, workdir=tmp_path)


def test_a_label_or_weight_that_nothing_can_be_fitted_to_is_refused(tmp_path: Path) -> None:
    def with_label(label: list[Any], **more: Any) -> TrainingData:
        rows = table(len(label), 1).drop_columns(["label"]).append_column("label", pa.array(label))
        for name, values in more.items():
            rows = rows.append_column(name, pa.array(values))
        return write(tmp_path / "data", {part: [rows] for part in ("train", "validate", "test")})

    classes = Sklearn(estimator="sklearn.tree:DecisionTreeClassifier", objective="multiclass")
    with pytest.raises(TrainError, match="has no positive in the part"):
        fit(LOGISTIC, with_label([False] * 20), workdir=tmp_path)
    with pytest.raises(TrainError, match="is 1 in no training row, but 2 in some"):
        fit(classes, with_label([0, 2] * 10), workdir=tmp_path)
    with pytest.raises(TrainError, match=r"has the value 1\.5"):
        fit(classes, with_label([0.0, 1.5] * 10), workdir=tmp_path)
    with pytest.raises(TrainError, match="has the value -1"):
        fit(classes, with_label([-1, 1] * 10), workdir=tmp_path)
    weighed = LOGISTIC.model_copy(update={"weight": "times"})
    with pytest.raises(TrainError, match=r'weight "times".* is -1 somewhere'):
        fit(weighed, with_label([0, 1] * 10, times=[1.0, -1.0] * 10), workdir=tmp_path)


def test_an_empty_shard_is_passed_over_and_an_empty_part_is_refused(tmp_path: Path) -> None:
    rows = table(300, 1)
    rest = {"validate": [rows], "test": [rows]}
    some = write(tmp_path / "some", {"train": [rows.slice(0, 0), rows], **rest})
    none = write(tmp_path / "none", {"train": [rows.slice(0, 0)], **rest})
    only = write(tmp_path / "only", {"train": [rows], **rest})

    np.testing.assert_array_equal(
        fit(LOGISTIC, some, workdir=tmp_path).predict(rows),
        fit(LOGISTIC, only, workdir=tmp_path).predict(rows),
    )
    with pytest.raises(TrainError, match='the part "train" of the dataset has no rows'):
        fit(LOGISTIC, none, workdir=tmp_path)


def test_an_infinite_number_is_named_where_the_estimator_cannot_take_it(tmp_path: Path) -> None:
    rows = table(300, 1)
    huge = rows.append_column("ratio", pa.array([np.inf if n % 50 == 0 else float(n) for n in range(300)]))
    data = write(
        tmp_path / "data",
        {part: [huge] for part in ("train", "validate", "test")},
        features=("ratio", "hour"),
    )

    with pytest.raises(TrainError, match='feature "ratio" is infinite in 6 training rows, which Logistic'):
        fit(LOGISTIC, data, workdir=tmp_path)
    assert np.isfinite(fit(BOOSTING, data, workdir=tmp_path).predict(huge)).all()


def test_more_categories_than_the_estimator_can_tell_apart_are_refused_by_name(tmp_path: Path) -> None:
    rows = table(600, 1).append_column("tail", pa.array([f"N{n % 300:03d}" for n in range(600)]))
    data = write(
        tmp_path / "data", {part: [rows] for part in ("train", "validate", "test")}, features=("tail", "hour")
    )

    with pytest.raises(TrainError, match=r'feature "tail" has 300 categories.*Expected at most 255'):
        fit(BOOSTING, data, workdir=tmp_path)
    assert fit(LOGISTIC, data, workdir=tmp_path).scorer.encoding.width == 301


def test_a_sequence_is_refused_with_the_way_out(tmp_path: Path) -> None:
    rows = table(100, 1).append_column("legs", pa.array([[1.0, 2.0]] * 100))
    data = write(
        tmp_path / "data", {part: [rows] for part in ("train", "validate", "test")}, features=("legs",)
    )

    with pytest.raises(TrainError, match=r'feature "legs" is of type list.*an aggregate with one value'):
        fit(LOGISTIC, data, workdir=tmp_path)


def test_rows_that_do_not_fit_into_memory_are_refused_before_they_are_read(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed.system, "MEMORY_LIMIT", 100_000)
    with pytest.raises(
        TrainError, match=r"3,500 rows of 5 features, 8 columns .*Expected a training part that fits"
    ):
        fit_sklearn(LOGISTIC, data, TrainContext(workdir=tmp_path))

    encoding = Encoding((), "as_they_are", "codes")
    check_memory(1_000, 50, encoding, limit=1_000 * (4 * 50 * 3 + 24))
    with pytest.raises(TrainError, match="take about"):
        check_memory(1_000, 50, encoding, limit=1_000 * (4 * 50 * 3 + 24) - 1)
