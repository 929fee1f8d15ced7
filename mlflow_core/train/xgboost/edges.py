"""Which values part a feature's bins: quantiles of rows that are drawn from all over the training part.

XGBoost works edges out with a sketch of all rows, which takes as long as sorting them into bins. Of some 200,000 rows
the quantiles are found by sorting, and XGBoost is given these alone: of so few values its sketch keeps each one. A
value so frequent that it fills a bin by itself takes no more than one, and leaves the others to the rest.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlflow_core.train.data.matrix import StoredMatrix
from mlflow_core.train.data.shuffle import random_numbers

__all__ = ["EDGES_FORMAT", "drawn", "separators"]

EDGES_FORMAT: Final = 2
"""Changes with the edges that equal rows get: trees with these and with others are never of one training."""

_RUN: Final = 8
_READ_BYTES: Final = 16 << 20


def drawn(matrix: StoredMatrix, rows: int, columns: slice = slice(None)) -> NDArray[np.float32]:
    """Draw rows from a matrix, the same ones each time: a run of eight from each of equal stretches.

    Args:
        matrix: The matrix, with more rows than are drawn.
        rows: How many; a few less are drawn if it is no multiple of eight.
        columns: Which of its columns, all by default; the rows are the same ones for any.

    Returns:
        Array (n_rows, n_columns), float32.
    """
    runs = max(1, rows // _RUN)
    bounds = np.arange(runs + 1, dtype=np.int64) * matrix.rows // runs
    # Not at even distances: rows that repeat with time, such as one for each hour, would be met at one hour only.
    room = (np.diff(bounds) - _RUN + 1).astype(np.uint64)
    starts = bounds[:-1] + (random_numbers(runs, "edges") % room).astype(np.int64)
    at_once = max(1, _READ_BYTES // (4 * _RUN * matrix.width))
    found = np.empty((runs, _RUN, len(range(matrix.width)[columns])), dtype=np.float32)
    for first in range(0, runs, at_once):
        into = found[first : first + at_once]
        read = matrix.read(starts[first : first + at_once].tolist(), _RUN)
        into[:] = read[:, columns].reshape(into.shape)
    return found.reshape(runs * _RUN, -1)


def separators(
    rows: NDArray[np.float32], weights: NDArray[np.float32] | None, bins: int, *, threads: int = 1
) -> NDArray[np.float32]:
    """Find the values of which XGBoost makes the edges of equally full bins.

    Args:
        rows: The rows that were drawn, (n_rows, n_features), missing values NaN.
        weights: Their weights, (n_rows,); None if all are worth the same.
        bins: How many bins a feature has at most.
        threads: How many threads it may use.

    Returns:
        Array (bins + 1, n_features): in each column its values in order, and NaN where there are fewer.

    Example:
        >>> rows = np.array([[3, 1], [1, 1], [2, np.nan], [4, 0]], dtype=np.float32)
        >>> separators(rows, None, 2).tolist()
        [[1.0, 0.0], [3.0, 1.0], [4.0, nan]]
    """
    found = np.full((bins + 1, rows.shape[1]), np.nan, dtype=np.float32)

    def find(feature: int) -> None:
        distinct, mass = _distinct(rows[:, feature], weights)
        if len(distinct) > bins:
            distinct = distinct[_beginnings(mass, bins)]
        found[: len(distinct), feature] = distinct

    with ThreadPoolExecutor(threads, thread_name_prefix="train-edges") as pool:
        list(pool.map(find, range(rows.shape[1])))
    return found


def _distinct(
    values: NDArray[np.float32], weights: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The values that are not missing, in order, and how much each weighs."""
    weight: NDArray[np.float64] | None = None
    if weights is None:
        ordered = np.sort(values)
    else:
        order = np.argsort(values, kind="stable")
        ordered, weight = values[order], weights[order].astype(np.float64)
    known = int(np.searchsorted(ordered, np.float32(np.nan)))  # they are last
    ordered = ordered[:known]
    is_first = np.ones(known, dtype=bool)
    is_first[1:] = (
        ordered[1:] != ordered[:-1]
    )  # not a difference: that of the greatest and the least is infinite
    first = np.flatnonzero(is_first)
    if weight is None:
        return ordered[first], np.diff(np.append(first, known)).astype(np.float64)
    return ordered[first], np.add.reduceat(weight[:known], first) if known else weight[:0]


def _beginnings(mass: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The first value of each bin, and the last value of all."""
    full = mass.sum() / bins
    if mass.max() > full:
        greatest = np.sort(mass)[::-1][:bins]
        shares = (mass.sum() - np.cumsum(greatest) + greatest) / np.arange(bins, 0, -1)
        full = shares[np.argmax(greatest <= shares)]  # of what the more frequent ones leave
        mass = np.minimum(mass, full)
    before = np.cumsum(mass) - mass
    firsts = np.searchsorted(before, full * (np.arange(bins) - 1e-9))
    return np.unique(np.append(np.minimum(firsts, len(mass) - 1), len(mass) - 1))
