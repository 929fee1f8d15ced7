"""Kernels that sort: rows by key with a counting sort, then each key's rows by time where they are not yet.

Both are stable, so rows that tie keep the order of the source. Files are mostly written in order of time; then the
second sort only costs a look. ``tests/engine/test_run.py`` holds them to NumPy's ``lexsort``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.compile import kernel
from mlflow_core.engine.times import Int64

__all__ = ["by_key", "in_order", "joined", "order_within", "order_within_by_two", "tally"]


@kernel
def tally(code: Int64, n_codes: int) -> tuple[Any, Any]:
    """Count the rows of each code; negative codes are left out.

    Args:
        code: Each row's code, below ``n_codes``, (n,).
        n_codes: Codes are below this.

    Returns:
        How many rows each code has, and the first of them (any number where there is none), int64 (n_codes,) each.
    """
    count = np.zeros(n_codes, np.int64)
    seen = np.zeros(n_codes, np.int64)
    for i in range(len(code)):
        c = code[i]
        if c >= 0:
            if count[c] == 0:
                seen[c] = i
            count[c] += 1
    return count, seen


@kernel
def by_key(code: Int64, rank: Int64, first: Int64) -> Int64:
    """Sort rows by the rank of their code, stable; codes below 0 or of a rank below 0 are left out.

    Args:
        code: Each row's code, (n,).
        rank: Each code's rank, (n_codes,).
        first: Where each rank's rows start in the answer, and the end, (n_ranks + 1,).

    Returns:
        Rows in order, int64 (first[-1],).
    """
    order = np.empty(first[-1], np.int64)
    place = first.copy()
    for i in range(len(code)):
        c = code[i]
        if c >= 0 and rank[c] >= 0:
            r = rank[c]
            order[place[r]] = i
            place[r] += 1
    return order


@kernel
def joined(starts: Int64, stops: Int64, n: int) -> tuple[Any, Any]:
    """Put ranges of rows one behind the other, key by key.

    Args:
        starts: Where key k's rows start in run r, ``starts[r, k]``, counted over all runs' rows; (n_runs, n_keys).
        stops: Where they end, (n_runs, n_keys).
        n: How many rows that makes.

    Returns:
        Rows in (key, run) order, int64 (n,); and where each key's start, (n_keys + 1,).
    """
    n_runs, n_keys = starts.shape
    order = np.empty(n, np.int64)
    first = np.zeros(n_keys + 1, np.int64)
    at = 0
    for k in range(n_keys):
        for r in range(n_runs):
            for i in range(starts[r, k], stops[r, k]):
                order[at] = i
                at += 1
        first[k + 1] = at
    return order, first


@kernel
def in_order(first: Int64, time: Int64, then: Int64) -> bool:
    """Tell whether each key's rows are in order of (time, then)."""
    for k in range(len(first) - 1):
        for i in range(first[k] + 1, first[k + 1]):
            if time[i] < time[i - 1] or (time[i] == time[i - 1] and then[i] < then[i - 1]):
                return False
    return True


@kernel
def _merge_sort(time: Int64, then: Int64, order: Int64, scratch: Int64, first: int, stop: int) -> None:
    """Sort ``order[first:stop]`` by (time, then), stable; numba's own argsort takes seconds longer to compile."""
    width = 1
    while width < stop - first:
        for left in range(first, stop, 2 * width):
            middle, end = min(left + width, stop), min(left + 2 * width, stop)
            a, b = left, middle
            for at in range(left, end):
                left_first = b >= end
                if not left_first and a < middle:
                    x, y = order[a], order[b]
                    left_first = time[x] < time[y] or (time[x] == time[y] and then[x] <= then[y])
                if left_first:
                    scratch[at] = order[a]
                    a += 1
                else:
                    scratch[at] = order[b]
                    b += 1
        for at in range(first, stop):  # assigning a slice takes numba seconds to compile
            order[at] = scratch[at]
        width *= 2


@kernel
def order_within_by_two(first: Int64, time: Int64, then: Int64) -> Int64:
    """Sort each key's rows by (time, then), stable; int64 (n,).

    Args:
        first: Key k's rows are at positions ``first[k]`` to ``first[k + 1] - 1``; (n_keys + 1,).
        time: What to sort by, (n,).
        then: What to sort equal times by, (n,).
    """
    order = np.arange(len(time))
    scratch = np.empty(len(time), np.int64)
    for k in range(len(first) - 1):
        for i in range(first[k] + 1, first[k + 1]):
            if time[i] < time[i - 1] or (time[i] == time[i - 1] and then[i] < then[i - 1]):
                _merge_sort(time, then, order, scratch, first[k], first[k + 1])
                break
    return order


def order_within(first: Int64, time: Int64) -> Int64:
    """Sort each key's rows by time, stable; see ``order_within_by_two``."""
    return order_within_by_two(first, time, time)
