"""How well scores put positives above negatives: area under the ROC curve, average precision, precision at k.

For binary labels; ties count as half, or as their block's mean. The scores need not be probabilities.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray

from mlflow_core.train.evaluation.measures.weighted import Floats, Measure, Spread, dot

__all__ = ["Auc", "AveragePrecision", "PrecisionAt"]

_MANY_GROUPS = 2000


class Auc:
    """The probability that a positive is ranked above a negative, ties counting half.

    With the negatives' weights summed in the order of their scores, each positive adds the sum below it and half
    the sum beside it: a gather, a running sum and two look-ups per weighting, no sort.

    Args:
        y: The truth, 0 or 1, (n,).
        predictions: Scores, (n,).
    """

    def __init__(self, y: Floats, predictions: Floats) -> None:
        positives, negatives = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
        self._positives = positives[np.argsort(predictions[positives], kind="stable")]
        self._negatives = negatives[np.argsort(predictions[negatives], kind="stable")]
        self._above, self._below = predictions[self._positives], predictions[self._negatives]
        self._first = np.searchsorted(self._below, self._above, side="left")
        self._last = np.searchsorted(self._below, self._above, side="right")
        self._sums = np.zeros(len(self._below) + 1)

    def at(self, weights: Floats) -> float:
        """See ``Measure``."""
        ours = weights[self._positives]
        np.cumsum(weights[self._negatives], out=self._sums[1:])
        pairs = float(ours.sum()) * float(self._sums[-1])
        if pairs == 0:
            return float("nan")
        won = self._sums[self._first]
        won += self._sums[self._last]
        return dot(ours, won) / (2 * pairs)

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """Pairs won by the positives of one group against the negatives of another, counted once for all."""
        if count > _MANY_GROUPS:  # the table of pairs would be larger than the rows
            return Spread(self, groups, count)
        of_positive, of_negative = groups[self._positives], groups[self._negatives]
        won = np.empty((count, count))
        for group in range(count):
            rivals = self._below[of_negative == group]
            twice = np.searchsorted(rivals, self._above, side="left") + np.searchsorted(
                rivals, self._above, side="right"
            )
            won[:, group] = np.bincount(of_positive, weights=twice, minlength=count)
        return _AucOfGroups(
            won / 2,
            np.bincount(of_positive, minlength=count).astype(np.float64),
            np.bincount(of_negative, minlength=count).astype(np.float64),
        )


class _AucOfGroups:
    def __init__(self, won: Floats, positives: Floats, negatives: Floats) -> None:
        self._won, self._positives, self._negatives = won, positives, negatives

    def at(self, weights: Floats) -> float:
        pairs = dot(weights, self._positives) * dot(weights, self._negatives)
        return dot(weights, np.einsum("ij,j->i", self._won, weights)) / pairs if pairs else float("nan")

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        return Spread(self, groups, count)


class AveragePrecision:
    """The sum over thresholds of precision times the step in recall.

    Each positive adds its weight times the precision at its own threshold, which is that of the last row with its
    score. So running sums are looked up at the positives only.

    Args:
        y: The truth, 0 or 1, (n,).
        predictions: Scores, (n,).
    """

    def __init__(self, y: Floats, predictions: Floats) -> None:
        self._weight_of = np.argsort(-predictions, kind="stable")  # by rank: whose weight the row has
        ordered = predictions[self._weight_of]
        last = np.searchsorted(-ordered, -ordered, side="right") - 1
        self._positives = np.flatnonzero(y[self._weight_of] == 1)
        self._last = last[self._positives]
        self._last_positive = np.searchsorted(self._positives, self._last, side="right") - 1

    def at(self, weights: Floats) -> float:
        """See ``Measure``."""
        ordered = weights[self._weight_of]
        ours = ordered[self._positives]
        sums = np.cumsum(ours)
        if not len(sums) or sums[-1] == 0:
            return float("nan")
        found, named = sums[self._last_positive], np.cumsum(ordered)[self._last]
        precision = np.divide(found, named, out=np.zeros_like(found), where=named > 0)
        return dot(ours, precision) / float(sums[-1])

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:  # noqa: ARG002 any count will do
        """See ``Measure``."""
        by_group = copy(self)
        by_group._weight_of = groups[self._weight_of]
        return by_group


class PrecisionAt:
    """The share of positives among the k rows with the highest scores, or among all where there are fewer.

    Where the k-th row is one of several with its score, those count with the share of them that still fits: the
    mean over all orders of the tie.

    Args:
        y: The truth, 0 or 1, (n,).
        predictions: Scores, (n,).
        k: How many rows.
    """

    def __init__(self, y: Floats, predictions: Floats, k: int) -> None:
        self._weight_of = np.argsort(-predictions, kind="stable")
        ordered = predictions[self._weight_of]
        self._positive = (y[self._weight_of] == 1).astype(np.float64)
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # last row of each tie
        self._k = float(k)

    def at(self, weights: Floats) -> float:
        """See ``Measure``."""
        ordered = weights[self._weight_of]
        named = np.append(0.0, np.cumsum(ordered)[self._ends])
        found = np.append(0.0, np.cumsum(ordered * self._positive)[self._ends])
        taken = min(self._k, float(named[-1]))
        if taken <= 0:
            return float("nan")
        return float(np.interp(taken, named, found)) / taken

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:  # noqa: ARG002 any count will do
        """See ``Measure``."""
        by_group = copy(self)
        by_group._weight_of = groups[self._weight_of]
        return by_group
