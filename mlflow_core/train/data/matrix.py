"""The training set as float32 rows in a file that is mapped into memory: made once, found again by its content's name.

It holds what ``Preprocessing`` makes of the features, not scaled, and behind it the label and other columns that a
trainer reads. Rows that networks train on were shuffled once, when it was written; others keep their order. It is an entry of a
cache (``engine.files.entries``): whole or not there, and of two who build it at once the first wins. A matrix that is
found is read once to its end before it is used: what was truncated or damaged is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlflow_core.engine.files.entries import FACTS, facts_of, write_entry
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.errors import MachineError, TrainError, disk_is_full
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train.data.label import check_number
from mlflow_core.train.data.pieces import Piece
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.data.scatter import (
    Bucket,
    GroupTask,
    Range,
    describe,
    scattering,
    sum_of_rows,
    write_bucket,
    write_group,
)
from mlflow_core.train.data.shuffle import block_of
from mlflow_core.train.data.spread import spread
from mlflow_core.train.data.training_set import TrainingData, check_columns

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["StoredMatrix", "build_matrix", "held"]

_FORMAT = 1
_FILE, _SCATTERED = "matrix.f32", "scattered.f32"
_LOG = get_logger(__name__)


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix in a file; small, so it can be sent to the ranks, which open it where they run.

    Args:
        path: The file of its rows: float32, little-endian, one row after the other.
        rows: How many it has.
        columns: The names of its columns: those of the preprocessing, then the further ones.
        features: How many of them the preprocessing made.
        digest: Tells its content: equal for equal rows in an equal order.
    """

    path: Path
    rows: int
    columns: tuple[str, ...]
    features: int
    digest: str

    @property
    def name(self) -> str:
        """Its entry's name in the cache."""
        return self.path.parent.name

    @property
    def width(self) -> int:
        """How many columns it has."""
        return len(self.columns)

    @property
    def block(self) -> int:
        """How many rows a block of a ``BlockOrder`` over it should have."""
        return block_of(self.width)

    def column(self, name: str) -> int:
        """Where a further column is, e.g. the label.

        Raises:
            TrainError: It has no such column.
        """
        if name not in self.columns[self.features :]:
            raise TrainError(f'the matrix was built without the column "{name}"', place=str(self.path))
        return self.columns.index(name, self.features)

    def check(self) -> None:
        """Make sure that this host sees the rows that were built.

        Raises:
            TrainError: There is no such matrix here, or another one.
        """
        facts = facts_of(self.path.parent)
        if facts is None or facts.get("digest") != self.digest:
            raise MachineError(
                "the matrix is not the one that was built" if facts else "there is no such matrix here",
                place=str(self.path),
                expected="a cache that all workers share with the caller",
            )

    def open(self) -> NDArray[np.float32]:
        """Map it into memory, (rows, width) float32, not writable.

        Raises:
            TrainError: It is not there, or not as long as it was.
        """
        self._check_size()
        if not self.rows:
            return np.empty((self.rows, self.width), dtype=np.float32)
        # A plain array on the map: numpy.memmap's own class costs microseconds at each slice.
        return np.asarray(np.memmap(self.path, np.float32, mode="r", shape=(self.rows, self.width)))

    def read(self, starts: Sequence[int], rows: int) -> NDArray[np.float32]:
        """Read runs of rows; unlike what is mapped, they take memory only as long as they are kept.

        Args:
            starts: The first row of each run.
            rows: How many rows a run has.

        Returns:
            Array (n_runs * rows, width), float32.

        Raises:
            TrainError: It is not there, or not as long as it was.
        """
        self._check_size()
        found = np.empty((len(starts), rows * self.width), dtype=np.float32)
        try:
            with self.path.open("rb") as file:
                for start, run in zip(starts, found, strict=True):
                    file.seek(start * self.width * 4)
                    if file.readinto(run.view(np.uint8).data) < run.nbytes:
                        raise MachineError("the matrix ended while it was read", place=str(self.path))
        except OSError as error:
            raise self._unreadable(error) from error
        return found.reshape(-1, self.width)

    def _unreadable(self, error: OSError) -> MachineError:
        return MachineError(
            f"the matrix cannot be read: {error.strerror}",
            place=str(self.path),
            hint="If it was removed meanwhile, run the same again: it is built anew.",
        )

    def _check_size(self) -> None:
        size = self.rows * self.width * 4
        try:
            found = self.path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from error
        if found != size:
            raise MachineError(f"the matrix has {found:,} bytes", place=str(self.path), expected=f"{size:,}")


