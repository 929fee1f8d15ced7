"""Metrics of probabilities over classes: two (one column) or more (one column each).

The truth of several classes is the class's number, which is the position of its column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.measures.order import Auc
from mlflow_core.train.evaluation.measures.weighted import Average, Floats, Measure, Sums, mean

__all__ = ["accuracy", "brier", "check_classes", "log_loss", "macro_f1", "one_against_rest"]

_EPSILON = float(np.finfo(np.float64).eps)


def check_classes(metric: str, y: Floats, predictions: Floats) -> None:
    """Refuse what is not a class and a distribution over classes.

    Args:
        metric: Named in the message.
        y: Classes from 0, (n,).
        predictions: (n, classes).

    Raises:
        TrainError: A class has no column, or a row's probabilities do not add up to 1.
    """
    if predictions.ndim != 2 or y.ndim != 1:
        raise TrainError(f'"{metric}" of several classes needs one column of predictions for each class')
    if not np.isin(y, np.arange(predictions.shape[1])).all():
        raise TrainError(
            f'"{metric}" needs labels that are 0 to {predictions.shape[1] - 1}, one for each column of the predictions'
        )
    if (predictions < 0).any() or (np.abs(predictions.sum(axis=1) - 1) > 1e-3).any():
        raise TrainError(f'"{metric}" needs probabilities; some rows do not add up to 1')


def log_loss(y: Floats, predictions: Floats) -> Measure:
    """Minus the mean logarithm of the probability that the truth was given.

    Args:
        y: 0 or 1, or classes, (n,).
        predictions: Probabilities, (n,) or (n, classes).
    """
    if predictions.ndim == 1:
        p = np.clip(predictions, _EPSILON, 1 - _EPSILON)
        return mean(-np.where(y == 1, np.log(p), np.log1p(-p)))
    p = np.clip(predictions[np.arange(len(y)), y.astype(np.int64)], _EPSILON, 1 - _EPSILON)
    return mean(-np.log(p))


def brier(y: Floats, predictions: Floats) -> Measure:
    """The mean squared distance of the probabilities from the truth; over classes the sum of their columns' (Brier).

    Args:
        y: 0 or 1, or classes, (n,).
        predictions: Probabilities, (n,) or (n, classes).
    """
    if predictions.ndim == 1:
        return mean((y - predictions) ** 2)
    truth = y[:, None] == np.arange(predictions.shape[1])
    return mean(((truth - predictions) ** 2).sum(axis=1))


def accuracy(y: Floats, predictions: Floats) -> Measure:
    """The share of rows whose likelier class is the true one: from 0.5 on the positive, else the first of the greatest.

    Args:
        y: 0 or 1, or classes, (n,).
        predictions: Probabilities, (n,) or (n, classes).
    """
    if predictions.ndim == 1:
        return mean(((predictions >= 0.5) == (y == 1)).astype(np.float64))
    return mean((predictions.argmax(axis=1) == y).astype(np.float64))


def macro_f1(y: Floats, predictions: Floats) -> Measure:
    """The mean over classes of F1, over those that are true or named for some row.

    Args:
        y: Classes, (n,).
        predictions: Probabilities, (n, classes).
    """
    named, sums = predictions.argmax(axis=1), [np.ones_like(y)]
    for one in range(predictions.shape[1]):
        hit, true, said = (y == one) & (named == one), y == one, named == one
        sums += [hit.astype(np.float64), true.astype(np.float64) + said.astype(np.float64)]

    def finish(*totals: float) -> float:
        hits, either = np.array(totals[1::2]), np.array(totals[2::2])
        seen = either > 0
        return float((2 * hits[seen] / either[seen]).mean())

    return Sums(sums, finish)


def one_against_rest(y: Floats, predictions: Floats) -> Measure:
    """The mean over classes of the AUC of that class against all others, over the classes that there are.

    Args:
        y: Classes, (n,).
        predictions: Probabilities, (n, classes).
    """
    columns: list[NDArray[np.float64]] = [predictions[:, one] for one in range(predictions.shape[1])]
    return Average([Auc((y == one).astype(np.float64), each) for one, each in enumerate(columns)], least=2)
