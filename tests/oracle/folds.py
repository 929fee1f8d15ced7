"""Folds in time, as a person would cut them: every row looked at for every fold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def instants(times: Sequence[int], folds: int, grid: int) -> list[int]:
    """Where the validation rows of each fold begin: the first step of the grid with enough rows before it."""
    ordered = sorted(times)
    least, greatest = ordered[0], ordered[-1]
    width = max(1, -(-(greatest - least + 1) // grid))
    found = []
    for block in range(1, folds + 1):
        at = least + width
        while bisect_left(ordered, at) < len(times) * block / (folds + 1):
            at += width
        found.append(at)
    return found


def folds(
    times: Sequence[int], starts: Sequence[int], embargo: int, window: int | None
) -> list[tuple[list[int], list[int]]]:
    """Row numbers to train and to validate with, for each fold."""
    made = []
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else None
        train, validate = [], []
        for row, time in enumerate(times):
            if time < start - embargo and (window is None or time >= start - embargo - window):
                train.append(row)
            if time >= start and (end is None or time < end):
                validate.append(row)
        made.append((train, validate))
    return made
