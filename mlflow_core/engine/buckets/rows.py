"""Entity rows in files: each range of them whole, in the caller's order, and once for each set of keys by bucket.

The client writes the ranges, workers part them, each range by itself. A bucket's rows are those of all ranges, in the
caller's order; a range's rows stand in its file bucket by bucket, with the places they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlflow_core.engine.cluster.tasks import Amount
from mlflow_core.engine.events.arrays import plain
from mlflow_core.engine.events.keys import hash_codes
from mlflow_core.engine.events.run import SortedRows, sort_rows
from mlflow_core.engine.files.parted import read_part, read_whole, write_parted, write_whole
from mlflow_core.engine.layouts.layout import code_edges
from mlflow_core.engine.times import Int64

__all__ = ["PLACE", "PartedRows", "RowFiles", "range_edges", "write_rows"]

PLACE = "__place"


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


@dataclass(frozen=True, slots=True)
class PartedRows:
    """Entity rows by bucket of some of their columns; small enough to be sent with each task.

    Attributes:
        rows: The rows in ranges.
        keys: The columns by which they are parted.
        time_column: Their time.
        n_buckets: Into how many.
        number: Which of the sets of keys it is.
    """

    rows: RowFiles
    keys: tuple[str, ...]
    time_column: str
    n_buckets: int
    number: int

    def write(self, number: int) -> Amount:
        """Part one range of rows.

        Args:
            number: Which.
        """
        names = list(dict.fromkeys([self.time_column, *self.keys]))
        found = self.rows.read(number, names)
        columns = {name: plain(found[name], name=name, title="entity rows") for name in names}
        place = np.arange(found.num_rows, dtype=np.int64)
        table = pa.table(columns | {PLACE: pa.array(place)})
        bucket = np.zeros(found.num_rows, np.int64)
        if self.keys and self.n_buckets > 1:
            inner = np.array(code_edges(self.n_buckets)[1:-1], np.int64)
            bucket = np.searchsorted(inner, hash_codes(_keys_of(table, self.keys)), side="right")
        write_parted(table, bucket, self.n_buckets, self._file(number))
        return Amount(rows=table.num_rows, bytes=table.nbytes)

    def read(self, bucket: int, ranges: range) -> pa.Table:
        """Read a bucket's rows of some ranges: keys, time and place in the range, in the caller's order.

        Args:
            bucket: Which.
            ranges: Which ranges, one behind the other.
        """
        return read_part([self._file(number) for number in ranges], bucket)

    def sorted(self, bucket: int, ranges: range) -> SortedRows:
        """Read a bucket's rows of some ranges, sorted by (code, key, time); ``place`` is in the caller's order."""
        unique = list(dict.fromkeys(self.keys))
        return sort_rows(
            self.read(bucket, ranges),
            unique,
            self.time_column,
            bucket=hash_codes if len(unique) == len(self.keys) else self._codes,
        )

    def sizes(self, bucket: int) -> list[int]:
        """Return how many of a bucket's rows each range has."""
        return [read_part([self._file(n)], bucket).num_rows for n in range(self.rows.n_ranges)]

    def _codes(self, keys: pa.Table) -> Int64:
        return hash_codes(_keys_of(keys, self.keys))

    def _file(self, number: int) -> Path:
        return self.rows.folder / f"parted-{self.number:03d}-{number:06d}.arrow"


def _keys_of(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    return pa.table([table[key] for key in keys], list(keys))  # a column may be two keys


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
