"""Running tasks on a cluster: their results, or one clear error; what they do is not known here.

Dask itself waits for ever for a worker. Here the wait ends when none has taken a task for as long as Dask's own
setting ``distributed.scheduler.no-workers-timeout`` says, or a minute where it says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_core.errors import EngineError, MlcoreError, disk_is_full
from mlflow_core.telemetry import Progress, Stage

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Amount", "Call", "n_threads", "run_tasks"]

# A function and its arguments, as they travel to a worker.
Call = tuple[Any, ...]

_NO_WORKER_FOR = 60.0
_GLANCE = 0.5  # a task's end wakes the wait at once; this is how soon anything else is noticed
_ASK_EVERY = 1.0
_FETCH_EVERY = 0.5
_OUTGREW = "Most likely it outgrew their memory: use more buckets, or workers with more memory."


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a task has worked through, for the progress: a task returns it, or ``run_tasks`` is told how to see it.

    Attributes:
        rows: Rows read or written, whichever the stage is about.
        bytes: Their size.
    """

    rows: int = 0
    bytes: int = 0


def run_tasks(
    client: Client,
    calls: Sequence[Call],
    name: str,
    unit: str,
    progress: Progress,
    *,
    amount: Callable[[Any], Amount] | None = None,
) -> list[Any]:
    """Run calls on the workers and return their results; the first failure, or Ctrl-C, cancels the others.

    Args:
        client: The cluster's client.
        calls: Each a function and its arguments, which are sent as they are.
        name: What they do, for the progress and for errors.
        unit: What each of them does one of, in the plural.
        progress: Who is told.
        amount: How many rows and bytes a result stands for; by default a result that is an ``Amount`` says so itself.

    Returns:
        The results, in the calls' order.

    Raises:
        EngineError: A task killed its workers or ran out of memory, disk or files, the cluster went away, or no
            worker has taken a task for too long.
        Exception: What else a task raised.

    Example:
        >>> from distributed import Client
        >>> from mlflow_core.telemetry import SilentProgress
        >>> with Client(processes=False, n_workers=1, dashboard_address=None) as client:
        ...     run_tasks(client, [(abs, -2), (abs, 1)], "counting", "numbers", SilentProgress())
        [2, 1]
    """
    tasks: list[Any] = []
    try:
        with _clear_errors(client, name, unit), progress.stage(name, total=len(calls), unit=unit) as stage:
            for function, *arguments in calls:
                tasks.append(client.submit(function, *arguments, pure=False))
            return _collected(client, tasks, name, stage, amount or _own_amount)
    finally:
        if client.status == "running":
            client.cancel(tasks)


def n_threads(client: Client) -> int:
    """Say how many tasks a cluster's workers take at once.

    Args:
        client: The cluster's client.

    Raises:
        EngineError: The cluster has gone away.
    """
    with _clear_errors(client, "counting workers", "workers"):
        _check_open(client)
        return int(sum(client.nthreads().values()))


def _own_amount(result: Any) -> Amount:
    return result if isinstance(result, Amount) else Amount()


def _collected(
    client: Client, tasks: Sequence[Any], name: str, stage: Stage, amount: Callable[[Any], Amount]
) -> list[Any]:
    """Fetch results as they come, several at once: a trip for each would cost more than a small task."""
    results: dict[str, Any] = {}
    waiting: list[Any] = []
    fetched = time.monotonic()

    def fetch() -> None:
        nonlocal fetched
        for task, result in zip(waiting, client.gather(waiting), strict=True):
            results[task.key] = result
            found = amount(result)
            stage.advance(1, rows=found.rows, size=found.bytes)
        waiting.clear()
        fetched = time.monotonic()

    for ready in _as_they_finish(client, tasks, name):
        for task in ready:
            if task.status != "finished":
                task.result()  # raises
        waiting += ready
        if waiting and time.monotonic() - fetched >= _FETCH_EVERY:
            fetch()
    fetch()
    return [results[task.key] for task in tasks]


