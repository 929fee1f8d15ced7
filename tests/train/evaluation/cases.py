"""Random truths and predictions for each task, small and full of ties, so that edges are met."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlflow_core.train.evaluation.truth import Truth

QUANTILES = (0.9, 0.1, 0.5)  # not in order on purpose
Case = tuple[Truth, np.ndarray]


def classification(random: np.random.Generator, rows: int) -> Case:
    y = (random.random(rows) < 0.4).astype(float)
    return Truth(y), np.round(np.clip(0.3 * y + random.random(rows) * 0.7, 0, 1), 1)


def multiclass(random: np.random.Generator, rows: int) -> Case:
    y = random.integers(0, 3, rows).astype(float)
    raw = np.round(random.random((rows, 3)) + 0.5 * (y[:, None] == np.arange(3)), 1) + 0.1
    return Truth(y, "multiclass", classes=("a", "b", "c")), raw / raw.sum(axis=1, keepdims=True)


def regression(random: np.random.Generator, rows: int) -> Case:
    y = random.normal(3, 2, rows)
    return Truth(y, "regression"), y + random.normal(0, 1, rows)


def targets(random: np.random.Generator, rows: int) -> Case:
    y = random.normal(3, 2, (rows, 2))
    return Truth(y, "regression"), y + random.normal(0, 1, (rows, 2))


def quantile(random: np.random.Generator, rows: int) -> Case:
    y = np.round(random.normal(0, 2, rows), 1)
    said = np.round(np.array([2.0, -2.0, 0.0]) + 0.5 * y[:, None] + random.normal(0, 1.2, (rows, 3)), 1)
    return Truth(y, "quantile", quantiles=QUANTILES), said


def ranking(random: np.random.Generator, rows: int) -> Case:
    queries = random.integers(0, max(1, rows // 4), rows)  # not sorted: a query's rows stand anywhere
    y = random.choice([0.0, 0.0, 1.0, 2.0], rows)
    return Truth(y, "ranking", queries=queries), np.round(0.5 * y + random.random(rows), 0)


def survival(random: np.random.Generator, rows: int) -> Case:
    times, censored = random.integers(1, 9, rows).astype(float), random.random(rows)
    upper = np.where(censored < 0.3, np.inf, np.where(censored < 0.5, times + 2, times))
    said = np.round(times + random.normal(0, 3, rows), 0)
    return Truth(times, "survival", upper=upper), said


def hazards(random: np.random.Generator, rows: int) -> Case:
    truth, said = survival(random, rows)
    return Truth(truth.y, "survival", upper=truth.upper, risk=True), -said


def anomaly(random: np.random.Generator, rows: int) -> Case:
    truth, said = classification(random, rows)
    return Truth(truth.y, "anomaly"), 5 * said - 2


MADE: dict[str, tuple[Callable[[np.random.Generator, int], Case], tuple[str, ...]]] = {
    "classification": (
        classification,
        ("auc", "average_precision", "log_loss", "brier", "accuracy", "rmse", "mae", "r2", "precision@5"),
    ),
    "multiclass": (multiclass, ("auc", "log_loss", "brier", "accuracy", "macro_f1")),
    "regression": (regression, ("rmse", "mae", "r2")),
    "targets": (targets, ("rmse", "mae", "r2")),
    "quantile": (quantile, ("pinball", "coverage_error", "crossing")),
    "ranking": (ranking, ("ndcg", "ndcg@3", "map", "map@3")),
    "survival": (survival, ("concordance",)),
    "hazards": (hazards, ("concordance",)),
    "anomaly": (anomaly, ("auc", "average_precision", "precision@5", "precision@1000")),
}
"""Per kind of case: what makes it, and the metrics that measure it."""

EACH = [(kind, metric) for kind, (_, metrics) in MADE.items() for metric in metrics]


def made(kind: str, seed: int, rows: int) -> Case:
    """A case of a kind."""
    return MADE[kind][0](np.random.default_rng(seed), rows)


def repeated(truth: Truth, predictions: np.ndarray, times: np.ndarray) -> Case:
    """The same rows, each so often; of a ranking each query so often, its copies queries of their own."""
    rows = np.repeat(np.arange(len(truth)), times)
    if truth.queries is None:
        return truth.take(rows), predictions[rows]
    copy = np.concatenate([np.arange(n) for n in times]) if len(rows) else rows
    queries = truth.queries[rows] * (1 + int(times.max(initial=0))) + copy
    return Truth(truth.y[rows], "ranking", queries=queries), predictions[rows]


def weights_of(truth: Truth, random: np.random.Generator) -> np.ndarray:
    """How often each row counts, 0 to 3; all rows of a query equally often."""
    if truth.queries is None:
        return random.integers(0, 4, len(truth))
    return random.integers(0, 4, int(truth.queries.max()) + 1)[truth.queries]
