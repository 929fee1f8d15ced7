"""Resampling: how much a figure would move if the test part had been drawn again.

Three units. ``row`` draws rows one by one; ``query`` whole queries of a ranking, which has no other rows. ``day`` draws
whole days of query time, because the rows of one day share its weather and its trouble, and intervals that treat them
as independent are too narrow. Weights instead of copies:
a resample is how often each row was drawn (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 6
and 8). Intervals are percentiles. One seed gives the same resamples, so that models are compared on the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlflow_core.train.evaluation.metrics import Floats

__all__ = ["DAY_US", "Interval", "Unit", "day_of", "interval", "resamples"]

Unit = Literal["row", "query", "day"]

DAY_US = 86_400_000_000
"""Microseconds of a day."""


@dataclass(frozen=True)
class Interval:
    """A figure and the 95 % interval around it.

    Args:
        value: The figure on all rows.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """The figures by name, NaN as None."""
        return {name: (float(v) if np.isfinite(v) else None) for name, v in vars(self).items()}


def day_of(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the days of query times from 0, leaving out days without rows.

    Args:
        times: Microseconds since epoch, UTC, (n,).
    """
    days: NDArray[np.int64] = np.unique(times // DAY_US, return_inverse=True)[1]
    return days


def resamples(units: int, *, count: int, seed: int) -> Iterator[Floats]:
    """Draw resamples.

    Args:
        units: How many rows, queries or days there are.
        count: How many resamples.
        seed: Seed of the draws.

    Yields:
        How often each unit was drawn, (units,) float64; their sum is ``units``.
    """
    random = np.random.default_rng(seed)
    for _ in range(count):
        drawn = random.integers(0, units, units, dtype=np.int32)
        yield np.bincount(drawn, minlength=units).astype(np.float64)


def interval(value: float, draws: Floats) -> Interval:
    """The 95 % percentile interval of a figure's resamples; resamples where it is not defined do not count."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(value, float(low), float(high))
