"""The Dask route: events and entity rows parted by key into files, one bucket computed at a time by a worker.

Only names, counts and specs pass through the scheduler. A source with ``event_id`` is parted twice: first by
identity, because a correction may move an event to another key, and all versions of an event must meet to know
when each ends; then by key. A parted file holds one Arrow batch for each bucket, so that a bucket is read without
the others. Files are written under a temporary name and renamed, so a task that ran twice leaves one whole file.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlflow_core import sources
from mlflow_core.engine.arrays import plain
from mlflow_core.engine.keys import check_key_types, check_source, stable_hash
from mlflow_core.engine.snapshot import Snapshot, snapshot_at
from mlflow_core.engine.versions import ROW, with_ends
from mlflow_core.engine.view import compute_view, needed_columns
from mlflow_core.errors import EngineError
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.sources import SourcePart
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["bucketed_features", "bucketed_snapshot"]

PLACE = "__place"
BUCKET_BYTES = 100_000_000
MOST_BUCKETS = 4_096
_ROWS_A_PART = 1 << 40  # leaves room for 8 million parts in an int64


def bucketed_features(
    client: Client,
    workdir: Path,
    read: ViewRead,
    spine: pa.Table,
    *,
    time_column: str,
    base: str,
    buckets: int | None,
    progress: Progress,
) -> pa.Table:
    """Compute a view's features at entity rows on a cluster's workers.

    Args:
        client: The cluster's client.
        workdir: A folder that all workers reach.
        read: The view, the features wanted, the clock and the keys.
        spine: Entity rows, (n,).
        time_column: The entity rows' time.
        base: Folder of the feature repository.
        buckets: Into how many parts keys are parted; None chooses by size.
        progress: Who is told.

    Returns:
        The features under their output names, (n,), in the entity rows' order.

    Raises:
        SourceError: As for ``compute_view``; or a worker's file cannot be read.
        EngineError: A sum of integers does not fit in int64, a bucket kills its workers, or the cluster goes away.
    """
    check_key_types(sources.read_schema(read.view.source, base), spine.schema, read)
    with _folder(workdir) as folder:
        found = sources.parts(read.view.source, base)
        n = buckets or _bucket_count(client, found)
        files = _parted_events(client, folder, read, found, base, n, progress)
        needed = {time_column, *(column for _, column in read.keys)}
        plain_rows = {name: plain(spine[name], name=name, title="entity rows") for name in sorted(needed)}
        rows = pa.table(plain_rows | {PLACE: pa.array(np.arange(spine.num_rows))})
        _write_parted(
            rows, _bucket_of(rows, [column for _, column in read.keys], n), n, folder / "rows.arrow"
        )
        tasks = [
            client.submit(_compute_bucket, bucket, files, folder, read, time_column, pure=False)
            for bucket in range(n)
        ]
        written = _finished(client, tasks, f"computing {read.view.name}", "buckets", progress)
        table = pa.concat_tables([_read_whole(Path(name)) for name in written])
        order = np.argsort(np.array(table[PLACE]), kind="stable")
        return table.drop_columns([PLACE]).take(pa.array(order))


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
        EngineError: As for ``bucketed_features``.
    """
    with _folder(workdir) as folder:
        found = sources.parts(read.view.source, base)
        n = buckets or _bucket_count(client, found)
        files = _parted_events(client, folder, read, found, base, n, progress)
        tasks = [
            client.submit(_snapshot_bucket, bucket, files, folder, read, boundary, pure=False)
            for bucket in range(n)
        ]
        done = _finished(client, tasks, f"materialising {read.view.name}", "buckets", progress)
        table = pa.concat_tables([_read_whole(Path(name)) for name, _, _ in done])
        return Snapshot(table, sum(events for _, events, _ in done), sum(dropped for _, _, dropped in done))


@contextmanager
def _folder(workdir: Path) -> Iterator[Path]:
    folder = workdir / f"engine-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        # Tasks that were cancelled may still be writing: under another name the folder is out of their reach.
        shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.gone")), ignore_errors=True)


def _bucket_count(client: Client, found: Sequence[SourcePart]) -> int:
    size = sum(part.bytes for part in found)
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
) -> list[str]:
    """Part the source by key, and tell the files' names."""
    source = read.view.source
    schema = sources.read_schema(source, base)
    check_source(schema, read.view)
    columns = needed_columns(read, schema.names)
    by = list(read.view.keys) if source.event_id is None else [source.event_id]
    tasks = [
        client.submit(_part_file, part, number, columns, by, n, folder, pure=False)
        for number, part in enumerate(found)
    ]
    files: list[str] = _finished(client, tasks, f"parting {source.name}", "files", progress)
    if source.event_id is None:
        return files
    tasks = [client.submit(_part_versions, bucket, files, read, n, folder, pure=False) for bucket in range(n)]
    parted: list[str] = _finished(client, tasks, f"parting versions of {source.name}", "buckets", progress)
    return parted


