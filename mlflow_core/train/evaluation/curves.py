"""What plots and tables show beside the metrics: ROC points, reliability, coverage of quantiles, confusion.

Reliability follows Guo et al., "On Calibration of Modern Neural Networks" (2017) with bins of equal size; slope and
intercept are Cox's (1958): the logistic regression of the label on the logit of the prediction, 1 and 0 where the
model is calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlflow_core.train.evaluation.metrics import Floats

__all__ = [
    "Calibration",
    "Coverage",
    "IntervalCoverage",
    "PredictedBin",
    "ReliabilityBin",
    "calibration",
    "class_calibrations",
    "confusion",
    "coverages",
    "interval_coverages",
    "predicted_bins",
    "roc",
]


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows of similar predictions.

    Args:
        rows: How many.
        predicted: Their mean prediction.
        observed: The share of them whose label is 1.
        low: Lower end of the share's 95 % interval (Wilson).
        high: Upper end.
    """

    rows: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """How far predictions are probabilities.

    Args:
        bins: Bins of equal size, by prediction.
        error: Expected calibration error: the bins' mean of abs(predicted - observed).
        intercept: Cox's intercept, 0 where calibrated; NaN where it cannot be fitted.
        slope: Cox's slope, 1 where calibrated, below 1 for an over-confident model.
    """

    bins: tuple[ReliabilityBin, ...]
    error: float
    intercept: float
    slope: float


@dataclass(frozen=True)
class Coverage:
    """How often the truth lies at or below a predicted quantile.

    Args:
        level: What was promised.
        observed: The share of rows that do.
        low: Lower end of the share's 95 % interval (Wilson).
        high: Upper end.
    """

    level: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class IntervalCoverage:
    """How often the truth lies between two predicted quantiles, ends included, and how wide they stand.

    Args:
        lower: Level of the lower one.
        upper: Level of the upper one.
        observed: The share of rows inside.
        low: Lower end of the share's 95 % interval (Wilson).
        high: Upper end.
        width: Mean distance of the two.
    """

    lower: float
    upper: float
    observed: float
    low: float
    high: float
    width: float


@dataclass(frozen=True)
class PredictedBin:
    """Rows of similar predictions of a quantity.

    Args:
        rows: How many.
        predicted: Their mean prediction.
        observed: Their mean truth.
        low: Their truth's 10 % quantile.
        high: Their truth's 90 % quantile.
    """

    rows: int
    predicted: float
    observed: float
    low: float
    high: float


def roc(y: Floats, predictions: Floats, *, points: int = 400) -> tuple[Floats, Floats]:
    """The points of a ROC curve, thinned.

    Args:
        y: The truth, 0 or 1, (n,).
        predictions: Scores, (n,).
        points: At most about so many.

    Returns:
        False positive rates and true positive rates, from (0, 0) to (1, 1).
    """
    order = np.argsort(-predictions, kind="stable")
    ordered = predictions[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    found = np.append(0.0, np.cumsum(y[order])[ends])
    wrong = np.append(0.0, (ends + 1) - found[1:])
    x, h = wrong / max(wrong[-1], 1.0), found / max(found[-1], 1.0)
    kept = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).round().astype(int))
    return x[kept], h[kept]


def calibration(y: Floats, predictions: Floats, *, bins: int = 15) -> Calibration:
    """Measure how far predictions are probabilities.

    Args:
        y: The truth, 0 or 1, (n,).
        predictions: Probabilities, (n,).
        bins: How many bins; equal predictions stay in one, so that there may be fewer.
    """
    made = []
    for rows in _bins(predictions, bins):
        n, share = len(rows), float(y[rows].mean())
        low, high = _wilson(share, n)
        made.append(ReliabilityBin(n, float(predictions[rows].mean()), share, low, high))
    error = sum(one.rows * abs(one.predicted - one.observed) for one in made) / len(y)
    intercept, slope = _cox(y, predictions)
    return Calibration(tuple(made), float(error), intercept, slope)


