"""Which files a path means: a file, a folder, a hive-partitioned folder or a glob, here or behind any fsspec URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from os import SEEK_END
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import fsspec
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mlflow_core.sources.part import wrong
from mlflow_core.spec import ParquetSource, Source

__all__ = ["DataFile", "check_unchanged", "data_file", "find_files", "open_parquet", "read_end"]

_ENDINGS = (".parquet", ".parq", ".pq")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_LOCAL = "file://"
_AGAIN = "Run again when nobody writes to it."


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a source.

    Attributes:
        url: Where it is, readable from anywhere that reaches the storage.
        name: Its path below the folder that the source names, for errors and fingerprints.
        size: Bytes.
        version: What changes when its content does: time of change or entity tag; empty for a file that nobody
            writes twice.
        partition: Values that stand in the folders' names, as ``month=3``; None for hive's null.
        touched: Its number in a local file system and when that last changed anything of it, which nobody can set
            back as they can the time of change; empty for other storages.
    """

    url: str
    name: str
    size: int
    version: str
    partition: Mapping[str, str | None]
    touched: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is in a file system of this machine."""
        return self.url.startswith(_LOCAL)


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
        with _reached():
            fs, inside = fsspec.core.url_to_fs(path)
            folder, listed = _listed(fs, inside)
            found = {file: _told(fs, file, info) for file, info in listed.items()}
    except (ImportError, ValueError, OSError) as error:
        raise wrong(source, f'"{source.path}" cannot be listed: {error}') from error
    if not found:
        raise _nothing(source, fs, inside, base)
    files = [_file(fs, folder, file, info) for file, info in sorted(found.items())]
    return tuple(files)


def data_file(url: str, name: str, *, partition: Mapping[str, str | None] | None = None) -> DataFile:
    """Describe one file as its storage does now.

    Args:
        url: Where it is: a path, or any URL that fsspec knows.
        name: What it is called in errors and fingerprints.
        partition: Values of columns that are not in the file.

    Raises:
        OSError: There is no such file, or its storage cannot be reached.
    """
    with _reached():
        fs, path = fsspec.core.url_to_fs(url)
        info = _told(fs, path, fs.info(path))
    return DataFile(
        fs.unstrip_protocol(path), name, int(info["size"]), _version(info), partition or {}, _touched(info)
    )


@contextmanager
def open_parquet(file: DataFile) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for reading, by the shortest way to its storage.

    Raises:
        OSError: It cannot be opened.
        ValueError: Its server cannot give a piece of it.
        pa.ArrowInvalid: It is no Parquet file.
    """
    if file.is_local:
        # Not mapped into memory: a file that shrinks meanwhile would kill the process instead of raising.
        with pq.ParquetFile(file.url.removeprefix(_LOCAL)) as opened:
            yield opened
        return
    with _reached():
        fs, path = fsspec.core.url_to_fs(file.url)
        with (
            fs.open(path, "rb", cache_type="none") as handle,
            pq.ParquetFile(handle, pre_buffer=True) as opened,
        ):
            yield opened


def read_end(file: DataFile, length: int) -> bytes:
    """Read the last bytes of a file, all of it where it is shorter.

    Raises:
        OSError: It cannot be read.
    """
    if file.is_local:
        with Path(file.url.removeprefix(_LOCAL)).open("rb") as handle:
            handle.seek(max(0, handle.seek(0, SEEK_END) - length))
            return handle.read()
    with _reached():
        fs, path = fsspec.core.url_to_fs(file.url)
        return bytes(fs.cat_file(path, start=max(0, file.size - length), end=file.size))


