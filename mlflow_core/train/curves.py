"""What plots and tables of a classifier show beside its metrics: ROC points, reliability, importance.

Reliability follows Guo et al., "On Calibration of Modern Neural Networks" (2017) with bins of equal size; slope and
intercept are Cox's (1958): the logistic regression of the label on the logit of the prediction, 1 and 0 where the
model is calibrated. Permutation importance is Breiman's (2001): the loss of the metric when one column is shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlflow_core.train.metrics import GREATER_IS_BETTER, Floats, measure
from mlflow_core.train.model import Model

__all__ = ["Calibration", "Importance", "ReliabilityBin", "calibration", "importance", "roc"]


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
class Importance:
    """What a feature is worth to a model.

    Args:
        feature: Its name.
        gain: Its share of the loss that the trees removed, 0 to 1.
        permutation: How much worse the metric is with the column shuffled.
        spread: Standard deviation of that over the shuffles.
    """

    feature: str
    gain: float
    permutation: float
    spread: float


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
    order = np.argsort(predictions, kind="stable")
    ordered = predictions[order]
    starts = np.unique(np.searchsorted(ordered, ordered[(np.arange(bins) * len(y)) // bins], side="left"))
    made = []
    for rows in np.split(order, starts[1:]):
        n, share = len(rows), float(y[rows].mean())
        low, high = _wilson(share, n)
        made.append(ReliabilityBin(n, float(predictions[rows].mean()), share, low, high))
    error = sum(one.rows * abs(one.predicted - one.observed) for one in made) / len(y)
    intercept, slope = _cox(y, predictions)
    return Calibration(tuple(made), float(error), intercept, slope)


def importance(
    model: Model,
    table: pa.Table,
    y: Floats,
    *,
    metric: str = "auc",
    rows: int = 5000,
    repeats: int = 3,
    seed: int = 0,
) -> tuple[Importance, ...]:
    """Measure what each feature is worth, the greatest first.

    Args:
        model: The model.
        table: Rows with its features.
        y: Their truth, (n,).
        metric: The metric that shuffling may worsen.
        rows: Rows are sampled down to so many.
        repeats: Shuffles per feature.
        seed: Seed of sample and shuffles.
    """
    random = np.random.default_rng(seed)
    if table.num_rows > rows:
        chosen = np.sort(random.choice(table.num_rows, rows, replace=False))
        table, y = table.take(pa.array(chosen)), y[chosen]
    columns: Sequence[str] = model.features
    matrix = model.preprocessing.matrix(table)
    base, sign = measure(metric, y, model.score(matrix)), 1.0 if GREATER_IS_BETTER[metric] else -1.0
    gains, made = model.gain(), []
    for position, name in enumerate(columns):
        if gains[name] == 0.0:
            made.append(Importance(name, 0.0, 0.0, 0.0))  # no tree looks at it: shuffling changes nothing
            continue
        kept, losses = matrix[:, position].copy(), []
        for _ in range(repeats):
            matrix[:, position] = random.permutation(kept)
            losses.append(sign * (base - measure(metric, y, model.score(matrix))))
        matrix[:, position] = kept
        made.append(Importance(name, gains[name], float(np.mean(losses)), float(np.std(losses))))
    return tuple(sorted(made, key=lambda one: (-one.permutation, -one.gain, one.feature)))


def _wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


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
