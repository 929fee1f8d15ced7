"""Rows of a retrieval as the file or folder that a saved dataset keeps: whole or not there, never beside older rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_format import ParquetFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.saved_dataset import SavedDatasetStorage

from mlflow_core.engine.files.drafts import draft_folder, write_at_once
from mlflow_core.errors import UsageError

__all__ = ["place_to_save", "save_rows"]


def place_to_save(storage: SavedDatasetStorage, *, repo_path: str, allow_overwrite: bool) -> Path:
    """Find where a saved dataset goes, before anything is computed.

    Args:
        storage: A Parquet file or folder on this machine.
        repo_path: Folder of the feature repository; relative paths start there.
        allow_overwrite: Whether something may be there.

    Returns:
        The file or folder, an absolute path.

    Raises:
        UsageError: The storage is no local Parquet, or the folder holds something else than Parquet files.
        SavedDatasetLocationAlreadyExists: There is something already.
    """
    if not isinstance(storage, SavedDatasetFileStorage):
        raise UsageError(
            f"a saved dataset cannot be kept in {type(storage).__name__}", expected="SavedDatasetFileStorage"
        )
    uri = storage.file_options.uri
    path = uri.removeprefix("file://")
    if "://" in path or not isinstance(storage.file_options.file_format, ParquetFormat | None):
        raise UsageError(
            f'a saved dataset cannot be kept in "{uri}"', expected="a local Parquet file or folder"
        )
    place = (Path(repo_path) / path).absolute()
    if place.exists() and not allow_overwrite:
        raise SavedDatasetLocationAlreadyExists(location=uri)
    if place.is_dir():
        others = [found for found in place.iterdir() if found.is_dir() or found.suffix != ".parquet"]
        if others:
            raise UsageError(
                f"a saved dataset would replace the folder {place}, which holds {others[0].name} too",
                expected="a folder of Parquet files, an empty one, or one that is not there",
            )
    return place


def save_rows(rows: pa.Table, place: Path) -> None:
    """Write rows to a file, or as the only content of a folder that is there; complete or not at all.

    Args:
        rows: The rows; times are written in microseconds.
        place: See ``place_to_save``.
    """

    def write(file: Path) -> None:
        pq.write_table(rows, file, coerce_timestamps="us", allow_truncated_timestamps=True)

    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_dir():
        write_at_once(place, write)
        return
    with draft_folder(place.parent, f".{place.name}") as draft:
        new = draft / "new"
        new.mkdir()
        write(new / "rows.parquet")
        place.rename(draft / "old")
        new.rename(place)
