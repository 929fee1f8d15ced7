"""Kernels on ranges: where a window's events lie, and which of them stand at its ends.

Events of a key are in order of time, so what happened between two times is a range of positions. Under the ``event``
clock that is the whole answer. Under the others each event is also asked whether it is seen at the evaluation time:
``start <= at < end``; those that are not are few, so they are stepped over. A walk that would step over too many
gives up, and the caller falls back on ``mlflow_core.engine.kernels.schedule``, whose cost has a bound for any data.

``tests/engine/test_ranges.py`` holds them to plain loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.engine.times import Int64

__all__ = ["at_end", "count_seen", "listed", "reached"]


@kernel
def reached(event_from: Int64, time: Int64, row_from: Int64, until: Int64) -> Int64:
    """Find how far each key's events have come by given times: the position after the last with ``time <= until``.

    Args:
        event_from: Key k's events are at positions ``event_from[k]`` to ``event_from[k + 1] - 1``; (n_keys + 1,).
        time: Event times, ascending within each key, (n_events,).
        row_from: As ``event_from`` for entity rows, (n_keys + 1,).
        until: The times asked about, ascending within each key, (n_rows,).

    Returns:
        Positions, int64 (n_rows,).
    """
    answer = np.empty(len(until), np.int64)
    for key in range(len(event_from) - 1):
        at = event_from[key]
        stop = event_from[key + 1]
        for row in range(row_from[key], row_from[key + 1]):
            now = until[row]
            if at < stop and time[at] <= now:
                # Ever longer steps, then halves: cheap where the next event is near and where it is far.
                step = 1
                while at + step < stop and time[at + step] <= now:
                    at += step
                    step *= 2
                low, high = at, min(at + step, stop)  # time[low] <= now, and past now at high
                while high - low > 1:
                    middle = (low + high) // 2
                    if time[middle] <= now:
                        low = middle
                    else:
                        high = middle
                at = high
            answer[row] = at
    return answer


@kernel
def at_end(
    low: Int64, high: Int64, start: Int64, end: Int64, at: Int64, newest: bool, patience: int
) -> tuple[Any, bool]:
    """Find the first or last event of each range that is seen.

    Args:
        low: Where each range starts, (n_rows,).
        high: Where it ends, (n_rows,).
        start: First evaluation time at which an event is seen, (n_events,).
        end: First evaluation time at which it no longer is, (n_events,).
        at: Evaluation times, (n_rows,).
        newest: The last event rather than the first.
        patience: How many events may be stepped over in all.

    Returns:
        Positions, int64 (n_rows,), -1 where none is seen; and False where patience ran out.
    """
    answer = np.full(len(at), -1, np.int64)
    for row in range(len(at)):
        now = at[row]
        i = high[row] - 1 if newest else low[row]
        while low[row] <= i < high[row]:
            if start[i] <= now < end[i]:
                answer[row] = i
                break
            i += -1 if newest else 1
            patience -= 1
        if patience < 0:
            return answer, False
    return answer, True


@kernel
def count_seen(
    low: Int64, high: Int64, start: Int64, end: Int64, at: Int64, most: int, newest: bool, patience: int
) -> tuple[Any, bool]:
    """Count the events of each range that are seen, up to a number; arguments as for ``at_end``.

    Args:
        low: Where each range starts, (n_rows,).
        high: Where it ends, (n_rows,).
        start: First evaluation time at which an event is seen, (n_events,).
        end: First evaluation time at which it no longer is, (n_events,).
        at: Evaluation times, (n_rows,).
        most: Where counting ends.
        newest: Count from the last event backwards.
        patience: How many events may be stepped over in all.
    """
    answer = np.zeros(len(at), np.int64)
    for row in range(len(at)):
        now = at[row]
        i = high[row] - 1 if newest else low[row]
        n = 0
        while n < most and low[row] <= i < high[row]:
            if start[i] <= now < end[i]:
                n += 1
            else:
                patience -= 1
            i += -1 if newest else 1
        answer[row] = n
        if patience < 0:
            return answer, False
    return answer, True


@kernel
def listed(
    low: Int64, high: Int64, start: Int64, end: Int64, at: Int64, seen_all: bool, newest: bool, offset: Int64
) -> Int64:
    """List the first or last events of each range, oldest first; arguments as for ``at_end``.

    Args:
        low: Where each range starts, (n_rows,).
        high: Where it ends, (n_rows,).
        start: First evaluation time at which an event is seen, (n_events,); not looked at where all are.
        end: First evaluation time at which it no longer is, (n_events,); likewise.
        at: Evaluation times, (n_rows,).
        seen_all: All events of the ranges are seen.
        newest: The last events rather than the first.
        offset: Row i's list is ``[offset[i], offset[i + 1])`` of the answer; (n_rows + 1,).

    Returns:
        Positions, int64 (offset[-1],).
    """
    answer = np.empty(offset[-1], np.int64)
    for row in range(len(at)):
        now = at[row]
        left = offset[row + 1] - offset[row]
        i = high[row] - 1 if newest else low[row]
        while left > 0:
            if seen_all or start[i] <= now < end[i]:
                left -= 1
                answer[offset[row] + left if newest else offset[row + 1] - 1 - left] = i
            i += -1 if newest else 1
    return answer
