"""The first kernel: intervals of events and times of entity rows become one list of operations, in time order.

Per key: put an event in, take one out, answer an entity row. All other kernels walk that list
(``mlflow_core.engine.kernels``); none of them looks at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.compile import kernel
from mlflow_core.engine.times import Int64

__all__ = ["ANSWER", "ENTER", "LEAVE", "order_within", "schedule"]

ENTER, LEAVE, ANSWER = 0, 1, 2


@kernel
def _merge_sort(times: Int64, order: Int64, scratch: Int64, first: int, stop: int) -> None:
    """Sort ``order[first:stop]`` by time, stable; numba's own argsort takes seconds longer to compile."""
    width = 1
    while width < stop - first:
        for left in range(first, stop, 2 * width):
            middle, end = min(left + width, stop), min(left + 2 * width, stop)
            a, b = left, middle
            for at in range(left, end):
                if a < middle and (b >= end or times[order[a]] <= times[order[b]]):
                    scratch[at] = order[a]
                    a += 1
                else:
                    scratch[at] = order[b]
                    b += 1
        for at in range(first, stop):  # assigning a slice takes numba seconds to compile
            order[at] = scratch[at]
        width *= 2


@kernel
def order_within(event_from: Int64, times: Int64) -> Int64:
    """Sort each key's events by a time; int64 (n_events,). What is in order already, the common case, only costs a look.

    Args:
        event_from: Key k's events are at positions ``event_from[k]`` to ``event_from[k + 1] - 1``; (n_keys + 1,).
        times: What to sort by, (n_events,).
    """
    order = np.arange(len(times))
    scratch = np.empty(len(times), np.int64)
    for key in range(len(event_from) - 1):
        first, stop = event_from[key], event_from[key + 1]
        for i in range(first + 1, stop):
            if times[i] < times[i - 1]:
                _merge_sort(times, order, scratch, first, stop)
                break
    return order


@kernel
def schedule(
    event_from: Int64,
    enter: Int64,
    leave: Int64,
    by_enter: Int64,
    by_leave: Int64,
    row_from: Int64,
    row_time: Int64,
) -> tuple[Any, Any, Any]:
    """List what happens to each key's window, in order of time.

    Args:
        event_from: Key k's events are at positions ``event_from[k]`` to ``event_from[k + 1] - 1``; (n_keys + 1,).
        enter: First evaluation time at which an event counts, microseconds, (n_events,).
        leave: First evaluation time at which it no longer does, (n_events,).
        by_enter: Positions by (key, enter), (n_events,).
        by_leave: Positions by (key, leave), (n_events,).
        row_from: As ``event_from`` for entity rows, (n_keys + 1,).
        row_time: Evaluation times, sorted within each key, (n_rows,).

    Returns:
        What happens (ENTER, LEAVE, ANSWER) and to which position or entity row, int64 (n_operations,) each;
        and where each key's operations start, (n_keys + 1,).
    """
    n_keys = len(event_from) - 1
    what = np.empty(2 * len(enter) + len(row_time), np.int64)
    which = np.empty(2 * len(enter) + len(row_time), np.int64)
    start = np.zeros(n_keys + 1, np.int64)
    inside = np.zeros(len(enter), np.bool_)
    n = 0
    for key in range(n_keys):
        coming = event_from[key]
        going = event_from[key]
        stop = event_from[key + 1]
        for row in range(row_from[key], row_from[key + 1]):
            now = row_time[row]
            while going < stop and leave[by_leave[going]] <= now:
                if inside[by_leave[going]]:
                    what[n] = LEAVE
                    which[n] = by_leave[going]
                    n += 1
                going += 1
            while coming < stop and enter[by_enter[coming]] <= now:
                # What entered and left between two entity rows is never seen.
                if leave[by_enter[coming]] > now:
                    inside[by_enter[coming]] = True
                    what[n] = ENTER
                    which[n] = by_enter[coming]
                    n += 1
                coming += 1
            what[n] = ANSWER
            which[n] = row
            n += 1
        start[key + 1] = n
    return what[:n].copy(), which[:n].copy(), start
