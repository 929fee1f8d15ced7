"""What happens on a worker: modules are imported, the program runs, its facts go out, and it learns that it was stopped.

Whether it was is read from the worker's own state of the task: it changes when the caller cancels the task, and as well
when the caller dies or the scheduler is lost. So nothing has to be sent, and no rank outlives the one who asked.
"""

from __future__ import annotations

import importlib
import json
import pickle
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from mlflow_core.errors import MachineError, TrainError, disk_is_full
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.train.gang.rank import Disrupted, Rank

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["BEGAN", "ENDED", "TOLD", "Failed", "Ready", "Started", "get_ready", "is_stopped", "run_rank"]

_log = get_logger(__name__)

BEGAN: Final = 0
TOLD: Final = 1
ENDED: Final = 2
_GOING: Final = ("closing", "closing_gracefully", "closed", "stopping", "failed")


@dataclass(frozen=True)
class Ready:
    """A worker that has imported what a program needs.

    Args:
        process: Dask's name for the worker's process: one that is started again at the same address has another.
        failed: The module that could not be imported, and why; None where all went well.
    """

    process: str
    failed: tuple[str, str] | None


@dataclass(frozen=True)
class Started:
    """What a rank is given besides its program.

    Args:
        index: See ``Rank``.
        count: See ``Rank``.
        threads: See ``Rank``.
        attempt: See ``Rank``.
        rendezvous: See ``Rank``.
        topic: The Dask topic that facts are told under.
        process: The worker's process that it was meant for.
    """

    index: int
    count: int
    threads: int
    attempt: int
    rendezvous: Mapping[str, Any]
    topic: str
    process: str


@dataclass(frozen=True)
class Failed:
    """What a program has raised: returned, because what a task raises Dask prints as well.

    Args:
        error: The exception, or one that says the same where it cannot travel.
        trace: Where it was raised.
    """

    error: Exception
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """What an exception says, in a form that can travel."""
        trace = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception as why:  # whatever an exception's own class does when it is copied
            _log.debug("%r cannot travel: %s", error, why)
            return cls(RuntimeError(f"{type(error).__name__}: {error}"), trace)
        return cls(error.with_traceback(None), trace)

    def told(self, where: str) -> TrainError:
        """Say it to whoever asked for the training.

        Args:
            where: What failed, e.g. the rank and its worker.
        """
        if disk_is_full(self.error):
            return MachineError("the disk is full", object=where, hint="Free some space, then run it again.")
        if isinstance(self.error, MemoryError):
            return MachineError(
                "there is no memory left", object=where, hint="Give workers more memory, or use more of them."
            )
        kind = MachineError if isinstance(self.error, OSError) else TrainError
        told = kind(f"{type(self.error).__name__}: {self.error}", object=where)
        told.add_note(self.trace)
        return told


def get_ready(modules: tuple[str, ...]) -> Ready:
    """Import modules on this worker."""
    from distributed import get_worker

    process = get_worker().id
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module does when it is imported; the caller says it
            return Ready(process, (name, f"{type(error).__name__}: {error}"))
    return Ready(process, None)


def run_rank(program: Callable[[Rank], Any], start: Started) -> Any:
    """Run a program as a rank on this worker.

    Args:
        program: What it does.
        start: What it is told.

    Returns:
        What the program returns; or what it raises, as ``Failed``, and that it was stopped.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def send(kind: int, name: str = "", facts: Mapping[str, Any] | None = None) -> None:
        # As text: what cannot be written fails here, in the program, and never in the worker's own stream.
        worker.log_event(start.topic, json.dumps([start.index, kind, name, facts]))

    def stopped() -> bool:
        return is_stopped(worker, key)

    if worker.id != start.process:
        return Failed(Disrupted(f"the worker {worker.address} was started anew"), "")
    if stopped():
        return Failed(Disrupted("it was stopped"), "")
    send(BEGAN)
    try:
        result = program(
            Rank(
                index=start.index,
                count=start.count,
                threads=start.threads,
                attempt=start.attempt,
                rendezvous=start.rendezvous,
                tell=lambda name, facts: send(TOLD, name, facts),
                stopped=stopped,
            )
        )
    except Exception as error:  # the program's, on its way to the caller, who says it
        return Failed.of(error)
    finally:
        send(ENDED)
    # What a program returns early, because its worker leaves, is no result.
    return Failed(Disrupted("it was stopped"), "") if stopped() else result


def is_stopped(worker: Worker, key: Any) -> bool:
    """Whether nobody wants a task of this worker any more, or the worker leaves.

    The worker's own state of the task changes when the caller cancels it, and as well when the caller dies.

    Args:
        worker: The worker that runs it.
        key: The task's key.
    """
    task = worker.state.tasks.get(key)
    return task is None or task.state not in ("executing", "long-running") or worker.status.name in _GOING
