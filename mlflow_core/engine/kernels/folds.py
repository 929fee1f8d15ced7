"""Kernels that fold ranges of events: count, sum, mean, spread, least and greatest of each window.

Nothing is ever subtracted. A short range is folded event by event; a long one from blocks of 16 events, of 256 and
so on, that were folded before, with the algebra's own merge. Blocks start at a key's first event, and whether they
are used depends on the range's length alone: so a value depends on its key's events and nothing else, and routes
and numbers of partitions give the same bits.

An event that is not seen at the evaluation time (``start <= at < end``) is left out; a block whose events are all
seen is used whole, one of which none is seen is skipped, any other is opened. Opening costs; a caller that gives
too little patience for its data falls back on ``mlflow_core.engine.kernels.schedule``.

``tests/engine/test_folds.py`` holds them to folds of the algebra.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.kernels.blocks import blocks, kept
from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.engine.kernels.states import both, seen_of
from mlflow_core.engine.times import Int64

__all__ = ["SHORT", "fold", "fold_long", "fold_short"]

SHORT = 128
"""Ranges up to here are folded event by event."""


@kernel
def fold_short(
    low: Any,
    high: Any,
    value: Any,
    whole: Int64,
    start: Int64,
    end: Int64,
    at: Int64,
    seen_all: bool,
    spread: bool,
    answers: Any,
    chosen: Any,
) -> int:
    """Fold the short ranges, and count the others; arguments and answers as for ``fold``.

    Args:
        low: Where each range of each window starts.
        high: Where it ends.
        value: The column.
        whole: The same as integers, or empty.
        start: First evaluation time at which an event is seen.
        end: First evaluation time at which it no longer is.
        at: Evaluation times.
        seen_all: All events of the ranges are seen.
        spread: Whether squared deviations are wanted.
        answers: Sums, means and squared deviations, written to.
        chosen: Counts, limbs and positions, written to.
    """
    n_long = 0
    for w in range(low.shape[0]):
        for row in range(low.shape[1]):
            a, b = low[w, row], high[w, row]
            if b - a <= SHORT:
                _answer(
                    seen_of(value, whole, start, end, at[row], seen_all, spread, a, b),
                    w,
                    row,
                    answers,
                    chosen,
                )
            else:
                n_long += 1
    return n_long


@kernel
def _long(
    value: Any,
    whole: Int64,
    start: Int64,
    end: Int64,
    now: int,
    seen_all: bool,
    spread: bool,
    first: int,
    size: int,
    low: int,
    high: int,
    block_from: int,
    numbers: Any,
    places: Int64,
    sight: Int64,
    todo: Int64,
) -> Any:
    """Fold a long range from its blocks; also how many had to be opened."""
    state = (0, 0.0, 0.0, 0.0, 0, 0, -1, -1)
    opened = 0
    level_at = np.zeros(16, np.int64)
    at, blocks_there = block_from, size // 16
    for level in range(1, 16):
        level_at[level] = at
        at += blocks_there
        blocks_there //= 16
    left = 1
    todo[0, 0], todo[0, 1], todo[0, 2] = 0, low - first, high - first
    while left > 0:
        left -= 1
        level, a, b = todo[left, 0], todo[left, 1], todo[left, 2]
        up, down = (a + 15) // 16, b // 16
        if level >= 0 and up < down:
            # The ends stay on this level (its complement says so), the middle goes up to the blocks of the next.
            todo[left, 0], todo[left, 1], todo[left, 2] = -1 - level, 16 * down, b
            todo[left + 1, 0], todo[left + 1, 1], todo[left + 1, 2] = level + 1, up, down
            todo[left + 2, 0], todo[left + 2, 1], todo[left + 2, 2] = -1 - level, a, 16 * up
            left += 3
            continue
        if level < 0:
            level = -1 - level
        if level == 0:
            here = seen_of(value, whole, start, end, now, seen_all, spread, first + a, first + b)
            state = both(value, state, here)
            continue
        for c in range(a, b):
            j = level_at[level] + c
            if seen_all or sight[0, j] <= now < sight[1, j]:
                state = both(value, state, kept(numbers, places, j))
            elif sight[2, j] <= now < sight[3, j]:
                todo[left, 0], todo[left, 1], todo[left, 2] = -level, 16 * c, 16 * c + 16
                left += 1
                opened += 1
    return state, opened


@kernel
def fold_long(
    event_from: Int64,
    row_from: Int64,
    low: Any,
    high: Any,
    value: Any,
    whole: Int64,
    start: Int64,
    end: Int64,
    at: Int64,
    seen_all: bool,
    spread: bool,
    patience: int,
    numbers: Any,
    places: Int64,
    sight: Int64,
    block_from: Int64,
    answers: Any,
    chosen: Any,
) -> bool:
    """Fold the long ranges from blocks; False where patience ran out. Arguments and answers as for ``fold``.

    Args:
        event_from: Where each key's events start.
        row_from: Where each key's entity rows start.
        low: Where each range of each window starts.
        high: Where it ends.
        value: The column.
        whole: The same as integers, or empty.
        start: First evaluation time at which an event is seen.
        end: First evaluation time at which it no longer is.
        at: Evaluation times.
        seen_all: All events of the ranges are seen.
        spread: Whether squared deviations are wanted.
        patience: How many blocks may be opened in all.
        numbers: From ``mlflow_core.engine.kernels.blocks``.
        places: Likewise.
        sight: Likewise.
        block_from: Likewise.
        answers: Sums, means and squared deviations, written to.
        chosen: Counts, limbs and positions, written to.
    """
    todo = np.zeros((1024, 3), np.int64)
    for key in range(len(event_from) - 1):
        first, size = event_from[key], event_from[key + 1] - event_from[key]
        for row in range(row_from[key], row_from[key + 1]):
            for w in range(low.shape[0]):
                a, b = low[w, row], high[w, row]
                if b - a <= SHORT:
                    continue
                state, opened = _long(
                    value,
                    whole,
                    start,
                    end,
                    at[row],
                    seen_all,
                    spread,
                    first,
                    size,
                    a,
                    b,
                    block_from[key],
                    numbers,
                    places,
                    sight,
                    todo,
                )
                patience -= opened
                if patience < 0:
                    return False
                _answer(state, w, row, answers, chosen)
    return True


@kernel
def _answer(state: Any, w: int, row: int, answers: Any, chosen: Any) -> None:
    answers[0, w, row], answers[1, w, row], answers[2, w, row] = state[1], state[2], state[3]
    chosen[0, w, row], chosen[1, w, row], chosen[2, w, row] = state[0], state[4], state[5]
    chosen[3, w, row], chosen[4, w, row] = state[6], state[7]


def fold(
    event_from: Int64,
    row_from: Int64,
    low: Any,
    high: Any,
    value: Any,
    whole: Int64,
    start: Int64,
    end: Int64,
    at: Int64,
    seen_all: bool,
    spread: bool,
    patience: int,
) -> tuple[Any, Any, bool]:
    """Fold ranges of numbers.

    Args:
        event_from: Key k's events are at positions ``event_from[k]`` to ``event_from[k + 1] - 1``; (n_keys + 1,).
        row_from: As ``event_from`` for entity rows, (n_keys + 1,).
        low: Where each range of each window starts, int64 (n_windows, n_rows).
        high: Where it ends, int64 (n_windows, n_rows).
        value: The column, without nulls and NaN, float64 (n_events,).
        whole: The same as integers, whose sum is exact, int64 (n_events,); or empty where it is not wanted.
        start: First evaluation time at which an event is seen, (n_events,); not looked at where all are.
        end: First evaluation time at which it no longer is, (n_events,); likewise.
        at: Evaluation times, (n_rows,).
        seen_all: All events of the ranges are seen.
        spread: Whether squared deviations are wanted.
        patience: How many blocks may be opened in all.

    Returns:
        Sum, mean and sum of squared deviations, float64 (3, n_windows, n_rows); count, high and low limbs of the sum
        and the positions of the least and the greatest value, -1 where there is none, int64
        (5, n_windows, n_rows); and False where patience ran out.
    """
    answers = np.zeros((3, *low.shape))
    chosen = np.zeros((5, *low.shape), np.int64)
    given = (low, high, value, whole, start, end, at, seen_all, spread)
    if fold_short(*given, answers, chosen) == 0:
        return answers, chosen, True
    long = np.flatnonzero((high - low > SHORT).any(axis=0))
    wanted = np.zeros(len(event_from) - 1, np.bool_)
    wanted[np.searchsorted(row_from, long, side="right") - 1] = True
    before = blocks(event_from, wanted, value, whole, start, end, seen_all, spread)
    return answers, chosen, bool(fold_long(event_from, row_from, *given, patience, *before, answers, chosen))
