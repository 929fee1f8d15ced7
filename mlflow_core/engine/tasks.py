"""Waiting for tasks on a cluster: their results, or one clear error; what they do is not known here.

Dask itself waits for ever for a worker. Here the wait ends when there has been none for as long as Dask's own
setting ``distributed.scheduler.no-workers-timeout`` says, or a minute where it says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_core.errors import EngineError
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["finished"]

_NO_WORKER_FOR = 60.0
_GLANCE = 0.01
_ASK_EVERY = 1.0


def finished(client: Client, tasks: Sequence[Any], name: str, unit: str, progress: Progress) -> list[Any]:
    """Wait for tasks and return their results; the first failure cancels the others.

    Args:
        client: The cluster's client.
        tasks: Its futures.
        name: What they do, for the progress and for errors.
        unit: What each of them does one of, in the plural.
        progress: Who is told.

    Returns:
        The results, in the tasks' order.

    Raises:
        EngineError: A task killed its workers, the cluster went away, or it has had no worker for too long.
        Exception: What a task raised.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.scheduler import NoValidWorkerError

    try:
        with progress.stage(name, total=len(tasks), unit=unit) as stage:
            for done in _as_they_finish(client, tasks, name):
                done.result()
                stage.advance(1)
        results: list[Any] = client.gather(list(tasks))
        return results
    except KilledWorker as error:
        raise EngineError(
            f"{name}: one of its {unit} killed the workers that tried it ({error})",
            hint="Most likely it outgrew their memory: use more buckets, or workers with more memory.",
        ) from error
    except NoValidWorkerError as error:
        raise _no_worker(name) from error
    except (CancelledError, OSError) as error:
        if isinstance(error, OSError) and client.status == "running":
            raise  # a task's own
        raise EngineError(
            f"{name}: the Dask cluster went away while it was at work",
            hint="Nothing was written; start a cluster and run it again.",
        ) from error
    finally:
        if client.status == "running":
            client.cancel(list(tasks))


def _as_they_finish(client: Client, tasks: Sequence[Any], name: str) -> Iterator[Any]:
    from distributed import as_completed

    coming, patience = as_completed(tasks), _patience()
    last_seen = asked = time.monotonic()
    while not coming.is_empty():
        ready = coming.next_batch(block=False)
        yield from ready
        if ready:
            last_seen = time.monotonic()
            continue
        time.sleep(_GLANCE)
        now = time.monotonic()
        if now - asked < _ASK_EVERY:
            continue
        asked = now
        if _has_worker(client):
            last_seen = now
        elif now - last_seen > patience:
            raise _no_worker(name)


def _has_worker(client: Client) -> bool:
    try:
        return bool(client.nthreads())
    except OSError:
        return True  # the scheduler has gone: then the tasks are cancelled, and that is told


def _patience() -> float:
    """Seconds without any worker after which the wait is over."""
    import dask
    from dask.utils import parse_timedelta

    said = dask.config.get("distributed.scheduler.no-workers-timeout", default=None)
    return _NO_WORKER_FOR if said is None else float(parse_timedelta(said))


def _no_worker(name: str) -> EngineError:
    return EngineError(
        f"{name}: the Dask cluster has had no worker for {_patience():g} s",
        expected="at least one worker",
        hint="Start workers, or allow more time with Dask's distributed.scheduler.no-workers-timeout.",
    )
