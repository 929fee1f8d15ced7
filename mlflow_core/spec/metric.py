"""The names of metrics, which task each is for, and which are measured where nothing else is asked for.

A name may end in ``@k`` where only the first k of an order count: ``ndcg@10``. What a name means in figures is in
``train.evaluation``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from mlflow_core.errors import nearest
from mlflow_core.spec.trainer import Family, Sklearn, Torch, Trainer, XGBoost

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Task",
    "default_metrics",
    "has_one_quantile",
    "parse_metric",
    "task_of",
    "tasks_of",
]

Task = Literal["classification", "multiclass", "regression", "quantile", "ranking", "survival", "anomaly"]

METRICS: Mapping[str, tuple[Task, ...]] = {
    "auc": ("classification", "multiclass", "anomaly"),
    "average_precision": ("classification", "anomaly"),
    "log_loss": ("classification", "multiclass"),
    "brier": ("classification", "multiclass"),
    "accuracy": ("classification", "multiclass"),
    "macro_f1": ("multiclass",),
    "rmse": ("regression", "classification"),
    "mae": ("regression", "classification"),
    "r2": ("regression", "classification"),
    "ndcg": ("ranking",),
    "map": ("ranking",),
    "pinball": ("quantile",),
    "coverage_error": ("quantile",),
    "crossing": ("quantile",),
    "concordance": ("survival",),
    "precision": ("anomaly", "classification"),
}
"""The metrics of ``evaluate`` and the tasks each one is for; ``ndcg``, ``map`` and ``precision`` take an ``@k``."""

DEFAULT_METRICS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("auc", "log_loss", "brier"),
    "multiclass": ("log_loss", "accuracy", "macro_f1", "auc"),
    "regression": ("rmse", "mae", "r2"),
    "quantile": ("pinball", "coverage_error", "crossing"),
    "ranking": ("ndcg@10", "map@10"),
    "survival": ("concordance",),
    "anomaly": ("auc", "average_precision", "precision@100"),
}
"""What a pipeline measures for each task where it names no metrics; the first is the one that reports lead with."""

_AT_K = {"ndcg": False, "map": False, "precision": True}  # whether it needs its k
_OF_TORCH: Mapping[str, Task] = {
    "binary": "classification",
    "multiclass": "multiclass",
    "regression": "regression",
    "quantile": "quantile",
    "reconstruction": "anomaly",
    "retrieval": "ranking",
    "anomaly": "anomaly",
}


def parse_metric(name: str) -> tuple[str, int | None]:
    """Split a metric's name into the metric and its k.

    Args:
        name: E.g. ``"auc"`` or ``"ndcg@10"``.

    Returns:
        The key in ``METRICS``, and k; None where the name has none.

    Raises:
        ValueError: There is no such metric, it takes no k, or it needs one.

    Example:
        >>> parse_metric("ndcg@10")
        ('ndcg', 10)
    """
    family, at, k = name.partition("@")
    if family not in METRICS:
        raise ValueError(f'"{name}" is not a metric. {nearest(family, METRICS)}')
    if at and (family not in _AT_K or not re.fullmatch(r"[1-9][0-9]*", k)):
        said = "its k is a whole number above 0" if family in _AT_K else f'write "{family}"'
        raise ValueError(f'"{name}" is not a metric: {said}')
    if not at and _AT_K.get(family):
        raise ValueError(f'"{name}" needs to know of how many rows, e.g. "{name}@100"')
    return family, int(k) if at else None


def tasks_of(name: str) -> tuple[Task, ...]:
    """The tasks that a metric is for.

    Raises:
        ValueError: As ``parse_metric``.
    """
    return METRICS[parse_metric(name)[0]]


def task_of(trainer: Trainer) -> Task:
    """What the values of a trainer's model are."""
    match trainer:
        case Family():
            return task_of(trainer.trainer)
        case Torch() | Sklearn():
            return _OF_TORCH[trainer.objective]
        case XGBoost():
            return _of_objective(trainer.objective)


def default_metrics(trainer: Trainer) -> tuple[str, ...]:
    """What is measured of a trainer's model where nothing else is asked for: of one quantile its loss alone."""
    metrics = DEFAULT_METRICS[task_of(trainer)]
    return ("pinball",) if has_one_quantile(trainer) else metrics


def has_one_quantile(trainer: Trainer) -> bool:
    """Whether it predicts a single quantile, which spans no interval and crosses no other."""
    if isinstance(trainer, Family):
        trainer = trainer.trainer
    return isinstance(trainer, XGBoost | Torch) and len(trainer.quantiles) == 1


def _of_objective(objective: str) -> Task:
    family = objective.partition(":")[0]
    if objective == "reg:quantileerror":
        return "quantile"
    of_family: Mapping[str, Task] = {
        "binary": "classification",
        "multi": "multiclass",
        "rank": "ranking",
        "survival": "survival",
    }
    return of_family.get(family, "regression")
