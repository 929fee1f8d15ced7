"""The folder in which one training works: the same for the same trainer on the same dataset until it has finished.

A training leaves its checkpoints there, so one whose driver was killed goes on from the last of them when the pipeline
is run again. What has finished leaves nothing; what never came back is taken away after two weeks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlflow_core.spec import Trainer
from mlflow_core.train.gang.checkpoints import SUFFIX
from mlflow_core.train.identity import identity_of

__all__ = ["TrainingFolder", "training_folder"]

_KEPT_FOR_S = 14 * 86_400.0


@dataclass(frozen=True)
class TrainingFolder:
    """Where a training works.

    Attributes:
        path: The folder.
        begun: Whether it holds checkpoints of a training that was interrupted.
    """

    path: Path
    begun: bool


@contextmanager
def training_folder(
    parent: Path, trainer: Trainer, dataset: str, *, fresh: bool = False
) -> Iterator[TrainingFolder]:
    """Hold a training's folder for the time of a ``with`` block; no other driver works in it meanwhile.

    Args:
        parent: The folder of all trainings, on storage that the workers reach.
        trainer: The trainer.
        dataset: The dataset's digest.
        fresh: Whether to start anew where a training was interrupted.

    Yields:
        The folder. It is removed at the end, unless the training failed and left a checkpoint. While another driver
        trains the same, a second folder is used, which is removed in any case.
    """
    parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{identity_of(trainer)} {dataset}".encode()).hexdigest()[:32]
    with _first_free(parent, name) as (folder, is_first):
        _take_away_old(parent)
        if fresh or not is_first:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        try:
            yield TrainingFolder(folder, _has_checkpoints(folder))
        except BaseException:
            if is_first:
                _keep_checkpoints(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _first_free(parent: Path, name: str) -> Iterator[tuple[Path, bool]]:
    """Lock the training's own folder, or where another driver holds it the next free one beside it."""
    number = 0
    while (lock := _locked(parent / f".{name}-{number}.lock")) is None:
        number += 1
    with lock:
        try:
            yield parent / f"{name}-{number}", number == 0
        finally:
            Path(lock.name).unlink(missing_ok=True)


def _locked(path: Path) -> IO[str] | None:
    """Lock a file for this process; None while another one holds it."""
    while True:
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        lock.close()  # its owner has just finished and taken the file away


def _has_checkpoints(folder: Path) -> bool:
    return any(folder.rglob(f"*{SUFFIX}"))


def _keep_checkpoints(folder: Path) -> None:
    """Remove everything but checkpoints: copies of rows must not lie where no erasure looks for them."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir():
            with suppress(OSError):  # a checkpoint is in it
                path.rmdir()
        elif path.suffix != SUFFIX:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _take_away_old(parent: Path) -> None:
    """Remove what has not changed for long; the caller's own folder is locked, and so is everybody's who trains."""
    for folder in parent.iterdir():
        if not folder.is_dir() or time.time() - _changed(folder) < _KEPT_FOR_S:
            continue
        if (lock := _locked(parent / f".{folder.name}.lock")) is not None:
            with lock:
                shutil.rmtree(folder, ignore_errors=True)
                Path(lock.name).unlink(missing_ok=True)


def _changed(folder: Path) -> float:
    """When a folder or anything in it changed last; now, if somebody is just removing it."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return time.time()
