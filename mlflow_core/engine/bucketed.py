"""The Dask route: events and entity rows parted by key into files, one bucket computed at a time by a worker.

Only names, counts and specs pass through the scheduler. A source with ``event_id`` is parted twice: first by
identity, because a correction may move an event to another key, and all versions of an event must meet to know
when each ends; then by key. Of a view's features there is one file a bucket, with a batch for each range of entity
rows, so that whoever puts a range together reads no more than that range.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mlflow_core import sources
from mlflow_core.engine.arrays import plain
from mlflow_core.engine.drafts import draft_folder
from mlflow_core.engine.keys import check_source, stable_hash
from mlflow_core.engine.parted import read_part, read_whole, write_parted, write_ranges, write_whole
from mlflow_core.engine.rows import RowFiles
from mlflow_core.engine.snapshot import Snapshot, snapshot_at
from mlflow_core.engine.tasks import finished
from mlflow_core.engine.times import Int64
from mlflow_core.engine.versions import ROW, with_ends
from mlflow_core.engine.view import compute_view, needed_columns
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.sources import SourcePart
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ViewFiles", "bucketed_snapshot", "bucketed_view"]

PLACE = "__place"
BUCKET_BYTES = 100_000_000
MOST_BUCKETS = 4_096
_BYTES_A_ROW = 64  # of an entity row's key, time and place
_ROWS_A_PART = 1 << 40  # leaves room for 8 million parts in an int64


@dataclass(frozen=True, slots=True)
class ViewFiles:
    """One view's features at all entity rows, in files; small enough to be sent with each task.

    Attributes:
        folder: Where the files are.
        n_buckets: How many there are.
    """

    folder: Path
    n_buckets: int

    def read(self, number: int) -> pa.Table:
        """Read the features of one range of entity rows, in the rows' order, under their output names."""
        table = read_part(_files(self.folder, "features", self.n_buckets), number)
        order = np.argsort(np.array(table[PLACE]), kind="stable")
        return table.drop_columns([PLACE]).take(pa.array(order))


def bucketed_view(
    client: Client,
    folder: Path,
    read: ViewRead,
    rows: RowFiles,
    *,
    time_column: str,
    base: str,
    buckets: int | None,
    progress: Progress,
) -> ViewFiles:
    """Compute a view's features at entity rows on a cluster's workers.

    Args:
        client: The cluster's client.
        folder: An empty folder that all workers reach; only the features' files are left in it.
        read: The view, the features wanted, the clock and the keys.
        rows: Entity rows.
        time_column: The entity rows' time.
        base: Folder of the feature repository.
        buckets: Into how many parts keys are parted; None chooses by size.
        progress: Who is told.

    Raises:
        SourceError: As for ``compute_view``; or a worker's file cannot be read.
        EngineError: A sum of integers does not fit in int64, a bucket kills its workers, or the cluster goes away.
    """
    name = read.view.name
    parted = folder / "parted"
    parted.mkdir()
    found = sources.parts(read.view.source, base)
    n = buckets or _bucket_count(client, found, rows.n_rows)
    files = _parted_events(client, parted, read, found, base, n, progress)
    tasks = [
        client.submit(_part_rows, number, rows, parted, read, time_column, n, pure=False)
        for number in range(rows.n_ranges)
    ]
    finished(client, tasks, f"parting entity rows for {name}", "ranges", progress)
    tasks = [
        client.submit(_compute_bucket, bucket, files, parted, folder, rows, read, time_column, pure=False)
        for bucket in range(n)
    ]
    finished(client, tasks, f"computing {name}", "buckets", progress)
    shutil.rmtree(parted)
    return ViewFiles(folder, n)


def bucketed_snapshot(
    client: Client,
    workdir: Path,
    read: ViewRead,
    boundary: int,
    *,
    base: str,
    buckets: int | None,
    progress: Progress,
) -> Snapshot:
    """Compute a view at a boundary on a cluster's workers; see ``mlflow_core.engine.snapshot.snapshot_at``.

    Args:
        client: The cluster's client.
        workdir: A folder that all workers reach.
        read: From ``snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.
        base: Folder of the feature repository.
        buckets: Into how many parts keys are parted; None chooses by size.
        progress: Who is told.

    Raises:
        SourceError: The source cannot be read, or lacks a column.
        EngineError: As for ``bucketed_view``.
    """
    with draft_folder(workdir, "engine") as folder:
        found = sources.parts(read.view.source, base)
        n = buckets or _bucket_count(client, found, 0)
        files = _parted_events(client, folder, read, found, base, n, progress)
        tasks = [
            client.submit(_snapshot_bucket, bucket, files, folder, read, boundary, pure=False)
            for bucket in range(n)
        ]
        done = finished(client, tasks, f"materialising {read.view.name}", "buckets", progress)
        table = pa.concat_tables([read_whole(file) for file in _files(folder, "snapshot", n)])
        events, dropped_keys, dropped_times = (sum(counts) for counts in zip(*done, strict=True))
        return Snapshot(table, events, dropped_keys, dropped_times)


