"""Boosters as ONNX: every objective, categories, missing values and odd shapes of trees, against XGBoost itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.models.booster import BoosterScorer
from mlflow_core.train.models.onnx.scorer import OnnxScorer
from mlflow_core.train.models.onnx.trees import booster_graph

NAMES = ("gate", "tail", "seat", "delay", "gust", "hour")
SIZES = {"gate": 4, "tail": 300, "seat": 40}
PREPROCESSING = Preprocessing(
    tuple(
        Feature(name, "category", "string", tuple(f"{code:03d}" for code in range(SIZES[name])))
        if name in SIZES
        else Feature(name, "number", "double")
        for name in NAMES
    )
)
ROWS = 1500


def rows(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Rows of three categories and three numbers, a tenth missing, and what they say before noise."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(ROWS, len(NAMES)))
    for column, size in enumerate(SIZES.values()):
        found[:, column] = random.integers(0, size, ROWS)
    told = found[:, 3] + (found[:, 0] == 2) + np.sin(found[:, 1]) + 0.5 * np.cos(found[:, 2])
    found[random.random(found.shape) < 0.1] = np.nan
    found[:5] = np.nan
    return found.astype(np.float32), told


def boosted(settings: dict[str, Any], label: Any, *, rounds: int = 15, **more: Any) -> BoosterScorer:
    matrix, told = rows(1)
    types = ["c" if name in SIZES else "q" for name in NAMES]
    train = xgboost.QuantileDMatrix(
        matrix,
        label=label(told) if label else None,
        feature_names=list(NAMES),
        feature_types=types,
        enable_categorical=True,
        **{name: make(told) for name, make in more.items()},
    )
    booster = xgboost.train({"max_depth": 4, "nthread": 1, **settings}, train, rounds)
    return BoosterScorer.load(
        {"booster.ubj": bytes(booster.save_raw("ubj"))}, {}, PREPROCESSING, place="here"
    )


def compare(scorer: BoosterScorer) -> None:
    matrix, _ = rows(2)
    ours = scorer.score(matrix)
    outputs = () if ours.ndim == 1 else tuple(str(number) for number in range(ours.shape[1]))

    found = OnnxScorer(PREPROCESSING, outputs, booster_graph(scorer).SerializeToString()).score(matrix)

    assert np.isfinite(ours).all()
    assert len(np.unique(ours.round(6), axis=0)) > 1
    np.testing.assert_allclose(found, ours, rtol=1e-5, atol=1e-6 * np.abs(ours).max())


def positive(told: NDArray[np.float64]) -> NDArray[np.float64]:
    return told > 0.5


def exponential(told: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(told / 2)


def same(told: NDArray[np.float64]) -> NDArray[np.float64]:
    return told


def three(told: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.digitize(told, [0.0, 1.0])


@pytest.mark.parametrize(
    ("objective", "label"),
    [
        ("binary:logistic", positive),
        ("binary:logitraw", positive),
        ("binary:hinge", positive),
        ("reg:logistic", positive),
        ("reg:squarederror", same),
        ("reg:absoluteerror", same),
        ("reg:pseudohubererror", same),
        ("reg:squaredlogerror", exponential),
        ("count:poisson", exponential),
        ("reg:gamma", exponential),
        ("reg:tweedie", exponential),
        ("survival:cox", exponential),
    ],
)
def test_each_objective_is_exported_as_it_predicts(objective: str, label: Callable[..., Any]) -> None:
    compare(boosted({"objective": objective}, label))


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_classes_have_base_scores_of_their_own(objective: str) -> None:
    compare(boosted({"objective": objective, "num_class": 3}, three))


def test_quantiles_have_base_scores_of_their_own() -> None:
    compare(boosted({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}, same))


def test_censored_labels_and_rankings_are_exported() -> None:
    bounds = {"label_lower_bound": exponential, "label_upper_bound": lambda told: exponential(told) * 1.5}
    compare(boosted({"objective": "survival:aft"}, None, **bounds))
    compare(boosted({"objective": "rank:ndcg"}, positive, qid=lambda told: np.repeat(np.arange(150), 10)))


def test_several_targets_are_exported_as_trees_of_one_or_of_vectors() -> None:
    both = {"objective": "reg:squarederror"}
    compare(boosted(both, lambda told: np.column_stack([told, exponential(told)])))

    matrix, told = rows(1)
    train = xgboost.QuantileDMatrix(matrix[:, 3:], np.column_stack([told, exponential(told)]))
    vectors = xgboost.train({**both, "multi_strategy": "multi_output_tree", "max_depth": 3}, train, 10)
    ours = vectors.inplace_predict(matrix[:, 3:], missing=np.nan)
    scorer = BoosterScorer(bytes(vectors.save_raw("ubj")), 10, vectors)
    graph = booster_graph(scorer).SerializeToString()
    found = OnnxScorer(PREPROCESSING, ("a", "b"), graph).score(matrix[:, 3:])
    np.testing.assert_allclose(found, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_depth": 1},
        {"max_depth": 12, "min_child_weight": 0},
        {"max_depth": 0, "grow_policy": "lossguide", "max_leaves": 6, "min_child_weight": 100},
        {"gamma": 12.0},
        {"booster": "dart", "rate_drop": 0.3},
        {"num_parallel_tree": 4, "subsample": 0.5},
        {"max_cat_to_onehot": 400},
    ],
    ids=[
        "one split",
        "deep",
        "lopsided",
        "stumps among them",
        "dart",
        "a forest a round",
        "one category a split",
    ],
)
def test_trees_of_every_shape_are_exported(settings: dict[str, Any]) -> None:
    compare(boosted({"objective": "binary:logistic", **settings}, positive, rounds=40))


def test_trees_that_never_split_give_the_base_score() -> None:
    scorer = boosted({"objective": "binary:logistic", "gamma": 1e9}, positive, rounds=3)
    matrix, _ = rows(2)

    found = OnnxScorer(PREPROCESSING, (), booster_graph(scorer).SerializeToString()).score(matrix)

    np.testing.assert_allclose(found, scorer.score(matrix), rtol=1e-6)
    assert len(np.unique(found)) == 1


def test_a_linear_booster_is_refused() -> None:
    matrix, told = rows(1)
    numbers = np.nan_to_num(matrix[:, 3:])
    linear = xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(numbers, told), 2)

    with pytest.raises(TrainError, match='a booster of the kind "gblinear" has no trees'):
        booster_graph(BoosterScorer(bytes(linear.save_raw("ubj")), 2, linear))
