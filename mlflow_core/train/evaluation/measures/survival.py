"""Harrell's concordance (Harrell et al., 1982): of two rows, does the one predicted to end earlier end earlier?

Two rows are compared only where it is known whose event came first: the one's event has happened, at the latest, by
the time at which the other's had not happened yet. That is Harrell's rule for events and right-censored rows, and the
same rule serves intervals. Events at the same time are not compared; equal predictions count half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.train.evaluation.measures.weighted import Floats, Measure, Spread

__all__ = ["Concordance"]


class Concordance:
    """The share of comparable pairs that stand in the right order.

    Rows enter a Fenwick tree over the predictions from the latest to the earliest; each row whose event happened asks
    for the weight of those that surely came later, and are predicted later: n log n for each weighting.

    Args:
        lower: Last time at which nothing had happened yet; the event's time where it was seen, (n,).
        upper: Time by which the event had happened; infinity where nobody knows, (n,).
        predictions: Scores, (n,).
        risk: Whether a greater score means an earlier event.
    """

    def __init__(self, lower: Floats, upper: Floats, predictions: Floats, *, risk: bool) -> None:
        exact = lower == upper
        later = np.lexsort(
            (exact, -lower)
        )  # who surely came after a moment: latest first, the censored before the seen
        asking = np.flatnonzero(np.isfinite(upper))
        asking = asking[np.argsort(-upper[asking], kind="stable")]
        # A prefix of ``later``: all that last beyond the asking row's event, and those last seen at that very moment.
        ends, seen = -lower[later], exact[later]
        self._until = (
            np.searchsorted(ends[~seen], -upper[asking], side="right")
            + np.searchsorted(ends[seen], -upper[asking], side="left")
        ).astype(np.int64)
        self._later, self._asking = later.astype(np.int64), asking.astype(np.int64)
        score = -predictions if risk else predictions
        self._rank = np.unique(score, return_inverse=True)[1].astype(np.int64)
        self._ranks = int(self._rank.max()) + 1 if len(score) else 0

    def at(self, weights: Floats) -> float:
        """See ``Measure``."""
        won, pairs = _pairs(
            np.ascontiguousarray(weights, dtype=np.float64),
            self._later,
            self._asking,
            self._until,
            self._rank,
            self._ranks,
        )
        return float(won / pairs) if pairs > 0 else float("nan")

    def by_group(self, groups: NDArray[np.int64], count: int) -> Measure:
        """See ``Measure``."""
        return Spread(self, groups, count)


@kernel
def _pairs(
    weights: Floats,
    later: NDArray[np.int64],
    asking: NDArray[np.int64],
    until: NDArray[np.int64],
    rank: NDArray[np.int64],
    ranks: int,
) -> tuple[float, float]:
    """Weigh the pairs in the right order, ties half, and all comparable pairs."""
    tree = np.zeros(ranks + 1)
    at_rank = np.zeros(ranks)
    won, pairs, total, entered = 0.0, 0.0, 0.0, 0
    for position in range(len(asking)):
        row = asking[position]
        while entered < until[position]:
            other = later[entered]
            weight = weights[other]
            node = rank[other] + 1
            while node <= ranks:
                tree[node] += weight
                node += node & -node
            at_rank[rank[other]] += weight
            total += weight
            entered += 1
        below, node = 0.0, rank[row] + 1
        while node > 0:
            below += tree[node]
            node -= node & -node
        equal = at_rank[rank[row]]
        won += weights[row] * (total - below + 0.5 * equal)
        pairs += weights[row] * total
    return won, pairs
