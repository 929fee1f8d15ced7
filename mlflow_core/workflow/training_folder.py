"""Where one training works: a folder for scratch, and a place in the artifact store for its checkpoints.

Both have the same name for the same trainer on the same dataset. A training whose driver was killed goes on from its last
checkpoint when the pipeline is run again, on whichever machine; the folder is this machine's. What has ended well leaves
nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from mlflow_core.errors import ArtifactError, MetadataError
from mlflow_core.spec import Trainer
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.train.identity import identity_of
from mlflow_core.workflow.kept_trainings import KeptTrainings

__all__ = ["TrainingFolder", "training_folder"]

_KEPT_FOR_S = 14 * 86_400.0

_log = get_logger(__name__)


@dataclass(frozen=True)
class TrainingFolder:
    """Where a training works.

    Attributes:
        path: The folder.
        checkpoints: Where its checkpoints are, a folder or an fsspec address.
        begun: Whether there are any, of a training that was interrupted.
    """

    path: Path
    checkpoints: str = field(repr=False)  # an address may hold what opens it
    begun: bool


@contextmanager
def training_folder(
    parent: Path, kept: KeptTrainings, trainer: Trainer, dataset: str, *, run: str, fresh: bool = False
) -> Iterator[TrainingFolder]:
    """Hold the places of a training for the time of a ``with`` block; no other driver works there meanwhile.

    Args:
        parent: The folder of all trainings' scratch, on storage that the workers reach.
        kept: The trainings of the artifact store.
        trainer: The trainer.
        dataset: The dataset's digest.
        run: The run that trains.
        fresh: Whether to start anew where the training of another run was interrupted; a run goes on with its own.

    Yields:
        The places. The folder is removed at the end, for copies of rows must not lie where no erasure looks for them;
        the checkpoints are, unless the block failed: it is to end well once the model is stored and noted. While another driver
        trains the same, second places are used, which are removed in any case.

    Raises:
        ArtifactError: The artifact store cannot be read or written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{identity_of(trainer)} {dataset}".encode()).hexdigest()[:32]
    with _first_free(parent, kept, name, run, fresh=fresh) as (own, is_first):
        folder = parent / own
        _take_away_old(parent)
        _tidied(kept.remove_old)
        if fresh or not is_first:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        try:
            yield TrainingFolder(folder, kept.address(own), kept.begun(own))
        except BaseException:
            _tidied(partial(_leave, kept, own, run, goes_on=is_first))
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        _tidied(partial(kept.give_up, own, run))


@contextmanager
def _first_free(
    parent: Path, kept: KeptTrainings, name: str, run: str, *, fresh: bool
) -> Iterator[tuple[str, bool]]:
    """Take the training's own places, or where another driver has them the next free ones beside them.

    A driver on this machine is told by a lock, for it may be of the same run; one on another by the run that took it.
    """
    number = 0
    while (lock := _taken(parent, kept, f"{name}-{number}", run, fresh=fresh or number > 0)) is None:
        number += 1
    with lock:
        try:
            yield f"{name}-{number}", number == 0
        finally:
            Path(lock.name).unlink(missing_ok=True)


def _taken(parent: Path, kept: KeptTrainings, name: str, run: str, *, fresh: bool) -> IO[str] | None:
    lock = _locked(parent / f".{name}.lock")
    if lock is None:
        return None
    free = False
    try:
        free = kept.take(name, run, fresh=fresh)
    finally:
        if not free:
            with lock:
                Path(lock.name).unlink(missing_ok=True)
    return lock if free else None


def _leave(kept: KeptTrainings, name: str, run: str, *, goes_on: bool) -> None:
    """Leave checkpoints to go on from, if there are any, and nothing else."""
    if not goes_on or not kept.begun(name):
        kept.give_up(name, run)


def _tidied(act: Callable[[], object]) -> None:
    """Clean up, if store and records let us: what stays is cleaned by a later training, and hinders none."""
    try:
        act()
    except (ArtifactError, MetadataError) as error:
        _log.warning("checkpoints that are not needed any more stay: %s", error)


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


def _take_away_old(parent: Path) -> None:
    """Remove the folders of drivers that were killed and whose training nobody took up for long.

    The caller's own folder is locked, and so is everybody's who trains.
    """
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
