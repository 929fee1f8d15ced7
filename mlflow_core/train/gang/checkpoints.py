"""Checkpoints of a training in one folder: whole or not there, of this training or refused, two at most.

A checkpoint is one file: a magic word, the length and the SHA-256 of a JSON header, the header, then the bytes of the
files that it names with their sizes and digests. It is written aside, forced to disk and renamed, so that a process
that is killed leaves the ones before as they were. What the files hold is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from mlflow_core.errors import MachineError, TrainError, disk_is_full
from mlflow_core.telemetry.logs import get_logger

__all__ = ["SUFFIX", "Checkpoint", "Checkpoints"]

_log = get_logger(__name__)

_MAGIC: Final = b"MLCCKPT1"
_KEPT: Final = 2
SUFFIX: Final = ".checkpoint"
"""How a checkpoint's file ends."""
_ASIDE: Final = ".part"
_ABANDONED_S: Final = 60.0


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
    """The checkpoints of one training.

    Args:
        folder: Where they are, on storage that all ranks and the caller share; made when it is needed.
        identity: A digest of all that a checkpoint depends on: the trainer's settings, the data, the preprocessing.
        warn: Told, in a sentence, of each checkpoint that is damaged; by default the log is.

    Example:
        >>> kept = Checkpoints(Path("checkpoints"), "settings and data")
        >>> kept.write(50, {"booster": b"..."}, {"best": 0.7})
        >>> kept.last().at
        50
    """

    def __init__(self, folder: Path, identity: str, warn: Callable[[str], None] = _log.warning) -> None:
        self._folder, self._identity, self._warn = folder, identity, warn

    def write(self, at: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all; the one before it is kept, older ones go. One rank writes.

        Args:
            at: How far the training has come, from 0.
            files: Bytes by name.
            facts: JSON-able values.

        Raises:
            TrainError: The disk is full; the checkpoints before are as they were.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f"{at:012d}-{uuid.uuid4().hex}{_ASIDE}"
        try:
            with aside.open("xb") as file:
                self._fill(file, at, files, facts)
            written = aside.stat().st_mtime
            os.replace(aside, self._folder / f"{at:012d}{SUFFIX}")  # noqa: PTH105 the atomic one
        except OSError as error:
            aside.unlink(missing_ok=True)
            if disk_is_full(error):
                raise MachineError(
                    "the disk is full",
                    object=f"checkpoint {at}",
                    place=str(self._folder),
                    hint="Free some space, then run it again: it goes on from the checkpoint before.",
                ) from error
            raise
        _force(self._folder)
        for old in self._newest_first()[_KEPT:]:
            old.unlink(missing_ok=True)
        self._sweep(written)

    def last(self) -> Checkpoint | None:
        """Read the newest whole checkpoint; damaged ones are passed over with a warning.

        Returns:
            It, or None where there is none.

        Raises:
            TrainError: There is a checkpoint of another training; names both.
        """
        found: Checkpoint | None = None
        for path in self._newest_first():
            # Older ones are looked at too, so that one of another training is told wherever it is.
            header, body = self._checked(path)
            if header is not None and found is None:
                found = self._opened(path, header, body)
        return found

    def at(self, at: int) -> Checkpoint | None:
        """Read one checkpoint; None where it is not there or not whole.

        Args:
            at: How far the training had come.

        Raises:
            TrainError: It is of another training; names both.
        """
        path = self._folder / f"{at:012d}{SUFFIX}"
        header, body = self._checked(path) if path.exists() else (None, 0)
        return None if header is None else self._opened(path, header, body)

    def clear(self) -> None:
        """Delete all that was written here, after the training has ended well; the folder too, if nothing else is in it."""
        if not self._folder.is_dir():
            return
        for path in (*self._newest_first(), *self._folder.glob(f"*{_ASIDE}")):
            path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _fill(self, file: BinaryIO, at: int, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
        named = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()}
        header = json.dumps({"identity": self._identity, "at": at, "facts": facts, "files": named}).encode()
        file.write(_MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header)
        for data in files.values():
            file.write(data)
        file.flush()
        os.fsync(file.fileno())

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"), reverse=True)

    def _checked(self, path: Path) -> tuple[dict[str, Any] | None, int]:
        """Read a header of this training and where the files begin; None, with a warning, if it is not whole."""
        header, body = self._header(path)
        if header is None:
            self._warn(f"the checkpoint {path} is damaged and is passed over")
        elif header["identity"] != self._identity:
            raise TrainError(
                f"the checkpoint is of another training ({header['identity']}), not of this one ({self._identity})",
                place=str(path),
                hint="Use another folder, or start anew: mlcore train --fresh, or delete the checkpoints.",
            )
        return header, body

    def _opened(self, path: Path, header: Mapping[str, Any], body: int) -> Checkpoint | None:
        files = _files(path, header, body)
        if files is None:
            self._warn(f"the checkpoint {path} is damaged and is passed over")
            return None
        return Checkpoint(header["at"], files, header["facts"])

    def _header(self, path: Path) -> tuple[dict[str, Any] | None, int]:
        """Read a header and where the files begin; None if it is not whole."""
        with path.open("rb") as file:
            start = file.read(len(_MAGIC) + 8 + 32)
            size = int.from_bytes(start[len(_MAGIC) : len(_MAGIC) + 8], "little")
            if not start.startswith(_MAGIC) or size > path.stat().st_size:
                return None, 0
            text = file.read(size)
        if hashlib.sha256(text).digest() != start[len(_MAGIC) + 8 :]:
            return None, 0
        header: dict[str, Any] = json.loads(text)
        return header, len(start) + size

    def _sweep(self, written: float) -> None:
        """Delete what writers that were killed have left; one that still writes touches its file now and then."""
        for path in self._folder.glob(f"*{_ASIDE}"):
            if written - path.stat().st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)


def _files(path: Path, header: Mapping[str, Any], start: int) -> dict[str, bytes] | None:
    with path.open("rb") as file:
        file.seek(start)
        found = {name: file.read(size) for name, (size, _) in header["files"].items()}
        whole = not file.read(1) and all(
            hashlib.sha256(found[name]).hexdigest() == digest for name, (_, digest) in header["files"].items()
        )
    return found if whole else None


def _force(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
