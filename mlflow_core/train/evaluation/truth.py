"""What predictions are held against: the labels, and whatever else a task's metrics need to know of each row.

A value, checked when it is made. For most tasks it is the label alone; a ranking has its queries, a quantile model
its levels, a survival model the ends between which each event happened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.metric import Task, task_of, tasks_of
from mlflow_core.spec.trainer import Family, Torch, Trainer, XGBoost
from mlflow_core.train.data.preprocess import as_floats
from mlflow_core.train.evaluation.measures.weighted import Floats

__all__ = ["Truth", "truth_of"]


@dataclass(frozen=True)
class Truth:
    """The truth of n rows.

    Args:
        y: The label, (n,) or (n, targets) float64: 0 or 1; the class from 0; a quantity; how relevant a row is; for a
            survival model the time, or the last moment at which nothing had happened yet.
        task: What is predicted.
        queries: Which query a row belongs to, (n,) int64; equal values are one query. For rankings.
        quantiles: The level of each column of the predictions. For quantile models.
        classes: The classes' names, in the order of the predictions' columns; empty where they have none.
        upper: Latest time of the event, (n,), ``y`` itself where it was seen and infinity where it was not yet. For
            survival models.
        risk: Whether a greater prediction means an earlier event (Cox) or a later one (accelerated failure times).
    """

    y: Floats
    task: Task = "classification"
    queries: NDArray[np.int64] | None = None
    quantiles: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    upper: Floats | None = None
    risk: bool = False

    def __post_init__(self) -> None:
        for name in ("queries", "upper"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.y):
                raise TrainError(f"{name} has {len(given):,} values for {len(self.y):,} rows")
        if self.task == "ranking" and self.queries is None:
            raise TrainError("a ranking is measured by query, and no queries were given")
        if self.task == "survival" and self.upper is None:
            raise TrainError(
                "a survival model needs the latest time of each event, infinity if it was not seen"
            )
        if self.upper is not None and not (self.upper >= self.y).all():
            raise TrainError("a row's event ends before it begins: its upper bound is below its lower one")
        if self.task == "quantile" and not (self.quantiles and all(0 < one < 1 for one in self.quantiles)):
            raise TrainError(f"quantile levels lie between 0 and 1, given were {list(self.quantiles)}")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def binary(self) -> bool:
        """Whether the label is one column of 0 and 1."""
        return self.task in ("classification", "anomaly") and self.y.ndim == 1

    def take(self, rows: NDArray[np.int64]) -> Truth:
        """The truth of some of the rows, in that order.

        Args:
            rows: Their positions, (m,).
        """
        return replace(
            self,
            y=self.y[rows],
            queries=None if self.queries is None else self.queries[rows],
            upper=None if self.upper is None else self.upper[rows],
        )

    @classmethod
    def of(cls, y: NDArray[Any], metrics: tuple[str, ...], predictions: NDArray[Any]) -> Truth:
        """Guess the task of bare labels from what is measured: what a caller with nothing but labels means.

        Args:
            y: The labels, (n,) or (n, targets): numbers or booleans.
            metrics: The metrics.
            predictions: One model's, (n,) or (n, k).

        Raises:
            TrainError: The metrics need more than labels, or there is no such metric.
        """
        truth = np.asarray(y, dtype=np.float64)
        several = predictions.ndim == 2 and predictions.shape[1] > 1 and truth.ndim == 1
        candidates: tuple[Task, ...] = ("multiclass",) if several else ("classification", "regression")
        try:
            tasks = [tasks_of(metric) for metric in metrics]
        except ValueError as error:
            raise TrainError(str(error)) from None
        for task in candidates:
            if all(task in those for those in tasks) and not (
                task == "classification" and _only_regression(tasks)
            ):
                return cls(truth, task)
        raise TrainError(
            f"labels alone do not say how to measure {', '.join(metrics)}",
            hint="Give a Truth(y, task, ...) with the queries, quantile levels or bounds that the metrics need.",
        )


def truth_of(
    trainer: Trainer, table: pa.Table, label: str, *, outputs: tuple[str, ...] = (), group: str | None = None
) -> Truth:
    """The truth of a table's rows for a trainer's task.

    Args:
        trainer: What the model was trained with: it names the columns of queries, bounds and further targets.
        table: Rows with the label and those columns, (n,).
        label: The label's column.
        outputs: The model's ``outputs``: the classes' names.
        group: Column of the queries where the trainer names none; for other tasks it is not looked at.

    Raises:
        TrainError: A column is not there, or a label is missing.

    Example:
        >>> truth_of(XGBoost(objective="reg:squarederror"), pa.table({"y": [1.0, 2.5]}), "y").task
        'regression'
    """
    if isinstance(trainer, Family):
        trainer = trainer.trainer
    task = task_of(trainer)
    queries, quantiles, targets = group, tuple[float, ...](), tuple[str, ...]((label,))
    if isinstance(trainer, XGBoost):
        queries, quantiles, targets = trainer.group or group, trainer.quantiles, (label, *trainer.targets)
        if task == "survival":
            return _survival(trainer, table, label)
    elif isinstance(trainer, Torch):
        quantiles = trainer.quantiles
    columns = [_finite(table, one) for one in targets]
    return Truth(
        y=columns[0] if len(columns) == 1 else np.column_stack(columns),
        task=task,
        queries=_numbered(table, queries) if task == "ranking" and queries is not None else None,
        quantiles=quantiles,
        classes=outputs if task == "multiclass" else (),
    )


def _only_regression(tasks: list[tuple[Task, ...]]) -> bool:
    return all("regression" in those for those in tasks)


def _survival(trainer: XGBoost, table: pa.Table, label: str) -> Truth:
    """Bounds where they are named; else XGBoost's convention for Cox: a time below 0 was censored then."""
    if trainer.bounds is not None:
        lower, upper = (as_floats(_column(table, name)) for name in trainer.bounds)
        upper = np.where(np.isnan(upper), np.inf, upper)
    else:
        signed = _finite(table, label)
        lower, upper = np.abs(signed), np.where(signed < 0, np.inf, signed)
    return Truth(lower, "survival", upper=upper, risk=trainer.objective == "survival:cox")


def _numbered(table: pa.Table, column: str) -> NDArray[np.int64]:
    combined = _column(table, column).combine_chunks()
    codes = pc.rank(combined, tiebreaker="dense") if len(combined) else combined
    numbers: NDArray[np.int64] = codes.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return numbers


def _finite(table: pa.Table, column: str) -> Floats:
    values = as_floats(_column(table, column))
    if not np.isfinite(values).all():
        missing = int((~np.isfinite(values)).sum())
        raise TrainError(f'"{column}" is missing or infinite in {missing:,} of {len(values):,} rows')
    return values


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise TrainError(f'the rows have no column "{name}"', hint=nearest(name, table.column_names))
    return table.column(name)
