"""The metrics by name: which arithmetic each one is for a task, checked before it is prepared.

A metric is prepared once for a truth and predictions; then ``at(weights)`` gives its value if each row counted as
often as its weight says. That is all that a bootstrap needs. Where scikit-learn has a metric, its definition is the
same, ties included; ``tests/train`` holds them to it, ``tests/oracle`` to loops written for reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.spec.metric import METRICS, parse_metric
from mlflow_core.train.evaluation.measures import classes, quantities, ranking
from mlflow_core.train.evaluation.measures.order import Auc, AveragePrecision, PrecisionAt
from mlflow_core.train.evaluation.measures.weighted import Average, Floats, Measure
from mlflow_core.train.evaluation.truth import Truth

__all__ = ["GREATER_IS_BETTER", "Floats", "Measure", "greater_is_better", "measure", "prepare"]

GREATER_IS_BETTER = {
    "auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
    "accuracy": True,
    "macro_f1": True,
    "rmse": False,
    "mae": False,
    "r2": True,
    "ndcg": True,
    "map": True,
    "pinball": False,
    "coverage_error": False,
    "crossing": False,
    "concordance": True,
    "precision": True,
}
"""Whether a greater value is a better one, by the metric without its ``@k``."""

_PROBABILITIES = ("log_loss", "brier")


def greater_is_better(metric: str) -> bool:
    """Whether a greater value of a metric is a better one.

    Args:
        metric: Its name, with or without ``@k``.

    Raises:
        TrainError: There is no such metric.
    """
    return GREATER_IS_BETTER[_parse(metric)[0]]


def prepare(metric: str, y: Truth | NDArray[Any], predictions: NDArray[Any]) -> Measure:
    """Prepare a metric for measuring under many weights.

    Args:
        metric: A key of ``spec.metric.METRICS``, some with ``@k``.
        y: The truth of n rows; bare labels, (n,), where the metric needs nothing else.
        predictions: What the model said, (n,) or (n, k): probabilities for classification, one column for each class
            or quantile, scores, quantities, risks or times.

    Raises:
        TrainError: There is no such metric, it is not for the task, or the values are not what it is defined on.
    """
    family, k = _parse(metric)
    given = np.asarray(predictions, dtype=np.float64)
    truth = y if isinstance(y, Truth) else Truth.of(y, (metric,), given)
    if truth.task not in METRICS[family]:
        raise TrainError(f'"{metric}" does not measure the task "{truth.task}"')
    if len(truth) != len(given):
        raise TrainError(f"{len(given):,} predictions were given for {len(truth):,} rows")
    if not np.isfinite(truth.y).all() or not np.isfinite(given).all():
        raise TrainError(f'"{metric}" needs finite labels and predictions; some are NaN or infinite')
    if truth.task in ("multiclass", "quantile"):
        several = given[:, None] if given.ndim == 1 else given
        return _of_columns(metric, family, truth, several)
    if given.ndim == 2 and given.shape[1] == 1 and truth.y.ndim == 1:
        given = given[:, 0]
    if given.shape != truth.y.shape:
        raise TrainError(f'"{metric}" needs predictions of shape {truth.y.shape}, given was {given.shape}')
    if truth.y.ndim == 2:
        targets = range(truth.y.shape[1])
        return Average([_of_column(metric, family, k, truth, truth.y[:, n], given[:, n]) for n in targets])
    return _of_column(metric, family, k, truth, truth.y, given)


def measure(metric: str, y: Truth | NDArray[Any], predictions: NDArray[Any]) -> float:
    """Measure once, each row counting once; NaN where it is not defined (the AUC of one class).

    Raises:
        TrainError: As ``prepare``.

    Example:
        >>> measure("auc", np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.05]))
        0.5
    """
    return prepare(metric, y, predictions).at(np.ones(len(y)))


def _parse(metric: str) -> tuple[str, int | None]:
    try:
        return parse_metric(metric)
    except ValueError as error:
        raise TrainError(str(error)) from None


def _of_columns(metric: str, family: str, truth: Truth, predictions: Floats) -> Measure:
    """A metric of rows with one prediction for each class or quantile."""
    if truth.task == "quantile":
        quantities.check_quantiles(metric, predictions, truth.quantiles)
        if family == "crossing":
            return quantities.crossing(predictions, truth.quantiles)
        of_quantiles = quantities.pinball if family == "pinball" else quantities.coverage_error
        return of_quantiles(truth.y, predictions, truth.quantiles)
    classes.check_classes(metric, truth.y, predictions)
    return _OF_CLASSES[family](truth.y, predictions)


def _of_column(
    metric: str, family: str, k: int | None, truth: Truth, y: Floats, predictions: Floats
) -> Measure:
    """A metric of rows with one prediction each."""
    if truth.task in ("classification", "anomaly") and not np.isin(y, (0.0, 1.0)).all():
        raise TrainError(f'"{metric}" needs labels that are 0 or 1')
    if family in _PROBABILITIES and ((predictions < 0) | (predictions > 1)).any():
        raise TrainError(f'"{metric}" needs probabilities; some predictions are outside 0 to 1')
    if truth.queries is not None and truth.task == "ranking":
        ranking.check_relevance(metric, y)
        of_queries = ranking.ndcg_at if family == "ndcg" else ranking.average_precision_at
        return of_queries(y, predictions, truth.queries, k)
    if truth.upper is not None and truth.task == "survival":
        from mlflow_core.train.evaluation.measures.survival import Concordance  # compiled: loads numba

        return Concordance(y, truth.upper, predictions, risk=truth.risk)
    if k is not None:
        return PrecisionAt(y, predictions, k)
    return _OF_COLUMN[family](y, predictions)


_OF_COLUMN: Mapping[str, Callable[[Floats, Floats], Measure]] = {
    "auc": Auc,
    "average_precision": AveragePrecision,
    "log_loss": classes.log_loss,
    "brier": classes.brier,
    "accuracy": classes.accuracy,
    "rmse": quantities.rmse,
    "mae": quantities.mae,
    "r2": quantities.r2,
}
_OF_CLASSES: Mapping[str, Callable[[Floats, Floats], Measure]] = {
    "auc": classes.one_against_rest,
    "log_loss": classes.log_loss,
    "brier": classes.brier,
    "accuracy": classes.accuracy,
    "macro_f1": classes.macro_f1,
}
