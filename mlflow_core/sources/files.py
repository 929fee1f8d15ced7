"""Which files a path means: a file, a folder, a hive-partitioned folder or a glob, here or behind any fsspec URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import fsspec

from mlflow_core.sources.part import wrong
from mlflow_core.spec import ParquetSource

__all__ = ["DataFile", "find_files", "open_file"]

_ENDINGS = (".parquet", ".parq", ".pq")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a source.

    Attributes:
        url: Where it is, readable from anywhere that reaches the storage.
        name: Its path below the folder that the source names, for errors and fingerprints.
        size: Bytes.
        version: What changes when its content does: time of change or entity tag.
        partition: Values that stand in the folders' names, as ``month=3``; None for hive's null.
    """

    url: str
    name: str
    size: int
    version: str
    partition: Mapping[str, str | None]


def find_files(source: ParquetSource, base: str) -> tuple[DataFile, ...]:
    """List the files of a source in path order.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: There is no such file or folder, nothing matches, or the storage cannot be reached.
    """
    path = source.path if "://" in source.path else str(Path(base).absolute() / source.path)
    try:
        fs, inside = fsspec.core.url_to_fs(path)
        folder, found = _listed(fs, inside)
    except (ImportError, ValueError, OSError) as error:
        raise wrong(source, f'"{source.path}" cannot be listed: {error}') from error
    if not found:
        raise _nothing(source, fs, inside, base)
    files = [_file(fs, folder, file, info) for file, info in sorted(found.items())]
    return tuple(files)


def open_file(url: str) -> Any:
    """Open a file for reading, by its URL."""
    fs, path = fsspec.core.url_to_fs(url)
    return fs.open(path, "rb")


def _listed(fs: Any, path: str) -> tuple[str, dict[str, Any]]:
    """Return the folder below which names count, and the files with what the storage says of them."""
    if any(mark in path for mark in "*?["):
        fixed = PurePosixPath(*_before_glob(PurePosixPath(path)))
        return str(fixed), {file: i for file, i in fs.glob(path, detail=True).items() if i["type"] == "file"}
    if fs.isdir(path):
        below = {file: i for file, i in fs.find(path, detail=True).items() if _is_data(path, file)}
        return path, below
    return str(PurePosixPath(path).parent), {path: fs.info(path)} if fs.exists(path) else {}


def _before_glob(path: PurePosixPath) -> list[str]:
    parts = list(path.parts)
    first = next(i for i, part in enumerate(parts) if any(mark in part for mark in "*?["))
    return parts[:first]


def _is_data(folder: str, file: str) -> bool:
    # Names that start so are notes of the writer (_SUCCESS, _metadata, .crc), as in Hive and Spark.
    parts = PurePosixPath(file).relative_to(folder).parts
    return file.endswith(_ENDINGS) and not any(part.startswith(("_", ".")) for part in parts)


def _file(fs: Any, folder: str, path: str, info: Mapping[str, Any]) -> DataFile:
    below = PurePosixPath(path).relative_to(folder)
    keys = [part.split("=", 1) for part in below.parts[:-1] if "=" in part]
    version = next(
        (str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "created") if key in info), ""
    )
    return DataFile(
        url=fs.unstrip_protocol(path),
        name=str(below),
        size=int(info["size"]),
        version=version,
        partition={unquote(key): None if value == _NO_VALUE else unquote(value) for key, value in keys},
    )


def _nothing(source: ParquetSource, fs: Any, path: str, base: str) -> Exception:
    if any(mark in path for mark in "*?["):
        return wrong(source, f'no file matches "{source.path}"', hint=_start(source, base))
    if fs.isdir(path):
        return wrong(source, f'folder "{source.path}" holds no Parquet file', expected=" or ".join(_ENDINGS))
    return wrong(source, f'there is no file or folder "{source.path}"', hint=_start(source, base))


def _start(source: ParquetSource, base: str) -> str | None:
    return None if "://" in source.path else f"Relative paths start at {Path(base).absolute()}."
