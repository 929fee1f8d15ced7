"""Which workers there are, and on which of them ranks run: the scheduler's answer, never a copy kept here."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_core.engine.cluster.workers import workers_of
from mlflow_core.errors import TrainError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Member", "Seat", "check_cluster", "members", "reachable_host", "seats"]


@dataclass(frozen=True)
class Member:
    """A worker of the cluster.

    Args:
        name: Its name, which a replacement made by a nanny keeps.
        threads: How many threads it has.
        takes_tasks: Whether it starts tasks: not while it is out of memory or leaves.
        busy: Whether it computes something.
        replaceable: Whether a nanny watches it, which can end its process and starts another one.
    """

    name: str
    threads: int
    takes_tasks: bool
    busy: bool
    replaceable: bool


@dataclass(frozen=True)
class Seat:
    """Where a rank runs.

    Args:
        address: The Dask worker's address.
        threads: How many threads it may use there.
    """

    address: str
    threads: int


def check_cluster(
    client: Client | None, ranks: int, *, object: str | None = None, place: str | None = None
) -> None:
    """Refuse several ranks where there is no cluster.

    Args:
        client: The cluster, if there is one.
        ranks: How many are asked for.
        object: Which trainer asks.
        place: Where it was declared.

    Raises:
        TrainError: Says what to do instead.
    """
    if client is None and ranks > 1:
        raise TrainError(
            f"{ranks} workers were asked for, but there is no cluster",
            object=object,
            place=place,
            hint="Use workers=1, which takes all threads of this machine, or start a cluster.",
        )


def members(client: Client) -> dict[str, Member]:
    """Ask the scheduler which workers there are, by address.

    Raises:
        OSError: The scheduler does not answer, which includes ``TimeoutError``.
    """
    return {address: _member(facts) for address, facts in workers_of(client).items()}


def seats(present: Mapping[str, Member], ranks: int, *, without: Collection[str] = ()) -> tuple[Seat, ...]:
    """Choose a worker for each rank, spread over the hosts, the same ones for the same cluster.

    A rank uses its share of the threads of all workers on its host: while a gang trains, they have nothing to do.

    Args:
        present: The workers by address.
        ranks: How many seats.
        without: Addresses that are not to be used.

    Raises:
        TrainError: There are fewer workers than ranks.
    """
    usable = {at: one for at, one in present.items() if one.takes_tasks and at not in without}
    if len(usable) < ranks:
        raise TrainError(
            f"{ranks} ranks were asked for, but the cluster has {len(usable)} workers"
            f"{_of_unusable(present, usable)}",
            hint="Set the trainer's workers to at most as many, or start more workers.",
        )
    hosts: dict[str, list[str]] = {}
    for address in sorted(usable, key=lambda at: usable[at].name):
        hosts.setdefault(_host(address), []).append(address)
    order = [
        address for turn in range(len(usable)) for own in hosts.values() for address in own[turn : turn + 1]
    ]
    chosen = order[:ranks]
    made = []
    for address in chosen:
        host = _host(address)
        threads = sum(one.threads for at, one in present.items() if _host(at) == host)
        made.append(Seat(address, max(1, threads // sum(_host(at) == host for at in chosen))))
    return tuple(made)


def reachable_host(client: Client) -> str:
    """This machine's address as the workers see it: the one from which the scheduler is reached."""
    scheduler = urlsplit(client.scheduler.address if client.scheduler else "")
    if scheduler.scheme == "inproc" or not scheduler.hostname:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((scheduler.hostname, scheduler.port or 1))
        return str(probe.getsockname()[0])


def _member(facts: Mapping[str, Any]) -> Member:
    counts = facts.get("metrics", {}).get("task_counts", {})
    return Member(
        name=str(facts["name"]),
        threads=int(facts["nthreads"]),
        takes_tasks=facts["status"] == "running",
        busy=bool(counts.get("executing", 0) or counts.get("long-running", 0)),
        replaceable=bool(facts["nanny"]),
    )


def _of_unusable(present: Mapping[str, Member], usable: Mapping[str, Member]) -> str:
    unusable = len(present) - len(usable)
    return f" that take tasks, and {unusable} that do not" if unusable else ""


def _host(address: str) -> str:
    parts = urlsplit(address)
    return "inproc" if parts.scheme == "inproc" else parts.hostname or address
