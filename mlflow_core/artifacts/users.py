"""Which metadata databases keep artifacts in a store: a small file for each, so that none takes away what is another's.

A file is named by one of the runs of its database, whose id no other database has; what stands in it is for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlflow_core.artifacts.failures import guarded
from mlflow_core.artifacts.place import Place

__all__ = ["Users"]

_FOLDER: Final = "users"


class Users:
    """The files in one store.

    Args:
        place: Where the store's objects lie.
        location: The same in words, for errors.
    """

    def __init__(self, place: Place, location: str) -> None:
        self._place = place
        self._location = location

    def read(self) -> Mapping[str, str]:
        """Return what each file says, by its name.

        Raises:
            ArtifactError: The store cannot be read.
        """
        return guarded("cannot be read", _FOLDER, self._location, self._read)

    def note(self, name: str, text: str) -> None:
        """Write a file, in the place of one of this name.

        Args:
            name: An id of a run.
            text: Which database it is of, without a password.

        Raises:
            ArtifactError: The store cannot be written.
        """
        key = f"{_FOLDER}/{name}"
        guarded("cannot be stored", key, self._location, lambda: self._place.put_bytes(key, text.encode()))

    def _read(self) -> dict[str, str]:
        found = {}
        for entry in self._place.walk(_FOLDER):
            with self._place.open(entry.key) as stream:
                found[entry.key.rpartition("/")[2]] = stream.read().decode()
        return found
