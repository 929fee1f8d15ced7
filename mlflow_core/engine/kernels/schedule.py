"""The sweep's list: intervals of events and times of entity rows become one list of operations, in time order.

Per key: put an event in, take one out, answer an entity row. All other kernels walk that list
(``mlflow_core.engine.kernels.sweeps``); none of them looks at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.engine.times import Int64

__all__ = ["ANSWER", "ENTER", "LEAVE", "schedule"]

ENTER, LEAVE, ANSWER = 0, 1, 2


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
