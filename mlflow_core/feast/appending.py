"""Rows that come in through Feast's API and go to files: pushes to a batch source, and logged features."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.feature_view import FeatureView as FeastView
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource

from mlflow_core.errors import SourceError, UsageError, nearest

__all__ = ["append_to_log", "append_to_source"]

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def append_to_source(feature_view: FeastView, table: pa.Table, *, repo_path: str) -> None:
    """Append rows to a view's Parquet file, or add a file to its folder; complete or not at all.

    Several processes may do so at once: none loses another's rows.

    Args:
        feature_view: The view whose batch source grows.
        table: Rows with the source's columns, in any order.
        repo_path: Folder of the feature repository.

    Raises:
        UsageError: The source is no local Parquet source, or the columns are not the source's.
        SourceError: The file cannot be written.
    """
    source = feature_view.batch_source
    if not isinstance(source, FileSource) or "://" in source.path.removeprefix("file://"):
        raise UsageError(
            f"its source {type(source).__name__} cannot be appended to",
            object=f'FeatureView "{feature_view.name}"',
            expected="a local Parquet file or folder",
        )
    target = Path(repo_path) / source.path.removeprefix("file://")
    if target.name.endswith("*.parquet") and not any(sign in str(target.parent) for sign in "*?["):
        target = target.parent
        target.mkdir(parents=True, exist_ok=True)
    if any(sign in str(target) for sign in "*?["):
        raise UsageError(
            f'a path of several folders or files cannot be appended to ("{source.path}")',
            object=f'source "{source.name}"',
            expected="a file, a folder, or FOLDER/*.parquet",
        )
    if target.is_dir():
        aligned = _aligned(table, _schema_of_folder(target), source.name)
        _write(aligned, target / f"{uuid.uuid4().hex}.parquet")
        return
    with _alone(target.parent):
        if target.exists():
            before = pq.read_table(target)
            table = pa.concat_tables([before, _aligned(table, before.schema, source.name)])
        _write(table, target)


def append_to_log(rows: pa.Table, destination: Any, *, repo_path: str) -> None:
    """Add logged rows as a new Parquet file to a logging folder, or to each of its partitions that they belong to.

    Partitions are folders as ``day=2024-03-01``, so that their columns are read again; Feast's own store leaves out
    the columns' names, and does not find them again.

    Raises:
        UsageError: The destination is no folder on this machine, or is parted by a column that the rows lack.
        SourceError: A file cannot be written.
    """
    if not isinstance(destination, FileLoggingDestination) or "://" in destination.path:
        raise UsageError(
            f"features cannot be logged to {getattr(destination, 'path', type(destination).__name__)}",
            expected="a FileLoggingDestination of a folder on this machine",
        )
    folder, name = Path(repo_path) / destination.path, f"{uuid.uuid4().hex}.parquet"
    for partition, held in _parted(rows, destination.partition_by or []):
        (folder / partition).mkdir(parents=True, exist_ok=True)
        _write(held, folder / partition / name)


def _parted(rows: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Yield each partition's folder with its rows, without the columns that its name tells."""
    for column in columns:
        if column not in rows.column_names:
            raise UsageError(
                f'the logged features have no column "{column}", which their folder is parted by',
                hint=nearest(column, rows.column_names),
            )
    texts = [pc.fill_null(rows[column].cast(pa.string()), _NO_VALUE).to_pylist() for column in columns]
    named = pa.array(
        ["/".join(map(_folder, columns, values)) for values in zip(*texts, strict=True)]
        if columns
        else [""] * rows.num_rows,
        pa.string(),
    )
    kept = rows.drop_columns(list(columns))
    for folder in pc.unique(named).to_pylist() or [""]:
        yield folder, kept.filter(pc.equal(named, folder))


def _folder(column: str, text: str) -> str:
    return f"{quote(column, safe='')}={quote(text, safe='')}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock: of two processes that read, extend and replace one file, one would lose its rows."""
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SourceError(f"cannot be written: {error.strerror}", place=str(folder)) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _schema_of_folder(folder: Path) -> pa.Schema | None:
    first = next(iter(sorted(folder.rglob("*.parquet"))), None)
    return pq.read_schema(first) if first else None


def _aligned(table: pa.Table, schema: pa.Schema | None, source: str) -> pa.Table:
    if schema is None:
        return table
    unknown = [name for name in table.column_names if name not in schema.names]
    missing = [name for name in schema.names if name not in table.column_names]
    if unknown or missing:
        named = (
            f'has no column "{missing[0]}"'
            if missing
            else f'has a column "{unknown[0]}" that is not in the source'
        )
        raise UsageError(
            f"the written rows' table {named}",
            object=f'source "{source}"',
            hint=nearest((unknown or missing)[0], schema.names),
        )
    columns = [_fitted(table[field.name], field, source) for field in schema]
    return pa.table(columns, schema=schema)


def _fitted(column: pa.ChunkedArray, field: pa.Field, source: str) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        # Arrow makes structs of a frame's dictionaries, each with the keys of all of them.
        of_dictionaries = pa.types.is_map(field.type) and pa.types.is_struct(column.type)
        raise UsageError(
            f'column "{field.name}" of the written rows does not fit {field.type}: {str(error).splitlines()[0]}',
            object=f'source "{source}"',
            hint="Give the frame's column the type pd.ArrowDtype(pa.map_(...))." if of_dictionaries else None,
        ) from error


def _write(table: pa.Table, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        pq.write_table(table, partial, coerce_timestamps="us", allow_truncated_timestamps=True)
        partial.replace(target)
    except OSError as error:
        raise SourceError(f"cannot be written: {error}", place=str(target)) from error
    finally:
        partial.unlink(missing_ok=True)
