"""Files and folders that are whole or not there: written under another name, renamed at the end.

What is written is the caller's business. A task that ran twice, or was killed half-way, leaves one whole file or
none; a folder that was given up cannot be written into any more. A process that was killed cannot clean up: who makes
the next draft in the same place takes away those whose owner is dead.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mlflow_core.errors import EngineError, disk_is_full

__all__ = ["OWNER", "draft_folder", "write_at_once"]

OWNER: Final = ".owner"
"""The file in a draft that its owner keeps locked, with the name of the owner's machine in it."""
_DRAFT = re.compile(r"^\.?.+-[0-9a-f]{32}(\.gone)?$")
_FOREIGN_FOR_S = 7 * 86_400.0


@contextmanager
def draft_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a folder for the time of a ``with`` block, and take away those of the same name whose owners are dead.

    Args:
        parent: Where; it is made if need be.
        name: How the folder's name starts.

    Yields:
        The folder, an absolute path.

    Raises:
        EngineError: The folder cannot be made.
    """
    parent = parent.resolve()
    _take_away_lost(parent, name)
    folder = parent / f"{name}-{uuid.uuid4().hex}"
    with _writing_to(parent):
        folder.mkdir(parents=True)
    try:
        with _owned(folder):
            yield folder
    finally:
        # Tasks that were cancelled may still be writing: under another name the folder is out of their reach.
        with suppress(FileNotFoundError):  # the shared storage has gone, and the work has failed for it
            shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.gone")), ignore_errors=True)


@contextmanager
def _writing_to(parent: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if disk_is_full(error) else error.strerror or str(error)
        raise EngineError(
            f"no folder can be made in {parent}: {reason}",
            hint="Free some space, or name another folder that may be written to.",
        ) from error


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the operating system lets go when the process ends, however it ends."""
    with _writing_to(folder.parent):
        descriptor = os.open(folder / OWNER, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        with _writing_to(folder.parent):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, _machine().encode())
        yield
    finally:
        os.close(descriptor)


def _take_away_lost(parent: Path, name: str) -> None:
    if not parent.is_dir():
        return
    prefixes = (f"{name}-", f".{name}-")
    for folder in parent.iterdir():
        if not folder.name.startswith(prefixes) or not _DRAFT.match(folder.name) or folder.is_symlink():
            continue
        with suppress(OSError):  # somebody else's, or somebody else is taking it away
            if folder.name.endswith(".gone"):
                shutil.rmtree(folder, ignore_errors=True)
            elif _is_lost(folder / OWNER):
                gone = folder.rename(folder.with_name(f".{folder.name}.gone"))
                shutil.rmtree(gone, ignore_errors=True)


def _is_lost(owner: Path) -> bool:
    descriptor = os.open(owner, os.O_RDWR)
    try:
        machine = os.read(descriptor, 1_000).decode()
        if not machine:
            return False  # its owner is just about to lock it
        if machine != _machine():  # locks may not reach from machine to machine
            return time.time() - owner.stat().st_mtime > _FOREIGN_FOR_S
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _machine() -> str:
    """Return a name of this machine since it was started: what a lock of the local kernel can be believed for."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}"


def write_at_once(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is never seen half-written.

    Args:
        file: The file; one that is there is replaced.
        write: Writes the content to the path that it is given.

    Raises:
        EngineError: The file's folder is not there.
    """
    if not file.parent.is_dir():
        raise EngineError(
            f"there is no folder {file.parent}",
            expected="a folder that this process and all workers reach",
            hint="On a cluster of several machines it must be on storage that they share.",
        )
    half = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        write(half)
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)
