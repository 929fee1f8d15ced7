"""Metrics of predicted quantities, and of predicted quantiles of them.

Quantiles: one column of predictions for each level. The pinball loss is the one that the quantile minimises (Koenker
and Bassett, "Regression Quantiles", 1978); coverage is of the widest interval, between the least and the greatest
level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.measures.weighted import Floats, Measure, Sums, mean

__all__ = ["check_quantiles", "coverage_error", "crossing", "mae", "pinball", "pinball_rows", "r2", "rmse"]


def rmse(y: Floats, predictions: Floats) -> Measure:
    """The root of the mean squared error, (n,) each."""
    return mean((y - predictions) ** 2, lambda value: float(np.sqrt(value)))


def mae(y: Floats, predictions: Floats) -> Measure:
    """The mean absolute error, (n,) each."""
    return mean(np.abs(y - predictions))


def r2(y: Floats, predictions: Floats) -> Measure:
    """One minus the residual sum of squares over the total one, (n,) each."""
    shifted = y - (y.mean() if len(y) else 0.0)  # far from 0, the variance would cancel

    def finish(rows: float, total: float, squares: float, residual: float) -> float:
        spread = squares - total**2 / rows
        return 1 - residual / spread if spread > 0 else float("nan")

    return Sums([np.ones_like(y), shifted, shifted**2, (y - predictions) ** 2], finish)


def check_quantiles(metric: str, predictions: Floats, quantiles: Sequence[float]) -> None:
    """Refuse predictions that do not have one column for each level.

    Args:
        metric: Named in the message; ``coverage_error`` and ``crossing`` need two levels.
        predictions: (n, levels).
        quantiles: The levels.

    Raises:
        TrainError: The shape does not fit, or there are too few levels.
    """
    if predictions.ndim != 2 or predictions.shape[1] != len(quantiles):
        raise TrainError(
            f'"{metric}" needs one column of predictions for each of the quantiles {list(quantiles)}',
            expected=f"shape (n, {len(quantiles)})",
        )
    if metric != "pinball" and len(quantiles) < 2:
        raise TrainError(f'"{metric}" needs at least two quantiles, there is {quantiles[0]:g} alone')


def pinball_rows(y: Floats, predictions: Floats, quantiles: Sequence[float]) -> Floats:
    """The pinball loss of each row, the mean over its levels, (n,).

    Args:
        y: The truth, (n,).
        predictions: (n, levels).
        quantiles: The levels.
    """
    above = y[:, None] - predictions
    levels = np.asarray(quantiles)
    losses: Floats = np.where(above >= 0, levels * above, (levels - 1) * above).mean(axis=1)
    return losses


def pinball(y: Floats, predictions: Floats, quantiles: Sequence[float]) -> Measure:
    """The mean pinball loss over rows and levels."""
    return mean(pinball_rows(y, predictions, quantiles))


def coverage_error(y: Floats, predictions: Floats, quantiles: Sequence[float]) -> Measure:
    """How far the share of rows inside the widest interval is from what its levels promise, as an absolute value."""
    low, high = int(np.argmin(quantiles)), int(np.argmax(quantiles))
    promised = quantiles[high] - quantiles[low]
    inside: Floats = np.where((predictions[:, low] <= y) & (y <= predictions[:, high]), 1.0, 0.0)
    return mean(inside, lambda share: float(abs(share - promised)))


def crossing(predictions: Floats, quantiles: Sequence[float]) -> Measure:
    """The share of rows in which a higher quantile is predicted below a lower one."""
    ordered = predictions[:, np.argsort(quantiles, kind="stable")]
    crossed: Floats = np.where((np.diff(ordered, axis=1) < 0).any(axis=1), 1.0, 0.0)
    return mean(crossed)
