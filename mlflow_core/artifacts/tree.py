"""Folders as values: a manifest of relative path, digest and size, whose own digest names the folder.

The same files in the same places give the same digest, whatever their dates, owners and order on disk.
Empty folders and permissions are not part of it. Stores nothing: :class:`ArtifactStore` does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from mlflow_core.errors import ArtifactError

MEDIA_TYPE: Final = "application/vnd.mlcore.tree+json"
_VERSION: Final = 1


@dataclass(frozen=True)
class TreeFile:
    """One file of a folder: its path inside it with ``/``, its digest and its size in bytes."""

    path: str
    digest: str
    size: int


def files_below(folder: Path) -> list[Path]:
    """The files of a folder in order of their path, links to files included.

    Raises:
        ArtifactError: It is no folder, or has in it what is neither file nor folder.
    """
    if not folder.is_dir():
        raise ArtifactError("is not a folder", place=str(folder))
    found = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        for name in (*folders, *names):
            path = Path(parent) / name
            if path.is_symlink() and not path.is_file():
                raise ArtifactError(
                    "is a link to a folder or to nothing, which cannot be stored", place=str(path)
                )
            if name in names:
                if not path.is_file():
                    raise ArtifactError("is neither file nor folder, and cannot be stored", place=str(path))
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def write_manifest(files: Iterable[TreeFile]) -> bytes:
    """The canonical JSON of a folder, sorted by path, without spaces."""
    rows = [{"digest": f.digest, "path": f.path, "size": f.size} for f in sorted(files, key=lambda f: f.path)]
    document = {"files": rows, "version": _VERSION}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_manifest(data: bytes, digest: str) -> tuple[TreeFile, ...]:
    """The files of a folder, in order of path.

    Raises:
        ArtifactError: The bytes are no manifest, of a later version, or name a path outside the folder.
    """
    try:
        document = json.loads(data)
        version = document["version"]
        files = tuple(TreeFile(str(f["path"]), str(f["digest"]), int(f["size"])) for f in document["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError("is a file, not a folder", object=digest) from error
    if version != _VERSION:
        raise ArtifactError(
            f"has a manifest of version {version}", object=digest, expected=f"version {_VERSION}"
        )
    for file in files:
        inside = PurePosixPath(file.path)
        if inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise ArtifactError(f'names the path "{file.path}", which is outside the folder', object=digest)
    return files