def _finished(client: Client, tasks: list[Any], name: str, unit: str, progress: Progress) -> list[Any]:
    """Wait for tasks; the first failure cancels the others."""
    from distributed import CancelledError, KilledWorker, as_completed

    try:
        with progress.stage(name, total=len(tasks), unit=unit) as stage:
            for done in as_completed(tasks):
                done.result()
                stage.advance(1)
        results: list[Any] = client.gather(tasks)
        return results
    except KilledWorker as error:
        raise EngineError(
            f"{name}: a bucket killed the workers that tried it ({error})",
            hint="Most likely it outgrew their memory: use more buckets, or workers with more memory.",
        ) from error
    except CancelledError as error:
        raise EngineError(
            f"{name}: the Dask cluster went away while it was at work",
            hint="Nothing was written; start a cluster and run it again.",
        ) from error
    finally:
        if client.status == "running":
            client.cancel(tasks)


def _part_file(
    part: SourcePart, number: int, columns: Sequence[str], by: list[str], n: int, folder: Path
) -> str:
    table = part.read(columns)
    row = number * _ROWS_A_PART + np.arange(table.num_rows, dtype=np.int64)
    table = table.append_column(ROW, pa.array(row))
    return _write_parted(table, _bucket_of(table, by, n), n, folder / f"part-{number:06d}.arrow")


def _part_versions(bucket: int, files: list[str], read: ViewRead, n: int, folder: Path) -> str:
    table = with_ends(_read_bucket(files, bucket), read.view, read.clock)
    return _write_parted(table, _bucket_of(table, read.view.keys, n), n, folder / f"ended-{bucket:06d}.arrow")


def _compute_bucket(bucket: int, files: list[str], folder: Path, read: ViewRead, time_column: str) -> str:
    rows = _read_bucket([str(folder / "rows.arrow")], bucket)
    features = compute_view(_read_bucket(files, bucket), rows, read, time_column=time_column)
    return _write_whole(features.append_column(PLACE, rows[PLACE]), folder / f"features-{bucket:06d}.arrow")


def _snapshot_bucket(
    bucket: int, files: list[str], folder: Path, read: ViewRead, boundary: int
) -> tuple[str, int, int]:
    snapshot = snapshot_at(_read_bucket(files, bucket), read, boundary)
    name = _write_whole(snapshot.table, folder / f"snapshot-{bucket:06d}.arrow")
    return name, snapshot.events, snapshot.dropped_keys


def _bucket_of(table: pa.Table, by: Sequence[str], n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return (stable_hash(table, by) % np.uint64(n)).astype(np.int64)


def _write_parted(table: pa.Table, bucket: np.ndarray[Any, np.dtype[np.int64]], n: int, file: Path) -> str:
    """Write one batch for each bucket; rows keep their order inside a bucket."""
    order = np.argsort(bucket, kind="stable")
    edges = np.searchsorted(bucket[order], np.arange(n + 1))
    ordered = table.take(pa.array(order))
    arrays = [pa.concat_arrays(c.chunks) if c.num_chunks else pa.array([], c.type) for c in ordered.columns]
    batch = pa.RecordBatch.from_arrays(arrays, schema=ordered.schema)
    return _written(
        file,
        ordered.schema,
        lambda writer: [
            writer.write_batch(batch.slice(first, last - first))
            for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ],
    )


def _write_whole(table: pa.Table, file: Path) -> str:
    return _written(file, table.schema, lambda writer: writer.write_table(table))


def _written(file: Path, schema: pa.Schema, write: Callable[[Any], object]) -> str:
    half = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with pa.OSFile(str(half), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            write(writer)
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)
    return str(file)


def _read_bucket(files: Sequence[str], bucket: int) -> pa.Table:
    batches = []
    for name in files:
        with pa.memory_map(name) as mapped:
            batches.append(pa.ipc.open_file(mapped).get_batch(bucket))
    return pa.Table.from_batches(batches)


def _read_whole(file: Path) -> pa.Table:
    # Read, not mapped: the file is deleted while the table lives on.
    with pa.OSFile(str(file)) as opened:
        return pa.ipc.open_file(opened).read_all()
