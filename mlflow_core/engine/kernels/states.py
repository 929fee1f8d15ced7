"""The state of a fold: (n, sum, mean, squared deviations, limbs of the sum, places of the least and the greatest).

Ranges are folded into it, and two of it are merged with the algebra's own merge; nothing is ever subtracted.
"""

from __future__ import annotations

from typing import Any

from mlflow_core.algebra import moments
from mlflow_core.engine.kernels.compile import kernel, scalar
from mlflow_core.engine.times import Int64

__all__ = ["all_of", "both", "seen_of"]

_merge = scalar(moments.merge_moments)
_limbs_of = scalar(moments.limbs_of)


@kernel
def _sum_and_ends(part: Any) -> Any:
    """Sum, least and greatest of some numbers, two at a time: neither waits for the other."""
    a, b = 0.0, 0.0
    lo = also_lo = hi = also_hi = part[0]
    whole = len(part) // 2 * 2
    for i in range(0, whole, 2):
        x, y = part[i], part[i + 1]
        a += x
        b += y
        lo = x if x < lo else lo
        also_lo = y if y < also_lo else also_lo
        hi = x if x > hi else hi
        also_hi = y if y > also_hi else also_hi
    if whole < len(part):
        x = part[whole]
        a += x
        lo = x if x < lo else lo
        hi = x if x > hi else hi
    return a + b, min(lo, also_lo), max(hi, also_hi)


@kernel
def all_of(value: Any, whole: Int64, spread: bool, low: int, high: int) -> Any:
    """Fold all events of a range.

    Args:
        value: The column, float64 (n_events,).
        whole: The same as integers, or empty.
        spread: Whether squared deviations are wanted.
        low: Where the range starts.
        high: Where it ends.
    """
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
def seen_of(  # noqa: C901, PLR0912 one loop; numba gains nothing from parts
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
    """Fold those events of a range that are seen; to the same bits as ``all_of`` where all are.

    Args:
        value: The column, float64 (n_events,).
        whole: The same as integers, or empty.
        start: First evaluation time at which an event is seen, (n_events,); not looked at where all are.
        end: First evaluation time at which it no longer is, (n_events,); likewise.
        now: The evaluation time.
        seen_all: All events are seen.
        spread: Whether squared deviations are wanted.
        low: Where the range starts.
        high: Where it ends.
    """
    unseen = 0
    if not seen_all:
        for i in range(low, high):
            if not start[i] <= now < end[i]:
                unseen += 1
    if unseen == 0:
        return all_of(value, whole, spread, low, high)
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
def both(value: Any, a: Any, b: Any) -> Any:
    """Merge the states of two ranges.

    Args:
        value: The column.
        a: The earlier range's.
        b: The later range's.
    """
    n, total, mean, m2 = _merge(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3])
    least = a[6]
    if least < 0 or (b[6] >= 0 and value[b[6]] < value[least]):
        least = b[6]
    greatest = a[7]
    if greatest < 0 or (b[7] >= 0 and value[b[7]] > value[greatest]):
        greatest = b[7]
    return n, total, mean, m2, a[4] + b[4], a[5] + b[5], least, greatest
