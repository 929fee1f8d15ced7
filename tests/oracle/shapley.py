"""Shapley values as the definition says them: for every feature every coalition of the others, for readers to check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial


def shapley_values(
    predict: Callable[[list[float]], float],
    row: Sequence[float],
    background: Sequence[Sequence[float]],
    columns: Sequence[Sequence[int]],
) -> list[float]:
    """What each feature, with all its columns, adds to the prediction of a row, over the mean of the background."""

    def worth(coalition: Sequence[int]) -> float:
        known = {column for feature in coalition for column in columns[feature]}
        total = 0.0
        for other in background:
            total += predict([row[c] if c in known else other[c] for c in range(len(row))])
        return total / len(background)

    n, values = len(columns), []
    for feature in range(n):
        others = [other for other in range(n) if other != feature]
        value = 0.0
        for size in range(n):
            for coalition in combinations(others, size):
                weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                value += weight * (worth([*coalition, feature]) - worth(coalition))
        values.append(value)
    return values
