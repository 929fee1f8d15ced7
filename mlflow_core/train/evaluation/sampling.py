"""A sample of a part that is too large to read whole: row groups spread evenly over its files, hence over its time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.train.data.training_set import TrainingData, check_columns

__all__ = ["read_sample"]

_LEAST_GROUPS = 32


def read_sample(data: TrainingData, part: str, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Read about so many rows of a part; the same ones each time.

    Args:
        data: The training set.
        part: ``train``, ``validate`` or ``test``.
        rows: All rows are read where there are no more; else at most so many.
        columns: Columns to read; all if None.

    Raises:
        TrainError: The part or a column does not exist.
    """
    groups = []
    for path in data.files(part):
        described = pq.read_metadata(path)
        check_columns(pq.read_schema(path), columns or (), path)
        groups += [(path, n, described.row_group(n).num_rows) for n in range(described.num_row_groups)]
    total = sum(size for _, _, size in groups)
    if total <= rows:
        return data.read(part, columns)
    # A group is one stretch of time: some dozens of them, and enough to hold twice the rows.
    wanted = min(len(groups), max(_LEAST_GROUPS, round(2 * rows / total * len(groups))))
    chosen = [groups[n] for n in np.unique(np.linspace(0, len(groups) - 1, wanted).round().astype(int))]
    held = sum(size for _, _, size in chosen)
    tables = []
    for path, group, size in chosen:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=list(columns) if columns is not None else None)
        kept = np.unique(np.linspace(0, size - 1, max(1, size * rows // max(held, rows))).round().astype(int))
        tables.append(table.take(pa.array(kept)))
    return pa.concat_tables(tables, promote_options="permissive")
