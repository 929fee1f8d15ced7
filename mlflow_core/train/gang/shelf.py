"""Where checkpoints lie: files in a folder, or objects behind an address that fsspec opens.

A shelf knows names and bytes. What is put on it appears whole, as far as its kind can promise that; whoever reads checks
all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from mlflow_core.artifacts.place import open_place
from mlflow_core.train.gang.bucket import Bucket
from mlflow_core.train.gang.folder import Folder

__all__ = ["Shelf", "shelf_at"]


class Shelf(Protocol):
    """Whole things under names; whatever fails raises an ``OSError``."""

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        """Put a thing, made of these parts one after the other, in the place of one of this name."""
        ...

    def names(self) -> list[str]:
        """The names of what is there, in no order."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a thing for reading; ``FileNotFoundError`` where there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a thing; nothing happens where there is none."""
        ...

    def sweep(self) -> None:
        """Take away what writers have left half. Nobody writes meanwhile."""
        ...

    def shown(self, name: str = "") -> str:
        """Where a thing is, or the shelf itself, for messages."""
        ...


def shelf_at(where: Path | str) -> Shelf:
    """The shelf at a place; creates nothing until something is put.

    Args:
        where: A folder, or an address such as ``s3://bucket/trainings``.

    Raises:
        ArtifactError: No installed library opens such an address.

    Example:
        >>> shelf = shelf_at("memory://shelf")
        >>> shelf.put("one", [b"a", b"b"])
        >>> shelf.names(), shelf.open("one").read()
        (['one'], b'ab')
    """
    if not isinstance(where, str):
        return Folder(where)
    place = open_place(where)
    folder = place.local("")
    return Bucket(place) if folder is None else Folder(folder)
