"""A shelf behind an address that fsspec opens: each thing one object, put in one piece.

An object store shows an object whole or not at all; where an address promises less, whoever reads finds the half one by its
length and digest. What an address says of who may read is for the library that opens it and is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO

from mlflow_core.artifacts.place import TEMPORARY, Place

__all__ = ["Bucket"]


class Bucket:
    """A place of the artifact store's kind.

    Args:
        place: Where the objects lie.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        """Put an object, in the place of one of this name. It is in memory once more meanwhile: one put is atomic."""
        self._place.put_bytes(name, b"".join(parts))

    def names(self) -> list[str]:
        """The names of the objects; what is below one of them is another shelf's, or was left half."""
        return [entry.key for entry in self._place.walk("") if "/" not in entry.key]

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading."""
        return self._place.open(name)

    def remove(self, name: str) -> None:
        """Remove an object."""
        with suppress(FileNotFoundError):  # somebody else has just removed it
            self._place.delete(name)

    def sweep(self) -> None:
        """Take away what writers have left under the names that things have before they are whole."""
        for entry in list(self._place.walk(TEMPORARY)):
            self._place.delete(entry.key)

    def shown(self, name: str = "") -> str:
        """The address of an object, or of the shelf, without what opens it."""
        return self._place.url(name)
