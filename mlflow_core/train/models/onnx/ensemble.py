"""Decision trees as one TreeEnsemble node of ONNX (ai.onnx.ml 5), whoever grew them.

A split by categories is one node with a set, where the operators before it needed a comparison for each category.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["AT_MOST", "LESS", "Ensemble", "Tree"]

AT_MOST, LESS, _MEMBER = 0, 1, 6
"""Modes of a node: true where the value is at most the split, less than it, or in the set."""
_SUM = 1
_NONE = -1.0
"""A set must not be empty; no category has this code."""


@dataclass(frozen=True)
class Tree:
    """One tree; a sequence has one element for each of its nodes, the root first.

    Args:
        when_true: The child where the comparison holds; -1 for a leaf.
        when_false: The other child.
        features: Which column is compared.
        splits: With what.
        missing_is_true: Whether a missing value goes where the comparison holds.
        values: What a leaf adds.
        mode: ``AT_MOST`` or ``LESS``.
        sets: For a node that splits by categories, those for which it holds.
    """

    when_true: Sequence[int]
    when_false: Sequence[int]
    features: Sequence[int]
    splits: Sequence[float]
    missing_is_true: Sequence[bool | int]
    values: Sequence[float]
    mode: int
    sets: Mapping[int, Sequence[float]] = field(default_factory=dict)


@dataclass
class Ensemble:
    """The attributes of a TreeEnsemble node, filled tree by tree."""

    _features: list[int] = field(default_factory=list)
    _splits: list[float] = field(default_factory=list)
    _modes: list[int] = field(default_factory=list)
    _when_true: list[int] = field(default_factory=list)
    _when_false: list[int] = field(default_factory=list)
    _true_is_leaf: list[int] = field(default_factory=list)
    _false_is_leaf: list[int] = field(default_factory=list)
    _missing_is_true: list[int] = field(default_factory=list)
    _members: list[float] = field(default_factory=list)
    _targets: list[int] = field(default_factory=list)
    _values: list[float] = field(default_factory=list)
    _roots: list[int] = field(default_factory=list)

    def add(self, tree: Tree, target: int) -> None:
        """Add a tree to the sum of one output."""
        root = len(self._features)
        self._roots.append(root)
        if tree.when_true[0] == -1:
            self._stump(tree.values[0], target)
            return
        # Depth first without recursion: a tree may be deeper than Python's stack. (node, its parent, which side)
        waiting: list[tuple[int, int, bool]] = [(0, -1, False)]
        while waiting:
            node, parent, side = waiting.pop()
            if tree.when_true[node] == -1:
                self._hang(parent, side, self._leaf(tree.values[node], target, root), leaf=True)
                continue
            place = len(self._features)
            self._hang(parent, side, place, leaf=False)
            members = tree.sets.get(node)
            self._node(
                tree.features[node],
                tree.splits[node] if members is None else 0.0,
                tree.mode if members is None else _MEMBER,
                missing_is_true=bool(tree.missing_is_true[node]),
            )
            if members is not None:
                self._members += [*(map(float, members) if members else [_NONE]), math.nan]
            waiting += [(tree.when_false[node], place, False), (tree.when_true[node], place, True)]

    def node(self, given: str, found: str, outputs: int) -> onnx.NodeProto:
        """The node, which reads ``given``, (n, columns), and writes the sums of each output into ``found``, (n, outputs)."""
        sets = {"membership_values": _floats("members", self._members)} if self._members else {}
        return helper.make_node(
            "TreeEnsemble",
            [given],
            [found],
            domain="ai.onnx.ml",
            n_targets=outputs,
            aggregate_function=_SUM,
            post_transform=0,
            tree_roots=self._roots,
            nodes_featureids=self._features,
            nodes_splits=_floats("splits", self._splits),
            nodes_modes=helper.make_tensor("modes", TensorProto.UINT8, [len(self._modes)], self._modes),
            nodes_truenodeids=self._when_true,
            nodes_falsenodeids=self._when_false,
            nodes_trueleafs=self._true_is_leaf,
            nodes_falseleafs=self._false_is_leaf,
            nodes_missing_value_tracks_true=self._missing_is_true,
            leaf_targetids=self._targets,
            leaf_weights=_floats("values", self._values),
            **sets,
        )

    def _node(self, feature: int, split: float, mode: int, *, missing_is_true: bool) -> None:
        self._features.append(int(feature))
        self._splits.append(float(split))
        self._modes.append(mode)
        self._missing_is_true.append(int(missing_is_true))
        for column in (self._when_true, self._when_false, self._true_is_leaf, self._false_is_leaf):
            column.append(0)

    def _leaf(self, value: float, target: int, root: int) -> int:
        # ONNX Runtime takes a root for a leaf if its two children, one a node and one a leaf, have the same index.
        # The only node that can be a root's child and have the next leaf's index is the one right after the root.
        if len(self._values) == root + 1:
            self._add_leaf(0.0, target)
        return self._add_leaf(value, target)

    def _stump(self, value: float, target: int) -> None:
        """A tree that never splits: the format has no tree without a node, so one whose sides are the same leaf."""
        leaf = self._add_leaf(value, target)
        self._node(0, 0.0, LESS, missing_is_true=False)
        for side in (True, False):
            self._hang(len(self._features) - 1, side, leaf, leaf=True)

    def _add_leaf(self, value: float, target: int) -> int:
        self._values.append(float(value))
        self._targets.append(target)
        return len(self._values) - 1

    def _hang(self, parent: int, side: bool, child: int, *, leaf: bool) -> None:
        if parent < 0:
            return
        (self._when_true if side else self._when_false)[parent] = child
        (self._true_is_leaf if side else self._false_is_leaf)[parent] = int(leaf)


def _floats(name: str, values: Sequence[float]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)
