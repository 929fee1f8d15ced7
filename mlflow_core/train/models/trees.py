"""Whether a booster's trees lead somewhere, told from its bytes before XGBoost reads them.

XGBoost follows children, features and categories without looking: a file made to do harm would end the process, or
read memory that is not its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.models.ubj import read_ubj

__all__ = ["check_booster", "has_vector_leaves"]

_ROOT = (-1, 2**31 - 1)
_MOST_CATEGORIES = 2**24  # a float32 tells no more apart
_EACH = (
    "left_children",
    "right_children",
    "parents",
    "split_indices",
    "split_conditions",
    "split_type",
    "default_left",
    "sum_hessian",
    "loss_changes",
)


def check_booster(ubj: bytes, *, width: int, place: str) -> None:
    """Refuse a booster that XGBoost could not follow.

    Args:
        ubj: Its bytes.
        width: How many features it reads.
        place: Its file, for messages.

    Raises:
        TrainError: It is not UBJ, its kind is not known, or a node of a tree leads nowhere.
    """
    try:
        learner = read_ubj(ubj)["learner"]
        facts = learner["learner_model_param"]
        groups = max(1, int(facts["num_class"]), int(facts["num_target"]))
        wrong = None if int(facts["num_feature"]) == width else f"it reads {facts['num_feature']} features"
        wrong = wrong or _wrong(learner["gradient_booster"], width, groups)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TrainError(f"is not a booster: {type(error).__name__}: {error}", place=place) from None
    if wrong is not None:
        raise TrainError(
            f"holds a booster that leads nowhere ({wrong}), so it is damaged or was made to do harm",
            place=place,
            hint="Train the model again, or ask whoever made the file.",
        )


def has_vector_leaves(ubj: bytes) -> bool:
    """Whether a leaf holds a value of each output: a tree then grows for all targets at once.

    Args:
        ubj: The bytes of a sound booster.
    """
    booster = read_ubj(ubj)["learner"]["gradient_booster"]
    trees = booster.get("gbtree", booster)["model"].get("trees", [])
    return any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees[:1])


def _wrong(booster: Mapping[str, Any], width: int, groups: int) -> str | None:
    """What is wrong with it; None where all is sound."""
    match booster["name"]:
        case "gblinear":
            sound = len(booster["model"]["weights"]) == (width + 1) * groups
            return None if sound else "it has other weights than features"
        case "dart":
            inner = booster["gbtree"]["model"]
            if len(booster["weight_drop"]) != len(inner["trees"]):
                return "it has other weights than trees"
        case "gbtree":
            inner = booster["model"]
        case other:
            return f"it is of the kind {other!r}"
    trees, ends = inner["trees"], _whole(inner["iteration_indptr"])
    if len(ends) == 0 or ends[0] != 0 or ends[-1] != len(trees) or (np.diff(ends) < 0).any():
        return "its rounds are not made of its trees"
    info = _whole(inner["tree_info"])
    if len(info) != len(trees) or not _within(info, groups):
        return "a tree is of an output that there is not"
    for number, tree in enumerate(trees):
        if (wrong := _wrong_tree(tree, width, groups)) is not None:
            return f"tree {number}: {wrong}"
    return None


def _wrong_tree(tree: Mapping[str, Any], width: int, groups: int) -> str | None:
    facts = tree["tree_param"]
    nodes, values = int(facts["num_nodes"]), int(facts["size_leaf_vector"])
    if nodes < 1 or any(len(tree[name]) != nodes for name in _EACH) or int(facts["num_feature"]) != width:
        return "it has other nodes than it says"
    left, right = _whole(tree["left_children"]), _whole(tree["right_children"])
    parents = _whole(tree["parents"])
    inner = np.flatnonzero(left != -1)
    # Children stand after their parent in what XGBoost writes, so a path always ends.
    for side in (left[inner], right[inner]):
        if not (_within(side, nodes) and (side > inner).all() and (parents[side] == inner).all()):
            return "a node's child is no node after it"
    if parents[0] not in _ROOT:
        return "its first node has a parent"
    if not _within(_whole(tree["split_indices"])[inner], width):
        return "a node looks at a feature that there is not"
    if values > 1 and not _leaves_are_sound(tree, right[left == -1], values, groups):
        return "a leaf's values are not there"
    if values <= 1 and len(tree["base_weights"]) != nodes:
        return "it has other weights than nodes"
    return _wrong_categories(tree, nodes)


def _leaves_are_sound(tree: Mapping[str, Any], leaves: NDArray[Any], values: int, groups: int) -> bool:
    weights = len(tree["leaf_weights"])
    return values == groups and weights % values == 0 and _within(leaves, weights // values)


def _wrong_categories(tree: Mapping[str, Any], nodes: int) -> str | None:
    of, starts, sizes = (_whole(tree[f"categories_{name}"]) for name in ("nodes", "segments", "sizes"))
    categories = _whole(tree["categories"])
    if not len(of) == len(starts) == len(sizes) or not (_within(of, nodes) and (np.diff(of) > 0).all()):
        return "its categories are of nodes that there are not"
    if not _within(categories, _MOST_CATEGORIES):
        return "it has categories that no number tells apart"
    if not (_within(starts, len(categories) + 1) and _within(sizes, len(categories) + 1)):
        return "a node's categories are not there"
    if not (starts + sizes <= len(categories)).all():
        return "a node's categories are not there"
    return None


def _whole(values: Any) -> NDArray[np.int64]:
    found = np.asarray(values)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise ValueError("an array of whole numbers was expected")
    return found.astype(np.int64)


def _within(indices: NDArray[Any], bound: int) -> bool:
    return not len(indices) or bool(indices.min() >= 0 and indices.max() < bound)
