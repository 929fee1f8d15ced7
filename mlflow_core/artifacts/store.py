"""The store: bytes, files and folders put once, found by digest, checked whenever they are read.

Writing the same content again changes nothing, also from many processes at once. Whatever is read through
``read_bytes``, ``open`` and ``fetch_tree`` has been hashed; ``paths_of`` checks presence and sizes only,
which is what a reader of large shards can afford, and ``verify`` does the rest. What is kept how long is
not decided here.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from mlflow_core.artifacts.collect import GcReport, collect, remove
from mlflow_core.artifacts.digest import (
    Artifact,
    chunks,
    digest_bytes,
    digest_file,
    digest_of,
    digest_stream,
)
from mlflow_core.artifacts.failures import damaged, guarded
from mlflow_core.artifacts.keys import blob_key, digest_at, tree_key
from mlflow_core.artifacts.place import Entry, open_place
from mlflow_core.artifacts.renewing import renew, stored_again
from mlflow_core.artifacts.tree import MEDIA_TYPE, TreeFile, files_below, read_manifest, write_manifest
from mlflow_core.artifacts.users import Users
from mlflow_core.config.clock import Clock
from mlflow_core.errors import ArtifactError

_OCTETS: Final = "application/octet-stream"
_T = TypeVar("_T")


class ArtifactStore:
    """A content-addressed store in a folder or behind an fsspec url.

    Args:
        location: ``/data/artifacts``, ``s3://bucket/artifacts``, ``memory://artifacts``, ... Created by the
            first write.

    Example:
        >>> store = ArtifactStore("memory://example")
        >>> store.read_bytes(store.put_bytes(b"hello", name="greeting").digest)
        b'hello'
    """

    def __init__(self, location: str) -> None:
        self.location = str(location)
        self._place = open_place(self.location)

    @property
    def users(self) -> Users:
        """Which metadata databases keep artifacts here."""
        return Users(self._place, self.location)

    # ------------------------------------------------------------------ writing

    def put_bytes(self, data: bytes, *, name: str = "", media_type: str = _OCTETS) -> Artifact:
        """Store bytes.

        Args:
            data: The content.
            name: What the caller calls it.
            media_type: What it is.

        Raises:
            ArtifactError: It cannot be written (disk full, no permission); nothing is left behind.
        """
        digest = digest_bytes(data)
        self._put_bytes(blob_key(digest), data, digest, name)
        return Artifact(self._place.url(blob_key(digest)), digest, len(data), media_type, name)

    def put_file(
        self, path: Path | str, *, name: str | None = None, media_type: str = _OCTETS, link: bool = False
    ) -> Artifact:
        """Store a local file.

        Args:
            path: The file.
            name: What the caller calls it; the file's name if None.
            media_type: What it is.
            link: Take a hard link instead of a copy where the file systems allow it. Only for files that
                nobody will write to again: a later change in place would damage the artifact.

        Raises:
            ArtifactError: It cannot be read or written, or it changed meanwhile; nothing is left behind.
        """
        path = Path(path)
        file = self._put_file(path, path.name, link=link)
        name = path.name if name is None else name
        return Artifact(self._place.url(blob_key(file.digest)), file.digest, file.size, media_type, name)

    def put_tree(self, folder: Path | str, *, name: str | None = None, link: bool = False) -> Artifact:
        """Store a folder: each file by its own content, and a manifest that names them all.

        Args:
            folder: The folder. Files that are already stored cost no further space.
            name: What the caller calls it; the folder's name if None.
            link: As for :meth:`put_file`.

        Returns:
            The artifact of the manifest; its size is that of all files.

        Raises:
            ArtifactError: As for :meth:`put_file`, or the folder has links to folders or devices in it.
        """
        folder = Path(folder)
        files = [
            self._put_file(path, path.relative_to(folder).as_posix(), link=link)
            for path in files_below(folder)
        ]
        manifest = write_manifest(files)
        digest = digest_bytes(manifest)
        name = folder.name if name is None else name
        self._put_bytes(tree_key(digest), manifest, digest, name)
        url, size = self._place.url(tree_key(digest)), sum(file.size for file in files)
        return Artifact(url, digest, size, MEDIA_TYPE, name)

    def _put_bytes(self, key: str, data: bytes, digest: str, name: str) -> None:
        def write() -> None:
            if not stored_again(self._place, key, len(data), digest):
                self._place.put_bytes(key, data)

        self._guard("cannot be stored", name or digest, write)

    def _put_file(self, path: Path, name: str, *, link: bool) -> TreeFile:
        def write() -> TreeFile:
            before = path.stat()
            digest = digest_file(path)
            key = blob_key(digest)
            if not stored_again(self._place, key, before.st_size, digest):
                self._place.put_file(key, path, link=link)
            after = path.stat()
            changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
            # A link's source is touched with it, so a new date alone says nothing.
            if changed and self._hash(key) != digest:
                self._place.delete(key)
                raise ArtifactError("changed while it was stored", place=str(path), hint="Store it again.")
            return TreeFile(name, digest, before.st_size)

        return self._guard("cannot be stored", str(path), write)

    # ------------------------------------------------------------------ reading

    def exists(self, uri_or_digest: str) -> bool:
        """Whether a file or folder of this digest is here; its content is not checked."""
        return self._entry(digest_of(uri_or_digest)) is not None

    def about(self, uri_or_digest: str, *, name: str = "", media_type: str = _OCTETS) -> Artifact:
        """The record of what is stored under a digest; raises ``ArtifactError`` where nothing is."""
        entry = self._there(digest := digest_of(uri_or_digest))
        if entry.key != tree_key(digest):
            return Artifact(self._place.url(entry.key), digest, entry.size, media_type, name)
        size = sum(file.size for file in self.files_of(digest))
        return Artifact(self._place.url(entry.key), digest, size, MEDIA_TYPE, name)

    def read_bytes(self, uri_or_digest: str) -> bytes:
        """The whole content, checked.

        Raises:
            ArtifactError: It is missing, truncated or changed.
        """
        digest = digest_of(uri_or_digest)
        key = self._key(digest)

        def read() -> bytes:
            with self._place.open(key) as stream:
                return stream.read()

        data = self._guard("cannot be read", digest, read)
        if digest_bytes(data) != digest:
            raise self._damaged(digest, key)
        return data

    def open(self, uri_or_digest: str) -> BinaryIO:
        """A checked, seekable file, opened for reading. It is hashed once before it is handed out.

        Raises:
            ArtifactError: It is missing, truncated or changed.
        """
        digest = digest_of(uri_or_digest)
        self.verify(digest)
        return self._guard("cannot be read", digest, lambda: self._place.open(self._key(digest)))

    def path(self, uri_or_digest: str) -> Path:
        """The file's path where the store is on this machine. Its content is not checked.

        Raises:
            ArtifactError: It is missing, or the store is not a folder of this machine.
        """
        digest = digest_of(uri_or_digest)
        path = self._place.local(self._key(digest))
        if path is None:
            raise ArtifactError(
                "is not a local file", object=digest, place=self.location, hint="Use open() or fetch_tree()."
            )
        return path

    def files_of(self, uri_or_digest: str) -> tuple[TreeFile, ...]:
        """What a stored folder is made of, in order of path; reads only its manifest.

        Raises:
            ArtifactError: It is missing, damaged, or no folder.
        """
        digest = digest_of(uri_or_digest)
        return read_manifest(self.read_bytes(digest), digest)

    def paths_of(self, uri_or_digest: str, *, suffix: str = "") -> tuple[Path, ...]:
        """The local files of a stored folder, in order of their path in it: the shards of a dataset.

        Args:
            uri_or_digest: The folder.
            suffix: Only files whose path in the folder ends so, e.g. ``.parquet``.

        Raises:
            ArtifactError: A file is missing or has another size than when it was stored.
        """
        return tuple(
            self.path(file.digest) for file in self._present(uri_or_digest) if file.path.endswith(suffix)
        )

    def fetch_tree(self, uri_or_digest: str, to: Path | str) -> Path:
        """Copy a stored folder out, every file checked. It appears whole or not at all.

        Args:
            uri_or_digest: The folder.
            to: Where it shall be; must not exist, or be an empty folder.

        Returns:
            ``to``.

        Raises:
            ArtifactError: Something is missing or damaged, or ``to`` is taken.
        """
        to = Path(to)
        files = self.files_of(uri_or_digest)

        def fetch() -> Path:
            if to.exists() and (not to.is_dir() or any(to.iterdir())):
                raise ArtifactError("is there already", place=str(to), expected="a new or empty folder")
            to.parent.mkdir(parents=True, exist_ok=True)
            arriving = to.parent / f".{to.name}.{uuid.uuid4().hex}"
            try:
                arriving.mkdir()
                for file in files:
                    self._copy_out(file, arriving / file.path)
                arriving.replace(to)
            finally:
                shutil.rmtree(arriving, ignore_errors=True)
            return to

        return self._guard("cannot be fetched", digest_of(uri_or_digest), fetch)

    def verify(self, uri_or_digest: str) -> None:
        """Hash the whole content, of a folder every file, and compare.

        Raises:
            ArtifactError: Names the first part that is missing, truncated or changed.
        """
        digest = digest_of(uri_or_digest)
        key = self._key(digest)
        if self._guard("cannot be read", digest, lambda: self._hash(key)) != digest:
            raise self._damaged(digest, key)
        if key == tree_key(digest):
            for file in self.files_of(digest):
                self.verify(file.digest)

    def list(self) -> Iterator[str]:
        """The digests of everything here, folders first."""
        for prefix in ("trees", "blobs"):
            for entry in self._place.walk(prefix):
                yield digest_at(entry)

    def touch(self, uri_or_digest: str) -> None:
        """Make an artifact, of a folder every file, young again where that is no copy: no collection takes it now.

        Raises:
            ArtifactError: Something of it is missing, or has another size than when it was stored.
        """
        key = self._key(digest := digest_of(uri_or_digest))
        # The manifest first: whoever collects takes folders before files.
        files = self._present(digest) if key == tree_key(digest) else ()
        keys = (key, *(blob_key(file.digest) for file in files))
        self._guard("is not whole", digest, partial(renew, self._place, keys))

    # ------------------------------------------------------------------ removing

    def stored_us(self, uri_or_digest: str) -> int | None:
        """When it was stored last, microseconds since the epoch, UTC; None where it is not here."""
        entry = self._entry(digest_of(uri_or_digest))
        return None if entry is None else entry.stored_us

    def delete(self, uri_or_digest: str) -> bool:
        """Remove one artifact; of a folder only its manifest, since its files may be shared.

        Returns:
            Whether it was there.
        """
        digest = digest_of(uri_or_digest)
        if (entry := self._entry(digest)) is None:
            return False
        self._guard("cannot be removed", digest, lambda: self._place.delete(entry.key))
        return True

    def delete_tree(self, uri_or_digest: str) -> bool:
        """Remove a folder and those of its files that no other folder has.

        Returns:
            Whether it was there.
        """
        return bool(self.delete_all([uri_or_digest]))

    def delete_all(self, uris: Iterable[str], *, keep: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Remove files and folders, and of the folders those files that no folder that stays has.

        Args:
            uris: What to remove, by uri or digest; what is not there, or is part of a folder that stays, is left out.
            keep: Digests that stay anyway.

        Returns:
            The digests of those that were there and are gone.
        """
        doomed = frozenset(digest_of(text) for text in uris)
        there = [digest for digest in sorted(doomed - keep) if self.exists(digest)]
        return remove(self._place, frozenset(there), keep, self.files_of) if there else ()

    def gc(
        self, keep: set[str] | frozenset[str], older_than_us: int, clock: Clock, *, dry_run: bool = False
    ) -> GcReport:
        """Remove what nothing needs any more.

        Args:
            keep: Digests or uris that are needed; a folder's files with it.
            older_than_us: Artifacts put within this many microseconds stay, needed or not.
            clock: Says what "now" is; artifacts carry the time of the machine that stored them.
            dry_run: Only say what would happen.

        Raises:
            ArtifactError: A folder that stays is damaged; nothing was removed then.
        """
        wanted = frozenset(digest_of(text) for text in keep)
        before_us = clock.now_us() - older_than_us
        return collect(self._place, wanted, before_us, self.files_of, dry_run=dry_run)

    # ------------------------------------------------------------------ steps

    def _entry(self, digest: str) -> Entry | None:
        return self._place.entry(blob_key(digest)) or self._place.entry(tree_key(digest))

    def _key(self, digest: str) -> str:
        return self._there(digest).key

    def _there(self, digest: str) -> Entry:
        entry = self._guard("cannot be read", digest, lambda: self._entry(digest))
        if entry is None:
            raise ArtifactError("is not in the store", object=digest, place=self.location)
        return entry

    def _hash(self, key: str) -> str:
        with self._place.open(key) as stream:
            return digest_stream(stream)

    def _present(self, uri_or_digest: str) -> tuple[TreeFile, ...]:
        files = self.files_of(uri_or_digest)
        for file in files:
            entry = self._place.entry(blob_key(file.digest))
            if entry is None:
                raise ArtifactError(
                    f'its file "{file.path}" ({file.digest}) is not in the store',
                    object=digest_of(uri_or_digest),
                    place=self.location,
                )
            if entry.size != file.size:
                raise self._damaged(file.digest, entry.key)
        return files

    def _copy_out(self, file: TreeFile, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        key = self._key(file.digest)
        with self._place.open(key) as stream, target.open("xb") as out:
            for chunk in chunks(stream):
                out.write(chunk)
        if digest_file(target) != file.digest:
            raise self._damaged(file.digest, key)

    def _damaged(self, digest: str, key: str) -> ArtifactError:
        return damaged(digest, self._place.url(key))

    def _guard(self, what: str, name: str, act: Callable[[], _T]) -> _T:
        return guarded(what, name, self.location, act)