def check_unchanged(source: Source, file: DataFile) -> None:
    """Refuse a file that is not what it was when it was listed.

    Raises:
        SourceError: It is gone, or has another size, time of change or entity tag.
    """
    try:
        now = data_file(file.url, file.name)
    except FileNotFoundError as error:
        raise wrong(source, f'file "{file.name}" is gone since it was listed', hint=_AGAIN) from error
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise wrong(source, f'file "{file.name}" cannot be reached any more: {reason}') from error
    said, found = (file.version, file.touched), (now.version, now.touched)
    if now.size != file.size or any(one and one != other for one, other in zip(said, found, strict=True)):
        raise wrong(source, f'file "{file.name}" has changed since it was listed', hint=_AGAIN)


@contextmanager
def _reached() -> Iterator[None]:
    """Raise ``OSError`` for what fsspec lets through of the library that it reaches HTTP with."""
    try:
        yield
    except _errors_of_http() as error:
        raise OSError(str(error)) from error


def _errors_of_http() -> tuple[type[Exception], ...]:
    library = sys.modules.get("aiohttp")
    return () if library is None else (library.ClientError,)


def _listed(fs: Any, path: str) -> tuple[str, dict[str, Any]]:
    """Return the folder below which names count, and the files with what the storage says of them."""
    if any(mark in path for mark in "*?["):
        fixed = PurePosixPath(*_before_glob(PurePosixPath(path)))
        if isinstance(fs, LocalFileSystem):
            _enter_all(fixed, 0 if "**" in path else len(PurePosixPath(path).parts) - len(fixed.parts))
        found = fs.glob(path, detail=True)
        return str(fixed), {file: info for file, info in found.items() if info["type"] == "file"}
    if fs.isdir(path):
        if isinstance(fs, LocalFileSystem):
            _enter_all(PurePosixPath(path), 0)
        found = fs.find(path, detail=True)
        return path, {file: info for file, info in found.items() if _is_data(path, file)}
    return str(PurePosixPath(path).parent), {path: fs.info(path)} if fs.exists(path) else {}


def _told(fs: Any, path: str, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the storage says of a file, asking for the file itself where a listing leaves out its size."""
    found: Mapping[str, Any] = info if info.get("size") is not None else fs.info(path)
    if found.get("size") is None:
        raise OSError(f"{path}: its server does not say how long it is")
    return found


def _enter_all(folder: PurePosixPath, depth: int) -> None:
    """Raise where a folder may not be entered, which fsspec takes for an empty one; 0 is any depth."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for below, folders, _ in os.walk(folder, onerror=refuse):
        deep = depth and len(PurePosixPath(below).parts) - len(folder.parts) >= depth - 1
        folders[:] = [] if deep else [name for name in folders if not name.startswith(("_", "."))]


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
    return DataFile(
        url=fs.unstrip_protocol(path),
        name=str(below),
        size=int(info["size"]),
        version=_version(info),
        touched=_touched(info),
        partition={unquote(key): None if value == _NO_VALUE else unquote(value) for key, value in keys},
    )


def _version(info: Mapping[str, Any]) -> str:
    keys = ("ETag", "etag", "mtime", "LastModified", "Last-Modified", "created")
    found = next((info[key] for key in keys if key in info), "")
    # Some storages tell one time as a number in a listing, and as a datetime when asked for the file.
    return str(found.timestamp() if isinstance(found, datetime) else found)


def _touched(info: Mapping[str, Any]) -> str:
    # Local files alone have such a number, and fsspec calls the time so.
    return f"{info['ino']} {info['created']}" if "ino" in info else ""


def _nothing(source: ParquetSource, fs: Any, path: str, base: str) -> Exception:
    if any(mark in path for mark in "*?["):
        return wrong(source, f'no file matches "{source.path}"', hint=_start(source, base))
    if fs.isdir(path):
        return wrong(source, f'folder "{source.path}" holds no Parquet file', expected=" or ".join(_ENDINGS))
    return wrong(source, f'there is no file or folder "{source.path}"', hint=_start(source, base))


def _start(source: ParquetSource, base: str) -> str | None:
    return None if "://" in source.path else f"Relative paths start at {Path(base).absolute()}."
