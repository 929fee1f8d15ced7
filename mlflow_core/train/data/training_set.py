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

__all__ = ["PARTS", "TrainingData", "check_columns"]

PARTS = ("train", "validate", "test")
"""The parts of a training set, in the order of time."""


@dataclass(frozen=True)
class TrainingData:
    """A training set of Parquet shards.

    Args:
        shards: Files by part: ``train``, ``validate``, ``test``; each in a stable order.
        label: The label's column; empty where nothing is labelled.
        features: The feature columns, in the order in which the model takes them.
        request: Those features that come from the request.
        time_column: Column of the query time, timestamp[us, UTC].
        named_by_content: Whether a shard's path tells its content, as in an artifact store: its time of change, which
            a store may renew, then says nothing.
    """

    shards: Mapping[str, tuple[Path, ...]]
    label: str
    features: tuple[str, ...]
    request: tuple[str, ...] = ()
    time_column: str = "event_timestamp"
    named_by_content: bool = False

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

    def identity(self, path: Path) -> tuple[str, int, int]:
        """What tells a shard from any other: its path, its bytes, and when it changed (ns; 0 if the path tells)."""
        told = path.stat()
        return str(path.absolute()), told.st_size, 0 if self.named_by_content else told.st_mtime_ns

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
