"""Sinks without a store: one that keeps what it is given in files, to be looked at, and one that only counts."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather

from mlflow_core.engine.sink import Sunk

__all__ = ["CountingSink", "FolderSink"]


@dataclass(frozen=True, slots=True)
class FolderSink:
    """Keeps every table in a file of its own.

    Args:
        folder: Where; all workers reach it.
    """

    folder: Path

    def write(self, table: pa.Table) -> Sunk:
        """Keep rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        feather.write_feather(table, self.folder / f"{uuid.uuid4().hex}.arrow", compression="uncompressed")
        return Sunk(table.num_rows, table.num_rows)

    def close(self) -> None:
        """Do nothing: each file is closed when it is written."""

    def table(self) -> pa.Table:
        """Return all rows kept so far, in no order."""
        return pa.concat_tables(feather.read_table(file) for file in sorted(self.folder.glob("*.arrow")))


@dataclass(frozen=True, slots=True)
class CountingSink:
    """Counts rows and forgets them."""

    def write(self, table: pa.Table) -> Sunk:
        """Count rows."""
        return Sunk(table.num_rows)

    def close(self) -> None:
        """Do nothing."""
