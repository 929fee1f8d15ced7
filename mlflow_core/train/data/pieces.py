"""Rows of a training set by address: which rows of which row group, and which rank reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["READ_BYTES", "Piece", "cut", "read_batches", "read_piece"]

_ROWS, _BYTES = 65_536, 16 << 20

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


def cut(pieces: Sequence[Piece], first: int, last: int) -> tuple[Piece, ...]:
    """The rows from ``first`` up to ``last``, counted over all pieces in order."""
    chosen, at = [], 0
    for piece in pieces:
        start, stop = max(first, at), min(last, at + piece.rows)
        if start < stop:
            chosen.append(Piece(piece.path, piece.group, piece.start + start - at, stop - start))
        at += piece.rows
    return tuple(chosen)
