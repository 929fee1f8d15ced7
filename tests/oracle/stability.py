"""The population stability index as loops over rows, written for reading: what ``train.evaluation.stability`` is held to.

A value is None where it is missing. A bin is a test that a value passes or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Value = float | str | None
Bin = Callable[[Value], bool]


def stability_index(before: Sequence[Value], now: Sequence[Value]) -> float:
    """Over the bins of the values before: the difference of both shares, times the logarithm of their ratio."""
    total = 0.0
    for inside in bins_of(before, most=max(2, min(10, min(len(before), len(now)) // 50))):
        counts = [sum(inside(value) for value in values) for values in (before, now)]
        if not any(counts):
            continue
        old, new = max(counts[0] / len(before), 0.0001), max(counts[1] / len(now), 0.0001)
        total += (new - old) * math.log(new / old)
    return total


def bins_of(before: Sequence[Value], most: int) -> list[Bin]:
    """The bins: one for what is missing, then those of the values."""
    known = [value for value in before if value is not None]
    missing: Bin = lambda value: value is None  # noqa: E731
    if not known:
        return [missing, lambda value: value is not None]
    distinct = sorted(set(known))
    if isinstance(known[0], str):
        often = [text for text in distinct if known.count(text) >= 25]
        by_frequency = sorted(often, key=lambda text: (-known.count(text), text))
        return [missing, *each_and_others(by_frequency[:most])]
    if len(distinct) <= most:
        return [missing, *each_and_others(distinct)]
    return [missing, *quantile_bins(sorted(known), most)]


def each_and_others(values: Sequence[Value]) -> list[Bin]:
    """One bin for each of some values, and one for all that are none of them."""
    own: list[Bin] = [lambda value, one=one: value == one for one in values]
    return [*own, lambda value: value is not None and value not in values]


def quantile_bins(known: Sequence[float], most: int) -> list[Bin]:
    """Bins of equally many values; each holds its upper end, and a value that ends several of them is alone in one."""
    ends = [known[len(known) * n // most - 1] for n in range(1, most)]
    found: list[Bin] = []
    low = -math.inf
    first = True
    for end in sorted(set(ends)):
        alone = ends.count(end) > 1
        # Below the first end there is no lower bound, not even minus infinity itself.
        if alone:
            found.append(
                lambda v, low=low, end=end, first=first: v is not None and (first or v > low) and v < end
            )
            found.append(lambda v, end=end: v is not None and v == end)
        else:
            found.append(
                lambda v, low=low, end=end, first=first: v is not None and (first or v > low) and v <= end
            )
        low, first = end, False
    return [*found, lambda v, low=low: v is not None and v > low]
