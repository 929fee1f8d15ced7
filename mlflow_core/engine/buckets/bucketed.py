"""Buckets: one task computes all views of one set of keys at the entity rows of one range of key hashes.

Events come out of mapped layouts, entity rows out of the files they were parted into. Features are written once, one
file a bucket with a batch for each range of entity rows, so that whoever puts a range together reads no more than
that range. A bucket that outgrew its size is worked through in pieces (``mlflow_core.engine.buckets.splitting``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlflow_core.engine.buckets.rows import PLACE, PartedRows
from mlflow_core.engine.buckets.splitting import compute_within
from mlflow_core.engine.cluster.tasks import Amount
from mlflow_core.engine.events.arrays import gather
from mlflow_core.engine.events.run import Run, SortedRows
from mlflow_core.engine.files.parted import integers, one_array, read_part, write_batches
from mlflow_core.engine.layouts.layout import code_edges
from mlflow_core.engine.layouts.stored import Stored
from mlflow_core.engine.times import Int64
from mlflow_core.engine.views.view import value_columns
from mlflow_core.plan.retrieval import ViewRead

__all__ = ["FeatureFiles", "Joined", "Limits", "compute_bucket"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is held in memory at once, in bytes.

    Attributes:
        events: Of a view's events.
        features: Of features.
    """

    events: int = 256 << 20
    features: int = 192 << 20


@dataclass(frozen=True, slots=True)
class Joined:
    """The views that are joined on one set of the entity rows' columns; small enough to be sent with each task.

    Attributes:
        places: Which of the plan's reads they are.
        reads: The views, the features wanted, the clocks and the keys.
        stored: Where the events of each are.
    """

    places: tuple[int, ...]
    reads: tuple[ViewRead, ...]
    stored: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class FeatureFiles:
    """The features of views of one set of keys, in files; small enough to be sent with each task.

    Attributes:
        folder: Where the files are.
        parted: The entity rows, as they were parted.
        joined: The views.
    """

    folder: Path
    parted: PartedRows
    joined: Joined

    def read(self, number: int) -> dict[int, pa.Table]:
        """Read the features of one range of entity rows, in the caller's order.

        Args:
            number: Which.

        Returns:
            By place in the plan's reads, the features under their output names.
        """
        files = [self.file(bucket) for bucket in range(self.parted.n_buckets)]
        table = read_part(files, number)
        order = _inverse(integers(table[PLACE]))
        found = {}
        for place, read in zip(self.joined.places, self.joined.reads, strict=True):
            names = [read.output(name) for name in read.view.feature_names if name in read.features]
            columns = [
                gather(table[_called(place, name)], order, name=name, title=read.view.title) for name in names
            ]
            found[place] = pa.table(columns, names)
        return found

    def file(self, bucket: int) -> Path:
        """Return the file of a bucket."""
        return self.folder / f"features-{self.parted.number:03d}-{bucket:06d}.arrow"


def compute_bucket(bucket: int, files: FeatureFiles, limits: Limits) -> Amount:
    """Compute one bucket's features at all its entity rows, and write them.

    Args:
        bucket: Which.
        files: What is computed, and where it goes.
        limits: How much is worked on at once.

    Raises:
        SourceError: As for ``compute_runs``.
        EngineError: A sum of integers does not fit in int64, or a file is not seen by this process.
    """
    sizes = files.parted.sizes(bucket)
    n_features = sum(len(read.features) for read in files.joined.reads)
    most = max(1, limits.features // (8 * n_features + 64))

    def batches() -> Iterator[pa.RecordBatch]:
        for ranges in _fitting(sizes, most):
            asked = files.parted.sorted(bucket, ranges)
            edges = np.cumsum([0, *sizes[ranges.start : ranges.stop]])
            table = _features(bucket, files, asked.run, _by_range(asked, edges), limits)
            columns = [one_array(column) for column in table.columns]
            batch = pa.RecordBatch.from_arrays(columns, table.column_names)
            yield from (batch.slice(a, b - a) for a, b in pairwise(edges.tolist()))

    coming = batches()
    first = next(coming)
    write_batches(_all(first, coming), first.schema, files.file(bucket))
    return Amount(rows=sum(sizes))


def _by_range(asked: SortedRows, edges: Int64) -> Int64:
    """Order a bucket's rows by range, and in each as they are sorted: so that values are picked nearly in a row."""
    number = np.searchsorted(edges, asked.place, side="right").astype(
        np.int16 if len(edges) < 1 << 15 else np.int64
    )
    return np.argsort(number, kind="stable")


def _features(bucket: int, files: FeatureFiles, asked: Run, back: Int64, limits: Limits) -> pa.Table:
    """All views' features at some entity rows, and the rows' places in their ranges."""
    low, high = code_edges(files.parted.n_buckets)[bucket : bucket + 2]
    columns: dict[str, pa.ChunkedArray] = {PLACE: asked.rows[PLACE].take(pa.array(back))}
    for place, read, stored in zip(files.joined.places, files.joined.reads, files.joined.stored, strict=True):
        # Opened for one view at a time: pages of a mapped file count as the worker's memory until it is closed.
        events = stored.open()
        runs = events.runs(low, high, value_columns(read, events.layouts[0].rows.column_names))
        found = compute_within(
            runs, asked, read, time_column=files.parted.time_column, limit=limits.events, back=back
        )
        columns |= {_called(place, name): found[name] for name in found.column_names}
        del runs, events
    return pa.table(columns)


def _fitting(sizes: Sequence[int], most: int) -> Iterator[range]:
    """Ranges of entity rows, as many at a time as fit, at least one."""
    first = 0
    while first < len(sizes):
        stop, held = first + 1, sizes[first]
        while stop < len(sizes) and held + sizes[stop] <= most:
            held += sizes[stop]
            stop += 1
        yield range(first, stop)
        first = stop


def _called(place: int, name: str) -> str:
    return f"{place}.{name}"  # two views may have features of one name


def _inverse(order: Int64) -> Int64:
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def _all(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others
