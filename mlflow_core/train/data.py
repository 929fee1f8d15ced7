"""A training set as trainers see it: Parquet shards by part, the label, the features, the time.

It holds paths and names, never rows; each rank opens the shards where it runs. Which rows belong to which part
was decided when the dataset was built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.errors import TrainError, nearest

__all__ = ["PARTS", "Piece", "TrainingData", "read_piece", "share"]

PARTS = ("train", "validate", "test")
"""The parts of a training set, in the order of time."""


@dataclass(frozen=True)
class TrainingData:
    """A training set of Parquet shards.

    Args:
        shards: Files by part: ``train``, ``validate``, ``test``; each in a stable order.
        label: The label's column.
        features: The feature columns, in the order in which the model takes them.
        request: Those features that come from the request.
        time_column: Column of the query time, timestamp[us, UTC].
    """

    shards: Mapping[str, tuple[Path, ...]]
    label: str
    features: tuple[str, ...]
    request: tuple[str, ...] = ()
    time_column: str = "event_timestamp"

    def files(self, part: str) -> tuple[Path, ...]:
        """The files of a part.

        Raises:
            TrainError: There is no such part, or it has no files.
        """
        if part not in self.shards:
            raise TrainError(f'the dataset has no part "{part}"', hint=nearest(part, self.shards))
        if not self.shards[part]:
            raise TrainError(
                f'the part "{part}" of the dataset has no rows', hint="Move the cuts of the split."
            )
        return tuple(self.shards[part])

    def read(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a whole part into memory, shards in order.

        Args:
            part: ``train``, ``validate`` or ``test``.
            columns: Columns to read; all if None.

        Raises:
            TrainError: The part or a column does not exist.
        """
        tables = []
        for path in self.files(part):
            check_columns(pq.read_schema(path), columns or (), path)
            tables.append(pq.read_table(path, columns=list(columns) if columns is not None else None))
        return pa.concat_tables(tables, promote_options="permissive")


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


def share(pieces: Sequence[Piece], ranks: int) -> tuple[tuple[Piece, ...], ...]:
    """Divide rows among ranks: each a contiguous run of them, their lengths differing by at most one.

    Args:
        pieces: All rows, in order.
        ranks: How many shares.

    Returns:
        The pieces of each rank; together they are exactly the rows given, in order.
    """
    total = sum(piece.rows for piece in pieces)
    shares: list[tuple[Piece, ...]] = []
    for rank in range(ranks):
        first, last = total * rank // ranks, total * (rank + 1) // ranks
        shares.append(tuple(_cut(pieces, first, last)))
    return tuple(shares)


def _cut(pieces: Sequence[Piece], first: int, last: int) -> list[Piece]:
    chosen, at = [], 0
    for piece in pieces:
        start, stop = max(first, at), min(last, at + piece.rows)
        if start < stop:
            chosen.append(Piece(piece.path, piece.group, piece.start + start - at, stop - start))
        at += piece.rows
    return chosen


def check_columns(schema: pa.Schema, columns: Sequence[str], path: Path) -> None:
    """Refuse a shard that lacks a column.

    Raises:
        TrainError: Names the column, the shard and the nearest columns.
    """
    names = set(schema.names)
    for column in columns:
        if column not in names:
            raise TrainError(
                f'there is no column "{column}" in the shard',
                place=str(path),
                hint=f"{nearest(column, names)} Build the dataset again if its features have changed.",
            )