def build_matrix(
    data: TrainingData,
    part: str,
    preprocessing: Preprocessing,
    columns: Sequence[str],
    folder: Path,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
    seed: int | None = 0,
) -> StoredMatrix:
    """Find a part's matrix in the cache, or build it there.

    Args:
        data: The training set.
        part: ``train``, whose rows are shuffled if there is a seed; ``validate`` or ``test``, whose are not.
        preprocessing: How the features become numbers.
        columns: Further columns behind them, numbers or booleans: the label, weights.
        folder: The cache; all workers reach it.
        client: The cluster on whose workers it is built; None for this process.
        progress: Told of the rows written.
        seed: Seed of the order of a training part; None keeps the rows' own.

    Returns:
        The matrix. Whether it was there already changes nothing in it.

    Raises:
        TrainError: A column does not exist or is of another kind than it was, a shard cannot be read, the folder's
            disk is full.
        EngineError: The folder cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from mlflow_core.train.data.preprocess import Feature
        >>> own = TemporaryDirectory()
        >>> shard, cache = Path(own.name, "0.parquet"), Path(own.name, "cache")
        >>> pq.write_table(pa.table({"delay": [1.5, None], "late": [0, 1]}), shard)
        >>> data = TrainingData({"validate": (shard,)}, label="late", features=("delay",))
        >>> delay = Preprocessing((Feature("delay", "number", "double"),))
        >>> matrix = build_matrix(data, "validate", delay, [data.label], cache)
        >>> matrix.columns
        ('delay', 'late')
        >>> matrix.open().tolist()
        [[1.5, 0.0], [nan, 1.0]]
        >>> own.cleanup()
    """
    build = _Build(
        tuple(_look(path, data, preprocessing, columns) for path in data.files(part)),
        part,
        preprocessing,
        tuple(columns),
        seed if part == "train" else None,
    )
    entry = Path(folder) / build.name
    facts = _found(entry)
    if facts is None:
        facts = write_entry(entry, partial(build.fill, client=client, progress=progress or SilentProgress()))
    else:
        os.utime(entry / FACTS)
    return StoredMatrix(
        entry / _FILE, facts["rows"], tuple(facts["matrix_columns"]), preprocessing.width, facts["digest"]
    )


@contextmanager
def held(*matrices: StoredMatrix) -> Iterator[None]:
    """Keep matrices for the time of a ``with`` block, whoever cleans their cache meanwhile.

    Raises:
        EngineError: The cache cannot be written to.
    """
    folders = {matrix.path.parent.parent for matrix in matrices}
    if len(folders) > 1:
        raise ValueError(f"the matrices are in different caches: {sorted(map(str, folders))}")
    if not folders:
        yield
        return
    with Cache(folders.pop()).leased([matrix.name for matrix in matrices]):
        yield


