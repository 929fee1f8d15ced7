"""Rows that come in through Feast's API and go to files: pushes to a batch source, and logged features."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast.feature_view import FeatureView as FeastView
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource

from mlflow_core.errors import SourceError, UsageError, nearest

__all__ = ["append_to_log", "append_to_source"]


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
    """Add logged rows as a new Parquet file to a logging folder.

    Raises:
        UsageError: The destination is no folder of Parquet files.
    """
    if not isinstance(destination, FileLoggingDestination) or destination.partition_by:
        raise UsageError(
            f"features cannot be logged to {type(destination).__name__}",
            expected="a FileLoggingDestination without partition_by",
        )
    folder = Path(repo_path) / destination.path
    folder.mkdir(parents=True, exist_ok=True)
    _write(rows, folder / f"{uuid.uuid4().hex}.parquet")


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
    return table.select(schema.names).cast(schema)


def _write(table: pa.Table, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        pq.write_table(table, partial, coerce_timestamps="us", allow_truncated_timestamps=True)
        partial.replace(target)
    except OSError as error:
        raise SourceError(f"cannot be written: {error}", place=str(target)) from error
    finally:
        partial.unlink(missing_ok=True)
