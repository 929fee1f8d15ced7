"""Where blobs lie: one small interface to a folder, a bucket, or whatever else fsspec opens.

Writes appear whole or not at all: on disks through a temporary file and a rename, on object stores because
one put is atomic. Knows keys and bytes, not digests.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from mlflow_core.errors import ArtifactError, MlcoreError

TEMPORARY: Final = "tmp"
_READ_ONLY: Final = 0o444  # nobody edits a blob by mistake
_ATOMIC_PUT: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"})

# Some buckets tell an object's date to the millisecond in a listing, and to the second of itself.
_COARSE_US: Final = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One stored object: its key, bytes, and when it was last put (microseconds since the epoch, UTC)."""

    key: str
    size: int
    stored_us: int


class Place(Protocol):
    """Whole objects under keys; whatever fails raises an ``OSError``."""

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store bytes, replacing what is there."""

    def put_file(self, key: str, source: Path, *, link: bool) -> None:
        """Store a local file, as a hard link where asked for and possible."""

    def open(self, key: str) -> BinaryIO:
        """Open for reading; ``FileNotFoundError`` where there is nothing."""

    def entry(self, key: str) -> Entry | None:
        """Size and age, or None where there is nothing."""

    def touch(self, key: str) -> None:
        """Make an object young again, so that no collection takes it away now."""

    def delete(self, key: str) -> None:
        """Remove; nothing happens where there is nothing."""

    def delete_unchanged(self, entry: Entry) -> bool:
        """Remove an object; False if it was put again or touched since it was seen like this, or is gone."""

    def walk(self, prefix: str) -> Iterator[Entry]:
        """Every object below a prefix."""

    def url(self, key: str) -> str:
        """The object's address, as fsspec opens it."""

    def local(self, key: str) -> Path | None:
        """The object's path where it is a file of this machine, else None."""


