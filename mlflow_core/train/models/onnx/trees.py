"""A booster as an ONNX graph: its trees, the base score, the objective's link.

Written from XGBoost's own JSON, since the base score may be one for each class, quantile or target, and splits may be by
categories. XGBoost sends a row to the right child if its category is in the set, and to the left one if its number is
less than the split; a missing value goes where ``default_left`` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mlflow_core.errors import TrainError
from mlflow_core.train.models.booster import BoosterScorer
from mlflow_core.train.models.onnx.ensemble import LESS, Ensemble, Tree
from mlflow_core.train.models.onnx.graph import INPUT, OUTPUT, model_of

__all__ = ["booster_graph"]

_LOGISTIC = frozenset({"binary:logistic", "reg:logistic"})
_POSITIVE = frozenset({"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"})
_PLAIN = frozenset(
    {
        "binary:logitraw",
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:pseudohubererror",
        "reg:absoluteerror",
        "reg:quantileerror",
        "rank:ndcg",
        "rank:map",
        "rank:pairwise",
    }
)


def booster_graph(scorer: BoosterScorer) -> onnx.ModelProto:
    """Write a booster as a graph of ``features`` (n, width) float32 to ``predictions`` (n, outputs) float32.

    Raises:
        TrainError: The booster is linear, or of an objective whose link is not known here.
    """
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(scorer.ubj))
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    facts, objective = learner["learner_model_param"], learner["objective"]["name"]
    outputs = max(int(facts["num_class"]), int(facts["num_target"]), 1)
    base = _margins(objective, np.asarray(json.loads(facts["base_score"]), dtype=np.float64))
    ensemble = Ensemble()
    for tree, target in _trees(learner["gradient_booster"], outputs):
        ensemble.add(tree, target)
    nodes, columns = _link(objective, outputs)
    return model_of(
        [
            ensemble.node(INPUT, "trees", outputs),
            helper.make_node("Add", ["trees", "base"], ["margin"]),
            *nodes,
        ],
        [numpy_helper.from_array(np.broadcast_to(base, outputs).astype(np.float32), "base")],
        width=int(facts["num_feature"]),
        outputs=columns,
    )


def _trees(boosted: Mapping[str, Any], outputs: int) -> Iterator[tuple[Tree, int]]:
    """Each tree with the output that it adds to; one of vectors is a tree for each output."""
    dart = boosted["name"] == "dart"
    if boosted["name"] not in ("gbtree", "dart"):
        raise TrainError(
            f'a booster of the kind "{boosted["name"]}" has no trees to export', hint="Use the native format."
        )
    model = (boosted["gbtree"] if dart else boosted)["model"]
    weights = boosted["weight_drop"] if dart else [1.0] * len(model["trees"])
    for grown, weight, group in zip(model["trees"], weights, model["tree_info"], strict=True):
        size = int(grown["tree_param"]["size_leaf_vector"])
        for target in range(outputs) if size > 1 else (group,):
            yield _tree(grown, _leaves(grown, size, target) * weight), target


def _tree(grown: Mapping[str, Any], values: NDArray[np.float64]) -> Tree:
    left, right = list(grown["left_children"]), list(grown["right_children"])
    missing = [bool(to_left) for to_left in grown["default_left"]]
    sets = {}
    starts = zip(
        grown["categories_nodes"], grown["categories_segments"], grown["categories_sizes"], strict=True
    )
    for node, start, size in starts:
        sets[node] = grown["categories"][start : start + size]
        left[node], right[node], missing[node] = right[node], left[node], not missing[node]
    return Tree(
        left, right, grown["split_indices"], grown["split_conditions"], missing, values.tolist(), LESS, sets
    )


def _leaves(grown: Mapping[str, Any], size: int, target: int) -> NDArray[np.float64]:
    """What each node adds if it is a leaf, (n_nodes,): XGBoost keeps it where an inner node keeps its split."""
    if size <= 1:
        return np.asarray(grown["split_conditions"], dtype=np.float64)
    vectors = np.asarray(grown["leaf_weights"], dtype=np.float64).reshape(-1, size)
    rank = np.asarray(grown["right_children"])  # of a leaf, its place among the leaves
    values: NDArray[np.float64] = vectors[np.minimum(rank, len(vectors) - 1), target]
    return values


def _margins(objective: str, base: NDArray[np.float64]) -> NDArray[np.float64]:
    """Base scores as the sums that trees add to."""
    if objective in _LOGISTIC:
        return np.log(base) - np.log1p(-base)
    return np.log(base) if objective in _POSITIVE else base


def _link(objective: str, outputs: int) -> tuple[list[onnx.NodeProto], int]:
    """From ``margin`` to ``predictions``, and how many columns those have."""
    match objective:
        case _ if objective in _LOGISTIC:
            return [helper.make_node("Sigmoid", ["margin"], [OUTPUT])], outputs
        case _ if objective in _POSITIVE:
            return [helper.make_node("Exp", ["margin"], [OUTPUT])], outputs
        case _ if objective in _PLAIN:
            return [helper.make_node("Identity", ["margin"], [OUTPUT])], outputs
        case "multi:softprob":
            return [helper.make_node("Softmax", ["margin"], [OUTPUT], axis=1)], outputs
        case "multi:softmax":
            best = helper.make_node("ArgMax", ["margin"], ["class"], axis=1, keepdims=1)
            return [best, helper.make_node("Cast", ["class"], [OUTPUT], to=TensorProto.FLOAT)], 1
        case "binary:hinge":
            sign = helper.make_node("Sign", ["margin"], ["sign"])
            return [sign, helper.make_node("Relu", ["sign"], [OUTPUT])], outputs
    raise TrainError(
        f'the objective "{objective}" has a link that is not known here',
        object="XGBoost",
        hint="Use the native format.",
    )
