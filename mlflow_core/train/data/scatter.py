"""Rows of Parquet written as float32, in their order or in one that was drawn once: the work of building a matrix.

A random order of more rows than fit in memory takes two rounds (Sanders 1998, "Random permutations on distributed,
external and hierarchical memory"). First each row goes to a bucket drawn for it; then each bucket, which fits in
memory, is shuffled. Every order of all rows is equally likely. What is drawn depends on the seed, the row group and
the bucket only, so how many rows go where is known before any is read: each piece of work writes to places of its
own, may be done anywhere, in any order and twice, and the file is the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import MachineError, TrainError
from mlflow_core.train.data.pieces import Piece, read_tables
from mlflow_core.train.data.preprocess import GREATEST, Preprocessing, as_floats
from mlflow_core.train.data.shuffle import permutation, random_numbers

__all__ = [
    "Bucket",
    "GroupTask",
    "Range",
    "Scattering",
    "bucket_order",
    "describe",
    "drawn_buckets",
    "numbers_of",
    "scattering",
    "sum_of",
    "sum_of_rows",
    "write_bucket",
    "write_group",
]

_BUCKET_BYTES = 24 << 20
_MAX_BUCKETS = 1 << 12
_FEW_ROWS, _MANY_ROWS = 8_192, 65_536
_MOST_BYTES = 16 << 20
_DESCRIBED = "preprocessing.json"


@dataclass(frozen=True)
class Range:
    """Rows of a file that were written, and a sum that tells whether they are still what they were.

    Args:
        first: The first row.
        rows: How many.
        sum: From ``sum_of``.
    """

    first: int
    rows: int
    sum: int


@dataclass(frozen=True)
class Scattering:
    """Where each row group's rows go.

    Args:
        starts: (n_groups, n_buckets) int64: where in the file those of a group begin that go to a bucket.
        bounds: (n_buckets + 1,) int64: where in the file each bucket begins, and the last one ends.
    """

    starts: NDArray[np.int64]
    bounds: NDArray[np.int64]


@dataclass(frozen=True)
class GroupTask:
    """The first round's work: one row group's rows.

    Args:
        piece: The row group.
        number: Its number in the part.
        described: The file that says how its columns become numbers, from ``describe``: dictionaries may be megabytes, and
            there is a task for each row group.
        columns: Columns beside the features, as they are.
        file: Where the rows go; the file is as long as it will be.
        starts: (n_buckets,) int64: where in the file those rows begin that go to a bucket.
        seed: Seed of the order; None keeps the rows' own, all in one bucket.
    """

    piece: Piece
    number: int
    described: Path
    columns: tuple[str, ...]
    file: Path
    starts: NDArray[np.int64]
    seed: int | None


@dataclass(frozen=True)
class Bucket:
    """The second round's work: one bucket's rows.

    Args:
        number: Its number.
        first: Its first row in both files.
        rows: How many it has.
        width: Columns of the matrix.
        source: The file of the first round.
        file: Where the rows go; the file is as long as it will be.
        seed: Seed of the order.
    """

    number: int
    first: int
    rows: int
    width: int
    source: Path
    file: Path
    seed: int


def scattering(rows: Sequence[int], width: int, seed: int) -> Scattering:
    """Draw how many rows of each row group go to each bucket.

    Args:
        rows: Rows of each row group.
        width: Columns of the matrix.
        seed: Seed of the order.
    """
    total = sum(rows)
    buckets = min(_MAX_BUCKETS, max(1, -(-total * width * 4 // _BUCKET_BYTES)))
    counts = np.array(
        [
            np.bincount(drawn_buckets(count, number, buckets, seed), minlength=buckets)
            for number, count in enumerate(rows)
        ],
        dtype=np.int64,
    ).reshape(len(rows), buckets)
    bounds = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
    before = np.cumsum(counts, axis=0) - counts
    return Scattering(before + bounds[:-1], bounds)


def describe(preprocessing: Preprocessing, folder: Path) -> Path:
    """Write down how columns become numbers, once for all row groups.

    Args:
        preprocessing: How they do.
        folder: Where to; all workers reach it.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written.
    """
    file = folder / _DESCRIBED
    file.write_bytes(orjson.dumps(preprocessing.to_json()))
    return file


def write_group(task: GroupTask) -> Range:
    """Write a row group's rows to their places.

    Returns:
        What was written, where the rows keep their order; of scattered rows only how many they were.

    Raises:
        TrainError: The shard cannot be read any more.
        OSError: The file cannot be written.
    """
    preprocessing = _preprocessing(task.described)
    at, cursor, total = 0, task.starts.copy(), 0
    drawn = None if task.seed is None else drawn_buckets(task.piece.rows, task.number, len(cursor), task.seed)
    with _opened(task.file) as out:
        for table in _tables(task, preprocessing, _FEW_ROWS if drawn is None else _MANY_ROWS):
            matrix = numbers_of(table, preprocessing, task.columns)
            if drawn is None:
                out.write(matrix, int(cursor[0]) + at)
                total = (total + sum_of(matrix)) % _WORD
            else:
                cursor += _scatter(matrix, drawn[at : at + len(matrix)], cursor, out)
            at += len(matrix)
    if at != task.piece.rows:
        raise TrainError(f"has {at:,} rows where it had {task.piece.rows:,}", place=str(task.piece.path))
    return Range(int(task.starts[0]), at, total)


def write_bucket(task: Bucket) -> Range:
    """Shuffle a bucket's rows.

    Returns:
        What was written.

    Raises:
        OSError: A file cannot be read or written.
    """
    shape = (task.rows, task.width)
    matrix = np.fromfile(task.source, np.float32, task.rows * task.width, offset=task.first * task.width * 4)
    order = bucket_order(task.rows, task.number, task.seed)
    matrix = np.take(matrix.reshape(shape), order, axis=0, mode="clip")
    with _opened(task.file) as out:
        out.write(matrix, task.first)
    return Range(task.first, task.rows, sum_of(matrix))


def drawn_buckets(rows: int, number: int, buckets: int, seed: int) -> NDArray[np.uint16]:
    """Draw each row's bucket.

    Args:
        rows: Rows of a row group.
        number: Its number in the part, among those with rows.
        buckets: How many buckets there are.
        seed: Seed of the order.

    Returns:
        (rows,) uint16.
    """
    raw = random_numbers(rows, f"group {number} of {seed}")
    return ((raw >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.uint16)


def bucket_order(rows: int, number: int, seed: int) -> NDArray[np.int64]:
    """Draw the order of a bucket's rows: which of those that the first round left there comes first, second, ...

    Args:
        rows: How many the bucket has.
        number: Its number.
        seed: Seed of the order.
    """
    return permutation(rows, f"bucket {number} of {seed}")


def numbers_of(table: pa.Table, preprocessing: Preprocessing, columns: Sequence[str]) -> NDArray[np.float32]:
    """The features' matrix with further columns behind it, (n_rows, width + n_columns) float32."""
    matrix = np.empty((table.num_rows, preprocessing.width + len(columns)), dtype=np.float32)
    preprocessing.fill(matrix[:, : preprocessing.width], table)
    for place, name in enumerate(columns, preprocessing.width):
        matrix[:, place] = np.clip(as_floats(table.column(name)), -GREATEST, GREATEST)
    return matrix


