"""dask.dataframe on the same two workers: both sides shuffled by key through P2P, then pandas' ``merge_asof``.

A plain ``merge`` on the key makes a row for each pair of event and entity row before any of them is dropped; nobody
who knows the tool would do that with a long history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.engine.cluster import two_workers
from benchmarks.engine.job import Call, Job

__all__ = ["dask_p2p"]

ROWS_A_PARTITION = 2_000_000


@contextmanager
def dask_p2p(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Latest values."""
    del job
    with two_workers(), dask.config.set({"dataframe.shuffle.method": "p2p"}):
        yield _call


def _call(job: Job) -> Call:
    def run(out: Path, cache: Path) -> None:
        del cache
        n_events = sum(pq.read_metadata(file).num_rows for one in job.sources for file in one.files)
        n = max(2, n_events // ROWS_A_PARTITION)
        rows = dd.read_parquet(job.rows, split_row_groups=True).shuffle("key", npartitions=n)
        sides = [
            dd.read_parquet(one.folder, columns=["key", "time", *one.features]).shuffle("key", npartitions=n)
            for one in job.sources
        ]
        meta = _joined(rows._meta, *(side._meta for side in sides))
        joined = dd.map_partitions(_joined, rows, *sides, meta=meta, align_dataframes=False)
        joined.to_parquet(str(out), write_index=False)

    return run


def _joined(rows: pd.DataFrame, *sides: pd.DataFrame) -> pd.DataFrame:
    rows = rows.sort_values("event_timestamp")
    for side in sides:
        joined = pd.merge_asof(
            rows, side.sort_values("time"), left_on="event_timestamp", right_on="time", by="key"
        )
        rows = joined.drop(columns="time")
    return rows
