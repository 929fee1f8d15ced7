"""How a model does on parts of the rows: each value of a column, with intervals of its own.

A slice is measured under the resamples of the whole test part where blocks are drawn, so that a day that was drawn
twice counts twice in every slice; else, as rows are independent, under resamples of its own rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.bootstrap import Interval, interval, resamples
from mlflow_core.train.evaluation.metrics import Floats, Measure, prepare
from mlflow_core.train.evaluation.truth import Truth

__all__ = ["Cut", "Slice", "cuts_of"]

_SMALL_ROWS, _SMALL_CLASS = 200, 20


@dataclass(frozen=True)
class Slice:
    """One value of a column, and how the first model does there.

    Args:
        column: The column.
        value: The value as text; ``null`` where it is missing.
        rows: Rows of the test part with it.
        positives: Those whose label is 1; None where the label is not 0 or 1.
        small: Whether it is too small for its figures to say much: under 200 rows, or 20 of a class.
        metrics: Figure and interval by metric.
    """

    column: str
    value: str
    rows: int
    positives: int | None
    small: bool
    metrics: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        own = {name: value for name, value in vars(self).items() if name != "metrics"}
        return own | {"metrics": {name: one.to_json() for name, one in self.metrics.items()}}


@dataclass(frozen=True)
class Cut:
    """The rows of one slice, and each metric prepared on them alone.

    Args:
        column: The column.
        value: The value as text.
        rows: Positions of its rows, (m,).
        positives: Rows whose label is 1; None where the label is not 0 or 1.
        measures: The metrics by name.
    """

    column: str
    value: str
    rows: NDArray[np.int64]
    positives: int | None
    measures: Mapping[str, Measure]

    def measured(self, blocks: tuple[NDArray[np.int64], int] | None, count: int, seed: int) -> Slice:
        """Measure with intervals.

        Args:
            blocks: The block of each row of the test part, (n,), and how many there are; None draws the slice's rows.
            count: How many resamples.
            seed: Their seed.
        """
        n = len(self.rows)
        once = np.ones(n)
        if blocks is None:
            measures, units = dict(self.measures), n
        else:
            of_row, units = blocks
            measures = {name: one.by_group(of_row[self.rows], units) for name, one in self.measures.items()}
        draws: dict[str, list[float]] = {name: [] for name in measures}
        for weights in resamples(units, count=count, seed=seed):
            for name, one in measures.items():
                draws[name].append(one.at(weights))
        few = self.positives is not None and min(self.positives, n - self.positives) < _SMALL_CLASS
        metrics = {name: interval(one.at(once), np.array(draws[name])) for name, one in self.measures.items()}
        return Slice(self.column, self.value, n, self.positives, n < _SMALL_ROWS or few, metrics)


def cuts_of(slices: pa.Table | None, truth: Truth, scores: Floats, metrics: Sequence[str]) -> list[Cut]:
    """Cut the rows by the values of columns.

    Args:
        slices: The columns, n rows; None for none.
        truth: The truth of the rows.
        scores: One model's predictions, (n,) or (n, k).
        metrics: What is measured.

    Raises:
        TrainError: The lengths differ.
    """
    if slices is None:
        return []
    if slices.num_rows != len(truth):
        raise TrainError(f"the slices have {slices.num_rows:,} rows, the labels {len(truth):,}")
    made = []
    for column in slices.column_names:
        values = ["null" if value is None else str(value) for value in slices.column(column).to_pylist()]
        names, where = np.unique(np.array(values, dtype=object), return_inverse=True)
        order = np.argsort(where, kind="stable")
        for name, rows in zip(names, np.split(order, np.cumsum(np.bincount(where))[:-1]), strict=True):
            part = truth.take(rows)
            own = {metric: prepare(metric, part, scores[rows]) for metric in metrics}
            positives = int(part.y.sum()) if truth.binary else None
            made.append(Cut(column, str(name), rows, positives, own))
    return made
