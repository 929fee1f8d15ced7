"""The metrics, each in a form that can be measured again under other weights thousands of times.

A metric is prepared once for labels and predictions; then ``at(weights)`` gives its value if each row counted as
often as its weight says. That is all that a bootstrap needs. The definitions are scikit-learn's, ties included;
``tests/train`` holds them to it, ``tests/oracle`` to loops written for reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.pipeline import METRICS

__all__ = ["GREATER_IS_BETTER", "Floats", "Measure", "measure", "prepare"]

Floats = NDArray[np.float64]

GREATER_IS_BETTER = {
    "auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
    "accuracy": True,
    "rmse": False,
    "mae": False,
    "r2": True,
}
"""Whether a greater value is a better one."""

_EPSILON = float(np.finfo(np.float64).eps)


class Measure(Protocol):
    """One metric of one model's predictions."""

    def at(self, weights: Floats) -> float:
        """The value if row i counted ``weights[i]`` times, (n,) float64; NaN where it is not defined."""
        ...

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """The same metric for weights that all rows of a group share, which is far faster to measure.

        Args:
            groups: Group of each row, (n,), from 0.
            count: How many groups; the new measure takes weights (count,).
        """
        ...


def prepare(metric: str, y: Floats, predictions: Floats) -> Measure:
    """Prepare a metric for measuring under many weights.

    Args:
        metric: One of ``spec.pipeline.METRICS``.
        y: The truth, (n,): 0 or 1 for classification.
        predictions: What the model said, (n,): probabilities for classification.

    Raises:
        TrainError: There is no such metric, or the values are not what it is defined on.
    """
    if metric not in METRICS:
        raise TrainError(f'"{metric}" is not a metric', hint=nearest(metric, METRICS))
    if len(y) != len(predictions):
        raise TrainError(f"{len(predictions):,} predictions were given for {len(y):,} rows")
    if not np.isfinite(y).all() or not np.isfinite(predictions).all():
        raise TrainError(f'"{metric}" needs finite labels and predictions; some are NaN or infinite')
    if METRICS[metric] == "classification" and not np.isin(y, (0.0, 1.0)).all():
        raise TrainError(f'"{metric}" needs labels that are 0 or 1')
    if metric in ("log_loss", "brier") and ((predictions < 0) | (predictions > 1)).any():
        raise TrainError(f'"{metric}" needs probabilities; some predictions are outside 0 to 1')
    return _MEASURES[metric](y, predictions)


def measure(metric: str, y: Floats, predictions: Floats) -> float:
    """Measure once, each row counting once; NaN where it is not defined (the AUC of one class).

    Raises:
        TrainError: As ``prepare``.

    Example:
        >>> measure("auc", np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.05]))
        0.5
    """
    return prepare(metric, y, predictions).at(np.ones(len(y)))


def _dot(a: Floats, b: Floats) -> float:
    """The sum of products in this thread: BLAS would wake others for vectors of this size, and wait for them."""
    return float(np.einsum("i,i->", a, b))


class _Auc:
    """The probability that a positive is ranked above a negative, ties counting half.

    With the negatives' weights summed in the order of their scores, each positive adds the sum below it and half
    the sum beside it: a gather, a running sum and two look-ups per weighting, no sort.
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
        ours = weights[self._positives]
        np.cumsum(weights[self._negatives], out=self._sums[1:])
        pairs = float(ours.sum()) * float(self._sums[-1])
        if pairs == 0:
            return float("nan")
        won = self._sums[self._first]
        won += self._sums[self._last]
        return _dot(ours, won) / (2 * pairs)

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """Pairs won by the positives of one group against the negatives of another, counted once for all."""
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
        pairs = _dot(weights, self._positives) * _dot(weights, self._negatives)
        return _dot(weights, np.einsum("ij,j->i", self._won, weights)) / pairs if pairs else float("nan")

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        return _Spread(self, groups, count)


class _AveragePrecision:
    """The sum over thresholds of precision times the step in recall.

    Each positive adds its weight times the precision at its own threshold, which is that of the last row with its
    score. So running sums are looked up at the positives only.
    """

    def __init__(self, y: Floats, predictions: Floats) -> None:
        self._weight_of = np.argsort(-predictions, kind="stable")  # by rank: whose weight the row has
        ordered = predictions[self._weight_of]
        last = np.searchsorted(-ordered, -ordered, side="right") - 1
        self._positives = np.flatnonzero(y[self._weight_of] == 1)
        self._last = last[self._positives]
        self._last_positive = np.searchsorted(self._positives, self._last, side="right") - 1

    def at(self, weights: Floats) -> float:
        ordered = weights[self._weight_of]
        ours = ordered[self._positives]
        sums = np.cumsum(ours)
        if not len(sums) or sums[-1] == 0:
            return float("nan")
        found, named = sums[self._last_positive], np.cumsum(ordered)[self._last]
        precision = np.divide(found, named, out=np.zeros_like(found), where=named > 0)
        return _dot(ours, precision) / float(sums[-1])

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:  # noqa: ARG002 any count will do
        by_group = copy(self)
        by_group._weight_of = groups[self._weight_of]
        return by_group


class _Spread:
    """A metric that does not break up into groups: each group's weight is given to its rows."""

    def __init__(self, rows: Measure, groups: NDArray[np.int64], count: int) -> None:
        self._rows, self._groups, self._count = rows, groups, count

    def at(self, weights: Floats) -> float:
        return self._rows.at(weights[self._groups])

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        return _Spread(self, groups, count)


class _Sums:
    """A function of weighted sums over rows, which are as well weighted sums over groups' sums."""

    def __init__(self, sums: Sequence[Floats], finish: Callable[..., float]) -> None:
        self._sums, self._finish = tuple(sums), finish

    def at(self, weights: Floats) -> float:
        totals = [_dot(weights, one) for one in self._sums]
        return self._finish(*totals) if totals[0] else float("nan")

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        return _Sums(
            [np.bincount(groups, weights=one, minlength=count).astype(np.float64) for one in self._sums],
            self._finish,
        )


def _mean(each: Floats, finish: Callable[[float], float] = float) -> Measure:
    return _Sums([np.ones_like(each), each], lambda rows, total: finish(total / rows))


def _r2(y: Floats, predictions: Floats) -> Measure:
    """One minus the residual sum of squares over the total one."""
    shifted = y - (y.mean() if len(y) else 0.0)  # far from 0, the variance would cancel

    def finish(rows: float, total: float, squares: float, residual: float) -> float:
        spread = squares - total**2 / rows
        return 1 - residual / spread if spread > 0 else float("nan")

    return _Sums([np.ones_like(y), shifted, shifted**2, (y - predictions) ** 2], finish)


def _log_loss(y: Floats, predictions: Floats) -> Measure:
    p = np.clip(predictions, _EPSILON, 1 - _EPSILON)
    return _mean(-np.where(y == 1, np.log(p), np.log1p(-p)))


_MEASURES: dict[str, Callable[[Floats, Floats], Measure]] = {
    "auc": _Auc,
    "average_precision": _AveragePrecision,
    "log_loss": _log_loss,
    "brier": lambda y, p: _mean((y - p) ** 2),
    "accuracy": lambda y, p: _mean(((p >= 0.5) == (y == 1)).astype(np.float64)),
    "rmse": lambda y, p: _mean((y - p) ** 2, lambda mean: float(np.sqrt(mean))),
    "mae": lambda y, p: _mean(np.abs(y - p)),
    "r2": _r2,
}
