"""Contributions of features: TreeSHAP for trees, predictions of mixed rows for every other kind; they always add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Family, Sklearn, Trainer, XGBoost
from mlflow_core.train.data.preprocess import Feature
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.contributions import contributions
from mlflow_core.train.evaluation.importance import sampled
from mlflow_core.train.evaluation.shapley import shapley
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.network import NetworkScorer
from mlflow_core.train.networks.build import build
from tests.train.evaluation.all_targets import of_all_targets
from tests.train.evaluation.linear import linear
from tests.train.made import fit, table, write
from tests.train.networks.cases import INPUTS, NETWORKS, PREPROCESSING

LEGS = Feature("legs", "number", "list<item: double>", length=3)
WIND = Feature("wind", "number", "double")
SIGN = Feature("sign", "category", "string", ("a", "b"))


def rows_of(n: int, seed: int = 1) -> pa.Table:
    random = np.random.default_rng(seed)
    legs = [random.normal(size=random.integers(0, 4)).tolist() for _ in range(n)]
    sign = random.choice(["a", "b"], n).tolist()
    return pa.table(
        {"legs": pa.array(legs, pa.list_(pa.float64())), "wind": random.normal(size=n), "sign": sign}
    )


def test_those_of_trees_add_up_to_the_margin(model: Model, data: TrainingData) -> None:
    test = data.read("test")

    found = contributions(model, test, rows=300, seed=5)

    chosen = sampled(None, test.num_rows, 300, np.random.default_rng(5))
    p = model.predict(test.take(pa.array(chosen)))
    margin = found.values[:, 0].sum(axis=1) + found.base[0]
    assert margin == pytest.approx(np.log(p / (1 - p)), abs=1e-4)
    assert found.features == model.features
    assert (found.outputs, found.unit, found.method, found.errors) == (("",), "log-odds", "trees", None)
    assert found.told() == "SHAP values of a sample of 300 rows, off the trees (TreeSHAP)."
    assert found.features[found.order()[0]] == "delay"
    levels = found.levels[:, found.features.index("delay")]
    assert np.isnan(found.levels[:, found.features.index("carrier")]).all()
    assert (np.nanmin(levels), np.nanmax(levels)) == (0.0, 1.0)


def test_with_stumps_a_feature_contributes_what_it_alone_changes(data: TrainingData, tmp_path: Path) -> None:
    stumps = fit(XGBoost(rounds=40, max_depth=1), data, workdir=tmp_path / "w")
    rows = data.read("test").slice(0, 200)
    other = rows.set_column(
        rows.column_names.index("gust"), "gust", pa.array(rows["gust"].to_numpy()[::-1].copy())
    )

    one, two = contributions(stumps, rows), contributions(stumps, other)

    p, q = stumps.predict(rows), stumps.predict(other)
    moved = np.log(q / (1 - q)) - np.log(p / (1 - p))
    gust = one.features.index("gust")
    change = (two.values - one.values)[:, 0]
    assert change[:, gust] == pytest.approx(moved, abs=1e-4)
    assert np.abs(np.delete(change, gust, axis=1)).max() < 1e-5


def test_every_class_has_contributions_of_its_own(tmp_path: Path) -> None:
    def of(seed: int) -> pa.Table:
        made = table(500, seed)
        return made.append_column("kind", pa.array(np.digitize(made["amount"].to_numpy(), [20.0, 40.0])))

    parts = {part: [of(n)] for n, part in enumerate(("train", "validate", "test"))}
    data = write(tmp_path / "d", parts, label="kind")
    model = fit(XGBoost(objective="multi:softprob", classes=3, rounds=8), data, workdir=tmp_path / "w")

    found = contributions(model, data.read("test"))

    margins = found.values.sum(axis=2) + found.base
    p = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    assert found.outputs == ("0", "1", "2")
    assert found.strength().shape == (3, 5)
    assert p == pytest.approx(model.predict(data.read("test")), abs=1e-4)
    assert found.by_feature()["delay"] == pytest.approx(np.abs(found.values[:, :, 0]).mean(axis=0).sum())


def test_trees_without_interactions_are_explained_alike_off_the_trees_and_by_predictions(
    data: TrainingData, tmp_path: Path
) -> None:
    parts = {part: [data.read(part)] for part in ("train", "validate", "test")}
    amounts = write(tmp_path / "data", parts, label="amount")
    stumps = fit(
        XGBoost(objective="reg:squarederror", rounds=40, max_depth=1), amounts, workdir=tmp_path / "work"
    )
    rows = data.read("test").slice(0, 60)
    matrix, slices = stumps.preprocessing.matrix(rows), tuple(stumps.preprocessing.slices.values())

    off_trees = contributions(stumps, rows).values[:, 0]
    random = np.random.default_rng(0)
    predicted = shapley(stumps.score, matrix, matrix, slices, exact=False, random=random).values[:, 0]

    # TreeSHAP's background is the training part, as its nodes' covers have it: each feature is off by a constant.
    assert off_trees - off_trees.mean(axis=0) == pytest.approx(predicted - predicted.mean(axis=0), abs=1e-3)
    assert np.ptp(predicted[:, 0]) > 10


def test_a_weighted_sum_is_explained_by_its_terms_and_a_sequence_is_one_feature() -> None:
    model, rows = linear((LEGS, WIND, SIGN), (1.0, -1.0, 1.0, 0.0, 0.2, 5.0)), rows_of(30)

    found = contributions(model, rows, rows=10, background=30, seed=2)

    matrix = np.nan_to_num(model.preprocessing.matrix(rows).astype(np.float64))
    terms = (matrix - matrix.mean(axis=0)) * (1.0, -1.0, 1.0, 0.0, 0.2, 5.0)
    expected = np.column_stack([terms[:, :4].sum(axis=1), terms[:, 4], terms[:, 5]])
    chosen = sampled(None, 30, 10, np.random.default_rng(2))
    assert found.values[:, 0] == pytest.approx(expected[chosen], abs=1e-9)
    assert found.features == ("legs", "wind", "sign")
    assert (found.unit, found.method, found.background) == ("units of y", "enumerated", 30)
    assert np.isnan(found.levels[:, [0, 2]]).all()
    assert sorted(found.levels[:, 1]) == pytest.approx(np.arange(10) / 9)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_network_says_is_taken_apart_by_feature_to_the_last_digit(name: str) -> None:
    import torch

    torch.manual_seed(4)
    module = NETWORKS[name]
    outputs = 1 if name in ("autoencoder", "two_tower") else 2
    state = build(module, {}, INPUTS, outputs).state_dict()
    scorer = NetworkScorer.of(module, {}, INPUTS, outputs, state, link="none")
    names = ("low", "high") if outputs == 2 else ()
    task = "quantile" if outputs == 2 else "anomaly"
    model = Model(PREPROCESSING, "y", (), "squared", task, scorer, names)
    random = np.random.default_rng(5)
    rows = pa.table(
        {
            "delay": random.normal(10, 20, 40),
            "carrier": random.choice(["AA", "B6", "UA", "XX"], 40).tolist(),
            "late": (random.random(40) < 0.3).tolist(),
            "legs": [random.normal(5, 10, random.integers(0, 5)).tolist() for _ in range(40)],
            "same": np.full(40, 7.0),
            "planes": [random.choice(["N1", "N2"], random.integers(0, 3)).tolist() for _ in range(40)],
        }
    )

    found = contributions(model, rows, rows=6, background=10, seed=1)

    chosen = sampled(None, 40, 6, np.random.default_rng(1))
    predictions = model.predict(rows.take(pa.array(chosen))).reshape(6, outputs)
    assert found.values.sum(axis=2) + found.base == pytest.approx(predictions, rel=1e-5, abs=1e-6)
    assert found.values.shape == (6, outputs, 6)
    assert found.values[:, :, found.features.index("same")] == pytest.approx(0, abs=1e-6)
    assert np.abs(found.values[:, :, 0]).max() > 1e-4
    assert found.unit == ("units of y" if outputs == 2 else "units of the prediction")


@pytest.mark.parametrize(
    "trainer",
    [
        Sklearn(estimator="sklearn.ensemble:RandomForestClassifier", arguments={"n_estimators": 10}, seed=1),
        Family(trainer=XGBoost(rounds=20, max_depth=3), by=("late",), least_rows=10),
    ],
    ids=lambda one: one.kind,
)
def test_other_kinds_are_explained_in_probabilities_with_what_the_key_of_a_family_does(
    trainer: Trainer, data: TrainingData, tmp_path: Path
) -> None:
    model, test = fit(trainer, data, workdir=tmp_path), data.read("test")

    found = contributions(model, test, rows=80, seed=3)

    chosen = sampled(None, test.num_rows, 80, np.random.default_rng(3))
    p = model.predict(test.take(pa.array(chosen)))
    assert found.values[:, 0].sum(axis=1) + found.base == pytest.approx(p, rel=1e-6)
    assert (found.unit, found.background, len(found.values)) == ("probability", 64, 80)
    assert found.features[found.order()[0]] == "delay"
    strength = found.by_feature()
    assert strength["late"] > 0.01
    assert found.errors is not None
    assert found.errors.mean() < 0.03
    assert found.told().startswith(
        "SHAP values of a sample of 80 rows, by predictions: features join each of 64 background rows in a "
        "random order and its reverse. Standard error of a value: 0.0"
    )
    again = contributions(model, test, rows=80, seed=3)
    np.testing.assert_array_equal(found.values, again.values)


def test_trees_for_all_targets_at_once_are_explained_by_their_predictions(tmp_path: Path) -> None:
    model, rows = of_all_targets(tmp_path)
    again = Model.load(model.save(tmp_path / "model"))

    for one in (model, again):
        assert not one.scorer.explains
        found = contributions(one, rows, rows=300)
        assert found.values.sum(axis=2) + found.base == pytest.approx(one.predict(rows), rel=1e-6)
        assert (found.outputs, found.unit) == (one.outputs, "units of the prediction")


def test_fewer_rows_are_explained_where_predictions_run_out() -> None:
    features = tuple(Feature(f"f{n}", "number", "double") for n in range(9))
    model, random = linear(features, tuple(range(9))), np.random.default_rng(0)
    rows = pa.table({one.name: random.normal(size=500) for one in features})

    found = contributions(model, rows, budget=10_000)

    assert (len(found.values), found.background, found.method) == (52, 12, "sampled")
    assert "join each of 12 background rows in a random order and its reverse" in found.told()


def test_rows_whose_mixtures_have_no_finite_prediction_are_counted_and_nothing_left_is_an_error() -> None:
    class Steep:
        kind = "steep"

        def score(self, matrix: np.ndarray) -> np.ndarray:
            product = matrix[:, 0].astype(np.float64) * matrix[:, 1]
            return np.where(product > 1000, np.inf, product)

        def files(self) -> dict[str, bytes]:
            return {}

        def facts(self) -> dict[str, object]:
            return {}

        def importance(self) -> dict[str, float]:
            return {}

    preprocessing = linear((WIND, Feature("gust", "number", "double")), (1.0, 1.0)).preprocessing
    model = Model(preprocessing, "y", (), "squared", "regression", Steep())
    rows = pa.table({"wind": [90.0, 2.0, 3.0], "gust": [2.0, 20.0, 3.0]})

    found = contributions(model, rows)

    assert (len(found.values), found.left_out, len(found.levels)) == (1, 2, 1)
    assert "2 more rows have none: mixed with others, their predictions are not finite." in found.told()
    steeper = pa.table({"wind": [90.0, 2.0], "gust": [2.0, 90.0]})
    with pytest.raises(TrainError, match="none of 2 rows can be explained"):
        contributions(model, steeper)


def test_a_single_row_is_explained_against_itself_with_no_standard_error() -> None:
    found = contributions(linear((WIND,), (1.0,)), pa.table({"wind": [3.0]}))

    assert found.values.tolist() == [[[0.0]]]
    assert found.base.tolist() == [3.0]
    assert "Standard error" not in found.told()


def test_nothing_to_explain_is_said(model: Model, data: TrainingData) -> None:
    with pytest.raises(TrainError, match="there are no rows to explain"):
        contributions(model, data.read("test").slice(0, 0))


@pytest.mark.parametrize("asked", [{"rows": 0}, {"background": 0}, {"rows": -3}])
def test_no_rows_cannot_be_asked_for(asked: dict[str, int]) -> None:
    with pytest.raises(TrainError, match="at least one of each"):
        contributions(linear((WIND,), (1.0,)), pa.table({"wind": [3.0, 4.0]}), **asked)