def class_calibrations(y: Floats, predictions: Floats, *, bins: int = 10) -> tuple[Calibration, ...]:
    """Measure each class's probability against all other classes.

    Args:
        y: The class of each row, (n,).
        predictions: Probabilities, (n, classes).
        bins: As for ``calibration``.
    """
    columns = range(predictions.shape[1])
    return tuple(
        calibration((y == one).astype(np.float64), predictions[:, one], bins=bins) for one in columns
    )


def confusion(y: Floats, predictions: Floats) -> NDArray[np.int64]:
    """Count rows by true class and likeliest class, (classes, classes).

    Args:
        y: The class of each row, (n,).
        predictions: Probabilities, (n, classes).
    """
    count = predictions.shape[1]
    cells = y.astype(np.int64) * count + predictions.argmax(axis=1)
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def coverages(y: Floats, predictions: Floats, quantiles: Sequence[float]) -> tuple[Coverage, ...]:
    """Measure how far predicted quantiles are quantiles, the lowest level first.

    Args:
        y: The truth, (n,).
        predictions: (n, levels).
        quantiles: The levels.
    """
    made = []
    for column in np.argsort(quantiles, kind="stable"):
        share = float((y <= predictions[:, column]).mean())
        made.append(Coverage(quantiles[column], share, *_wilson(share, len(y))))
    return tuple(made)


def interval_coverages(
    y: Floats, predictions: Floats, quantiles: Sequence[float]
) -> tuple[IntervalCoverage, ...]:
    """Measure the intervals between the lowest and highest level, the next ones inside, and so on.

    Args:
        y: The truth, (n,).
        predictions: (n, levels).
        quantiles: The levels.
    """
    order, made = np.argsort(quantiles, kind="stable"), []
    for one, other in zip(order[: len(order) // 2], order[::-1], strict=False):
        below, above = predictions[:, one], predictions[:, other]
        share = float(((below <= y) & (y <= above)).mean())
        wilson = _wilson(share, len(y))
        made.append(
            IntervalCoverage(quantiles[one], quantiles[other], share, *wilson, float((above - below).mean()))
        )
    return tuple(made)


def predicted_bins(y: Floats, predictions: Floats, *, bins: int = 15) -> tuple[PredictedBin, ...]:
    """Hold predicted quantities against the truth in bins of equal size.

    Args:
        y: The truth, (n,).
        predictions: (n,).
        bins: How many bins; equal predictions stay in one.
    """
    made = []
    for rows in _bins(predictions, bins):
        low, high = np.quantile(y[rows], [0.1, 0.9])
        made.append(
            PredictedBin(
                len(rows), float(predictions[rows].mean()), float(y[rows].mean()), float(low), float(high)
            )
        )
    return tuple(made)


def _bins(predictions: Floats, bins: int) -> list[NDArray[np.int64]]:
    """Rows by prediction, in bins of about equal size that keep equal predictions together."""
    order = np.argsort(predictions, kind="stable")
    ordered = predictions[order]
    places = (np.arange(bins) * len(order)) // bins
    starts = np.unique(np.searchsorted(ordered, ordered[places], side="left"))
    return np.split(order, starts[1:])


def _wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # At a share of 0 or 1 an end is the share itself, which rounding may miss.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _cox(y: Floats, predictions: Floats) -> tuple[float, float]:
    """Newton's method on two parameters; it needs both classes and predictions that differ."""
    p = np.clip(predictions, 1e-12, 1 - 1e-12)
    x = np.log(p / (1 - p))
    if x.min() == x.max() or y.min() == y.max():
        return float("nan"), float("nan")
    design, beta = np.column_stack([np.ones_like(x), x]), np.array([0.0, 1.0])
    for _ in range(25):
        mu = 1 / (1 + np.exp(-np.clip(design @ beta, -500, 500)))
        curvature = design.T @ (design * (mu * (1 - mu))[:, None])
        if np.linalg.cond(curvature) > 1e12:
            return float("nan"), float("nan")
        step = np.linalg.solve(curvature, design.T @ (y - mu))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1])