@dataclass(frozen=True)
class _Shard:
    """A shard as it was when it was looked at."""

    path: Path
    size: int
    changed_ns: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class _Build:
    """All that decides a matrix's content."""

    shards: tuple[_Shard, ...]
    part: str
    preprocessing: Preprocessing
    columns: tuple[str, ...]
    seed: int | None

    @property
    def rows(self) -> int:
        return sum(sum(shard.groups) for shard in self.shards)

    @property
    def width(self) -> int:
        return self.preprocessing.width + len(self.columns)

    @property
    def name(self) -> str:
        told = {
            "format": _FORMAT,
            "shards": [[str(one.path), one.size, one.changed_ns, one.groups] for one in self.shards],
            "preprocessing": self.preprocessing.digest,
            "columns": self.columns,
            "seed": self.seed,
        }
        return f"matrix-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:40]}"

    def fill(self, draft: Path, *, client: Client | None, progress: Progress) -> dict[str, Any]:
        """Write the rows into a draft of the entry; returns what is recorded with them."""
        size = self.rows * self.width * 4
        try:
            ranges = self._write(draft, size, client, progress)
        except OSError as error:
            raise MachineError(
                f'the matrix of the part "{self.part}", {size:,} bytes, cannot be written: '
                f"{error.strerror or error}",
                place=str(draft.parent),
                expected="a folder that this process and all workers reach, with room for it"
                + ("" if self.seed is None else " twice while it is built"),
                hint="Make room, or empty it with: mlcore cache clean" if disk_is_full(error) else None,
            ) from error
        written = [[one.first, one.rows, one.sum] for one in sorted(ranges, key=lambda one: one.first)]
        return {
            "kind": "matrix",
            "source": self.shards[0].path.parent.name,
            "shards": [str(one.path) for one in self.shards],
            "part": self.part,
            "rows": self.rows,
            "columns": [*self.preprocessing.names, *self.columns],
            "matrix_columns": [*self.preprocessing.columns, *self.columns],
            "ranges": written,
            "digest": hashlib.sha256(json.dumps([self.width, written]).encode()).hexdigest(),
        }

    def _write(self, draft: Path, size: int, client: Client | None, progress: Progress) -> list[Range]:
        file = draft / _FILE
        first = file if self.seed is None else draft / _SCATTERED
        for one in {file, first}:
            _reserve(one, size)
        described, rounds = describe(self.preprocessing, draft), 1 if self.seed is None else 2
        with progress.stage(f"writing the matrix of {self.part}", rounds * self.rows, "rows") as stage:
            tasks = self._groups(first, described)
            ranges = spread(write_group, tasks, client, lambda written: stage.advance(written.rows))
            described.unlink()
            if self.seed is not None:
                buckets = self._buckets(first, file)
                ranges = spread(write_bucket, buckets, client, lambda written: stage.advance(written.rows))
                first.unlink()
        return ranges

    def _groups(self, file: Path, described: Path) -> list[GroupTask]:
        pieces = [
            Piece(shard.path, group, 0, rows)
            for shard in self.shards
            for group, rows in enumerate(shard.groups)
            if rows
        ]
        rows = [piece.rows for piece in pieces]
        starts: NDArray[np.int64] = (np.cumsum(rows) - rows).reshape(-1, 1).astype(np.int64)
        if self.seed is not None:
            starts = scattering(rows, self.width, self.seed).starts
        return [
            GroupTask(piece, number, described, self.columns, file, starts[number], self.seed)
            for number, piece in enumerate(pieces)
        ]

    def _buckets(self, source: Path, file: Path) -> list[Bucket]:
        assert self.seed is not None
        rows = [rows for shard in self.shards for rows in shard.groups if rows]
        bounds = scattering(rows, self.width, self.seed).bounds
        return [
            Bucket(number, int(first), int(stop - first), self.width, source, file, self.seed)
            for number, (first, stop) in enumerate(pairwise(bounds))
            if stop > first
        ]


def _look(path: Path, data: TrainingData, preprocessing: Preprocessing, columns: Sequence[str]) -> _Shard:
    try:
        place, size, changed = data.identity(path)
        with pq.ParquetFile(path) as file:
            schema, meta = file.schema_arrow, file.metadata
            groups = tuple(meta.row_group(group).num_rows for group in range(file.num_row_groups))
    except (OSError, pa.ArrowException) as error:
        raise TrainError(f"the shard cannot be read: {error}", place=str(path)) from error
    check_columns(schema, (*preprocessing.names, *columns), path)
    for name in columns:
        check_number("label" if name == data.label else "column", name, schema.field(name).type, path)
    return _Shard(Path(place), size, changed, groups)


def _found(entry: Path) -> dict[str, Any] | None:
    """What is recorded with an entry, if it is there and its rows are what they were."""
    facts = facts_of(entry)
    if facts is None:
        return None
    try:
        width, size = len(facts["matrix_columns"]), (entry / _FILE).stat().st_size
        whole = size == facts["rows"] * width * 4 and all(
            sum_of_rows(entry / _FILE, first, rows, width) == expected
            for first, rows, expected in facts["ranges"]
        )
    except (OSError, KeyError, TypeError, ValueError):
        whole = False
    if whole:
        return facts
    _LOG.warning("the matrix %s is damaged, and is built again", entry)
    (entry / FACTS).unlink(missing_ok=True)  # without it the entry is not one, and its writer replaces it
    return None


def _reserve(file: Path, size: int) -> None:
    """Take the disk's room now: a full disk is told before the work, not at its end."""
    with file.open("wb") as opened:
        if size:
            os.posix_fallocate(opened.fileno(), 0, size)
