"""A metric as something that is measured again under other weights, and the two shapes that most metrics have.

``at(weights)`` gives the value if each row counted as often as its weight says: a whole weight is a row repeated so
often, 0 a row that is not there. That is all that a bootstrap needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Average", "Floats", "Measure", "Spread", "Sums", "dot", "mean"]

Floats = NDArray[np.float64]


class Measure(Protocol):
    """One metric of one model's predictions."""

    def at(self, weights: Floats) -> float:
        """The value if row i counted ``weights[i]`` times, (n,) float64; NaN where it is not defined."""
        ...

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """The same metric for weights that all rows of a group share, which is far faster to measure.

        Args:
            groups: Group of each row, (n,), from 0.
            count: How many groups; the new measure takes weights (count,).
        """
        ...


def dot(a: Floats, b: Floats) -> float:
    """The sum of products in this thread: BLAS would wake others for vectors of this size, and wait for them."""
    return float(np.einsum("i,i->", a, b))


class Spread:
    """A metric that does not break up into groups: each group's weight is given to its rows."""

    def __init__(self, rows: Measure, groups: NDArray[np.int64], count: int) -> None:
        self._rows, self._groups, self._count = rows, groups, count

    def at(self, weights: Floats) -> float:
        """See ``Measure``."""
        return self._rows.at(weights[self._groups])

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """See ``Measure``."""
        return Spread(self, groups, count)


class Sums:
    """A function of weighted sums over rows, which are as well weighted sums over groups' sums.

    Args:
        sums: What is summed, (n,) each; where the first sum is 0, nothing is defined.
        finish: The metric, from the sums in their order.
    """

    def __init__(self, sums: Sequence[Floats], finish: Callable[..., float]) -> None:
        self._sums, self._finish = tuple(sums), finish

    def at(self, weights: Floats) -> float:
        """See ``Measure``."""
        totals = [dot(weights, one) for one in self._sums]
        return self._finish(*totals) if totals[0] else float("nan")

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """See ``Measure``."""
        return Sums(
            [np.bincount(groups, weights=one, minlength=count).astype(np.float64) for one in self._sums],
            self._finish,
        )


class Average:
    """The plain mean of several measures, of those that are defined.

    Args:
        measures: One per class or target.
        least: How many of them must be defined.
    """

    def __init__(self, measures: Sequence[Measure], least: int = 1) -> None:
        self._measures, self._least = tuple(measures), least

    def at(self, weights: Floats) -> float:
        """See ``Measure``."""
        values = np.array([one.at(weights) for one in self._measures])
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) >= self._least else float("nan")

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """See ``Measure``."""
        return Average([one.by_group(groups, count) for one in self._measures], self._least)


def mean(each: Floats, finish: Callable[[float], float] = float) -> Measure:
    """The weighted mean over rows.

    Args:
        each: What is averaged, (n,).
        finish: What is done to the mean.
    """
    return Sums([np.ones_like(each), each], lambda rows, total: finish(total / rows))
