"""The kernels: loops over one partition's events and entity rows, compiled by numba.

They know positions and intervals, not clocks, columns or nulls. Events stand in (key, event time, created,
source row) order and a position is an index into that order. ``schedule`` lists what happens in order of time;
the others walk that list, each with the state that its aggregate needs:

- sums, means and variances: a segment tree in event order whose nodes are merged with the algebra's own
  ``merge_moments``, so that nothing is ever subtracted and a huge value that left leaves no trace;
- integer sums: exact limbs, which do add and subtract;
- distinct values: a count for each;
- everything chosen by rank: ``mlflow_core.engine.kernels.ranking``.

Arrays are C-contiguous int64, float64 or bool, so that each kernel has one signature and compiles once.
``tests/engine/test_kernels.py`` holds them to folds of the algebra, ``test_oracle.py`` to the naive truth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.algebra import moments
from mlflow_core.engine.kernels.compile import kernel, scalar
from mlflow_core.engine.kernels.ranking import between, lists, ranked
from mlflow_core.engine.kernels.schedule import ANSWER, ENTER, schedule
from mlflow_core.engine.times import NEVER, Flags, Int64

__all__ = [
    "between",
    "counts",
    "distincts",
    "limbs",
    "lists",
    "moments_at",
    "ranked",
    "schedule",
    "version_ends",
]

_merge = scalar(moments.merge_moments)
_of_one = scalar(moments.moments_of)
_limbs_of = scalar(moments.limbs_of)
_limbs_fit = scalar(moments.limbs_fit)
_limbs_value = scalar(moments.limbs_value)
_variance = scalar(moments.variance)


@kernel
def counts(what: Int64, which: Int64, start: Int64, counted: Flags, n_rows: int) -> Int64:
    """Count the window's events at each entity row; int64 (n_rows,).

    Args:
        what: Operations of ``schedule``.
        which: Their positions and entity rows.
        start: Where each key's operations start.
        counted: Which events count, (n_events,).
        n_rows: How many entity rows there are.
    """
    answer = np.zeros(n_rows, np.int64)
    for key in range(len(start) - 1):
        n = 0
        for at in range(start[key], start[key + 1]):
            if what[at] == ANSWER:
                answer[which[at]] = n
            elif counted[which[at]]:
                n += 1 if what[at] == ENTER else -1
    return answer


@kernel
def distincts(
    what: Int64, which: Int64, start: Int64, counted: Flags, code: Int64, n_codes: int, n_rows: int
) -> Int64:
    """Count the window's distinct values; arguments as for ``counts``, int64 (n_rows,).

    Args:
        what: Operations of ``schedule``.
        which: Their positions and entity rows.
        start: Where each key's operations start.
        counted: Which events count, (n_events,).
        code: Equal for equal values of one key, never shared by two keys, (n_events,).
        n_codes: Codes are below this.
        n_rows: How many entity rows there are.
    """
    answer = np.zeros(n_rows, np.int64)
    held = np.zeros(n_codes, np.int64)
    for key in range(len(start) - 1):
        n = 0
        for at in range(start[key], start[key + 1]):
            i = which[at]
            if what[at] == ANSWER:
                answer[i] = n
            elif counted[i]:
                if what[at] == ENTER:
                    held[code[i]] += 1
                    n += 1 if held[code[i]] == 1 else 0
                else:
                    held[code[i]] -= 1
                    n -= 1 if held[code[i]] == 0 else 0
    return answer


@kernel
def limbs(
    what: Int64, which: Int64, start: Int64, counted: Flags, value: Int64, n_rows: int
) -> tuple[Any, Any, Any]:
    """Sum integers exactly; arguments as for ``counts``.

    Args:
        what: Operations of ``schedule``.
        which: Their positions and entity rows.
        start: Where each key's operations start.
        counted: Which events count, (n_events,).
        value: The summed column, (n_events,).
        n_rows: How many entity rows there are.

    Returns:
        Count and sum, int64 (n_rows,) each; and whether all sums fit in int64.
    """
    count = np.zeros(n_rows, np.int64)
    total = np.zeros(n_rows, np.int64)
    fits = True
    for key in range(len(start) - 1):
        n = 0
        high = 0
        low = 0
        for at in range(start[key], start[key + 1]):
            i = which[at]
            if what[at] == ANSWER:
                count[i] = n
                total[i] = _limbs_value(high, low)
                fits = fits and _limbs_fit(high, low)
            elif counted[i]:
                sign = 1 if what[at] == ENTER else -1
                top, bottom = _limbs_of(value[i])
                n += sign
                high += sign * top
                low += sign * bottom
    return count, total, fits


@kernel
def moments_at(  # noqa: C901 one loop over operations; numba gains nothing from parts
    what: Int64, which: Int64, start: Int64, counted: Flags, event_from: Int64, value: Any, n_rows: int
) -> tuple[Any, Any, Any, Any]:
    """Keep count, sum, mean and variance in a segment tree; arguments as for ``counts``.

    Args:
        what: Operations of ``schedule``.
        which: Their positions and entity rows.
        start: Where each key's operations start.
        counted: Which events count, (n_events,).
        event_from: Where each key's events start, (n_keys + 1,).
        value: The column, float64 (n_events,).
        n_rows: How many entity rows there are.

    Returns:
        Count int64 (n_rows,); sum, mean and sample variance float64 (n_rows,) each.
    """
    count = np.zeros(n_rows, np.int64)
    totals = np.zeros(n_rows)
    means = np.zeros(n_rows)
    variances = np.zeros(n_rows)
    longest = 1
    for key in range(len(start) - 1):
        longest = max(longest, event_from[key + 1] - event_from[key])
    width = 1
    while width < longest:
        width *= 2
    n = np.zeros(2 * width, np.int64)
    total = np.zeros(2 * width)
    mean = np.zeros(2 * width)
    m2 = np.zeros(2 * width)
    for key in range(len(start) - 1):
        if start[key] == start[key + 1]:
            continue
        size = 1
        while size < event_from[key + 1] - event_from[key]:
            size *= 2
        n[: 2 * size] = 0
        for at in range(start[key], start[key + 1]):
            i = which[at]
            if what[at] == ANSWER:
                count[i] = n[1]
                if n[1] > 0:
                    totals[i], means[i], variances[i] = total[1], mean[1], _variance(n[1], m2[1])
                continue
            if not counted[i]:
                continue
            node = size + i - event_from[key]
            if what[at] == ENTER:
                n[node], total[node], mean[node], m2[node] = _of_one(value[i])
            else:
                n[node] = 0
            node //= 2
            while node > 0:
                a, b = 2 * node, 2 * node + 1
                n[node], total[node], mean[node], m2[node] = _merge(
                    n[a], total[a], mean[a], m2[a], n[b], total[b], mean[b], m2[b]
                )
                node //= 2
    return count, totals, means, variances


@kernel
def version_ends(code: Int64, start: Int64) -> Int64:
    """Find when each version of an event is replaced.

    Args:
        code: Equal for versions of one event, negative for an event without identity; sorted, the greatest
            version of an event first, (n,).
        start: First evaluation time at which a version is visible, (n,).

    Returns:
        The least start among the greater versions of the same event, int64 (n,).
    """
    end = np.full(len(code), NEVER, np.int64)
    for i in range(1, len(code)):
        if code[i] >= 0 and code[i] == code[i - 1]:
            end[i] = min(end[i - 1], start[i - 1])
    return end
