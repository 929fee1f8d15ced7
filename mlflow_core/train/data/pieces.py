"""Rows of a training set by address: which rows of which row group, and which rank reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["READ_BYTES", "Piece", "read_batches", "read_piece", "read_tables"]

_ROWS, _BYTES = 65_536, 16 << 20
_FEW_ROWS, _COLUMNS = 16_384, 8
_PAGE_BYTES, _GROUP_BYTES = 64 << 10, 48 << 20
_FEW_BYTES = 16 << 20

READ_BYTES = 1 << 20
"""What of each column is read of a file at once; not mapped, because what is mapped counts as a worker's memory."""


@dataclass(frozen=True)
class Piece:
    """Rows of one row group: what a rank reads at once.

    Args:
        path: The Parquet file.
        group: Index of the row group in it.
        start: First row within the group.
        rows: How many rows from there on.
    """

    path: Path
    group: int
    start: int
    rows: int


def read_piece(piece: Piece, columns: Sequence[str]) -> pa.Table:
    """Read a piece's rows of the columns named."""
    with pq.ParquetFile(piece.path) as file:
        table = file.read_row_group(piece.group, columns=list(columns))
    return table.slice(piece.start, piece.rows)


def read_batches(
    file: pq.ParquetFile, columns: Sequence[str], *, groups: Sequence[int] | None = None
) -> Iterator[pa.Table]:
    """Read a file some rows at a time, however great its row groups are.

    Args:
        file: The open file.
        columns: Which columns; with none, nothing is read.
        groups: Which row groups; all if None.

    Yields:
        At most 65,536 rows, fewer of many columns: about 16 MiB of numbers.
    """
    if not columns:
        return
    of = range(file.num_row_groups) if groups is None else groups
    rows = max(1, min(_ROWS, _BYTES // (8 * len(columns))))
    for group in of:  # one by one: asked for several, Arrow reads ahead all of them
        for batch in file.iter_batches(batch_size=rows, columns=list(columns), row_groups=[group]):
            yield pa.Table.from_batches([batch])


def read_tables(piece: Piece, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read a piece's rows in order with little memory beside them.

    Args:
        piece: Which rows.
        columns: Which columns, each once.

    Yields:
        All of them, or of a great row group at most 16,384 at a time, fewer of long ones: about 16 MiB of numbers.
    """
    # Not buffered ahead, each column's pages are fetched as they are decoded, not a whole row group before the first.
    with pq.ParquetFile(piece.path, pre_buffer=False, buffer_size=_PAGE_BYTES) as file:
        group = file.metadata.row_group(piece.group)
        size = 8 * _values(group, columns)
        if size <= _GROUP_BYTES:
            yield _few_columns_at_a_time(file, piece.group, columns).slice(piece.start, piece.rows)
        else:
            rows = max(1, min(_FEW_ROWS, _FEW_BYTES * group.num_rows // size))
            yield from _few_rows_at_a_time(file, piece, columns, rows)


def _values(group: pq.RowGroupMetaData, columns: Sequence[str]) -> int:
    """How many values a row group has in these columns: of a list each of its own."""
    wanted, found = set(columns), 0
    for number in range(group.num_columns):
        leaf = group.column(number)
        parts = leaf.path_in_schema.split(".")  # a column's own name may have points too
        if any(".".join(parts[: at + 1]) in wanted for at in range(len(parts))):
            found += leaf.num_values
    return found


def _few_columns_at_a_time(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> pa.Table:
    """Read a row group. A column's decoder takes some 3 MB, so that 50 at once would take more than all their rows."""
    made: dict[str, pa.ChunkedArray] = {}
    for first in range(0, len(columns), _COLUMNS):
        some = list(columns[first : first + _COLUMNS])
        table = file.read_row_group(group, columns=some, use_threads=False)
        made |= {name: table.column(name) for name in some}
    return pa.table(made)


def _few_rows_at_a_time(
    file: pq.ParquetFile, piece: Piece, columns: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    at = 0
    for batch in file.iter_batches(rows, columns=list(columns), row_groups=[piece.group]):
        start, stop = max(piece.start, at), min(piece.start + piece.rows, at + len(batch))
        if start < stop:
            yield pa.Table.from_batches([batch.slice(start - at, stop - start)])
        at += len(batch)
        if at >= piece.start + piece.rows:
            break
