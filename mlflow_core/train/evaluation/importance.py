"""What each feature is worth to a model, by what shuffling it costs (Breiman, "Random Forests", 2001).

A feature is shuffled as a whole: all columns of a sequence move together, from one row to another. Features that say
the same share their worth, since each stands in for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.train.evaluation.metrics import greater_is_better, measure
from mlflow_core.train.evaluation.truth import Truth
from mlflow_core.train.models.family import FamilyScorer
from mlflow_core.train.models.model import Model

__all__ = ["Importance", "importance", "sampled"]


@dataclass(frozen=True)
class Importance:
    """What a feature is worth to a model.

    Args:
        feature: Its name.
        gain: Its share of what the model learned, as the model's kind measures it, 0 to 1; NaN where it does not.
        permutation: How much worse the metric is with the feature shuffled.
        spread: Standard deviation of that over the shuffles.
    """

    feature: str
    gain: float
    permutation: float
    spread: float


def importance(
    model: Model,
    table: pa.Table,
    y: Truth | NDArray[Any],
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
        y: Their truth; labels alone, (n,), where the metric needs nothing else.
        metric: The metric that shuffling may worsen.
        rows: Rows are sampled down to so many; of a ranking whole queries.
        repeats: Shuffles per feature.
        seed: Seed of sample and shuffles.

    Raises:
        TrainError: The metric does not fit the truth.
    """
    random = np.random.default_rng(seed)
    chosen = sampled(y.queries if isinstance(y, Truth) else None, table.num_rows, rows, random)
    table, truth = table.take(pa.array(chosen)), y.take(chosen) if isinstance(y, Truth) else y[chosen]
    matrix, slices = model.preprocessing.matrix(table), model.preprocessing.slices
    base, sign = measure(metric, truth, model.score(matrix)), 1.0 if greater_is_better(metric) else -1.0
    gains, made = _gains(model), []
    by = model.scorer.by if isinstance(model.scorer, FamilyScorer) else ()  # a key chooses the model
    for name, columns in slices.items():
        if gains.get(name) == 0.0 and name not in by:
            made.append(Importance(name, 0.0, 0.0, 0.0))  # no tree looks at it: shuffling changes nothing
            continue
        kept, losses = matrix[:, columns].copy(), []
        for _ in range(repeats):
            matrix[:, columns] = kept[random.permutation(len(matrix))]
            losses.append(sign * (base - measure(metric, truth, model.score(matrix))))
        matrix[:, columns] = kept
        made.append(
            Importance(name, gains.get(name, float("nan")), float(np.mean(losses)), float(np.std(losses)))
        )
    return tuple(sorted(made, key=lambda one: (-one.permutation, -np.nan_to_num(one.gain), one.feature)))


def sampled(
    queries: NDArray[np.int64] | None, rows: int, most: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw positions of rows, in their order; whole queries where there are any.

    Args:
        queries: The query of each row, (rows,); None where rows stand alone.
        rows: How many rows there are.
        most: At most so many are drawn, or one query.
        random: What draws.
    """
    if rows <= most:
        return np.arange(rows)
    if queries is None:
        return np.sort(random.choice(rows, most, replace=False))
    numbers = np.unique(queries, return_inverse=True)[1]
    order = random.permutation(int(numbers.max()) + 1)
    kept = max(1, int(np.searchsorted(np.cumsum(np.bincount(numbers)[order]), most, side="right")))
    return np.flatnonzero(np.isin(numbers, order[:kept]))


def _gains(model: Model) -> dict[str, float]:
    """The scorer's own shares, those of a sequence's columns added up."""
    shares, columns = model.scorer.importance(), model.preprocessing.columns
    return {
        name: float(sum(shares[column] for column in columns[of] if column in shares))
        for name, of in model.preprocessing.slices.items()
        if any(column in shares for column in columns[of])
    }
