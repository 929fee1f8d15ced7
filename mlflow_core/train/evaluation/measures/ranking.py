"""How well each query's rows are put in order: NDCG and MAP, at k or over the whole list.

NDCG has linear gains and logarithmic discounts (Järvelin and Kekäläinen, 2002); MAP takes every relevance above 0 as
relevant, and divides by how many could have been found among the first k. Rows of equal score stand in any order: the
figure is the mean over those orders (McSherry and Najork, "Computing Information Retrieval Performance Measures
Efficiently in the Presence of Tied Scores", 2008). A query without a relevant row says nothing and does not count.

The unit is the query: it counts as often as its first row's weight says, and a query repeated is a query more, not a
longer list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.measures.weighted import Floats, Measure, Sums

__all__ = ["average_precision_at", "check_relevance", "ndcg_at"]


def check_relevance(metric: str, y: Floats) -> None:
    """Refuse relevances below 0.

    Raises:
        TrainError: There is one.
    """
    if (y < 0).any():
        raise TrainError(f'"{metric}" needs relevances of 0 or more; some are below')


def ndcg_at(y: Floats, predictions: Floats, queries: NDArray[np.int64], k: int | None) -> Measure:
    """The mean over queries of the discounted gain of the order, over that of the best order.

    Args:
        y: How relevant each row is, 0 or more, (n,).
        predictions: Scores, (n,).
        queries: Each row's query, (n,).
        k: How many rows of each list count; None for all.
    """
    lists = _Lists(predictions, queries)
    place = lists.place
    counts = place < (k or len(y))
    discount = np.where(counts, 1 / np.log2(place + 2.0), 0.0)
    gains = lists.mean_of_ties(y[lists.order])
    best = y[np.lexsort((-y, lists.query_of_row))]  # the same lists, each in its best order
    return lists.mean_over_queries(lists.total(gains * discount), lists.total(best * discount))


def average_precision_at(
    y: Floats, predictions: Floats, queries: NDArray[np.int64], k: int | None
) -> Measure:
    """The mean over queries of the average precision.

    Args:
        y: How relevant each row is; above 0 is relevant, (n,).
        predictions: Scores, (n,).
        queries: Each row's query, (n,).
        k: How many rows of each list count; None for all.
    """
    lists = _Lists(predictions, queries)
    relevant = (y[lists.order] > 0).astype(np.float64)
    share = lists.mean_of_ties(relevant)  # the chance that a place of the tie is taken by a relevant row
    size, within = lists.tie_size, lists.place_in_tie
    before = lists.found_before_tie(relevant)
    # Given that this place is relevant, each earlier place of the tie is so with the chance of the tie's others.
    others = np.divide(share * size - 1, size - 1, out=np.zeros_like(share), where=size > 1)
    expected = share * (before + 1 + within * others) / (lists.place + 1)
    counted = lists.place < (k or len(y))
    possible = lists.total(relevant)
    return lists.mean_over_queries(lists.total(expected * counted), np.minimum(possible, k or len(y)))


class _Lists:
    """Rows in the order of their queries and, within, of their scores, the highest first."""

    def __init__(self, predictions: Floats, queries: NDArray[np.int64]) -> None:
        _, first, numbers = np.unique(queries, return_index=True, return_inverse=True)
        self._rows, self._first_row = len(queries), first
        self.query_of_row: NDArray[np.int64] = numbers
        self.order = np.lexsort((-predictions, numbers))
        self._query, scores = numbers[self.order], predictions[self.order]
        position, starts = np.arange(len(queries)), np.flatnonzero(_changes(self._query))
        self.place = position - starts[self._query]
        self._starts = starts
        new = _changes(scores) | _changes(self._query)
        self._tie, self._tie_start = np.cumsum(new) - 1, np.flatnonzero(new)
        self.tie_size = np.bincount(self._tie)[self._tie]
        self.place_in_tie = position - self._tie_start[self._tie]

    def mean_of_ties(self, values: Floats) -> Floats:
        """Each row's value replaced by the mean of the rows with its query and score."""
        means: Floats = (np.bincount(self._tie, weights=values) / np.bincount(self._tie))[self._tie]
        return means

    def found_before_tie(self, relevant: Floats) -> Floats:
        """How many relevant rows of the query stand before each row's tie."""
        sums = np.append(0.0, np.cumsum(relevant))
        found: Floats = sums[self._tie_start[self._tie]] - sums[self._starts[self._query]]
        return found

    def total(self, values: Floats) -> Floats:
        """The sum of each query's rows, (n_queries,)."""
        return np.bincount(self._query, weights=values).astype(np.float64)

    def mean_over_queries(self, figure: Floats, best: Floats) -> Measure:
        """The mean of ``figure / best`` over the queries where ``best`` is above 0, as sums at their first rows."""
        counts, each = np.zeros(self._rows), np.zeros(self._rows)
        known = best > 0
        counts[self._first_row[known]] = 1.0
        each[self._first_row[known]] = figure[known] / best[known]
        return Sums([counts, each], lambda queries, total: total / queries)


def _changes(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each value is another than the one before it; the first is."""
    return np.append(True, ordered[1:] != ordered[:-1])
