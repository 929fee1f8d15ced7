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
from mlflow_core.engine.kernels.ordering import by_digits, inserted, sort_few
from mlflow_core.engine.times import EARLIEST, Int64

__all__ = ["chronological"]

_FEW = 1_024  # below that the digits cost more than they save


@kernel
def _parted(time: Int64, then: Int64, rows: Int64, early: Int64, late: Int64) -> tuple[int, int]:
    """Part rows into those in order and those that came after a greater one, as long as there is room for these."""
    n_early, n_late, newest, latest = 0, 0, EARLIEST, EARLIEST
    for i in rows:
        t = time[i]
        if t > newest or (t == newest and then[i] >= latest):
            newest, latest = t, then[i]
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
    i = n_early - 1
    for j in range(len(late) - 1, -1, -1):
        y = late[j]
        t, u = time[y], then[y]
        while i >= 0:
            x = order[i]
            if time[x] < t or (time[x] == t and (then[x] < u or (then[x] == u and x < y))):
                break
            order[i + j + 1] = x
            i -= 1
        order[i + j + 1] = y


@kernel
def chronological(time: Int64, then: Int64, rows: Int64) -> tuple[Any, bool]:
    """Bring rows in order of (time, then, row), where at most a quarter is late.

    One time far ahead makes all that follow it late; then it gives up after a quarter of them.

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
    if n_late < _FEW or not by_digits(time, late):
        sort_few(time[late], late, np.empty(n_late, np.int64), np.empty(n_late, np.int64), 0, n_late)
    if not inserted(time, then, late, 0, n_late):  # which moves only what is equal in time
        return rows, False
    _merged(time, then, order, n_early, late)
    return order, True
