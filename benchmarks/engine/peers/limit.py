"""The limit of any plan that parts by key: read the same columns, partition, write a result of the same size.

It sorts nothing and joins nothing, on the same two workers, with numpy's counting sort (a stable sort of small
integers), one Arrow file for each input with a batch a bucket. The result's values are those that lie first in the
bucket: the right number of them, and not the right ones.

A plan that leaves a sorted layout behind also has to sort. Of such plans the limit is the same with each bucket in the
order of key and time: one more sort, of one 64-bit word a row, by the fastest that numpy has.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

from benchmarks.engine.cluster import two_workers
from benchmarks.engine.job import AGGREGATES, Call, Job

__all__ = ["limit", "sorted_limit"]

BYTES_A_BUCKET = 100_000_000
MIX = np.uint64(0xBF58476D1CE4E5B9)
Order = Callable[[npt.NDArray[np.uint16], pa.Table], npt.NDArray[np.int64]]


@contextmanager
def limit(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Read, partition, write."""
    del job
    with two_workers() as client:
        yield lambda job: _call(job, client, _by_bucket)


@contextmanager
def sorted_limit(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Read, partition and sort, write."""
    del job
    with two_workers() as client:
        yield lambda job: _call(job, client, _by_key_and_time)


def _call(job: Job, client: Client, order: Order) -> Call:
    parted = Path(job.scratch) / "parted"

    def run(out: Path, cache: Path) -> None:
        del cache
        shutil.rmtree(parted, ignore_errors=True)
        parted.mkdir()
        inputs = [
            (
                one.name,
                number,
                file,
                ["key", "time", *([] if job.clock == "event" else ["known"]), *one.features],
            )
            for one in job.sources
            for number, file in enumerate(one.files)
        ]
        asked = pq.ParquetFile(job.rows)
        cells = sum(pq.read_metadata(file).num_rows * len(columns) for _, _, file, columns in inputs)
        n = max(4, cells * 8 // BYTES_A_BUCKET)
        tasks = [client.submit(_part, file, None, columns, n, order, parted / f"{name}-{number}.arrow", pure=False)
                 for name, number, file, columns in inputs]  # fmt: skip
        tasks += [client.submit(_part, Path(job.rows), group, asked.schema_arrow.names, n,
                                _by_bucket, parted / f"rows-{group}.arrow", pure=False)
                  for group in range(asked.num_row_groups)]  # fmt: skip
        client.gather(tasks)
        client.gather([client.submit(_write, bucket, parted, job, out, pure=False) for bucket in range(n)])

    return run


def _part(file: Path, group: int | None, columns: Sequence[str], n: int, order: Order, to: Path) -> None:
    table = (
        pq.read_table(file, columns=columns)
        if group is None
        else pq.ParquetFile(file).read_row_group(group, columns=columns)
    )
    key = np.asarray(table["key"]).view(np.uint64)
    bucket = ((key * MIX >> np.uint64(32)) % np.uint64(n)).astype(np.uint16)
    places = pa.array(order(bucket, table))
    edges = np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=n))]).tolist()
    batch = table.combine_chunks().take(places).combine_chunks().to_batches()[0]
    with pa.OSFile(str(to), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        for first, last in pairwise(edges):
            writer.write_batch(batch.slice(first, last - first))


def _by_bucket(bucket: npt.NDArray[np.uint16], table: pa.Table) -> npt.NDArray[np.int64]:
    del table
    return np.argsort(bucket, kind="stable")


def _by_key_and_time(bucket: npt.NDArray[np.uint16], table: pa.Table) -> npt.NDArray[np.int64]:
    """Bucket, time, and of the key as many bits as there is room for between them."""
    time = np.asarray(table["time"]).view(np.int64)
    time = time - time.min()
    for_time, for_bucket = int(time.max()).bit_length(), int(bucket.max()).bit_length()
    room = 63 - for_time - for_bucket
    key = np.asarray(table["key"]).view(np.int64) & ((1 << room) - 1)
    return np.argsort(bucket.astype(np.int64) << (room + for_time) | key << for_time | time)


def _write(bucket: int, parted: Path, job: Job, out: Path) -> None:
    rows = _bucket(sorted(parted.glob("rows-*.arrow")), bucket)
    columns = {name: rows[name] for name in rows.column_names}
    each = max(1, len(job.windows) * len(AGGREGATES))
    for one in job.sources:
        events = _bucket(sorted(parted.glob(f"{one.name}-*.arrow")), bucket)
        for name in one.features:
            values = np.asarray(events[name])
            columns |= {f"{name}{k}": pa.array(np.resize(values, rows.num_rows)) for k in range(each)}
    # Without a dictionary for each column, which takes most of the time and saves nothing: as ours are written.
    pq.write_table(pa.table(columns), out / f"part-{bucket:05d}.parquet", use_dictionary=False)


def _bucket(files: Sequence[Path], bucket: int) -> pa.Table:
    batches = []
    for file in files:
        with pa.memory_map(str(file)) as mapped:
            batches.append(pa.ipc.open_file(mapped).get_batch(bucket))
    return pa.Table.from_batches(batches)
