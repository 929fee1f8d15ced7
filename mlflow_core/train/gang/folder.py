"""A shelf that is a folder: each thing a file, written aside, forced to disk and renamed.

A writer that is killed leaves the files before as they were, and its own half one, which the next writer takes away.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["Folder"]

_ASIDE: Final = ".part"
_ABANDONED_S: Final = 60.0


class Folder:
    """A folder of this machine, or of storage that machines share.

    Args:
        path: The folder; made when something is put.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        """Put a file, in the place of one of this name; whole or not at all, also if power is lost."""
        self._path.mkdir(parents=True, exist_ok=True)
        aside = self._path / f"{Path(name).stem}-{uuid.uuid4().hex}{_ASIDE}"
        try:
            with aside.open("xb") as file:
                self._fill(file, parts)
            written = aside.stat().st_mtime
            os.replace(aside, self._path / name)  # noqa: PTH105 the atomic one
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        _force(self._path)
        self._take_away_abandoned(written)

    def names(self) -> list[str]:
        """The names of all whole files."""
        return [path.name for path in self._path.glob("*") if path.suffix != _ASIDE]

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return (self._path / name).open("rb")

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Take away what writers have left half, and the folder if nothing else is in it."""
        if not self._path.is_dir():
            return
        for path in self._path.glob(f"*{_ASIDE}"):
            path.unlink(missing_ok=True)
        if not any(self._path.iterdir()):
            self._path.rmdir()

    def shown(self, name: str = "") -> str:
        """The path of a file, or of the folder."""
        return str(self._path / name)

    def _fill(self, file: BinaryIO, parts: Iterable[bytes]) -> None:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())

    def _take_away_abandoned(self, written: float) -> None:
        """Delete what writers that were killed have left; one that still writes touches its file now and then."""
        for path in self._path.glob(f"*{_ASIDE}"):
            if written - path.stat().st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)


def _force(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
