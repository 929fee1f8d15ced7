"""Shards written anew, their rows apart by what they belong to: a fold's segment of time, an entity's own rows.

Each row goes to one place or to none, and keeps its order among those of its shard. Shards are read where workers run,
a row group at a time; only file names travel. What was written whole is found again, by its content's description.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlflow_core.train.data.spread import spread
from mlflow_core.train.data.training_set import TrainingData

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Assign", "partition"]

Assign = Callable[[pa.Table], NDArray[np.int64]]
"""Says for each row of a table which place it goes to, from 0; -1 leaves it out. Picklable."""

_FLUSH_BYTES = 64 * 2**20  # kept in memory for each shard that is read, until it is written
_GROUP_ROWS = 65_536


def partition(
    data: TrainingData,
    part: str,
    assign: Assign,
    folder: Path,
    *,
    described: object,
    client: Client | None = None,
) -> Mapping[int, tuple[Path, ...]]:
    """Write rows apart.

    Args:
        data: The training set.
        part: Which of its parts.
        assign: Where each row goes.
        folder: Where it is written, in a folder of its own.
        described: JSON-able description of ``assign``: with the shards' identities it tells whether the same was
            written before.
        client: A cluster whose workers read and write; None does it here.

    Returns:
        The files of each place that has rows, in the order of the shards.

    Raises:
        TrainError: There are no workers.
    """
    files = data.files(part)
    facts = [data.identity(path) for path in files]
    digest = hashlib.sha256(orjson.dumps([facts, described])).hexdigest()[:24]
    whole = folder / digest
    if not whole.is_dir():
        aside = folder / f".{digest}.{uuid.uuid4().hex[:8]}"
        aside.mkdir(parents=True)
        try:
            calls = [(path, number, assign, aside) for number, path in enumerate(files)]
            spread(_cut_shard, calls, client)
            if not whole.is_dir():  # another process may have been as quick
                aside.rename(whole)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    found: dict[int, list[Path]] = {}
    for path in sorted(whole.glob("*.parquet")):
        found.setdefault(int(path.name.partition("-")[0]), []).append(path)
    return {place: tuple(paths) for place, paths in sorted(found.items())}


def _cut_shard(call: tuple[Path, int, Assign, Path]) -> None:
    path, number, assign, folder = call
    kept: dict[int, list[pa.Table]] = {}
    size, turn = 0, 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            if not len(table):
                continue
            places = assign(table)
            order = np.argsort(places, kind="stable")
            found, first = np.unique(places[order], return_index=True)
            for place, start, stop in zip(found, first, [*first[1:], len(order)], strict=True):
                if place >= 0:
                    rows = table.take(pa.array(order[start:stop]))
                    kept.setdefault(int(place), []).append(rows)
                    size += rows.nbytes
            if size >= _FLUSH_BYTES:
                _write(kept, folder, number, turn)
                kept, size, turn = {}, 0, turn + 1
    _write(kept, folder, number, turn)


def _write(kept: Mapping[int, Sequence[pa.Table]], folder: Path, number: int, turn: int) -> None:
    for place, tables in kept.items():
        whole = folder / f"{place:06d}-{number:06d}-{turn:04d}.parquet"
        # Under a name of its own: one that was taken for lost may still write the same.
        part = whole.with_suffix(f".{uuid.uuid4().hex}")
        pq.write_table(pa.concat_tables(tables), part, row_group_size=_GROUP_ROWS, compression="lz4")
        part.replace(whole)
