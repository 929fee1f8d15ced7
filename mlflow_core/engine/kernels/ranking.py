"""Kernels that choose events by rank: min, max and quantiles by value, first and last by event order.

Each keeps a Fenwick tree of counts over ranks (P. M. Fenwick, "A new data structure for cumulative frequency
tables", 1994) while it walks the operations of ``mlflow_core.engine.kernels.schedule``. They answer positions of events,
so that values of any type keep it. Arguments and tests are those of ``mlflow_core.engine.kernels.sweeps``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.algebra import moments
from mlflow_core.engine.kernels.compile import kernel, scalar
from mlflow_core.engine.kernels.schedule import ANSWER, ENTER
from mlflow_core.engine.times import Flags, Int64

__all__ = ["between", "lists", "ranked"]

_place = scalar(moments.quantile_place)
_between = scalar(moments.quantile_between)


@kernel
def _kth(tree: Int64, top: int, k: int) -> int:
    """Return the slot (from 0) of the k-th event (from 1) in a Fenwick tree of counts."""
    slot = 0
    step = top
    while step > 0:
        if slot + step < len(tree) and tree[slot + step] < k:
            slot += step
            k -= tree[slot]
        step //= 2
    return slot


@kernel
def ranked(  # noqa: C901 one loop over operations, as above
    what: Int64,
    which: Int64,
    start: Int64,
    counted: Flags,
    event_from: Int64,
    slot: Int64,
    at_slot: Int64,
    quantiles: Any,
    n_rows: int,
) -> tuple[Any, Any, Any]:
    """Choose events by rank: quantile 0 is the least, 1 the greatest; arguments as for ``counts``.

    Args:
        what: Operations of ``schedule``.
        which: Their positions and entity rows.
        start: Where each key's operations start.
        counted: Which events count, (n_events,).
        event_from: Where each key's events start, (n_keys + 1,).
        slot: Rank of each event among its key's, from 0, (n_events,).
        at_slot: The position of each key's events by rank: ``at_slot[event_from[k] + slot]``, (n_events,).
        quantiles: From 0.0 to 1.0, float64 (n_quantiles,).
        n_rows: How many entity rows there are.

    Returns:
        The positions below and above each quantile, int64 (n_quantiles, n_rows), -1 where the window is empty;
        and how far between them it lies, float64 (n_quantiles, n_rows).
    """
    below = np.full((len(quantiles), n_rows), -1, np.int64)
    above = np.full((len(quantiles), n_rows), -1, np.int64)
    between = np.zeros((len(quantiles), n_rows))
    for key in range(len(start) - 1):
        first = event_from[key]
        size = event_from[key + 1] - first
        if start[key] == start[key + 1] or size == 0:
            continue
        tree = np.zeros(size + 1, np.int64)
        top = 1
        while top * 2 <= size:
            top *= 2
        n = 0
        for at in range(start[key], start[key + 1]):
            i = which[at]
            if what[at] == ANSWER:
                if n > 0:
                    for j in range(len(quantiles)):
                        low, high, fraction = _place(n, quantiles[j])
                        below[j, i] = at_slot[first + _kth(tree, top, low + 1)]
                        above[j, i] = below[j, i]
                        if high != low:
                            above[j, i] = at_slot[first + _kth(tree, top, high + 1)]
                        between[j, i] = fraction
            elif counted[i]:
                sign = 1 if what[at] == ENTER else -1
                n += sign
                node = slot[i] + 1
                while node <= size:
                    tree[node] += sign
                    node += node & -node
    return below, above, between


@kernel
def between(low: Any, high: Any, fraction: Any) -> Any:
    """Interpolate between neighbours, float64 (n,) each; see ``mlflow_core.algebra.moments.quantile_between``."""
    answer = np.empty(len(low))
    for i in range(len(low)):
        answer[i] = _between(low[i], high[i], fraction[i])
    return answer


@kernel
def lists(
    what: Int64,
    which: Int64,
    start: Int64,
    counted: Flags,
    event_from: Int64,
    most: int,
    newest: bool,
    offset: Int64,
) -> Int64:
    """List the first or last events of each window, oldest first; arguments as for ``counts``.

    Args:
        what: Operations of ``schedule``.
        which: Their positions and entity rows.
        start: Where each key's operations start.
        counted: Which events count, (n_events,).
        event_from: Where each key's events start, (n_keys + 1,).
        most: How many events a list has at most.
        newest: The last events rather than the first.
        offset: Entity row i's list is ``[offset[i], offset[i + 1])`` of the answer, (n_rows + 1,).

    Returns:
        Positions, int64 (offset[-1],).
    """
    answer = np.empty(offset[-1], np.int64)
    for key in range(len(start) - 1):
        first = event_from[key]
        size = event_from[key + 1] - first
        if start[key] == start[key + 1] or size == 0:
            continue
        tree = np.zeros(size + 1, np.int64)
        top = 1
        while top * 2 <= size:
            top *= 2
        n = 0
        for at in range(start[key], start[key + 1]):
            i = which[at]
            if what[at] == ANSWER:
                listed = min(n, most)
                skipped = n - listed if newest else 0
                for j in range(listed):
                    answer[offset[i] + j] = first + _kth(tree, top, skipped + j + 1)
            elif counted[i]:
                sign = 1 if what[at] == ENTER else -1
                n += sign
                node = i - first + 1
                while node <= size:
                    tree[node] += sign
                    node += node & -node
    return answer
