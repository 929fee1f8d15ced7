"""What models are worth on the test part: metrics with intervals, paired differences, slices.

All models are measured on the same rows and the same resamples, so that a difference's interval is that of the
difference, not of two figures that move together. Nothing here trains, and nothing here decides: gates do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.pipeline import METRICS
from mlflow_core.telemetry.progress import Progress, SilentProgress, Stage
from mlflow_core.train.bootstrap import Interval, Unit, day_of, interval, resamples
from mlflow_core.train.metrics import GREATER_IS_BETTER, Floats, Measure, prepare

__all__ = ["Evaluation", "Slice", "evaluate"]

_SMALL_ROWS, _SMALL_CLASS = 200, 20
_MIN_DAYS = 10
_ROWS_BESIDE_DAYS = 300


@dataclass(frozen=True)
class Slice:
    """One value of a column, and how the first model does there.

    Args:
        column: The column.
        value: The value as text; ``null`` where it is missing.
        rows: Rows of the test part with it.
        positives: Those whose label is 1; None for a regression.
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
class Evaluation:
    """What was measured on one test part.

    Args:
        models: The models' names; the first is the one in question.
        metrics: The metrics' names.
        rows: Rows of the test part.
        positives: Rows whose label is 1; None for a regression.
        days: Days of query time with rows; None if no time was given.
        unit: What is resampled by default: ``day`` where there are at least ten days, else ``row``.
        resamples: How many resamples each interval of the default unit rests on.
        seed: Their seed.
        values: Figure on all rows, (metrics, models).
        draws: Figures on the resamples by unit, (metrics, models, resamples).
        slices: The slices of the first model.
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: int
    positives: int | None
    days: int | None
    unit: Unit
    resamples: int
    seed: int
    values: Floats = field(repr=False)
    draws: Mapping[Unit, Floats] = field(repr=False)
    slices: tuple[Slice, ...] = ()

    def score(self, metric: str, model: str | None = None, *, unit: Unit | None = None) -> Interval:
        """A model's figure with its interval.

        Args:
            metric: The metric.
            model: The model; the first if None.
            unit: What is resampled; the evaluation's own default if None.

        Raises:
            TrainError: It was not measured.
        """
        i, j = self._index(metric, self.models[0] if model is None else model)
        return interval(float(self.values[i, j]), self._draws(unit)[i, j])

    def difference(self, metric: str, model: str, other: str, *, unit: Unit | None = None) -> Interval:
        """By how much a model is better than another, on the same resamples.

        Returns:
            The difference, signed so that above 0 means ``model`` is better, whichever way the metric points.

        Raises:
            TrainError: It was not measured.
        """
        (i, j), (_, k) = self._index(metric, model), self._index(metric, other)
        sign, draws = (1.0 if GREATER_IS_BETTER[metric] else -1.0), self._draws(unit)
        return interval(
            sign * float(self.values[i, j] - self.values[i, k]), sign * (draws[i, j] - draws[i, k])
        )

    def to_json(self) -> dict[str, Any]:
        """All figures, intervals for each unit, and each pair's differences, as JSON-able values."""
        pairs = [(a, b) for n, a in enumerate(self.models) for b in self.models[n + 1 :]]
        return {
            **{
                name: getattr(self, name)
                for name in ("rows", "positives", "days", "unit", "resamples", "seed")
            },
            "models": list(self.models),
            "scores": [
                {
                    "metric": metric,
                    "model": model,
                    "unit": unit,
                    **self.score(metric, model, unit=unit).to_json(),
                }
                for metric in self.metrics
                for model in self.models
                for unit in self.draws
            ],
            "differences": [
                {"metric": metric, "model": a, "other": b, "unit": unit}
                | self.difference(metric, a, b, unit=unit).to_json()
                for metric in self.metrics
                for a, b in pairs
                for unit in self.draws
            ],
            "slices": [one.to_json() for one in self.slices],
        }

    def _index(self, metric: str, model: str) -> tuple[int, int]:
        if metric not in self.metrics:
            raise TrainError(f'the metric "{metric}" was not measured', hint=nearest(metric, self.metrics))
        if model not in self.models:
            raise TrainError(f'the model "{model}" was not measured', hint=nearest(model, self.models))
        return self.metrics.index(metric), self.models.index(model)

    def _draws(self, unit: Unit | None) -> Floats:
        chosen = unit or self.unit
        if chosen not in self.draws:
            raise TrainError(f'no resamples by "{chosen}" were drawn', hint=nearest(chosen, self.draws))
        return self.draws[chosen]


