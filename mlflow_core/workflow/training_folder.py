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

__all__ = ["TrainingFolder", "training_folder"]

_CHECKPOINTS = "checkpoints"
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
    _take_away_old(parent)
    name = hashlib.sha256(trainer.canonical_json() + dataset.encode()).hexdigest()[:32]
    with _first_free(parent, name) as (folder, is_first):
        if fresh or not is_first:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        try:
            yield TrainingFolder(folder, _has_checkpoints(folder))
        except BaseException:
            if not is_first or not _has_checkpoints(folder):
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
    checkpoints = folder / _CHECKPOINTS
    return checkpoints.is_dir() and any(checkpoints.iterdir())


def _take_away_old(parent: Path) -> None:
    for folder in parent.iterdir():
        if not folder.is_dir() or time.time() - folder.stat().st_mtime < _KEPT_FOR_S:
            continue
        if (lock := _locked(parent / f".{folder.name}.lock")) is not None:
            with lock:
                shutil.rmtree(folder, ignore_errors=True)
                Path(lock.name).unlink(missing_ok=True)
