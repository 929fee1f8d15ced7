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

from mlflow_core.algebra import moments
from mlflow_core.engine.kernels.compile import kernel, scalar
from mlflow_core.engine.times import EARLIEST, NEVER, Int64

__all__ = ["fold"]

SHORT = 128
"""Ranges up to here are folded event by event."""

_merge = scalar(moments.merge_moments)
_limbs_of = scalar(moments.limbs_of)


@kernel
def _sum_and_ends(part: Any) -> Any:
    """Sum, least and greatest of some numbers, four at a time: none waits for the other, and errors stay smaller."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    lo = also_lo = hi = also_hi = part[0]
    whole = len(part) // 4 * 4
    for i in range(0, whole, 4):
        w, x, y, z = part[i], part[i + 1], part[i + 2], part[i + 3]
        a += w
        b += x
        c += y
        d += z
        lo = w if w < lo else lo
        also_lo = x if x < also_lo else also_lo
        lo = y if y < lo else lo
        also_lo = z if z < also_lo else also_lo
        hi = w if w > hi else hi
        also_hi = x if x > also_hi else also_hi
        hi = y if y > hi else hi
        also_hi = z if z > also_hi else also_hi
    for i in range(whole, len(part)):
        w = part[i]
        a += w
        lo = w if w < lo else lo
        hi = w if w > hi else hi
    return (a + b) + (c + d), min(lo, also_lo), max(hi, also_hi)


@kernel
def _all_of(value: Any, whole: Int64, spread: bool, low: int, high: int) -> Any:
    """Fold all events of a range: (n, total, mean, m2, limbs' high and low, least, greatest)."""
    n = high - low
    if n <= 0:
        return 0, 0.0, 0.0, 0.0, 0, 0, -1, -1
    part = value[low:high]
    total, lo, hi = _sum_and_ends(part)
    least, greatest = 0, 0
    while part[least] != lo:
        least += 1
    while part[greatest] != hi:
        greatest += 1
    mean = total / n
    m2 = 0.0
    if spread:
        for x in part:
            m2 += (x - mean) * (x - mean)
    top, bottom = 0, 0
    if len(whole) > 0:
        for i in range(low, high):
            t, u = _limbs_of(whole[i])
            top += t
            bottom += u
    return n, total, mean, m2, top, bottom, low + least, low + greatest


@kernel
def _events(  # noqa: C901, PLR0912 one loop; numba gains nothing from parts
    value: Any,
    whole: Int64,
    start: Int64,
    end: Int64,
    now: int,
    seen_all: bool,
    spread: bool,
    low: int,
    high: int,
) -> Any:
    """Fold those events of a range that are seen; to the same bits as ``_all_of`` where all are."""
    unseen = 0
    if not seen_all:
        for i in range(low, high):
            if not start[i] <= now < end[i]:
                unseen += 1
    if unseen == 0:
        return _all_of(value, whole, spread, low, high)
    n = 0
    total = 0.0
    top = 0
    bottom = 0
    least = -1
    greatest = -1
    lo, hi = 0.0, 0.0
    limbs = len(whole) > 0
    for i in range(low, high):
        if start[i] <= now < end[i]:
            x = value[i]
            n += 1
            total += x
            if limbs:
                t, b = _limbs_of(whole[i])
                top += t
                bottom += b
            if least < 0 or x < lo:
                lo, least = x, i
            if greatest < 0 or x > hi:
                hi, greatest = x, i
    if n == 0:
        return 0, 0.0, 0.0, 0.0, 0, 0, -1, -1
    mean = total / n
    m2 = 0.0
    if spread:
        for i in range(low, high):
            if start[i] <= now < end[i]:
                m2 += (value[i] - mean) * (value[i] - mean)
    return n, total, mean, m2, top, bottom, least, greatest


@kernel
def _both(value: Any, a: Any, b: Any) -> Any:
    """Merge what ``_events`` returned for two ranges, the earlier first."""
    n, total, mean, m2 = _merge(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3])
    least = a[6]
    if least < 0 or (b[6] >= 0 and value[b[6]] < value[least]):
        least = b[6]
    greatest = a[7]
    if greatest < 0 or (b[7] >= 0 and value[b[7]] > value[greatest]):
        greatest = b[7]
    return n, total, mean, m2, a[4] + b[4], a[5] + b[5], least, greatest


@kernel
def _kept(numbers: Any, places: Int64, j: int) -> Any:
    """A block that was folded before."""
    return (
        places[0, j],
        numbers[0, j],
        numbers[1, j],
        numbers[2, j],
        places[1, j],
        places[2, j],
        places[3, j],
        places[4, j],
    )


@kernel
def _keep(numbers: Any, places: Int64, j: int, state: Any) -> None:
    places[0, j], places[1, j], places[2, j] = state[0], state[4], state[5]
    places[3, j], places[4, j] = state[6], state[7]
    numbers[0, j], numbers[1, j], numbers[2, j] = state[1], state[2], state[3]