def evaluate(
    y: NDArray[Any],
    predictions: Mapping[str, NDArray[Any]],
    metrics: Sequence[str],
    slices: pa.Table | None = None,
    *,
    times: NDArray[np.int64] | None = None,
    count: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure models on the test part.

    Args:
        y: The truth, (n,): numbers or booleans.
        predictions: (n,) by model name; the first is the one in question, whose slices are measured.
        metrics: Names from ``spec.pipeline.METRICS``.
        slices: Columns that cut the rows into slices, n rows; None for none.
        times: Query time of each row, (n,), microseconds since epoch, UTC; with it whole days are resampled too.
        count: How many resamples. Rows, where they are resampled only beside days, at most 300 times: they take
            far longer, and nothing is decided by them.
        seed: Their seed.
        progress: Told of each resample.

    Returns:
        Figures with 95 % intervals, paired differences, slices.

    Raises:
        TrainError: There are no rows or models, a label is of one class, lengths differ, a metric does not fit.

    Example:
        >>> y, p = np.array([0, 1, 0, 1]), np.array([0.2, 0.7, 0.6, 0.9])
        >>> evaluate(y, {"model": p}, ["auc"], count=100).score("auc").value
        1.0
    """
    truth = np.asarray(y, dtype=np.float64)
    if not predictions or not len(truth):
        raise TrainError("there is nothing to evaluate: no rows or no models", hint="Is the test part empty?")
    binary = _check_truth(truth, metrics)
    given = {name: np.asarray(values, dtype=np.float64) for name, values in predictions.items()}
    measures = [[prepare(metric, truth, values) for values in given.values()] for metric in metrics]
    cuts = _cuts(slices, truth, next(iter(given.values())), metrics, binary=binary)
    days = None if times is None else day_of(np.asarray(times, dtype=np.int64))
    n_days = None if days is None else int(days.max()) + 1
    unit: Unit = "day" if n_days is not None and n_days >= _MIN_DAYS else "row"
    draws: dict[Unit, Floats] = {}
    by_row = min(count, _ROWS_BESIDE_DAYS) if unit == "day" else count
    units = by_row + (0 if days is None else count)
    with (progress or SilentProgress()).stage("bootstrapping", units, "resamples") as stage:
        draws["row"] = _draw(measures, len(truth), by_row, seed, stage)
        if days is not None and n_days is not None:
            by_day = [[measure.by_group(days, n_days) for measure in row] for row in measures]
            draws["day"] = _draw(by_day, n_days, count, seed, stage)
        blocks = (days, n_days) if unit == "day" and days is not None and n_days is not None else None
        found = tuple(cut.measured(blocks, count, seed) for cut in cuts)
    once = np.ones(len(truth))
    return Evaluation(
        models=tuple(given),
        metrics=tuple(metrics),
        rows=len(truth),
        positives=int(truth.sum()) if binary else None,
        days=n_days,
        unit=unit,
        resamples=count,
        seed=seed,
        values=np.array([[measure.at(once) for measure in row] for row in measures]),
        draws=draws,
        slices=found,
    )


def _check_truth(y: Floats, metrics: Sequence[str]) -> bool:
    """Say whether the label is binary; one class leaves nothing to measure."""
    binary = any(METRICS.get(metric) == "classification" for metric in metrics)
    if binary and np.isfinite(y).all() and y.min() == y.max():
        lacking = "positive" if y[0] == 0 else "negative"
        raise TrainError(
            f'the label has no {lacking} in the part "test" ({len(y):,} rows, all {y[0]:g})',
            expected="both classes",
            hint="Look at the label's expression, or move the cuts of the split.",
        )
    return binary


def _draw(measures: Sequence[Sequence[Measure]], units: int, count: int, seed: int, stage: Stage) -> Floats:
    """Measure everything on the same resamples, (metrics, models, count)."""
    draws = np.empty((len(measures), len(measures[0]), count))
    for n, weights in enumerate(resamples(units, count=count, seed=seed)):
        for i, row in enumerate(measures):
            for j, measure in enumerate(row):
                draws[i, j, n] = measure.at(weights)
        stage.advance()
    return draws


@dataclass(frozen=True)
class _Cut:
    """The rows of one slice, and each metric prepared on them alone."""

    column: str
    value: str
    rows: NDArray[np.int64]
    positives: int | None
    measures: Mapping[str, Measure]

    def measured(self, blocks: tuple[NDArray[np.int64], int] | None, count: int, seed: int) -> Slice:
        """Measure under resamples of all days, or, as rows are independent, under resamples of the slice's own."""
        n = len(self.rows)
        once = np.ones(n)
        if blocks is None:
            measures, units = dict(self.measures), n
        else:
            days, units = blocks
            measures = {name: one.by_group(days[self.rows], units) for name, one in self.measures.items()}
        draws: dict[str, list[float]] = {name: [] for name in measures}
        for weights in resamples(units, count=count, seed=seed):
            for name, one in measures.items():
                draws[name].append(one.at(weights))
        few = self.positives is not None and min(self.positives, n - self.positives) < _SMALL_CLASS
        metrics = {name: interval(one.at(once), np.array(draws[name])) for name, one in self.measures.items()}
        return Slice(self.column, self.value, n, self.positives, n < _SMALL_ROWS or few, metrics)


def _cuts(
    slices: pa.Table | None, y: Floats, scores: Floats, metrics: Sequence[str], *, binary: bool
) -> list[_Cut]:
    if slices is None:
        return []
    if slices.num_rows != len(y):
        raise TrainError(f"the slices have {slices.num_rows:,} rows, the labels {len(y):,}")
    made = []
    for column in slices.column_names:
        values = ["null" if value is None else str(value) for value in slices.column(column).to_pylist()]
        names, where = np.unique(np.array(values, dtype=object), return_inverse=True)
        order = np.argsort(where, kind="stable")
        for name, rows in zip(names, np.split(order, np.cumsum(np.bincount(where))[:-1]), strict=True):
            own = {metric: prepare(metric, y[rows], scores[rows]) for metric in metrics}
            made.append(_Cut(column, str(name), rows, int(y[rows].sum()) if binary else None, own))
    return made
