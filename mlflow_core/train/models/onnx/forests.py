"""scikit-learn's trees as an ONNX graph: forests, single trees, histogram boosting, isolation forests.

Written from their nodes, because the converter forgets where trees send missing values. scikit-learn compares float32
values with float64 thresholds by "at most"; the greatest float32 that is not above a threshold decides alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mlflow_core.train.models.estimator import EstimatorScorer
from mlflow_core.train.models.onnx.ensemble import AT_MOST, Ensemble, Tree
from mlflow_core.train.models.onnx.graph import OUTPUT

__all__ = ["ENCODED", "forest_nodes"]

ENCODED = "encoded"
"""What the estimator sees of ``features``."""

Nodes = tuple[list[onnx.NodeProto], list[onnx.TensorProto], int]


def forest_nodes(scorer: EstimatorScorer) -> Nodes | None:
    """Write an estimator's trees.

    Returns:
        Nodes from ``encoded`` to ``predictions``, their constants, and how many columns the latter have; None if it
        is not one of trees that take missing values.
    """
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        IsolationForest,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.tree import (
        DecisionTreeClassifier,
        DecisionTreeRegressor,
        ExtraTreeClassifier,
        ExtraTreeRegressor,
    )

    forests = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
    single = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
    boosted = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    write: Callable[[EstimatorScorer], Nodes]
    match scorer.estimator:
        case estimator if isinstance(estimator, forests + single):
            write = _forest
        case estimator if isinstance(estimator, boosted):
            write = _boosted
        case estimator if isinstance(estimator, IsolationForest):
            write = _isolated
        case _:
            return None
    return write(scorer)


def _forest(scorer: EstimatorScorer) -> Nodes:
    """A mean of trees: of their values, or of their leaves' shares of each class."""
    estimator = scorer.estimator
    trees = [one.tree_ for one in getattr(estimator, "estimators_", [estimator])]
    outputs = len(estimator.classes_) if scorer.output == "probabilities" else 1
    ensemble = Ensemble()
    for tree in trees:
        values = tree.value[:, 0, :]
        if scorer.output != "value":
            values = values / values.sum(axis=1, keepdims=True)
        wanted = values[:, 1:2] if scorer.output == "probability" else values
        for target in range(outputs):
            ensemble.add(_tree(tree, wanted[:, target] / len(trees)), target)
    return [ensemble.node(ENCODED, OUTPUT, outputs)], [], outputs


def _isolated(scorer: EstimatorScorer) -> Nodes:
    """Two to the power of minus the mean path over the expected path (Liu, Ting and Zhou, 2008)."""
    from sklearn.ensemble._iforest import _average_path_length

    estimator = scorer.estimator
    expected = len(estimator.estimators_) * float(_average_path_length([estimator._max_samples])[0])
    ensemble = Ensemble()
    for number, (one, columns) in enumerate(
        zip(estimator.estimators_, estimator.estimators_features_, strict=True)
    ):
        path = (
            estimator._decision_path_lengths[number] + estimator._average_path_length_per_tree[number] - 1.0
        )
        ensemble.add(_tree(one.tree_, -path / expected * np.log(2.0), columns=columns), 0)
    return [ensemble.node(ENCODED, "power", 1), helper.make_node("Exp", ["power"], [OUTPUT])], [], 1


def _boosted(scorer: EstimatorScorer) -> Nodes:
    """A sum of trees on the baseline, through the loss's link."""
    estimator = scorer.estimator
    base = np.ravel(estimator._baseline_prediction).astype(np.float32)
    ensemble = Ensemble()
    order, codes = _columns(estimator)
    for iteration in estimator._predictors:
        for target, predictor in enumerate(iteration):
            ensemble.add(_predictor_tree(predictor, order, codes), target)
    link = {
        "LogitLink": "Sigmoid",
        "HalfLogitLink": "Sigmoid",
        "MultinomialLogit": "Softmax",
        "LogLink": "Exp",
    }
    kind = link.get(type(estimator._loss.link).__name__, "Identity")
    last = helper.make_node(kind, ["margin"], [OUTPUT])
    nodes = [
        ensemble.node(ENCODED, "trees", len(base)),
        helper.make_node("Add", ["trees", "base"], ["margin"]),
        last,
    ]
    return nodes, [numpy_helper.from_array(base, "base")], len(base)


def _columns(estimator: Any) -> tuple[NDArray[np.intp], dict[int, NDArray[np.float64]]]:
    """The estimator's column that each of its nodes' indices means, and the codes that it numbers anew.

    It puts columns of categories first, and numbers those that it has seen.
    """
    if estimator.is_categorical_ is None:
        return np.arange(estimator.n_features_in_), {}
    coded = np.flatnonzero(estimator.is_categorical_)
    order = np.concatenate([coded, np.flatnonzero(~estimator.is_categorical_)])
    seen = estimator._preprocessor.named_transformers_["encoder"].categories_
    return order, {int(column): codes[~np.isnan(codes)] for column, codes in zip(coded, seen, strict=True)}


def _predictor_tree(predictor: Any, order: NDArray[np.intp], codes: dict[int, NDArray[np.float64]]) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    features = order[np.where(leaf, 0, nodes["feature_idx"])]
    sets = {
        int(node): _members(
            predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]], codes[int(features[node])]
        )
        for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf)
    }
    return Tree(
        when_true=np.where(leaf, -1, nodes["left"].astype(np.int64)).tolist(),
        when_false=nodes["right"].astype(np.int64).tolist(),
        features=features.tolist(),
        splits=_not_above(nodes["num_threshold"]).tolist(),
        missing_is_true=nodes["missing_go_to_left"].tolist(),
        values=nodes["value"].tolist(),
        mode=AT_MOST,
        sets=sets,
    )


def _members(bits: NDArray[np.uint32], codes: NDArray[np.float64]) -> list[float]:
    """The codes whose bits are set."""
    return [float(code) for place, code in enumerate(codes) if int(bits[place // 32]) >> (place % 32) & 1]


def _tree(tree: Any, values: NDArray[np.float64], *, columns: NDArray[np.intp] | None = None) -> Tree:
    leaf = tree.children_left == -1
    features = np.where(leaf, 0, tree.feature)
    return Tree(
        when_true=tree.children_left.tolist(),
        when_false=tree.children_right.tolist(),
        features=(features if columns is None else columns[features]).tolist(),
        splits=_not_above(tree.threshold).tolist(),
        missing_is_true=tree.missing_go_to_left.tolist(),
        values=values.tolist(),
        mode=AT_MOST,
    )


def _not_above(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest float32 that is not above each threshold."""
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
