"""Small independent pieces of work on the workers, or on the threads of this process where there is no cluster.

Each piece may run twice: Dask runs those of a lost worker again. Arguments and results are small; what is great is
read and written where the work is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from mlflow_core.engine.cluster.lost import check_open, told_if_lost, went_away
from mlflow_core.engine.cluster.tasks import patience
from mlflow_core.errors import ClusterLost, TrainError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["spread"]

T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 8


def spread(
    work: Callable[[T], R],
    pieces: Sequence[T],
    client: Client | None,
    done: Callable[[R], None] = lambda _: None,
) -> list[R]:
    """Do every piece of work.

    Args:
        work: What is done; on a cluster it is importable on the workers. May be called again for the same piece.
        pieces: What it is done to.
        client: The cluster; None for this process.
        done: Told each result in this thread, as it comes.

    Returns:
        The results in the order of the pieces.

    Raises:
        TrainError: Workers were lost again and again over one piece, or there are none.
        ClusterLost: The cluster went away.
        Exception: What the work raised first; pieces that have not begun are left undone.
    """
    if client is None:
        return _here(work, pieces, done)
    lost = ClusterLost(
        "the Dask cluster went away while workers read the training set",
        hint="Start a cluster and run it again.",
    )
    with told_if_lost(client, lost):
        return _on_workers(work, pieces, client, done)


def _here(work: Callable[[T], R], pieces: Sequence[T], done: Callable[[R], None]) -> list[R]:
    threads = min(len(os.sched_getaffinity(0)), _MAX_THREADS, max(1, len(pieces)))
    with ThreadPoolExecutor(threads, thread_name_prefix="train-data") as pool:
        futures = [pool.submit(work, piece) for piece in pieces]
        try:
            for future in as_completed(futures):
                done(future.result())
        finally:
            pool.shutdown(cancel_futures=True)
            # What Arrow's allocator kept for those threads, some 50 MB, it gives back only to who asks after their end.
            pa.default_memory_pool().release_unused()
        return [future.result() for future in futures]


def _on_workers(
    work: Callable[[T], R], pieces: Sequence[T], client: Client, done: Callable[[R], None]
) -> list[R]:
    from distributed import KilledWorker
    from distributed import as_completed as completed

    if pieces:
        _wait_for_a_worker(client)
    futures = [client.submit(_done, work, piece, pure=False) for piece in pieces]
    results: dict[Any, R] = {}
    try:
        for future in completed(futures):
            results[future.key] = future.result()
            done(results[future.key])
    except KilledWorker as error:
        raise TrainError(
            f"workers were lost again and again while they read the training set: {error}",
            hint="If they were killed for memory, give them more of it, or write smaller row groups.",
        ) from error
    finally:
        if client.status == "running":
            client.cancel(futures)
    return [results[future.key] for future in futures]


def _done(work: Callable[[T], R], piece: T) -> R:
    try:
        return work(piece)
    finally:
        # A worker's threads live on, and only they can give back what Arrow's allocator keeps for them.
        pa.default_memory_pool().release_unused()


def _wait_for_a_worker(client: Client) -> None:
    """Dask itself would wait for ever for one."""
    check_open(client)
    try:
        client.wait_for_workers(1, timeout=patience())
    except TimeoutError as error:
        if went_away(client, error):
            raise
        raise TrainError(
            f"the Dask cluster has had no worker that takes tasks for {patience():g} s",
            hint="Start workers, and run the same again.",
        ) from error