@kernel
def _blocks_of(event_from: Int64) -> tuple[int, Any]:
    """How many blocks the longest key has, and at most how many levels there are below them."""
    longest = 0
    for key in range(len(event_from) - 1):
        longest = max(longest, event_from[key + 1] - event_from[key])
    n = 0
    levels = 1
    size = longest // 16
    while size > 0:
        n += size
        size //= 16
        levels += 1
    return n, levels


@kernel
def _sights(start: Int64, end: Int64, first: int, size: int, sight: Int64) -> None:
    """Note for each block from when to when all of its events are seen, and from when to when any may be."""
    below, at, blocks = -1, 0, size // 16
    while blocks > 0:
        for b in range(blocks):
            all_from, all_to = EARLIEST, NEVER
            any_from, any_to = NEVER, EARLIEST
            for j in range(16 * b, 16 * b + 16):
                if below < 0:
                    s, e = start[first + j], end[first + j]
                    all_from, all_to = max(all_from, s), min(all_to, e)
                    any_from, any_to = min(any_from, s), max(any_to, e)
                else:
                    all_from, all_to = max(all_from, sight[0, below + j]), min(all_to, sight[1, below + j])
                    any_from, any_to = min(any_from, sight[2, below + j]), max(any_to, sight[3, below + j])
            sight[0, at + b], sight[1, at + b] = all_from, all_to
            sight[2, at + b], sight[3, at + b] = any_from, any_to
        below = at
        at += blocks
        blocks //= 16


@kernel
def _build(
    value: Any,
    whole: Int64,
    spread: bool,
    first: int,
    size: int,
    numbers: Any,
    places: Int64,
    level_at: Int64,
) -> None:
    """Fold a key's events into blocks of 16, those into blocks of 256, and so on."""
    nothing = np.zeros(0, np.int64)
    below, here, level, blocks = -1, 0, 1, size // 16
    while blocks > 0:
        level_at[level] = here
        for c in range(blocks):
            if below < 0:
                low = first + 16 * c
                state = _events(value, whole, nothing, nothing, 0, True, spread, low, low + 16)
            else:
                state = _kept(numbers, places, below + 16 * c)
                for j in range(below + 16 * c + 1, below + 16 * c + 16):
                    state = _both(value, state, _kept(numbers, places, j))
            _keep(numbers, places, here + c, state)
        below = here
        here += blocks
        blocks //= 16
        level += 1


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
    low: int,
    high: int,
    numbers: Any,
    places: Int64,
    level_at: Int64,
    sight: Int64,
    todo: Int64,
) -> Any:
    """Fold a long range from its blocks; also how many had to be opened."""
    state = (0, 0.0, 0.0, 0.0, 0, 0, -1, -1)
    opened = 0
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
            here = _events(value, whole, start, end, now, seen_all, spread, first + a, first + b)
            state = _both(value, state, here)
            continue
        for c in range(a, b):
            j = level_at[level] + c
            if seen_all or sight[0, j] <= now < sight[1, j]:
                state = _both(value, state, _kept(numbers, places, j))
            elif sight[2, j] <= now < sight[3, j]:
                todo[left, 0], todo[left, 1], todo[left, 2] = -level, 16 * c, 16 * c + 16
                left += 1
                opened += 1
    return state, opened


@kernel
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
    n_windows, n_rows = low.shape
    answers = np.zeros((3, n_windows, n_rows))
    chosen = np.zeros((5, n_windows, n_rows), np.int64)
    n_blocks, n_levels = _blocks_of(event_from)
    numbers, places = np.zeros((3, n_blocks)), np.zeros((5, n_blocks), np.int64)
    sight = np.zeros((4, 0 if seen_all else n_blocks), np.int64)
    level_at = np.zeros(n_levels + 1, np.int64)
    todo = np.zeros((64 * (n_levels + 1), 3), np.int64)
    for key in range(len(event_from) - 1):
        first = event_from[key]
        built = False
        for row in range(row_from[key], row_from[key + 1]):
            for w in range(n_windows):
                a, b = low[w, row], high[w, row]
                if b - a <= SHORT:
                    state = _events(value, whole, start, end, at[row], seen_all, spread, a, b)
                else:
                    if not built:
                        built = True
                        _build(
                            value,
                            whole,
                            spread,
                            first,
                            event_from[key + 1] - first,
                            numbers,
                            places,
                            level_at,
                        )
                        if not seen_all:
                            _sights(start, end, first, event_from[key + 1] - first, sight)
                    state, opened = _long(
                        value,
                        whole,
                        start,
                        end,
                        at[row],
                        seen_all,
                        spread,
                        first,
                        a,
                        b,
                        numbers,
                        places,
                        level_at,
                        sight,
                        todo,
                    )
                    patience -= opened
                    if patience < 0:
                        return answers, chosen, False
                answers[0, w, row], answers[1, w, row] = state[1], state[2]
                chosen[0, w, row], chosen[3, w, row], chosen[4, w, row] = state[0], state[6], state[7]
                if spread:
                    answers[2, w, row] = state[3]
                if len(whole) > 0:
                    chosen[1, w, row], chosen[2, w, row] = state[4], state[5]
    return answers, chosen, True
