"""Rows as pandas frames and as Dask frames of the Parquet files that they were written to: the same types in both.

An integer column with nulls is pandas' nullable ``Int64`` or ``Int32``: floats are exact only up to 2**53.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import dask.dataframe

__all__ = ["as_frame", "dask_frame"]

_WITH_NULLS = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


def as_frame(rows: pa.Table, nullable: Collection[str] | None = None) -> pd.DataFrame:
    """Return rows as a frame.

    Args:
        rows: The rows.
        nullable: Integer columns that have nulls; those of these rows by default.
    """
    if nullable is None:
        nullable = [name for name in rows.column_names if rows[name].null_count]
    beside_nulls = {
        name: rows[name].to_pandas(types_mapper=_WITH_NULLS.get)
        for name, kind in zip(rows.column_names, rows.schema.types, strict=True)
        if kind in _WITH_NULLS and name in nullable
    }
    frame: pd.DataFrame = rows.to_pandas()
    return frame.assign(**beside_nulls)


def dask_frame(shards: Sequence[Path]) -> dask.dataframe.DataFrame:
    """Return the rows of Parquet files as a Dask frame: one partition a file, in order, numbered from 0.

    Args:
        shards: Files of one schema, at least one.

    Returns:
        A frame that reads a file when its partition is computed, and of it only the columns wanted.
    """
    import dask.config
    import dask.dataframe

    footers = [pq.read_metadata(path) for path in shards]
    schema = footers[0].schema.to_arrow_schema()
    nullable = sorted({name for footer in footers for name in _with_nulls(footer)})
    starts = [0]
    for footer in footers:
        starts.append(starts[-1] + footer.num_rows)
    # Dask knows partitions by their first row, and the last by its last; an empty one has neither.
    known = all(footer.num_rows for footer in footers)
    # Dask would make text of every column of Python objects: of bytes, lists and maps too.
    with dask.config.set({"dataframe.convert-string": False}):
        frame: dask.dataframe.DataFrame = dask.dataframe.from_map(
            _read,
            [str(path) for path in shards],
            starts[:-1],
            nullable=nullable,
            meta=as_frame(schema.empty_table(), nullable),
            divisions=[*starts[:-1], starts[-1] - 1] if known else None,
        )
    return frame


def _read(
    path: str, start: int, *, nullable: Collection[str], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    names = None if columns is None else list(columns)
    frame = as_frame(pq.read_table(path, columns=names), nullable)
    frame.index = pd.RangeIndex(start, start + len(frame))
    return frame


def _with_nulls(footer: Any) -> list[str]:
    """The columns that statistics do not prove to be without nulls."""
    found = []
    for number in range(footer.num_columns):
        chunks = [footer.row_group(group).column(number) for group in range(footer.num_row_groups)]
        if any(chunk.statistics is None or chunk.statistics.null_count != 0 for chunk in chunks):
            found.append(footer.schema.column(number).path)
    return found
