"""Arrow files: with one batch for each part of a table, so that a part is read without the others, or mapped whole.

Parts are numbers: a bucket of keys, or a range of entity rows. Which row belongs to which is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_core.engine.files.drafts import write_at_once
from mlflow_core.engine.times import Int64
from mlflow_core.errors import EngineError

__all__ = [
    "integers",
    "mapped",
    "one_array",
    "read_part",
    "read_whole",
    "write_batch",
    "write_batches",
    "write_parted",
    "write_ranges",
    "write_whole",
]


def write_parted(table: pa.Table, part: Int64, n: int, file: Path) -> None:
    """Write a table with one batch for each part; rows keep their order inside a part.

    Args:
        table: The rows, (n_rows,).
        part: Each row's part, from 0 to n - 1, int64 (n_rows,).
        n: How many parts there are.
        file: The file.
    """
    small = part.astype(np.int16 if n < 1 << 15 else np.int64)  # which NumPy sorts by radix
    order = np.argsort(small, kind="stable")
    edges = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(part, minlength=n), out=edges[1:])
    write_ranges(table.take(pa.array(order)), edges, file)


def write_ranges(table: pa.Table, edges: Int64, file: Path) -> None:
    """Write a table with one batch for each range of its rows.

    Args:
        table: The rows, (n_rows,).
        edges: Part p is the rows from ``edges[p]`` to ``edges[p + 1] - 1``; int64 (n_parts + 1,).
        file: The file.
    """
    arrays = [one_array(column) for column in table.columns]
    batch = pa.RecordBatch.from_arrays(arrays, schema=table.schema)
    _write(
        file,
        table.schema,
        lambda writer: [
            writer.write_batch(batch.slice(first, last - first))
            for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ],
    )


def write_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> None:
    """Write batches one behind the other; one at a time need be in memory.

    Args:
        batches: The batches.
        schema: Their schema.
        file: The file.
    """
    _write(file, schema, lambda writer: [writer.write_batch(batch) for batch in batches])


def write_batch(batch: pa.RecordBatch, file: Path) -> None:
    """Write one batch, for ``mapped``; the file's folder is one that is only seen when it is complete.

    Args:
        batch: The rows.
        file: The file.
    """
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def mapped(file: Path) -> pa.Table:
    """Map a file: its columns are views of it, and only what is touched is read.

    Args:
        file: The file.

    Raises:
        EngineError: It is not there, or is no whole Arrow file.
    """
    try:
        with pa.memory_map(str(file)) as opened:
            return pa.ipc.open_file(opened).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise EngineError(
            f"{file} cannot be read: {error}",
            expected="a file that was written for this retrieval or an earlier one",
            hint="On a cluster of several machines the cache and the working folder must be on storage that they share.",
        ) from error


def integers(column: pa.ChunkedArray) -> Int64:
    """Return a column of int64 without nulls as it lies in memory, or in a mapped file; int64 (n,)."""
    if column.num_chunks == 1:
        return np.asarray(column.chunk(0), np.int64)
    return np.asarray(column.to_numpy(), np.int64)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, copied only where it is in several pieces.

    Raises:
        EngineError: It holds more text or bytes than one array can.
    """
    if column.num_chunks == 1:
        return column.chunk(0)
    try:
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    except pa.ArrowInvalid as error:
        raise EngineError(
            f"a column of {column.nbytes / 2**30:.1f} GiB of {column.type} cannot be held in one piece: "
            f"{str(error).splitlines()[0]}",
            hint="Keep long texts beside the features, and a reference to them among the features.",
        ) from error


def write_whole(table: pa.Table, file: Path) -> None:
    """Write a table, in as many batches as it has chunks."""
    # A file can hold only one dictionary for a column.
    whole = table.unify_dictionaries()
    _write(file, whole.schema, lambda writer: writer.write_table(whole))


def read_part(files: Sequence[Path], part: int) -> pa.Table:
    """Read one part out of each file, in the files' order; only that part is read from disk.

    Args:
        files: At least one, all with the same columns.
        part: The part's number.
    """
    batches = []
    for name in files:
        with pa.memory_map(str(name)) as mapped:
            batches.append(pa.ipc.open_file(mapped).get_batch(part))
    return pa.Table.from_batches(batches)


def read_whole(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file into memory: it may be deleted while the table lives on.

    Args:
        file: The file.
        columns: Which columns, of which alone the bytes are read; None for all.
    """
    with pa.OSFile(str(file)) as opened:
        if columns is None:
            return pa.ipc.open_file(opened).read_all()
        schema = pa.ipc.open_file(opened).schema
        wanted = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
        return pa.ipc.open_file(opened, options=wanted).read_all()


def _write(file: Path, schema: pa.Schema, write: Callable[[Any], object]) -> None:
    def to(half: Path) -> None:
        with pa.OSFile(str(half), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            write(writer)

    write_at_once(file, to)
