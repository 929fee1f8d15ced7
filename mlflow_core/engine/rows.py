"""Entity rows in files, one for each range of them in the caller's order; written once, read by any worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlflow_core.engine.parted import read_whole, write_whole
from mlflow_core.engine.times import Int64

__all__ = ["RowFiles", "range_edges", "write_rows"]


@dataclass(frozen=True, slots=True)
class RowFiles:
    """Entity rows in files; small enough to be sent with each task.

    Attributes:
        folder: Where the files are.
        n_rows: How many rows there are in all.
        rows_per_range: How many a range has; the last has fewer.
    """

    folder: Path
    n_rows: int
    rows_per_range: int

    @property
    def edges(self) -> Int64:
        """Where each range starts, and the end; int64 (n_ranges + 1,)."""
        return range_edges(self.n_rows, self.rows_per_range)

    @property
    def n_ranges(self) -> int:
        """How many ranges there are; at least one, which may be empty."""
        return len(self.edges) - 1

    def read(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one range.

        Args:
            number: Which.
            columns: Which columns; None for all.
        """
        return read_whole(self.folder / _NAME.format(number), columns)


def range_edges(n_rows: int, rows_per_range: int) -> Int64:
    """Cut rows into ranges.

    Args:
        n_rows: How many rows there are.
        rows_per_range: How many a range has at most.

    Returns:
        Where each range starts, and the end; int64 (n_ranges + 1,), at least one range.

    Example:
        >>> range_edges(5, 2).tolist(), range_edges(0, 2).tolist()
        ([0, 2, 4, 5], [0, 0])
    """
    n_ranges = max(1, -(-n_rows // rows_per_range))
    return np.minimum(np.arange(n_ranges + 1, dtype=np.int64) * rows_per_range, n_rows)


def write_rows(table: pa.Table, folder: Path, rows_per_range: int) -> RowFiles:
    """Write entity rows, one file for each range of them.

    Args:
        table: The rows, (n_rows,).
        folder: A folder that all workers reach.
        rows_per_range: How many rows a range has at most.
    """
    rows = RowFiles(folder, table.num_rows, rows_per_range)
    for number, first in enumerate(rows.edges[:-1].tolist()):
        write_whole(table.slice(first, rows_per_range), folder / _NAME.format(number))
    return rows


_NAME = "rows-{:06d}.arrow"
