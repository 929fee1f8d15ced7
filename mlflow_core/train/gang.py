"""Ranks that train together, each pinned to a Dask worker of its own, watched until all are done.

Dask places them and carries their small arguments and results; the ranks talk to each other through XGBoost's
communicator, whose tracker runs in the caller's process. A pinned task whose worker is gone would wait for ever,
so membership is watched beside the futures. Nothing is restarted here: a lost worker ends the training.
"""

from __future__ import annotations

import queue
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_core.errors import TrainError
from mlflow_core.telemetry.logs import get_logger

if TYPE_CHECKING:
    from distributed import Client, Future

    from mlflow_core.train.rank import RankResult, RankTask

__all__ = ["Seat", "map_on_workers", "run_gang", "seats"]

_log = get_logger(__name__)

_LOOK_EVERY_S = 0.25
_GRACE_S = 5.0


@dataclass(frozen=True)
class Seat:
    """Where a rank runs.

    Args:
        address: The Dask worker's address.
        threads: How many threads it may use there.
    """

    address: str
    threads: int


def seats(client: Client, ranks: int) -> tuple[Seat, ...]:
    """Choose a worker for each rank, spread over the hosts, the same ones for the same cluster.

    A rank uses its share of the threads of all workers on its host: while a gang trains, they have nothing to do.

    Raises:
        TrainError: There are fewer workers than ranks.
    """
    workers = _workers(client)
    if len(workers) < ranks:
        raise TrainError(
            f"{ranks} ranks were asked for, but the cluster has {len(workers)} workers",
            hint="Set the trainer's workers to at most as many, or start more workers.",
        )
    hosts: dict[str, list[str]] = {}
    for address in sorted(workers, key=lambda one: str(workers[one]["name"])):
        hosts.setdefault(_host(address), []).append(address)
    order = [
        address for turn in range(len(workers)) for own in hosts.values() for address in own[turn : turn + 1]
    ]
    chosen = order[:ranks]
    made = []
    for address in chosen:
        host = _host(address)
        threads = sum(int(workers[one]["nthreads"]) for one in hosts[host])
        made.append(Seat(address, max(1, threads // sum(_host(one) == host for one in chosen))))
    return tuple(made)


def map_on_workers(
    client: Client, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> list[Any]:
    """Call a function on the workers, once per tuple of arguments, and return its small results in order."""
    futures = [client.submit(function, *one, pure=False) for one in arguments]
    return list(client.gather(futures))


def run_gang(
    client: Client,
    tasks: Sequence[RankTask],
    chosen: Sequence[Seat],
    *,
    told: Callable[[int, Mapping[str, float]], None],
) -> list[RankResult]:
    """Run one task per rank, all at once, and return their results in order.

    Args:
        client: The cluster.
        tasks: One per rank.
        chosen: A seat per rank.
        told: Called in this thread with each round's index and metrics, as rank 0 tells them.

    Raises:
        TrainError: A rank failed, or a worker was lost: names it.
    """
    addresses = [seat.address for seat in chosen]
    # Imports take seconds on a cold worker; done before the communicator forms, no rank waits for another's.
    client.gather([client.submit(_warm, pure=False, workers=[one], priority=10) for one in addresses])
    tracker = _Tracker(len(tasks), _reachable_host(client)) if len(tasks) > 1 else None
    topic = f"mlcore-train-{uuid.uuid4().hex}"
    heard: queue.SimpleQueue[tuple[int, Mapping[str, float]]] = queue.SimpleQueue()
    client.subscribe_topic(topic, lambda event: heard.put(event[1]))
    futures = [
        client.submit(
            _rank_on_worker,
            task,
            tracker.arguments if tracker else None,
            topic,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
            priority=10,
        )
        for task, address in zip(tasks, addresses, strict=True)
    ]
    try:
        _watch(client, futures, addresses, heard, told)
        return list(client.gather(futures))
    finally:
        client.cancel(futures)
        client.unsubscribe_topic(topic)
        if tracker:
            tracker.free()


def _watch(
    client: Client,
    futures: Sequence[Future[RankResult]],
    addresses: Sequence[str],
    heard: queue.SimpleQueue[tuple[int, Mapping[str, float]]],
    told: Callable[[int, Mapping[str, float]], None],
) -> None:
    while True:
        while not heard.empty():
            told(*heard.get())
        if all(future.status == "finished" for future in futures):
            return
        _raise_if_lost(client, futures, addresses)
        failed = [future for future in futures if future.status in ("error", "cancelled", "lost")]
        if failed:
            _raise_failure(client, failed, futures, addresses)
        time.sleep(_LOOK_EVERY_S)


def _raise_if_lost(client: Client, futures: Sequence[Future[RankResult]], addresses: Sequence[str]) -> None:
    present = _workers(client)
    for rank, (future, address) in enumerate(zip(futures, addresses, strict=True)):
        if address not in present and future.status != "finished":
            raise TrainError(
                f"the worker {address} of rank {rank} was lost while it trained; the rounds so far are lost too",
                hint="Train again. If it was killed for memory, give workers more of it or use more of them.",
            )


def _raise_failure(
    client: Client,
    failed: Sequence[Future[RankResult]],
    futures: Sequence[Future[RankResult]],
    addresses: Sequence[str],
) -> None:
    """A rank that lost its peer fails first; the peer's own end, known a moment later, is the true reason."""
    if len(futures) > 1:
        until = time.monotonic() + _GRACE_S
        while time.monotonic() < until:
            _raise_if_lost(client, futures, addresses)
            time.sleep(_LOOK_EVERY_S)
    for future in failed:
        error = future.exception(timeout=1)
        if error is not None:
            raise error
    raise TrainError("the training was cancelled", hint="Look at the cluster's scheduler.")


def _warm() -> None:
    import mlflow_core.train.rank  # noqa: F401 imported for its time


def _rank_on_worker(task: RankTask, communicator: Mapping[str, Any] | None, topic: str) -> RankResult:
    from distributed import get_worker

    from mlflow_core.train.rank import train_rank

    worker = get_worker()

    def told(round_: int, metrics: Mapping[str, float]) -> None:
        if task.rank == 0:
            worker.log_event(topic, (round_, dict(metrics)))

    return train_rank(task, communicator, told)


class _Tracker:
    """XGBoost's rendezvous. Its timeout stays 0: with one, a late rank takes the whole process down."""

    def __init__(self, ranks: int, host: str) -> None:
        from xgboost.tracker import RabitTracker

        self._tracker = RabitTracker(n_workers=ranks, host_ip=host, sortby="task", timeout=0)
        self._tracker.start()
        self.arguments = dict(self._tracker.worker_args())

    def free(self) -> None:
        """End it. Of a broken gang it reports once more what broke it, which the caller already knows."""
        from xgboost.core import XGBoostError

        try:
            self._tracker.free()
        except XGBoostError as error:
            _log.debug("the tracker of a broken gang ended: %s", error)


def _workers(client: Client) -> dict[str, Any]:
    # Not client.scheduler_info(): its answer is shared with a periodic callback that asks for no workers, and
    # sometimes that one's answer comes back, in which every worker seems lost.
    scheduler: Any = client.scheduler
    found: dict[str, Any] = client.sync(scheduler.identity, n_workers=-1)["workers"]
    return found


def _host(address: str) -> str:
    parts = urlsplit(address)
    return "inproc" if parts.scheme == "inproc" else parts.hostname or address


def _reachable_host(client: Client) -> str:
    """This machine's address as the workers see it: the one from which the scheduler is reached."""
    scheduler = urlsplit(client.scheduler.address if client.scheduler else "")
    if scheduler.scheme == "inproc" or not scheduler.hostname:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((scheduler.hostname, scheduler.port or 1))
        return str(probe.getsockname()[0])
