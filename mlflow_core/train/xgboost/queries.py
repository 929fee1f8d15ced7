"""Where the queries of a ranking begin, and how rows are divided so that none is split.

Rows of a query stand together: XGBoost compares them with one another, and reads them in order. A query may go on in
the next row group or shard. Its values never leave the shards' summaries; afterwards only offsets are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.training_set import check_columns

__all__ = ["Runs", "boundaries", "query_starts", "runs_of"]


@dataclass(frozen=True)
class Runs:
    """The runs of equal values in one shard.

    Args:
        path: The file.
        values: The value of each run.
        starts: Its first row in the shard, (n_runs,) int64.
        rows: Rows of the shard.
    """

    path: Path
    values: pa.Array
    starts: NDArray[np.int64]
    rows: int


def runs_of(path: Path, column: str) -> Runs:
    """Find the runs of one shard.

    Args:
        path: The Parquet file.
        column: The queries' column.

    Raises:
        TrainError: There is no such column, or it is null somewhere.
    """
    with pq.ParquetFile(path) as file:
        check_columns(file.schema_arrow, (column,), path)
        values = file.read(columns=[column]).column(column).combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if values.null_count:
        raise TrainError(
            f'the group "{column}" is null in {values.null_count:,} rows',
            place=str(path),
            expected="the query of every row",
        )
    if not len(values):
        return Runs(path, values, np.empty(0, dtype=np.int64), 0)
    changes = pc.not_equal(values.slice(1), values.slice(0, len(values) - 1)).to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1]).astype(np.int64)
    return Runs(path, values.take(pa.array(starts)), starts, len(values))


def query_starts(part: str, column: str, runs: Sequence[Runs]) -> NDArray[np.int64]:
    """The first row of each query, counted over a part's shards in order.

    Args:
        part: The part, for the error.
        column: The queries' column, for the error.
        runs: One for each shard.

    Returns:
        (n_queries,) int64, rising, the first 0.

    Raises:
        TrainError: A query's rows do not stand together: names it and the shard.
    """
    starts: list[NDArray[np.int64]] = []
    values: list[pa.Array] = []
    paths: list[tuple[int, Path]] = []
    at = known = 0
    for one in runs:
        if not len(one.values):
            continue
        goes_on = bool(values) and one.values[0].as_py() == values[-1][-1].as_py()
        starts.append(one.starts[int(goes_on) :] + at)
        if len(one.values) > int(goes_on):
            values.append(one.values.slice(int(goes_on)))
        at, known = at + one.rows, known + len(one.values) - int(goes_on)
        paths.append((known, one.path))
    _check_apart(part, column, values, paths)
    return np.concatenate(starts) if starts else np.empty(0, dtype=np.int64)


def boundaries(starts: NDArray[np.int64], rows: int, ranks: int) -> tuple[int, ...]:
    """Rows at which a part is divided among ranks: beginnings of queries, as even as these allow.

    Args:
        starts: The first row of each query; (0,) where rows stand for themselves.
        rows: How many rows there are.
        ranks: How many shares, at most as many as queries.

    Returns:
        ``ranks + 1`` row numbers, the first 0 and the last ``rows``; each share has a query at least.
    """
    ends = np.append(starts[1:], rows)
    cuts = [0]
    for rank in range(1, ranks):
        nearest = int(np.searchsorted(ends, rows * rank / ranks))
        least = int(np.searchsorted(ends, cuts[-1], side="right"))
        most = len(ends) - 1 - (ranks - rank)
        cuts.append(int(ends[min(max(nearest, least), most)]))
    return (*cuts, rows)


def _check_apart(
    part: str, column: str, values: Sequence[pa.Array], paths: Sequence[tuple[int, Path]]
) -> None:
    if not values:
        return
    every = pa.chunked_array([one.cast(values[0].type) for one in values])
    counted = pc.value_counts(every)
    again = pc.greater(counted.field("counts"), 1)
    if not pc.any(again).as_py():
        return
    twice = counted.field("values").filter(again)[0]
    places = np.flatnonzero(pc.equal(every, twice).to_numpy())
    where = next(path for known, path in paths if places[1] < known)
    raise TrainError(
        f'the group "{column}" comes back to {twice.as_py()!r} after other groups, in the part "{part}"',
        place=str(where),
        expected="all rows of a group next to one another",
        hint=f'Order the spine by "{column}", so that no query is split.',
    )