def sum_of(matrix: NDArray[np.float32]) -> int:
    """The sum of an array's words of 64 bits, without carry: read at memory speed, changed by any damage.

    Args:
        matrix: C-contiguous float32.
    """
    data = matrix.reshape(-1).view(np.uint8)
    whole = len(data) // 8 * 8
    total = int(data[:whole].view(np.uint64).sum(dtype=np.uint64))
    return (total + int.from_bytes(data[whole:].tobytes(), "little")) % _WORD


def sum_of_rows(file: Path, first: int, rows: int, width: int) -> int:
    """The same sum of some rows of a file, read a few megabytes at a time.

    Raises:
        OSError: The file cannot be read.
    """
    at, stop, total = first * width * 4, (first + rows) * width * 4, 0
    while at < stop:
        read = np.fromfile(file, np.float32, min(_SUM_BYTES, stop - at) // 4, offset=at)
        if not len(read):
            break  # shorter than it was: the sum tells
        total, at = (total + sum_of(read)) % _WORD, at + read.nbytes
    return total


_WORD = 1 << 64
_SUM_BYTES = 8 << 20


@dataclass(frozen=True)
class _File:
    handle: int

    def write(self, matrix: NDArray[np.float32], row: int) -> None:
        """Write whole rows, the first of them as the file's row of this number."""
        data = memoryview(matrix.reshape(-1).view(np.uint8).data)
        at = row * matrix.shape[1] * 4
        while data:
            written = os.pwrite(self.handle, data, at)
            data, at = data[written:], at + written

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)


def _opened(path: Path) -> _File:
    # Without O_CREAT: where the caller has given up and removed its draft, nothing is left behind.
    return _File(os.open(path, os.O_WRONLY))


@lru_cache(maxsize=1)
def _preprocessing(file: Path) -> Preprocessing:
    """What ``describe`` wrote: a worker reads it once. No two matrices are built in folders of one name."""
    return Preprocessing.from_json(orjson.loads(file.read_bytes()))


def _tables(task: GroupTask, preprocessing: Preprocessing, most: int) -> Iterator[pa.Table]:
    """The rows of a group, at most so many at once: scattered, more of them share a write. Fewer of wide ones."""
    most = max(1, min(most, _MOST_BYTES // (4 * (preprocessing.width + len(task.columns)))))
    wanted = list(dict.fromkeys([*preprocessing.names, *task.columns]))
    try:
        for table in read_tables(task.piece, wanted):
            for start in range(0, len(table), most):
                yield table.slice(start, most)
    except (OSError, pa.ArrowException) as error:
        raise MachineError(f"cannot be read: {error}", place=str(task.piece.path)) from error


def _scatter(
    matrix: NDArray[np.float32], drawn: NDArray[np.uint16], cursor: NDArray[np.int64], out: _File
) -> NDArray[np.int64]:
    """Write some rows to their buckets; returns how many went to each, (n_buckets,)."""
    counts = np.bincount(drawn, minlength=len(cursor))
    grouped = np.take(matrix, np.argsort(drawn, kind="stable"), axis=0, mode="clip")
    at = 0
    for bucket in np.flatnonzero(counts):
        stop = at + int(counts[bucket])
        out.write(grouped[at:stop], int(cursor[bucket]))
        at = stop
    return counts
