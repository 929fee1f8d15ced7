"""Kernel that brings rows in order of time where most of them are: those that came late are put where they belong.

A file is mostly written in order of time, and a few rows arrive late. They are taken out, sorted by themselves, and
merged with the others, which costs a few passes in a row and no jump through memory. Where too many rows are late it
gives up soon, and each key's rows are sorted by ``mlflow_core.engine.kernels.ordering`` instead.
``tests/engine/test_run.py`` holds it to NumPy's ``lexsort``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.engine.kernels.ordering import inserted, sort_few
from mlflow_core.engine.times import Int64

__all__ = ["chronological"]


@kernel
def _before(time: Int64, then: Int64, x: int, y: int) -> bool:
    return time[x] < time[y] or (time[x] == time[y] and (then[x] < then[y] or (then[x] == then[y] and x < y)))


@kernel
def _parted(time: Int64, then: Int64, rows: Int64, early: Int64, late: Int64) -> tuple[int, int]:
    """Part rows into those in order and those that came after a greater one, as long as there is room for these."""
    n_early, n_late = 0, 0
    for i in rows:
        if n_early == 0 or _before(time, then, early[n_early - 1], i):
            early[n_early] = i
            n_early += 1
        elif n_late == len(late):
            break
        else:
            late[n_late] = i
            n_late += 1
    return n_early, n_late


@kernel
def _merged(time: Int64, then: Int64, order: Int64, n_early: int, late: Int64) -> None:
    """Merge the late rows into the others, from the end, so that no row is written over before it is read."""
    i, j = n_early - 1, len(late) - 1
    while j >= 0:
        if i >= 0 and _before(time, then, late[j], order[i]):
            order[i + j + 1] = order[i]
            i -= 1
        else:
            order[i + j + 1] = late[j]
            j -= 1


@kernel
def chronological(time: Int64, then: Int64, rows: Int64) -> tuple[Any, bool]:
    """Bring rows in order of (time, then, row), where at most a quarter is late.

    Args:
        time: What to sort by, (n,).
        then: What to sort equal times by, (n,).
        rows: Which rows, ascending, (n_rows,).

    Returns:
        The rows, int64 (n_rows,), and whether they are in order of time; else they stand as they came.
    """
    order, late = np.empty(len(rows), np.int64), np.empty(len(rows) // 4, np.int64)
    n_early, n_late = _parted(time, then, rows, order, late)
    if n_early + n_late < len(rows):
        return rows, False
    late = late[:n_late]
    sort_few(time[late], late, np.empty(n_late, np.int64), np.empty(n_late, np.int64), 0, n_late)
    if not inserted(time, then, late, 0, n_late):  # which moves only what is equal in time
        return rows, False
    _merged(time, then, order, n_early, late)
    return order, True
