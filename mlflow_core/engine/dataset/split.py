"""Which part of a training set each row belongs to, and which rows belong to none, with the reason.

Cuts are in query time. The naive truth is ``tests/oracle/labels.py``; the rules are in ``docs/concepts``,
"Labels and splits".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlflow_core.plan.dataset import PARTS, Cuts

__all__ = ["REASONS", "Assignment", "assign_parts"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

REASONS = ("label_open", "label_null", "label_unknown_at_cut", "embargo", "after_test")
"""Why a row is in no part, in the order in which the reasons are tried."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The part of each row.

    Attributes:
        part: Index into ``PARTS``, or -1 for a row that is left out; shape (n,), int8.
        reason: Index into ``REASONS`` where the row is left out, else -1; shape (n,), int8.
        by_time: The part that its query time alone gives each row; shape (n,), int8.
    """

    part: NDArray[np.int8]
    reason: NDArray[np.int8]
    by_time: NDArray[np.int8]

    def rows(self) -> dict[str, int]:
        """Count the rows of each part."""
        return {name: int(np.count_nonzero(self.part == i)) for i, name in enumerate(PARTS)}

    def left_out(self, part: str | None = None) -> dict[str, int]:
        """Count the rows left out, by reason; of one part by time, or of all."""
        mine = self.reason if part is None else self.reason[self.by_time == PARTS.index(part)]
        return {name: int(np.count_nonzero(mine == i)) for i, name in enumerate(REASONS)}


def assign_parts(
    t: Ints, known: Ints, valid: Bools, cuts: Cuts, *, settled: Bools | None = None
) -> Assignment:
    """Give each row its part.

    A row is left out if its horizon reaches past the end of the data (``label_open``), if its label is null, if
    it is for training or validation and its label was not known when that part ended, if it is for training and
    its label became known within the embargo before that, or if it lies after the test part.

    Args:
        t: Query times, microseconds since epoch, UTC; shape (n,).
        known: When each label was known, like ``t``; shape (n,).
        valid: Whether the label has a value; shape (n,).
        cuts: Where parts end.
        settled: Whether the data reaches to the end of each label's horizon; shape (n,). None says it does.

    Returns:
        Part and reason of each row.
    """
    part = np.select([t < cuts.train_until, t < cuts.validate_until], [0, 1], 2).astype(np.int8)
    cut = np.array([cuts.train_until, cuts.validate_until, np.iinfo(np.int64).max])[part]
    none = np.zeros(len(t), np.bool_)
    reasons = [
        none if settled is None else ~settled,
        ~valid,
        known > cut,
        (part == 0) & (known > cuts.train_until - cuts.embargo),
        none if cuts.test_until is None else t >= cuts.test_until,
    ]
    reason = np.select(reasons, range(len(reasons)), -1).astype(np.int8)
    kept = np.where(reason >= 0, np.int8(-1), part).astype(np.int8)
    return Assignment(part=kept, reason=reason, by_time=part)
