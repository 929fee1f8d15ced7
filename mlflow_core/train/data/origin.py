"""Where rows of a stored matrix came from: the shard and the row in it, found from the seed that shuffled them.

Nothing of this is stored: what was drawn when the matrix was written (``scatter``) is drawn again, for the groups and
buckets that are asked for. Needed when a row turns out to be bad, which is seldom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mlflow_core.engine.files.entries import facts_of
from mlflow_core.errors import TrainError
from mlflow_core.train.data.matrix import StoredMatrix
from mlflow_core.train.data.scatter import bucket_order, drawn_buckets, scattering

__all__ = ["Origin", "origins"]


@dataclass(frozen=True)
class Origin:
    """Where a row came from.

    Args:
        file: The shard.
        row: Its number in the shard, from 0.
    """

    file: Path
    row: int


def origins(matrix: StoredMatrix, rows: Sequence[int], *, seed: int | None) -> tuple[Origin, ...]:
    """Tell where rows came from.

    Args:
        matrix: The matrix.
        rows: Their numbers in it.
        seed: The seed that it was built with, of a training part; None for the others, which keep their order.

    Returns:
        One for each row, in order.

    Raises:
        TrainError: The matrix or a shard is not there any more.
    """
    facts = facts_of(matrix.path.parent)
    if facts is None:
        raise TrainError("there is no such matrix any more", place=str(matrix.path))
    groups = [
        (Path(shard), start, count) for shard in facts["shards"] for start, count in _groups(Path(shard))
    ]
    counts = [count for _, _, count in groups]
    find = _Places(counts, matrix.width, seed)
    found = []
    for row in rows:
        group, inside = find.place(int(row))
        shard, start, _ = groups[group]
        found.append(Origin(shard, start + inside))
    return tuple(found)


def _groups(shard: Path) -> list[tuple[int, int]]:
    """First row and number of rows of each row group that has any."""
    try:
        meta = pq.read_metadata(shard)
    except OSError as error:
        raise TrainError(f"the shard cannot be read: {error}", place=str(shard)) from error
    counts = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    starts = np.cumsum([0, *counts]).tolist()
    return [(start, count) for start, count in zip(starts, counts, strict=False) if count]


class _Places:
    def __init__(self, counts: Sequence[int], width: int, seed: int | None) -> None:
        self._counts, self._seed = counts, seed
        self._firsts = np.cumsum([0, *counts])[:-1]
        self._scattering = None if seed is None else scattering(counts, width, seed)

    def place(self, row: int) -> tuple[int, int]:
        """The row group, among those with rows, and the row in it."""
        if self._scattering is None:
            group = int(np.searchsorted(self._firsts, row, side="right")) - 1
            return group, row - int(self._firsts[group])
        bounds = self._scattering.bounds
        bucket = int(np.searchsorted(bounds, row, side="right")) - 1
        first, stop = int(bounds[bucket]), int(bounds[bucket + 1])
        order = bucket_order(stop - first, bucket, self._seed or 0)
        scattered = first + int(order[row - first])
        # A group that sent nothing here begins where the next one does: the last of them is the sender.
        starts = self._scattering.starts[:, bucket]
        group = int(np.searchsorted(starts, scattered, side="right")) - 1
        drawn = drawn_buckets(self._counts[group], group, len(bounds) - 1, self._seed or 0)
        return group, int(np.flatnonzero(drawn == bucket)[scattered - int(starts[group])])
