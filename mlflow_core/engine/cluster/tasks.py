"""Running tasks on a cluster: their results, or one clear error; what they do is not known here.

Dask itself waits for ever for a worker. Here the wait ends when none has taken a task for as long as Dask's own
setting ``distributed.scheduler.no-workers-timeout`` says, or a minute where it says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_core.engine.cluster.lost import check_open, went_away
from mlflow_core.engine.cluster.workers import workers_of
from mlflow_core.errors import ClusterLost, EngineError, MlcoreError, disk_is_full
from mlflow_core.telemetry import Progress, Stage

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Amount", "Call", "Ended", "n_threads", "patience", "run_apart", "run_tasks"]

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


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that has ended.

    Attributes:
        place: Which of the calls.
        result: What it returned, None where it failed.
        error: Why it failed, or None.
    """

    place: int
    result: Any
    error: BaseException | None


def run_tasks(
    client: Client | None,
    calls: Sequence[Call],
    name: str,
    unit: str,
    progress: Progress,
    *,
    amount: Callable[[Any], Amount] | None = None,
) -> list[Any]:
    """Run calls on the workers and return their results; the first failure, or Ctrl-C, cancels the others.

    Args:
        client: The cluster's client; None works through the calls here, one by one.
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
    amount = amount or _own_amount
    if client is None:
        with progress.stage(name, total=len(calls), unit=unit) as stage:
            return [_called(call, stage, amount) for call in calls]
    tasks: list[Any] = []
    try:
        with _clear_errors(client, name, unit), progress.stage(name, total=len(calls), unit=unit) as stage:
            for function, *arguments in calls:
                tasks.append(client.submit(function, *arguments, pure=False))
            return _collected(client, tasks, name, stage, amount)
    finally:
        if client.status == "running":
            client.cancel(tasks)


def run_apart(
    client: Client | None,
    calls: Sequence[Call],
    groups: Sequence[Hashable],
    name: str,
    unit: str,
    progress: Progress,
    *,
    failed: Callable[[Any], bool],
    amount: Callable[[Any], Amount] | None = None,
) -> Iterator[Ended]:
    """Run calls that belong to several groups at once; a failure cancels the others of its group alone.

    Args:
        client: The cluster's client; None works through the calls here, one by one.
        calls: As for ``run_tasks``.
        groups: The group of each.
        name: What they do, for the progress and for errors.
        unit: What each of them does one of, in the plural.
        progress: Who is told.
        failed: Whether a result says that its call has failed.
        amount: As for ``run_tasks``.

    Yields:
        Calls as they end; of a group that failed some may never end.

    Raises:
        EngineError: The cluster went away, or no worker has taken a task for too long.
    """
    amount = amount or _own_amount
    over: set[Hashable] = set()
    with progress.stage(name, total=len(calls), unit=unit) as stage:
        ends = (
            _here(calls, groups, over, stage, amount)
            if client is None
            else _there(client, calls, groups, over, name, unit)
        )
        for end in ends:
            if end.error is not None or failed(end.result):
                over.add(groups[end.place])
            elif client is not None:
                found = amount(end.result)
                stage.advance(1, rows=found.rows, size=found.bytes)
            yield end


def n_threads(client: Client | None) -> int:
    """Say how many tasks a cluster's workers take at once.

    Args:
        client: The cluster's client; None is this process, which takes one.

    Raises:
        EngineError: The cluster has gone away.
    """
    if client is None:
        return 1
    with _clear_errors(client, "counting workers", "workers"):
        check_open(client)
        return int(sum(client.nthreads().values()))


def patience() -> float:
    """Say for how many seconds work waits for a worker to take it, before that is an error."""
    import dask
    from dask.utils import parse_timedelta

    said = dask.config.get("distributed.scheduler.no-workers-timeout", default=None)
    return _NO_WORKER_FOR if said is None else float(parse_timedelta(said))


def _own_amount(result: Any) -> Amount:
    return result if isinstance(result, Amount) else Amount()


def _called(call: Call, stage: Stage, amount: Callable[[Any], Amount]) -> Any:
    function, *arguments = call
    result = function(*arguments)
    found = amount(result)
    stage.advance(1, rows=found.rows, size=found.bytes)
    return result


def _here(
    calls: Sequence[Call],
    groups: Sequence[Hashable],
    over: set[Hashable],
    stage: Stage,
    amount: Callable[[Any], Amount],
) -> Iterator[Ended]:
    for place, call in enumerate(calls):
        if groups[place] in over:
            continue
        try:
            yield Ended(place, _called(call, stage, amount), None)
        except Exception as error:  # as a worker would hand it over, whatever it is
            yield Ended(place, None, error)


def _there(
    client: Client,
    calls: Sequence[Call],
    groups: Sequence[Hashable],
    over: set[Hashable],
    name: str,
    unit: str,
) -> Iterator[Ended]:
    tasks: list[Any] = []
    try:
        with _clear_errors(client, name, unit):
            for function, *arguments in calls:
                tasks.append(client.submit(function, *arguments, pure=False))
            place = {task.key: number for number, task in enumerate(tasks)}
            for ready in _as_they_finish(client, tasks, name):
                done = [task for task in ready if task.status == "finished"]
                for task, result in zip(done, client.gather(done), strict=True):
                    yield Ended(place[task.key], result, None)
                for task in ready:
                    number = place[task.key]
                    if task.status == "finished" or groups[number] in over:
                        continue
                    yield Ended(number, None, _why(client, task, name, unit))
                stopped = [
                    t for t, group in zip(tasks, groups, strict=True) if group in over and not t.done()
                ]
                if stopped:
                    client.cancel(stopped)
    finally:
        if client.status == "running":
            client.cancel(tasks)


def _why(client: Client, task: Any, name: str, unit: str) -> BaseException:
    try:
        with _clear_errors(client, name, unit):
            task.result()
    except Exception as error:  # the worker's, on its way to whoever asked
        return error
    raise AssertionError("a task that did not finish has no error")


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

    coming, longest = as_completed(tasks, loop=client.loop), patience()
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
            elif now - last_taken > longest:
                raise idle.told(name)


@dataclass(frozen=True, slots=True)
class _Idle:
    """Why no task can start."""

    what: str
    expected: str
    hint: str

    def told(self, name: str) -> EngineError:
        return EngineError(
            f"{name}: {self.what} for {patience():g} s", expected=self.expected, hint=self.hint
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
        workers = workers_of(client).values()
    except OSError:
        check_open(client)  # once closed it forgets tasks that it never sent, and tells nobody
        return None  # the scheduler is busy, or has gone: then the tasks are cancelled, and that is told
    if not workers:
        return _NO_WORKER
    for worker in workers:
        counts = worker.get("metrics", {}).get("task_counts", {})
        if worker.get("status") == "running" or counts.get("executing", 0) or counts.get("long-running", 0):
            return None
    return _ALL_PAUSED


@contextmanager
def _clear_errors(client: Client, name: str, unit: str) -> Iterator[None]:
    from distributed import KilledWorker
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
    except Exception as error:
        if went_away(client, error):
            raise ClusterLost(
                f"{name}: the Dask cluster went away while it was at work",
                hint="Nothing was written; start a cluster and run it again.",
            ) from error
        if isinstance(error, OSError):
            raise _of_the_files(error, name) from error
        raise


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
