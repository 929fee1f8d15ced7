"""Checkpoints of a training in one place: whole or passed over, of this training or refused, two at most.

A checkpoint is one thing: a magic word, the length and the SHA-256 of a JSON header, the header, then the bytes of the
files that it names with their sizes and digests. How it is put so that a process that is killed leaves the ones before
as they were is the shelf's business (``shelf``). What the files hold is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

from mlflow_core.errors import MachineError, TrainError, disk_is_full
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.train.gang.shelf import Shelf, shelf_at

__all__ = ["SUFFIX", "Checkpoint", "Checkpoints"]

_log = get_logger(__name__)

_MAGIC: Final = b"MLCCKPT1"
_KEPT: Final = 2
_FORGIVEN: Final = 2
"""So many in a row may fail: a store that is not there for a while should not cost the rounds since the last one."""
SUFFIX: Final = ".checkpoint"
"""How a checkpoint's name ends."""


@dataclass(frozen=True)
class Checkpoint:
    """A state from which a training can go on.

    Args:
        at: How far it had come, in the trainer's own count of rounds or steps.
        files: Bytes by name.
        facts: JSON-able values.
    """

    at: int
    files: Mapping[str, bytes]
    facts: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training. It can be sent to workers: it opens its place where it is used.

    Args:
        where: A folder, or an fsspec address, that all ranks and the caller reach; made when it is needed.
        identity: A digest of all that a checkpoint depends on: the trainer's settings, the data, the preprocessing.
        warn: Told, in a sentence, of each checkpoint that is damaged; by default the log is.

    Example:
        >>> kept = Checkpoints(Path("checkpoints"), "settings and data")
        >>> kept.write(50, {"booster": b"..."}, {"best": 0.7})
        >>> kept.last().at
        50
    """

    def __init__(self, where: Path | str, identity: str, warn: Callable[[str], None] | None = None) -> None:
        self._where, self._identity, self._warn = where, identity, warn
        self._failed = 0

    @property
    def place(self) -> str:
        """Where they are, for messages."""
        return self._shelf.shown()

    def write(self, at: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all; the one before it is kept, older ones go. One rank writes.

        Args:
            at: How far the training has come, from 0.
            files: Bytes by name.
            facts: JSON-able values.

        Raises:
            MachineError: The disk is full, or the place cannot be written; the checkpoints before are as they were.
        """
        shelf = self._shelf
        try:
            shelf.put(_name(at), chain([self._head(at, files, facts)], files.values()))
        except OSError as error:
            raise _not_written(error, at, shelf.shown()) from error
        try:
            for old in _newest_first(shelf)[_KEPT:]:
                shelf.remove(old)
        except OSError as error:  # this one is whole all the same
            _log.warning(
                "old checkpoints at %s cannot be removed: %s", shelf.shown(), error.strerror or error
            )

    def attempt(self, at: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> str | None:
        """Write a checkpoint as ``write`` does, but forgive that it fails, twice in a row: the next one may succeed.

        Args:
            at: How far the training has come, from 0.
            files: Bytes by name.
            facts: JSON-able values.

        Returns:
            Why it was not written; None where it was.

        Raises:
            MachineError: It is the third in a row that cannot be written.
        """
        try:
            self.write(at, files, facts)
        except MachineError as error:
            self._failed += 1
            if self._failed > _FORGIVEN:
                raise
            # A place that cannot be opened has no name without what opens it.
            return f"checkpoint {at}: {error.what}" + (f" at {error.place}" if error.place else "")
        self._failed = 0
        return None

    def last(self) -> Checkpoint | None:
        """Read the newest whole checkpoint; damaged ones are passed over with a warning.

        Returns:
            It, or None where there is none.

        Raises:
            TrainError: There is a checkpoint of another training; names both.
            MachineError: The place cannot be read.
        """
        found: Checkpoint | None = None
        shelf = self._shelf
        try:
            for name in _newest_first(shelf):
                # Older ones are looked at too, so that one of another training is told wherever it is.
                read = self._read(shelf, name, whole=found is None)
                found = found or read
        except OSError as error:
            raise _not_read(error, shelf.shown()) from error
        return found

    def at(self, at: int) -> Checkpoint | None:
        """Read one checkpoint; None where it is not there or not whole.

        Args:
            at: How far the training had come.

        Raises:
            TrainError: It is of another training; names both.
            MachineError: The place cannot be read.
        """
        shelf, name = self._shelf, _name(at)
        try:
            return self._read(shelf, name, whole=True) if name in shelf.names() else None
        except OSError as error:
            raise _not_read(error, shelf.shown(name)) from error

    def clear(self) -> None:
        """Delete all that was written here, once what the training gave is in safety; nobody writes meanwhile."""
        shelf = self._shelf
        for name in _newest_first(shelf):
            shelf.remove(name)
        shelf.sweep()

    @property
    def _shelf(self) -> Shelf:
        try:
            return shelf_at(self._where)
        except OSError as error:
            # Some libraries call at once. The address may hold what opens it, and is not told.
            raise MachineError(
                f"the place of the checkpoints cannot be opened: {error.strerror or error}",
                expected="a place that this process and all workers reach",
            ) from error

    def _head(self, at: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> bytes:
        named = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()}
        header = json.dumps({"identity": self._identity, "at": at, "facts": facts, "files": named}).encode()
        return _MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header

    def _read(self, shelf: Shelf, name: str, *, whole: bool) -> Checkpoint | None:
        """Read a checkpoint of this training, or its header alone; None, with a warning, if it is not whole."""
        try:
            with shelf.open(name) as file:
                header = _header(file)
                self._check_ours(header, shelf.shown(name))
                files = _files(file, header, whole=whole) if header is not None else None
        except FileNotFoundError:
            return None  # whoever writes has just taken it away, for there are two newer ones
        if header is None or files is None:
            (self._warn or _log.warning)(f"the checkpoint {shelf.shown(name)} is damaged and is passed over")
            return None
        return Checkpoint(header["at"], files, header["facts"])

    def _check_ours(self, header: Mapping[str, Any] | None, shown: str) -> None:
        if header is not None and header["identity"] != self._identity:
            raise TrainError(
                f"the checkpoint is of another training ({header['identity']}), not of this one ({self._identity})",
                place=shown,
                hint="Use another place, or start anew: mlcore train --fresh, or delete the checkpoints.",
            )


def _name(at: int) -> str:
    return f"{at:012d}{SUFFIX}"


def _newest_first(shelf: Shelf) -> list[str]:
    return sorted((name for name in shelf.names() if name.endswith(SUFFIX)), reverse=True)


def _header(file: BinaryIO) -> dict[str, Any] | None:
    """Read a header, and leave the file where the files begin; None if it is not whole."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(len(_MAGIC) + 8 + 32)
    size = int.from_bytes(start[len(_MAGIC) : len(_MAGIC) + 8], "little")
    if not start.startswith(_MAGIC) or size > length:
        return None
    text = file.read(size)
    if hashlib.sha256(text).digest() != start[len(_MAGIC) + 8 :]:
        return None
    header: dict[str, Any] = json.loads(text)
    return header


def _files(file: BinaryIO, header: Mapping[str, Any], *, whole: bool) -> dict[str, bytes] | None:
    """Read the files behind a header, if they are wanted; None if they are not what the header says."""
    if not whole:
        return {}
    found = {name: file.read(size) for name, (size, _) in header["files"].items()}
    same = not file.read(1) and all(
        hashlib.sha256(found[name]).hexdigest() == digest for name, (_, digest) in header["files"].items()
    )
    return found if same else None


def _not_written(error: OSError, at: int, place: str) -> MachineError:
    if disk_is_full(error):
        return MachineError(
            "the disk is full",
            object=f"checkpoint {at}",
            place=place,
            hint="Free some space, then run it again: it goes on from the checkpoint before.",
        )
    return MachineError(
        f"cannot be written: {error.strerror or error}",
        object=f"checkpoint {at}",
        place=place,
        expected="a place that the worker of rank 0 may write to",
        hint="Run it again then: it goes on from the checkpoint before.",
    )


def _not_read(error: OSError, place: str) -> MachineError:
    return MachineError(
        f"the checkpoints cannot be read: {error.strerror or error}",
        place=place,
        expected="a place that this process and all workers reach",
    )