def _bucket_count(client: Client, found: Sequence[SourcePart], n_rows: int) -> int:
    size = sum(part.bytes for part in found) + n_rows * _BYTES_A_ROW
    threads = sum(client.nthreads().values())
    return int(min(MOST_BUCKETS, max(1, threads, -(-size // BUCKET_BYTES))))


def _parted_events(
    client: Client,
    folder: Path,
    read: ViewRead,
    found: Sequence[SourcePart],
    base: str,
    n: int,
    progress: Progress,
) -> list[Path]:
    """Part the source by key, and tell the files."""
    source = read.view.source
    schema = sources.read_schema(source, base)
    check_source(schema, read.view)
    columns = needed_columns(read, schema.names)
    by = list(read.view.keys) if source.event_id is None else [source.event_id]
    tasks = [
        client.submit(_part_file, part, number, columns, by, n, folder, pure=False)
        for number, part in enumerate(found)
    ]
    finished(client, tasks, f"parting {source.name}", "files", progress)
    files = _files(folder, "events", len(found))
    if source.event_id is None:
        return files
    tasks = [client.submit(_part_versions, bucket, files, read, n, folder, pure=False) for bucket in range(n)]
    finished(client, tasks, f"parting versions of {source.name}", "buckets", progress)
    return _files(folder, "ended", n)


def _part_file(
    part: SourcePart, number: int, columns: Sequence[str], by: list[str], n: int, folder: Path
) -> None:
    table = part.read(columns)
    row = number * _ROWS_A_PART + np.arange(table.num_rows, dtype=np.int64)
    table = table.append_column(ROW, pa.array(row))
    write_parted(table, _bucket_of(table, by, n), n, _file(folder, "events", number))


def _part_versions(bucket: int, files: list[Path], read: ViewRead, n: int, folder: Path) -> None:
    table = with_ends(read_part(files, bucket), read.view, read.clock)
    write_parted(table, _bucket_of(table, read.view.keys, n), n, _file(folder, "ended", bucket))


def _part_rows(number: int, rows: RowFiles, folder: Path, read: ViewRead, time_column: str, n: int) -> None:
    by = [column for _, column in read.keys]
    names = sorted({time_column, *by})
    table = rows.read(number, names)
    columns = {name: plain(table[name], name=name, title="entity rows") for name in names}
    place = np.arange(rows.edges[number], rows.edges[number + 1], dtype=np.int64)
    table = pa.table(columns | {PLACE: pa.array(place)})
    write_parted(table, _bucket_of(table, by, n), n, _file(folder, "rows", number))


def _compute_bucket(
    bucket: int,
    files: list[Path],
    parted: Path,
    folder: Path,
    rows: RowFiles,
    read: ViewRead,
    time_column: str,
) -> None:
    queries = read_part(_files(parted, "rows", rows.n_ranges), bucket)
    features = compute_view(read_part(files, bucket), queries, read, time_column=time_column)
    # Ranges were parted in order, and rows keep theirs inside a bucket, so places ascend.
    edges = np.searchsorted(np.array(queries[PLACE]), rows.edges).astype(np.int64)
    write_ranges(features.append_column(PLACE, queries[PLACE]), edges, _file(folder, "features", bucket))


def _snapshot_bucket(
    bucket: int, files: list[Path], folder: Path, read: ViewRead, boundary: int
) -> tuple[int, int, int]:
    snapshot = snapshot_at(read_part(files, bucket), read, boundary)
    write_whole(snapshot.table, _file(folder, "snapshot", bucket))
    return snapshot.events, snapshot.dropped_keys, snapshot.dropped_times


def _bucket_of(table: pa.Table, by: Sequence[str], n: int) -> Int64:
    return np.asarray(stable_hash(table, by) % np.uint64(n), np.int64)


def _file(folder: Path, what: str, number: int) -> Path:
    return folder / f"{what}-{number:06d}.arrow"


def _files(folder: Path, what: str, n: int) -> list[Path]:
    return [_file(folder, what, number) for number in range(n)]