def _as_they_finish(client: Client, tasks: Sequence[Any], name: str) -> Iterator[list[Any]]:
    """Yield what has finished since the last time, perhaps nothing."""
    from distributed import as_completed

    coming, patience = as_completed(tasks, loop=client.loop), _patience()
    last_taken = asked = time.monotonic()
    while not coming.is_empty():
        with coming.thread_condition:
            if not coming.has_ready():
                coming.thread_condition.wait(_GLANCE)
        ready = coming.next_batch(block=False)
        yield ready
        now = time.monotonic()
        if ready:
            last_taken = now
        elif now - asked >= _ASK_EVERY:
            asked = now
            idle = _why_idle(client)
            if idle is None:
                last_taken = now
            elif now - last_taken > patience:
                raise idle.told(name)


@dataclass(frozen=True, slots=True)
class _Idle:
    """Why no task can start."""

    what: str
    expected: str
    hint: str

    def told(self, name: str) -> EngineError:
        return EngineError(
            f"{name}: {self.what} for {_patience():g} s", expected=self.expected, hint=self.hint
        )


_NO_WORKER = _Idle(
    "the Dask cluster has had no worker",
    "at least one worker",
    "Start workers, or allow more time with Dask's distributed.scheduler.no-workers-timeout.",
)
_ALL_PAUSED = _Idle(
    "all workers of the Dask cluster have been out of memory and took no task",
    "a worker that uses less than 80 % of its memory",
    "Use more buckets, or workers with more memory.",
)


def _why_idle(client: Client) -> _Idle | None:
    try:
        told = client.scheduler_info()
    except OSError:
        return None  # the scheduler has gone: then the tasks are cancelled, and that is told
    _check_open(client)  # once closed it forgets tasks that it never sent, and tells nobody
    workers = told["workers"].values()
    if not workers:
        return _NO_WORKER
    for worker in workers:
        counts = worker.get("metrics", {}).get("task_counts", {})
        if worker.get("status") == "running" or counts.get("executing", 0) or counts.get("long-running", 0):
            return None
    return _ALL_PAUSED


def _check_open(client: Client) -> None:
    from distributed.client import ClosedClientError

    if client.status in ("closing", "closed"):
        raise ClosedClientError(f"the client is {client.status}")


def _patience() -> float:
    """Seconds without any worker after which the wait is over."""
    import dask
    from dask.utils import parse_timedelta

    said = dask.config.get("distributed.scheduler.no-workers-timeout", default=None)
    return _NO_WORKER_FOR if said is None else float(parse_timedelta(said))


@contextmanager
def _clear_errors(client: Client, name: str, unit: str) -> Iterator[None]:
    from distributed import CancelledError, KilledWorker
    from distributed.client import ClosedClientError
    from distributed.scheduler import NoValidWorkerError

    try:
        yield
    except MlcoreError:
        raise
    except KilledWorker as error:
        raise EngineError(
            f"{name}: one of its {unit} killed the workers that tried it ({error})", hint=_OUTGREW
        ) from error
    except NoValidWorkerError as error:
        raise _NO_WORKER.told(name) from error
    except MemoryError as error:
        raise EngineError(f"{name}: a worker has no memory left ({error})", hint=_OUTGREW) from error
    except (CancelledError, ClosedClientError, OSError) as error:
        if isinstance(error, OSError) and client.status == "running":
            raise _of_the_files(error, name) from error
        raise EngineError(
            f"{name}: the Dask cluster went away while it was at work",
            hint="Nothing was written; start a cluster and run it again.",
        ) from error


def _of_the_files(error: OSError, name: str) -> EngineError:
    place = None if error.filename is None else str(error.filename)
    if disk_is_full(error):
        return EngineError(
            f"{name}: the disk is full",
            place=place,
            hint="Free some space, then run it again; what was written half is taken away.",
        )
    return EngineError(
        f"{name}: a file could not be read or written: {error}",
        hint="On a cluster of several machines the folders for work and results must be on storage that all share.",
    )
