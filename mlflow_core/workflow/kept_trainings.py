"""The checkpoints of trainings in an artifact store: under the training's name, with the run that has it in hand.

They lie beside the artifacts and are none: they are written over and over, and gone when the model is stored. A training
belongs to one run at a time. The next one takes it over when that run has ended, or lost its driver, on whichever machine;
what nobody has taken over for two weeks is taken away by the next training or by ``mlcore gc``.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.artifacts.failures import guarded
from mlflow_core.artifacts.place import Entry, open_place
from mlflow_core.config.clock import SystemClock
from mlflow_core.errors import UnknownNameError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.records import RunState
from mlflow_core.train.gang.checkpoints import SUFFIX
from mlflow_core.workflow.lease import driver_is_gone

__all__ = ["KeptTrainings", "OldTraining", "may_be_driven"]

_FOLDER: Final = "trainings"
_RUN: Final = "run"
_KEPT_FOR_S: Final = 14 * 86_400.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class OldTraining:
    """A training that was interrupted and never went on.

    Attributes:
        name: Its name.
        bytes: How much its checkpoints take.
    """

    name: str
    bytes: int


class KeptTrainings:
    """The interrupted and running trainings of an artifact store.

    Args:
        artifacts: The store.
        is_driven: Whether the run of an id may have a driver that is at work.
    """

    def __init__(self, artifacts: ArtifactStore, is_driven: Callable[[str], bool]) -> None:
        self._location, self._is_driven = artifacts.location, is_driven
        self._place = open_place(artifacts.location)

    def address(self, name: str) -> str:
        """Where the checkpoints of a training are; may hold what opens the store, so it is not for messages."""
        key = _key(name)
        local = self._place.local(key)
        return f"{self._location.rstrip('/')}/{key}" if local is None else str(local)

    def take(self, name: str, run: str, *, fresh: bool = False) -> bool:
        """Take a training for a run.

        Args:
            name: The training.
            run: The run's id.
            fresh: Whether what another run has left of it goes; a run always goes on with what it has left itself.

        Returns:
            False where another run has it, whose driver may be at work.

        Raises:
            ArtifactError: The store cannot be read or written.
        """
        before = self._run_of(name)
        if before is not None and before != run and self._is_driven(before):
            return False
        if fresh and before != run:
            self.clear(name)
        key = _key(name, _RUN)
        self._guarded("cannot be stored", key, lambda: self._place.put_bytes(key, run.encode()))
        return self._run_of(name) == run  # of two that come at once the later one has it

    def begun(self, name: str) -> bool:
        """Whether a training has left checkpoints."""
        return any(entry.key.endswith(SUFFIX) for entry in self._entries(name))

    def give_up(self, name: str, run: str) -> None:
        """Remove all of a training, unless another run has taken it over: that of a driver that was asleep for long."""
        if self._run_of(name) == run:
            self.clear(name)

    def clear(self, name: str) -> None:
        """Remove all of a training.

        Raises:
            ArtifactError: Something cannot be removed.
        """
        local = self._place.local(_key(name))
        if local is not None:
            self._guarded("cannot be removed", _key(name), partial(_without, local))
            return
        for entry in self._entries(name):
            self._guarded("cannot be removed", entry.key, partial(self._place.delete, entry.key))

    def remove_old(self, *, really: bool = True) -> tuple[OldTraining, ...]:
        """Remove the trainings in which nothing has changed for two weeks and which no run has in hand.

        Args:
            really: Whether to remove them, or only to say which they are.

        Raises:
            ArtifactError: The store cannot be read, or something cannot be removed.
        """
        return tuple(self._removed_old(really=really))

    def _removed_old(self, *, really: bool) -> Iterator[OldTraining]:
        trainings: dict[str, list[Entry]] = {}
        for entry in self._entries():
            trainings.setdefault(entry.key.split("/")[1], []).append(entry)
        for name, entries in sorted(trainings.items()):
            if not self._is_old(name, entries):
                continue
            if really:
                if not self._is_old(name, self._entries(name)):
                    continue  # a run has taken it over just now
                self.clear(name)
            yield OldTraining(name, sum(entry.size for entry in entries))

    def _is_old(self, name: str, entries: list[Entry]) -> bool:
        times = [entry.stored_us / 1e6 for entry in entries]
        # Of what has no date, as some file systems tell none, nobody knows that it is old.
        changed = max(times) if times and all(times) else time.time()
        if time.time() - changed < _KEPT_FOR_S:
            return False
        run = self._run_of(name)
        return run is None or not self._is_driven(run)

    def _run_of(self, name: str) -> str | None:
        """The run that took a training last; None where none did."""
        key = _key(name, _RUN)

        def read() -> str | None:
            if self._place.entry(key) is None:
                return None
            with self._place.open(key) as stream:
                return stream.read().decode()

        return self._guarded("cannot be read", key, read)

    def _entries(self, name: str = "") -> list[Entry]:
        key = _key(name)
        return self._guarded("cannot be read", key, lambda: list(self._place.walk(key)))

    def _guarded(self, what: str, key: str, act: Callable[[], _T]) -> _T:
        return guarded(what, key, self._place.url(""), act)


def may_be_driven(metadata: MetadataStore) -> Callable[[str], bool]:
    """Make the question whether the run of an id may have a driver that is at work.

    Args:
        metadata: The records. Of a run that they do not know, another project's or database's, nobody here can say that
            it has ended.
    """

    def asked(run_id: str) -> bool:
        try:
            run = metadata.get_run(run_id)
        except UnknownNameError:
            return True
        alive = run.state == RunState.RUNNING and run.lease_owner is not None
        return alive and not run.is_lost(SystemClock().now_us()) and not driver_is_gone(run.lease_owner)

    return asked


def _without(folder: Path) -> None:
    def passed_over(
        _act: object, _path: str, raised: tuple[type[BaseException], BaseException, object]
    ) -> None:
        # It was never there, or goes as another process takes it away; what is beside it goes all the same.
        if not isinstance(raised[1], FileNotFoundError):
            raise raised[1]

    shutil.rmtree(folder, onerror=passed_over)


def _key(*names: str) -> str:
    return "/".join(name for name in (_FOLDER, *names) if name)
