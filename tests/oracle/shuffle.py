"""The naive truth of the order in which rows are read: lists of row numbers, a loop for each step.

It is given the order of the blocks, which is drawn; everything after that is counted out here.
"""

from __future__ import annotations

from collections.abc import Sequence


def epoch_rows(rows: int, block: int, blocks: Sequence[int]) -> list[int]:
    """The row numbers in the order of an epoch: block after block, each from its first row to its last."""
    found = []
    for number in blocks:
        for row in range(rows):
            if row // block == number:
                found.append(row)
    return found


def shares(order: Sequence[int], batch_size: int, ranks: int) -> list[list[list[int]]]:
    """For each step, each rank's row numbers: the step's rows in turn, whole again when put one after the other."""
    steps = []
    for first in range(0, len(order), batch_size):
        batch = list(order[first : first + batch_size])
        own = []
        for rank in range(ranks):
            start, stop = len(batch) * rank // ranks, len(batch) * (rank + 1) // ranks
            own.append(batch[start:stop])
        steps.append(own)
    return steps