@contextmanager
def _told_as_os_error() -> Iterator[None]:
    """Tell what a library raises as an ``OSError``: those of buckets have errors of their own for one that is away."""
    try:
        yield
    except (OSError, MlcoreError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def open_place(location: str) -> Place:
    """Open a folder or an fsspec url; creates nothing until something is put.

    Raises:
        ArtifactError: No installed library opens such a url.
    """
    protocol, separator, path = location.partition("://")
    if not separator:
        return Disk(Path(location).expanduser().absolute())
    if protocol in ("file", "local"):
        return Disk(Path(path).absolute())
    import fsspec

    with _told_as_os_error():
        try:
            filesystem, root = fsspec.core.url_to_fs(location)
        except (ValueError, ImportError) as error:
            raise ArtifactError(
                f"cannot be opened: {error}",
                place=location,
                hint="Install the extra that brings its fsspec filesystem.",
            ) from error
    return Remote(filesystem, root.rstrip("/"), protocol)


class Disk:
    """A folder of this machine, or of a shared mount.

    Args:
        root: The folder, absolute.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store bytes through a temporary file and a rename."""
        with self._arriving(key) as temporary:
            with temporary.open("xb") as stream:
                stream.write(data)
                _flush(stream)
            temporary.chmod(_READ_ONLY)

    def put_file(self, key: str, source: Path, *, link: bool) -> None:
        """Store a local file; a link fails over to a copy across file systems."""
        with self._arriving(key) as temporary:
            if link and _linked(source, temporary):
                return
            with source.open("rb") as reading, temporary.open("xb") as stream:
                shutil.copyfileobj(reading, stream, 1 << 20)
                _flush(stream)
            temporary.chmod(_READ_ONLY)

    @contextmanager
    def _arriving(self, key: str) -> Iterator[Path]:
        target = self._root / key
        temporary = self._root / TEMPORARY / uuid.uuid4().hex
        temporary.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        """Open for reading."""
        return (self._root / key).open("rb")

    def entry(self, key: str) -> Entry | None:
        """Size and age from the file."""
        try:
            status = (self._root / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(key, status.st_size, status.st_mtime_ns // 1_000)

    def touch(self, key: str) -> None:
        """Set the file's modification time to now."""
        os.utime(self._root / key)

    def delete(self, key: str) -> None:
        """Remove the file."""
        (self._root / key).unlink(missing_ok=True)

    def delete_unchanged(self, entry: Entry) -> bool:
        """Remove the file; its date is looked at once more where nobody finds it any more.

        Whoever touched it before that has it back; whoever touches it later finds nothing, and puts it anew.
        """
        path, aside = self._root / entry.key, self._root / TEMPORARY / uuid.uuid4().hex
        if self.entry(entry.key) != entry:
            return False
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if aside.stat().st_mtime_ns // 1_000 != entry.stored_us:
            aside.replace(path)
            return False
        aside.unlink()
        return True

    def walk(self, prefix: str) -> Iterator[Entry]:
        """Every file below a prefix, in order of key; one that disappears meanwhile is left out."""
        for path in sorted((self._root / prefix).rglob("*")):
            entry = self.entry(path.relative_to(self._root).as_posix()) if path.is_file() else None
            if entry is not None:
                yield entry

    def url(self, key: str) -> str:
        """The file's path."""
        return str(self._root / key)

    def local(self, key: str) -> Path | None:
        """The file's path."""
        return self._root / key


class Remote:
    """Any other fsspec filesystem.

    Args:
        filesystem: An ``fsspec.AbstractFileSystem``.
        root: The path inside it.
        protocol: What its urls begin with.
    """

    def __init__(self, filesystem: Any, root: str, protocol: str) -> None:
        self._filesystem = filesystem
        self._root = root
        self._protocol = protocol

    @_told_as_os_error()
    def put_bytes(self, key: str, data: bytes) -> None:
        """Store bytes in one put, or through a temporary name where a put is not atomic."""
        with self._arriving(key) as path:
            self._filesystem.pipe_file(path, data)

    @_told_as_os_error()
    def put_file(self, key: str, source: Path, *, link: bool) -> None:  # noqa: ARG002 a bucket has no links
        """Store a local file."""
        with self._arriving(key) as path:
            self._filesystem.put_file(str(source), path)

    @contextmanager
    def _arriving(self, key: str) -> Iterator[str]:
        target = f"{self._root}/{key}"
        direct = self._protocol in _ATOMIC_PUT
        path = target if direct else f"{self._root}/{TEMPORARY}/{uuid.uuid4().hex}"
        self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            yield path
            if not direct:
                self._filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._filesystem.mv(path, target)
        finally:
            if not direct and self._filesystem.exists(path):
                self._filesystem.rm_file(path)

    @_told_as_os_error()
    def open(self, key: str) -> BinaryIO:
        """Open for reading."""
        return cast("BinaryIO", _Reading(self._filesystem.open(f"{self._root}/{key}", "rb")))

    @_told_as_os_error()
    def entry(self, key: str) -> Entry | None:
        """Size and age as the filesystem tells them now."""
        self._filesystem.invalidate_cache()  # what it remembers of a listing may have been put again since
        try:
            return self._entry(self._filesystem.info(f"{self._root}/{key}"), key)
        except FileNotFoundError:
            return None

    def _entry(self, info: dict[str, Any], key: str) -> Entry:
        when = (
            info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("created")
        )
        if isinstance(when, datetime):
            aware = when if when.tzinfo else when.replace(tzinfo=UTC)
            stored_us = int(aware.timestamp() * 1_000_000)
        else:
            stored_us = int(float(when) * 1_000_000) if when is not None else 0
        return Entry(key, int(info["size"]), stored_us)

    @_told_as_os_error()
    def touch(self, key: str) -> None:
        """Write the object again: filesystems without a clock of their own have no other way."""
        self.put_bytes(key, self._filesystem.cat_file(f"{self._root}/{key}"))

    @_told_as_os_error()
    def delete(self, key: str) -> None:
        """Remove the object."""
        path = f"{self._root}/{key}"
        if self._filesystem.exists(path):
            self._filesystem.rm_file(path)

    def delete_unchanged(self, entry: Entry) -> bool:
        """Remove the object; one that is put again between the look and the removal is lost, for there is no lock."""
        now = self.entry(entry.key)
        if now is None or abs(now.stored_us - entry.stored_us) >= _COARSE_US:
            return False
        self.delete(entry.key)
        return True

    def walk(self, prefix: str) -> Iterator[Entry]:
        """Every object below a prefix, in order of key."""
        base = f"{self._root}/{prefix}"
        found = self._below(base)
        for path in sorted(found):
            yield self._entry(found[path], f"{prefix}{path[path.index(base) + len(base) :]}")

    @_told_as_os_error()
    def _below(self, base: str) -> dict[str, dict[str, Any]]:
        self._filesystem.invalidate_cache()  # a listing that is remembered lacks what others have put since
        return dict(self._filesystem.find(base, detail=True)) if self._filesystem.exists(base) else {}

    def url(self, key: str) -> str:
        """The object's url."""
        return str(self._filesystem.unstrip_protocol(f"{self._root}/{key}"))

    def local(self, key: str) -> Path | None:  # noqa: ARG002 the protocol's
        """None: it is not a file of this machine."""
        return None


class _Reading(io.RawIOBase):
    """An object that is read; the libraries that open it buffer for themselves."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    @_told_as_os_error()
    def read(self, size: int | None = -1) -> bytes:
        return bytes(self._file.read(-1 if size is None else size))

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @_told_as_os_error()
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


def _flush(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False  # another file system, or one without links: the caller copies
    return True
