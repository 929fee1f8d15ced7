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
from mlflow_core.spec.metric import Task
from mlflow_core.telemetry.progress import Progress, SilentProgress, Stage
from mlflow_core.train.evaluation.bootstrap import Interval, Unit, day_of, interval, resamples
from mlflow_core.train.evaluation.metrics import Floats, Measure, greater_is_better, prepare
from mlflow_core.train.evaluation.slices import Slice, cuts_of
from mlflow_core.train.evaluation.truth import Truth

__all__ = ["Evaluation", "evaluate"]

_MIN_DAYS = 10
_ROWS_BESIDE_DAYS = 300

_Blocks = tuple[NDArray[np.int64], int] | None
"""The block of each row, (n,), and how many there are; None where each row is one."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one test part.

    Args:
        models: The models' names; the first is the one in question.
        metrics: The metrics' names.
        rows: Rows of the test part.
        positives: Rows whose label is 1; None where the label is not 0 or 1.
        days: Days of query time with rows; None if no time was given.
        unit: What is resampled by default: ``day`` where there are at least ten days, else ``query`` or ``row``.
        resamples: How many resamples each interval of the default unit rests on.
        seed: Their seed.
        values: Figure on all rows, (metrics, models).
        draws: Figures on the resamples by unit, (metrics, models, resamples).
        slices: The slices of the first model.
        task: What is predicted.
        queries: Queries of a ranking; None for other tasks.
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
    task: Task = "classification"
    queries: int | None = None

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
        sign, draws = (1.0 if greater_is_better(metric) else -1.0), self._draws(unit)
        return interval(
            sign * float(self.values[i, j] - self.values[i, k]), sign * (draws[i, j] - draws[i, k])
        )

    def to_json(self) -> dict[str, Any]:
        """All figures, intervals for each unit, and each pair's differences, as JSON-able values."""
        pairs = [(a, b) for n, a in enumerate(self.models) for b in self.models[n + 1 :]]
        return {
            **{
                name: getattr(self, name)
                for name in ("task", "rows", "positives", "queries", "days", "unit", "resamples", "seed")
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
    y: NDArray[Any] | Truth,
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
        y: The truth: labels alone, (n,) numbers or booleans, or a ``Truth`` with what the task's metrics need.
        predictions: (n,) or (n, k) by model name; the first is the one in question, whose slices are measured.
        metrics: Names from ``spec.metric.METRICS``.
        slices: Columns that cut the rows into slices, n rows; None for none.
        times: Query time of each row, (n,), microseconds since epoch, UTC; with it whole days are resampled too. A
            query belongs to the day of its first row.
        count: How many resamples. Rows, or queries, where they are resampled only beside days, at most 300 times:
            they take far longer, and nothing is decided by them.
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
    if not predictions or not len(y):
        raise TrainError("there is nothing to evaluate: no rows or no models", hint="Is the test part empty?")
    given = {name: np.asarray(values, dtype=np.float64) for name, values in predictions.items()}
    first = next(iter(given.values()))
    truth = y if isinstance(y, Truth) else Truth.of(y, tuple(metrics), first)
    _check_classes(truth)
    measures = [[prepare(metric, truth, values) for values in given.values()] for metric in metrics]
    cuts = cuts_of(slices, truth, first, metrics)
    blocks = _blocks(truth, times)
    unit = _unit(blocks)
    draws: dict[Unit, Floats] = {}
    counts: dict[Unit, int] = {
        name: min(count, _ROWS_BESIDE_DAYS) if unit == "day" and name != "day" else count for name in blocks
    }
    with (progress or SilentProgress()).stage("bootstrapping", sum(counts.values()), "resamples") as stage:
        for name, block in blocks.items():
            own, units = measures, len(truth)
            if block is not None:
                own = [[measure.by_group(*block) for measure in row] for row in measures]
                units = block[1]
            draws[name] = _draw(own, units, counts[name], seed, stage)
        found = tuple(cut.measured(blocks[unit], count, seed) for cut in cuts)
    once, days, queries = np.ones(len(truth)), blocks.get("day"), blocks.get("query")
    return Evaluation(
        models=tuple(given),
        metrics=tuple(metrics),
        rows=len(truth),
        positives=int(truth.y.sum()) if truth.binary else None,
        days=days[1] if days else None,
        unit=unit,
        resamples=count,
        seed=seed,
        values=np.array([[measure.at(once) for measure in row] for row in measures]),
        draws=draws,
        slices=found,
        task=truth.task,
        queries=queries[1] if queries else None,
    )


def _check_classes(truth: Truth) -> None:
    """One class leaves nothing to measure."""
    y = truth.y
    if not truth.binary or not np.isfinite(y).all() or y.min() != y.max():
        return
    lacking = "positive" if y[0] == 0 else "negative"
    raise TrainError(
        f'the label has no {lacking} in the part "test" ({len(y):,} rows, all {y[0]:g})',
        expected="both classes",
        hint="Look at the label's expression, or move the cuts of the split.",
    )


def _blocks(truth: Truth, times: NDArray[np.int64] | None) -> dict[Unit, _Blocks]:
    """The block of each row by what can be resampled; a row is its own."""
    blocks: dict[Unit, _Blocks] = {"row": None}
    if truth.queries is not None:
        queries = np.unique(truth.queries, return_inverse=True)[1]
        blocks = {"query": (queries, int(queries.max()) + 1)}
    if times is not None:
        days = day_of(np.asarray(times, dtype=np.int64))
        blocks["day"] = (days, int(days.max()) + 1)
    return blocks


def _unit(blocks: Mapping[Unit, _Blocks]) -> Unit:
    """What is resampled by default: days, where there are enough to draw from."""
    days = blocks.get("day")
    if days is not None and days[1] >= _MIN_DAYS:
        return "day"
    return next(iter(blocks))


def _draw(measures: Sequence[Sequence[Measure]], units: int, count: int, seed: int, stage: Stage) -> Floats:
    """Measure everything on the same resamples, (metrics, models, count)."""
    draws = np.empty((len(measures), len(measures[0]), count))
    for n, weights in enumerate(resamples(units, count=count, seed=seed)):
        for i, row in enumerate(measures):
            for j, measure in enumerate(row):
                draws[i, j, n] = measure.at(weights)
        stage.advance()
    return draws
