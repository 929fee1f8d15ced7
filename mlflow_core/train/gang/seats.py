"""Which workers there are, and on which of them ranks run: the scheduler's answer, never a copy kept here."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_core.config.sizes import format_size
from mlflow_core.engine.cluster.workers import workers_of
from mlflow_core.errors import MachineError, TrainError
from mlflow_core.train.gang.memory import memory_here

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Member", "Seat", "check_cluster", "members", "reachable_host", "seats", "usable"]

_TOLD = 3


@dataclass(frozen=True)
class Member:
    """A worker of the cluster.

    Args:
        name: Its name, which a replacement made by a nanny keeps.
        threads: How many threads it has.
        takes_tasks: Whether it starts tasks: not while it is out of memory or leaves.
        busy: Whether it computes something.
        replaceable: Whether a nanny watches it, which can end its process and starts another one.
        memory: How many bytes it may take; 0 where it has no limit.
    """

    name: str
    threads: int
    takes_tasks: bool
    busy: bool
    replaceable: bool
    memory: int = 0

    def has(self, memory: int) -> bool:
        """Whether it may take so many bytes."""
        return not self.memory or self.memory >= memory


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
    client: Client | None,
    ranks: int,
    *,
    memory: int = 0,
    object: str | None = None,
    place: str | None = None,
) -> None:
    """Refuse several ranks where there is no cluster, and ranks that would have less memory than they need.

    Args:
        client: The cluster, if there is one.
        ranks: How many are asked for.
        memory: How many bytes each must be able to take; 0 checks nothing.
        object: Which trainer asks.
        place: Where it was declared.

    Raises:
        TrainError: Says what to do instead.
        MachineError: There is too little memory; names who has how much.
    """
    if client is None and ranks > 1:
        raise TrainError(
            f"{ranks} workers were asked for, but there is no cluster",
            object=object,
            place=place,
            hint="Use workers=1, which takes all threads of this machine, or start a cluster.",
        )
    if memory and client is None:
        _check_memory_here(memory, object, place)
    elif memory and client is not None and (present := _asked(client)) is not None:
        _check_memory(present, ranks, memory, object=object, place=place)


def members(client: Client) -> dict[str, Member]:
    """Ask the scheduler which workers there are, by address.

    Raises:
        OSError: The scheduler does not answer, which includes ``TimeoutError``.
    """
    return {address: _member(facts) for address, facts in workers_of(client).items()}


def usable(
    present: Mapping[str, Member], *, without: Collection[str] = (), memory: int = 0
) -> dict[str, Member]:
    """The workers on which a rank may run, by address.

    Args:
        present: The workers by address.
        without: Addresses that are not to be used.
        memory: How many bytes a rank must be able to take.
    """
    return {
        at: one for at, one in present.items() if one.takes_tasks and at not in without and one.has(memory)
    }


def seats(
    present: Mapping[str, Member], ranks: int, *, without: Collection[str] = (), memory: int = 0
) -> tuple[Seat, ...]:
    """Choose a worker for each rank, spread over the hosts, the same ones for the same cluster.

    A rank uses its share of the threads of all workers on its host: while a gang trains, they have nothing to do.

    Args:
        present: The workers by address.
        ranks: How many seats.
        without: Addresses that are not to be used.
        memory: How many bytes each rank must be able to take; 0 for any number.

    Raises:
        TrainError: There are fewer workers than ranks; as a ``MachineError``, fewer with so much memory.
    """
    _check_memory(present, ranks, memory)
    able = usable(present, without=without, memory=memory)
    if len(able) < ranks:
        raise TrainError(
            f"{ranks} ranks were asked for, but the cluster has {len(able)} workers"
            f"{_of_unusable(len(present) - len(able), memory)}",
            hint="Set the trainer's workers to at most as many, or start more workers.",
        )
    hosts: dict[str, list[str]] = {}
    for address in sorted(able, key=lambda at: able[at].name):
        hosts.setdefault(_host(address), []).append(address)
    order = [
        address for turn in range(len(able)) for own in hosts.values() for address in own[turn : turn + 1]
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
        memory=int(facts.get("memory_limit") or 0),
    )


def _of_unusable(unusable: int, memory: int) -> str:
    if not unusable:
        return ""
    if memory:
        return f" of use, and {unusable} that take no tasks or may take less than {format_size(memory)}"
    return f" that take tasks, and {unusable} that do not"


def _host(address: str) -> str:
    parts = urlsplit(address)
    return "inproc" if parts.scheme == "inproc" else parts.hostname or address


def _asked(client: Client) -> Mapping[str, Member] | None:
    try:
        return members(client)
    except OSError:
        return None  # the scheduler is silent for a moment: seats are not chosen before it answers, and then checked


def _check_memory_here(memory: int, object: str | None, place: str | None) -> None:
    there = memory_here()
    if there < memory:
        raise MachineError(
            f"this process may take {format_size(there)}, and memory_per_worker says {format_size(memory)}",
            object=object,
            place=place,
            hint="Train on a machine with more memory or less other work, on a cluster, or lower memory_per_worker.",
        )


def _check_memory(
    present: Mapping[str, Member],
    ranks: int,
    memory: int,
    *,
    object: str | None = None,
    place: str | None = None,
) -> None:
    """Raise if there would be enough workers, but not enough that may take so much."""
    small = {at: one for at, one in sorted(present.items()) if not one.has(memory)}
    if not small or len(present) < ranks or len(present) - len(small) >= ranks:
        return
    told = ", ".join(f"{at} {format_size(one.memory)}" for at, one in [*small.items()][:_TOLD])
    more = f", and {len(small) - _TOLD} others less than it needs" if len(small) > _TOLD else ""
    raise MachineError(
        f"memory_per_worker says {format_size(memory)}, and these workers have a lower limit: {told}{more}",
        object=object,
        place=place,
        expected=f"{ranks} workers that may take so much",
        hint="Start workers with more memory (cluster.memory), or lower memory_per_worker.",
    )
